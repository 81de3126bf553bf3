/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * For engine torch: which tensors a model has, as far as its file and an answer of it tell, and
 * whether those are the configuration's.
 */

#include <torch/script.h>

#include <string>
#include <utility>
#include <vector>

#include "loader/engine.h"
#include "loader/engines/torch_values.hpp"

namespace
{

/* Counts forward's arguments that have no default; the first one is the module itself. */
size_t count_required(const c10::FunctionSchema &schema)
{
	const std::vector<c10::Argument> &arguments = schema.arguments();
	size_t n = 0;

	for (size_t i = 1; i < arguments.size(); i++)
		n += arguments[i].default_value() ? 0 : 1;
	return n;
}

/* The name of output @index in a tuple or list that has no names, as Triton has it. */
std::string output_name(size_t index)
{
	return "OUTPUT__" + std::to_string(index);
}

/* Writes @name into @spec; a longer one cannot be told apart by its beginning, and is refused. */
int name_spec(const std::string &name, struct tensor_spec *spec, struct err *err)
{
	if (name.size() >= sizeof(spec->name))
		return err_set(err, ENGINE_E_MODEL,
		               "the name '%.40s...' of the model is longer than %d "
		               "bytes: declare input and output, or rename it",
		               name.c_str(), TENSOR_NAME_MAX - 1);
	name.copy(spec->name, sizeof(spec->name) - 1);
	return 0;
}

/* Lists what the model has returned, with names: a dict's keys, a named tuple's fields, or those
 * of output_name(). */
int list_outputs(const c10::IValue &result,
                 std::vector<std::pair<std::string, c10::IValue>> *named, struct err *err)
{
	if (result.isGenericDict()) {
		for (const auto &item : result.toGenericDict()) {
			if (!item.key().isString())
				return err_set(err, ENGINE_E_MODEL,
				               "the model returns a dict whose keys are "
				               "no texts");
			named->emplace_back(item.key().toStringRef(), item.value());
		}
		return 0;
	}
	if (result.isTuple()) {
		auto type = result.type()->cast<c10::TupleType>();
		auto schema = type ? type->schema() : nullptr;
		const auto &elements = result.toTupleRef().elements();

		for (size_t i = 0; i < elements.size(); i++)
			named->emplace_back(schema ? schema->arguments().at(i).name()
			                           : output_name(i),
			                    elements[i]);
		return 0;
	}
	if (result.isList()) {
		for (const c10::IValue &value : result.toListRef())
			named->emplace_back(output_name(named->size()), value);
		return 0;
	}
	named->emplace_back(output_name(0), result);
	return 0;
}

/* Describes the tensor @value as an output of which every dim may change. */
int declare_output(const std::string &name, const c10::IValue &value,
                   struct tensor_spec *spec, struct err *err)
{
	int r = name_spec(name, spec, err);

	if (r)
		return r;
	if (!value.isTensor())
		return err_set(err, ENGINE_E_MODEL,
		               "output '%s' of the model is no tensor but %s", spec->name,
		               value.tagKind().c_str());
	const at::Tensor &tensor = value.toTensor();
	if (!from_torch(tensor.scalar_type(), &spec->dtype) ||
	    tensor.dim() > TENSOR_RANK_MAX)
		return err_set(err, ENGINE_E_MODEL,
		               "output '%s' of the model is %s of %d dims, which cannot "
		               "be answered with",
		               spec->name, tensor.toString().c_str(),
		               static_cast<int>(tensor.dim()));
	spec->shape.rank = static_cast<uint32_t>(tensor.dim());
	for (uint32_t i = 0; i < spec->shape.rank; i++)
		spec->shape.dims[i] = TENSOR_DIM_ANY;
	return 0;
}

int declare_outputs(const c10::IValue &result, struct engine_declared *declared,
                    struct err *err)
{
	std::vector<std::pair<std::string, c10::IValue>> named;
	int r = list_outputs(result, &named, err);

	if (r == 0 && (named.empty() || named.size() > ENGINE_TENSORS_MAX))
		r = err_set(err, ENGINE_E_MODEL,
		            "the model returns %zu tensors, and 1 to %d can be answered "
		            "with",
		            named.size(), ENGINE_TENSORS_MAX);
	for (size_t i = 0; i < named.size() && r == 0; i++)
		r = declare_output(named[i].first, named[i].second, &declared->outputs[i],
		                   err);
	declared->n_outputs = r ? 0 : named.size();
	return r;
}

/* Checks the order by name: two inputs of one shape in the wrong order would never show. */
int check_order(const std::vector<c10::Argument> &arguments,
                const struct engine_config *config, struct err *err)
{
	for (size_t i = 0; i < config->n_inputs; i++)
		for (size_t j = 1; j < arguments.size(); j++)
			if (j != i + 1 && arguments[j].name() == config->inputs[i].name)
				return err_set(err, ENGINE_E_MODEL,
				               "input '%s' is number %zu in the "
				               "configuration and number %zu in the "
				               "model: list the inputs in the model's "
				               "order",
				               config->inputs[i].name, i + 1, j);
	return 0;
}

/* Checks number, types and order of forward's arguments, which are all that have no default where
 * the configuration leaves inputs out. */
int check_arguments(const c10::FunctionSchema &schema, const struct engine_config *config,
                    struct err *err)
{
	const std::vector<c10::Argument> &arguments = schema.arguments();
	size_t n_required = count_required(schema);
	size_t n_inputs = config->n_inputs > 0 ? config->n_inputs : n_required;
	std::string names;

	for (size_t i = 1; i < arguments.size(); i++)
		names += (i > 1 ? ", " : "") + arguments[i].name();
	if (n_inputs == 0 || n_inputs > ENGINE_TENSORS_MAX)
		return err_set(err, ENGINE_E_MODEL,
		               "the model's forward takes %zu inputs (%s), and 1 to %d "
		               "can be passed",
		               n_inputs, names.c_str(), ENGINE_TENSORS_MAX);
	if (n_inputs < n_required || n_inputs > arguments.size() - 1)
		return err_set(err, ENGINE_E_MODEL,
		               "the model's forward takes %zu inputs (%s), and the "
		               "configuration declares %zu",
		               arguments.size() - 1, names.c_str(), config->n_inputs);
	for (size_t i = 0; i < n_inputs; i++)
		if (!c10::TensorType::get()->isSubtypeOf(*arguments[i + 1].type()))
			return err_set(
				err, ENGINE_E_MODEL,
				"'%s' of the model's forward is of type %s, and only "
				"tensors can be passed",
				arguments[i + 1].name().c_str(),
				arguments[i + 1].type()->str().c_str());
	return check_order(arguments, config, err);
}

/* TorchScript's file has the names of forward's arguments, and no more. */
int declare_arguments(const c10::FunctionSchema &schema, struct engine_declared *declared,
                      struct err *err)
{
	size_t n = count_required(schema);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		declared->inputs[i].dtype = ENGINE_DTYPE_OPEN;
		r = name_spec(schema.arguments()[i + 1].name(), &declared->inputs[i],
		              err);
	}
	declared->n_inputs = r ? 0 : n;
	return r;
}

} /* namespace */
