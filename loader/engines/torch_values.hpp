/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * For engine torch: a request's tensors as libtorch's, and what forward returns as the loader's.
 */

#include <torch/script.h>

#include <string>
#include <vector>

#include "loader/engine.h"

namespace
{

constexpr struct {
	enum tensor_dtype ours;
	at::ScalarType theirs;
} dtypes[] = {
	{ TENSOR_DTYPE_BOOL, at::kBool },  { TENSOR_DTYPE_UINT8, at::kByte },
	{ TENSOR_DTYPE_INT8, at::kChar },  { TENSOR_DTYPE_INT16, at::kShort },
	{ TENSOR_DTYPE_INT32, at::kInt },  { TENSOR_DTYPE_INT64, at::kLong },
	{ TENSOR_DTYPE_FP16, at::kHalf },  { TENSOR_DTYPE_BF16, at::kBFloat16 },
	{ TENSOR_DTYPE_FP32, at::kFloat }, { TENSOR_DTYPE_FP64, at::kDouble },
};

bool to_torch(enum tensor_dtype ours, at::ScalarType *ret_theirs)
{
	for (const auto &row : dtypes) {
		if (row.ours == ours) {
			*ret_theirs = row.theirs;
			return true;
		}
	}
	return false;
}

bool from_torch(at::ScalarType theirs, enum tensor_dtype *ret_ours)
{
	for (const auto &row : dtypes) {
		if (row.theirs == theirs) {
			*ret_ours = row.ours;
			return true;
		}
	}
	return false;
}

int check_dtypes(const struct tensor_spec *specs, size_t count, struct err *err)
{
	at::ScalarType unused;

	for (size_t i = 0; i < count; i++)
		if (!to_torch(specs[i].dtype, &unused))
			return err_set(
				err, ENGINE_E_CONFIG,
				"'%s' is %s, which engine torch does not know; it "
				"knows BOOL, UINT8, INT8..INT64, FP16, BF16, FP32, "
				"FP64",
				specs[i].name, tensor_dtype_name(specs[i].dtype));
	return 0;
}

/* Makes a tensor on @device over the request's own memory, or a copy of it where forward may
 * write to its inputs. */
at::Tensor make_input(const struct engine_tensor *tensor, const c10::Device &device,
                      bool is_written)
{
	at::ScalarType dtype = at::kFloat;
	at::Tensor input;

	(void)to_torch(tensor->dtype, &dtype);
	/* Nobody writes through this pointer: see @is_written. */
	input = at::from_blob(const_cast<void *>(tensor->data),
	                      at::IntArrayRef(tensor->shape.dims, tensor->shape.rank),
	                      at::TensorOptions().dtype(dtype));
	if (!device.is_cpu())
		return input.to(device);
	return is_written ? input.clone() : input;
}

int take_value(const c10::IValue &value, const char *name,
               std::vector<at::Tensor> *outputs, struct err *err)
{
	if (!value.isTensor())
		return err_set(err, ENGINE_E_MODEL,
		               "output '%s' of the model is no tensor but %s", name,
		               value.tagKind().c_str());
	outputs->push_back(value.toTensor());
	return 0;
}

int take_values(const struct engine_config *config, c10::ArrayRef<c10::IValue> values,
                std::vector<at::Tensor> *outputs, struct err *err)
{
	int r = 0;

	if (values.size() != config->n_outputs)
		return err_set(err, ENGINE_E_MODEL,
		               "the model returns %zu tensors, and the configuration "
		               "declares %zu outputs",
		               values.size(), config->n_outputs);
	for (size_t i = 0; i < values.size() && r == 0; i++)
		r = take_value(values[i], config->outputs[i].name, outputs, err);
	return r;
}

int take_dict(const struct engine_config *config,
              const c10::Dict<c10::IValue, c10::IValue> &dict,
              std::vector<at::Tensor> *outputs, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < config->n_outputs && r == 0; i++) {
		const char *name = config->outputs[i].name;
		auto found = dict.find(c10::IValue(std::string(name)));

		if (found == dict.end())
			return err_set(err, ENGINE_E_MODEL,
			               "the dict that the model returns has no '%s'",
			               name);
		r = take_value(found->value(), name, outputs, err);
	}
	return r;
}

/* Takes the outputs from a tensor, a tuple or a list, in the configuration's order, or from a
 * dict by their names; a dict may have others, too. */
int take_outputs(const struct engine_config *config, const c10::IValue &result,
                 std::vector<at::Tensor> *outputs, struct err *err)
{
	if (result.isTuple())
		return take_values(config, result.toTupleRef().elements(), outputs, err);
	if (result.isList())
		return take_values(config, result.toListRef(), outputs, err);
	if (result.isGenericDict())
		return take_dict(config, result.toGenericDict(), outputs, err);
	return take_values(config, c10::ArrayRef<c10::IValue>(result), outputs, err);
}

/* Describes an output to the loader. *@tensor becomes contiguous, on the host, and owns the
 * memory that *ret_output borrows. */
int describe(const struct engine_config *config, size_t index, at::Tensor *tensor,
             struct engine_tensor *ret_output, struct err *err)
{
	const char *name = config->outputs[index].name;
	struct engine_tensor output = {};

	if (tensor->layout() != at::kStrided || tensor->is_quantized() ||
	    !from_torch(tensor->scalar_type(), &output.dtype))
		return err_set(err, ENGINE_E_MODEL,
		               "output '%s' of the model is of type %s, which cannot be "
		               "answered with",
		               name, tensor->toString().c_str());
	if (tensor->dim() > TENSOR_RANK_MAX)
		return err_set(err, ENGINE_E_MODEL,
		               "output '%s' of the model has %d dims; at most %d can be "
		               "answered with",
		               name, static_cast<int>(tensor->dim()), TENSOR_RANK_MAX);
	/* to() waits for the device; neither call copies a tensor that needs no change. */
	*tensor = tensor->to(at::kCPU).contiguous();
	output.shape.rank = static_cast<uint32_t>(tensor->dim());
	for (uint32_t i = 0; i < output.shape.rank; i++)
		output.shape.dims[i] = tensor->size(i);
	output.data = tensor->data_ptr();
	output.bytes = tensor->nbytes();
	*ret_output = output;
	return 0;
}

} /* namespace */
