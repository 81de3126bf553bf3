/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The runtime tells of a scalar and of a tensor whose rank the file leaves open alike: rank 0.
 * Whatever is declared for such a one is left to the warm-up.
 */
#include "loader/onnx/signature.h"

#include <stdio.h>
#include <string.h>

#include "loader/onnx/status.h"

static const enum ort_type signature_types[TENSOR_DTYPE_COUNT] = {
	[TENSOR_DTYPE_BOOL] = ORT_TYPE_BOOL,     [TENSOR_DTYPE_UINT8] = ORT_TYPE_UINT8,
	[TENSOR_DTYPE_UINT16] = ORT_TYPE_UINT16, [TENSOR_DTYPE_UINT32] = ORT_TYPE_UINT32,
	[TENSOR_DTYPE_UINT64] = ORT_TYPE_UINT64, [TENSOR_DTYPE_INT8] = ORT_TYPE_INT8,
	[TENSOR_DTYPE_INT16] = ORT_TYPE_INT16,   [TENSOR_DTYPE_INT32] = ORT_TYPE_INT32,
	[TENSOR_DTYPE_INT64] = ORT_TYPE_INT64,   [TENSOR_DTYPE_FP16] = ORT_TYPE_FLOAT16,
	[TENSOR_DTYPE_BF16] = ORT_TYPE_BFLOAT16, [TENSOR_DTYPE_FP32] = ORT_TYPE_FLOAT,
	[TENSOR_DTYPE_FP64] = ORT_TYPE_DOUBLE,   [TENSOR_DTYPE_BYTES] = ORT_TYPE_STRING,
};

enum ort_type signature_type(enum tensor_dtype dtype)
{
	return signature_types[dtype];
}

bool signature_dtype(enum ort_type type, enum tensor_dtype *ret_dtype)
{
	for (size_t i = 0; i < TENSOR_DTYPE_COUNT; i++)
		if (signature_types[i] == type) {
			*ret_dtype = (enum tensor_dtype)i;
			return true;
		}
	return false;
}

/* One input or output of the model. */
struct signature_place {
	const struct ort_api *api;
	const struct engine_config *config;
	const char *what; /* "input", "output" */
	char name[TENSOR_NAME_MAX];
};

static int signature_fail(const struct signature_place *place, struct ort_status *status,
                          struct err *err)
{
	return status_fail(place->api, status, place->config, ENGINE_E_FAILED,
	                   "ONNX Runtime: ", err);
}

static int signature_read_dims(const struct signature_place *place,
                               const struct ort_tensor_info *info,
                               struct tensor_shape *shape, struct err *err)
{
	struct ort_status *status;
	size_t rank = 0;

	status = place->api->count_dims(info, &rank);
	if (status)
		return signature_fail(place, status, err);
	if (rank > TENSOR_RANK_MAX)
		return err_set(err, ENGINE_E_MODEL,
		               "the model's %s '%s' has %zu dims, and a request's tensor "
		               "has at most %d",
		               place->what, place->name, rank, TENSOR_RANK_MAX);
	shape->rank = (uint32_t)rank;
	status = place->api->dims(info, shape->dims, rank);
	if (status)
		return signature_fail(place, status, err);
	/* A name in the place of a number. */
	for (size_t i = 0; i < rank; i++)
		if (shape->dims[i] < 0)
			shape->dims[i] = TENSOR_DIM_ANY;
	return 0;
}

static int signature_read_tensor(const struct signature_place *place,
                                 const struct ort_tensor_info *info,
                                 struct tensor_spec *spec, struct err *err)
{
	enum ort_type type = ORT_TYPE_UNDEFINED;
	struct ort_status *status = place->api->element_type(info, &type);

	if (status)
		return signature_fail(place, status, err);
	if (!signature_dtype(type, &spec->dtype))
		return err_set(err, ENGINE_E_MODEL,
		               "the model's %s '%s' is of element type %d of onnx.proto, "
		               "which no datatype of the protocol is: convert it by a "
		               "Cast inside the model",
		               place->what, place->name, (int)type);
	memcpy(spec->name, place->name, sizeof(spec->name));
	return signature_read_dims(place, info, &spec->shape, err);
}

static const char *signature_kind_name(enum ort_kind kind)
{
	static const char *const names[] = {
		[ORT_KIND_SEQUENCE] = "a sequence", [ORT_KIND_MAP] = "a map",
		[ORT_KIND_OPAQUE] = "opaque",       [ORT_KIND_SPARSE] = "a sparse tensor",
		[ORT_KIND_OPTIONAL] = "optional",
	};
	size_t i = (size_t)kind;

	return i < sizeof(names) / sizeof(names[0]) && names[i] ? names[i]
	                                                        : "of unknown type";
}

/* Takes @info, and releases it. */
static int signature_read_type(const struct signature_place *place,
                               struct ort_type_info *info, struct tensor_spec *spec,
                               struct err *err)
{
	const struct ort_tensor_info *tensor = NULL;
	enum ort_kind kind = ORT_KIND_UNKNOWN;
	struct ort_status *status = place->api->kind_of(info, &kind);
	int r;

	if (!status && kind == ORT_KIND_TENSOR)
		status = place->api->as_tensor_info(info, &tensor);
	if (status)
		r = signature_fail(place, status, err);
	else if (tensor)
		r = signature_read_tensor(place, tensor, spec, err);
	else
		r = err_set(err, ENGINE_E_MODEL,
		            "the model's %s '%s' is %s, and only tensors can be passed: "
		            "export the model with tensors alone (sklearn: "
		            "options={'zipmap': False})",
		            place->what, place->name, signature_kind_name(kind));
	place->api->release_type_info(info);
	return r;
}

/* Takes @name, which the runtime has allocated, into @place. */
static int signature_take_name(struct signature_place *place,
                               struct ort_allocator *allocator, char *name,
                               struct err *err)
{
	size_t bytes = strlen(name);
	int r = 0;

	(void)snprintf(place->name, sizeof(place->name), "%s", name);
	if (bytes >= sizeof(place->name))
		r = err_set(
			err, ENGINE_E_MODEL,
			"the name of the model's %s '%s...' has %zu bytes, and one of "
			"a request has at most %d: rename it",
			place->what, place->name, bytes, TENSOR_NAME_MAX - 1);
	allocator->free(allocator, name);
	return r;
}

static int signature_read_input(struct signature_place *place,
                                const struct ort_session *session, size_t i,
                                struct tensor_spec *spec, struct err *err)
{
	const struct ort_api *api = place->api;
	bool is_input = strcmp(place->what, "input") == 0;
	struct ort_type_info *info = NULL;
	struct ort_allocator *allocator;
	struct ort_status *status;
	char *name = NULL;
	int r;

	status = api->default_allocator(&allocator);
	if (!status)
		status = (is_input ? api->input_name
		                   : api->output_name)(session, i, allocator, &name);
	if (status)
		return signature_fail(place, status, err);
	r = signature_take_name(place, allocator, name, err);
	if (r)
		return r;
	status = (is_input ? api->input_type : api->output_type)(session, i, &info);
	return status ? signature_fail(place, status, err)
	              : signature_read_type(place, info, spec, err);
}

static int signature_read_all(struct signature_place *place,
                              const struct ort_session *session,
                              struct tensor_spec *specs, size_t *ret_n, struct err *err)
{
	const struct ort_api *api = place->api;
	bool is_input = strcmp(place->what, "input") == 0;
	struct ort_status *status =
		(is_input ? api->count_inputs : api->count_outputs)(session, ret_n);
	int r = 0;

	if (status)
		return signature_fail(place, status, err);
	if (*ret_n > ENGINE_TENSORS_MAX)
		return err_set(err, ENGINE_E_MODEL,
		               "the model has %zu %ss, and at most %d can be passed",
		               *ret_n, place->what, ENGINE_TENSORS_MAX);
	for (size_t i = 0; i < *ret_n && r == 0; i++)
		r = signature_read_input(place, session, i, &specs[i], err);
	return r;
}

int signature_read(const struct ort_api *api, const struct ort_session *session,
                   const struct engine_config *config, struct signature *ret_signature,
                   struct err *err)
{
	struct signature_place place = { api, config, "input", "" };
	int r;

	*ret_signature = (struct signature){ 0 };
	r = signature_read_all(&place, session, ret_signature->inputs,
	                       &ret_signature->n_inputs, err);
	place.what = "output";
	return r ? r
	         : signature_read_all(&place, session, ret_signature->outputs,
	                              &ret_signature->n_outputs, err);
}

/* The configuration against it */

static int signature_say_unknown(const char *what, const struct tensor_spec *own,
                                 size_t n_own, const char *name, struct err *err)
{
	char list[256] = "none";
	size_t used = 0;

	for (size_t i = 0; i < n_own && used < sizeof(list); i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
		                         used ? ", " : "", own[i].name);
	return err_set(err, ENGINE_E_MODEL,
	               "the configuration declares %s '%s', and the model's are: %s",
	               what, name, list);
}

/* True when a dim of @declared can never be what @own has. An open one stands for any size, which
 * the model must take. */
static bool signature_differs(const struct tensor_shape *own,
                              const struct tensor_shape *declared, bool is_input)
{
	if (own->rank == 0)
		return false;
	if (own->rank != declared->rank)
		return true;
	for (uint32_t i = 0; i < own->rank; i++) {
		if (own->dims[i] == TENSOR_DIM_ANY || own->dims[i] == declared->dims[i])
			continue;
		if (is_input || declared->dims[i] != TENSOR_DIM_ANY)
			return true;
	}
	return false;
}

static int signature_compare(const char *what, const struct tensor_spec *own,
                             const struct tensor_spec *declared, struct err *err)
{
	char model[128];
	char section[128];

	if (own->dtype == declared->dtype &&
	    !signature_differs(&own->shape, &declared->shape, *what == 'i'))
		return 0;
	return err_set(err, ENGINE_E_MODEL,
	               "%s '%s' is %s %s in the model and %s %s in the configuration",
	               what, own->name, tensor_dtype_name(own->dtype),
	               tensor_shape_print(&own->shape, model, sizeof(model)),
	               tensor_dtype_name(declared->dtype),
	               tensor_shape_print(&declared->shape, section, sizeof(section)));
}

static int signature_check_declared(const char *what, const struct tensor_spec *own,
                                    size_t n_own, const struct tensor_spec *declared,
                                    size_t n_declared, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < n_declared && r == 0; i++) {
		size_t at = tensor_spec_find(own, n_own, declared[i].name);

		r = at < n_own ? signature_compare(what, &own[at], &declared[i], err)
		               : signature_say_unknown(what, own, n_own, declared[i].name,
		                                       err);
	}
	return r;
}

int signature_check(const struct signature *signature, const struct engine_config *config,
                    struct err *err)
{
	int r = signature_check_declared("input", signature->inputs, signature->n_inputs,
	                                 config->inputs, config->n_inputs, err);

	if (r == 0)
		r = signature_check_declared("output", signature->outputs,
		                             signature->n_outputs, config->outputs,
		                             config->n_outputs, err);
	/* Without any it leaves all to the model. */
	for (size_t i = 0; config->n_inputs > 0 && i < signature->n_inputs && r == 0;
	     i++) {
		const struct tensor_spec *own = &signature->inputs[i];
		char shape[128];

		if (tensor_spec_find(config->inputs, config->n_inputs, own->name) <
		    config->n_inputs)
			continue;
		(void)tensor_shape_print(&own->shape, shape, sizeof(shape));
		r = err_set(
			err, ENGINE_E_MODEL,
			"the model takes input '%s', which the configuration does not "
			"declare: add input = %s %s %s",
			own->name, own->name, tensor_dtype_name(own->dtype), shape);
	}
	return r;
}
