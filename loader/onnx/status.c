/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/onnx/status.h"

#include <string.h>

static bool status_has_any(const char *text, const char *const *marks)
{
	while (*marks && !strcasestr(text, *marks))
		marks++;
	return *marks != NULL;
}

bool status_lacks_memory(const char *text)
{
	static const char *const marks[] = { "failed to allocate memory",
		                             "memory allocation failed",
		                             "bad_alloc",
		                             "bad allocation",
		                             "out of memory",
		                             "CUBLAS_STATUS_ALLOC_FAILED",
		                             "CUDNN_STATUS_ALLOC_FAILED",
		                             "available memory of",
		                             NULL };

	return status_has_any(text, marks);
}

/* The runtime's check of what is fed, before anything is computed. */
static bool status_is_about_input(enum ort_code code, const char *text)
{
	static const char *const marks[] = { "invalid rank for input",
		                             "got invalid dimensions for input",
		                             "unexpected input data type",
		                             "invalid feed input", NULL };

	return code == ORT_INVALID_ARGUMENT && status_has_any(text, marks);
}

static bool status_is_about_index(const char *text)
{
	static const char *const marks[] = { "out of data bounds",
		                             "out of bounds",
		                             "out of range",
		                             "outside of the range",
		                             "invalid index",
		                             "invalid indice",
		                             NULL };

	return status_has_any(text, marks);
}

static bool status_is_about_shape(const char *text)
{
	static const char *const marks[] = { "dimension mismatch",
		                             "attempting to broadcast",
		                             "cannot broadcast",
		                             "incompatible dimensions",
		                             "cannot be reshaped",
		                             "size mismatch",
		                             "non concat axis dimensions must match",
		                             "shape mismatch",
		                             "invalid input shape",
		                             "dimensions must match",
		                             "must match",
		                             "split sizes",
		                             "should be divisible",
		                             "invalid argument: shape",
		                             NULL };

	return status_has_any(text, marks);
}

/* Weights that lie in files beside the model; from 1.26 on the runtime says so. Older ones miss
 * a folder: there is none, or the one that session.c names. */
static bool status_is_about_files(const char *text)
{
	static const char *const marks[] = { "external data",
		                             "model_path must not be empty",
		                             "[/dev/null/", NULL };

	return status_has_any(text, marks);
}

/* A device that has failed for good. */
static bool status_is_broken(const char *text)
{
	static const char *const marks[] = { "CUDA failure", "CUDNN failure",
		                             "CUBLAS failure", "illegal memory access",
		                             NULL };

	return status_has_any(text, marks);
}

static bool status_leaves_shape_open(const struct engine_config *config)
{
	for (size_t i = 0; i < config->n_inputs; i++)
		for (uint32_t j = 1; j < config->inputs[i].shape.rank; j++)
			if (config->inputs[i].shape.dims[j] == TENSOR_DIM_ANY)
				return true;
	return false;
}

int status_judge(enum ort_code code, const char *text, const struct engine_config *config)
{
	if (strcmp(config->device, "cpu") != 0 && status_is_broken(text))
		return ENGINE_E_BROKEN;
	if (status_is_about_input(code, text) || status_is_about_index(text))
		return ENGINE_E_INPUT;
	return status_leaves_shape_open(config) && status_is_about_shape(text)
	               ? ENGINE_E_INPUT
	               : ENGINE_E_MODEL;
}

/* The place in the runtime's source, before the cause, helps nobody here. */
static const char *status_cause(const char *text)
{
	const char *place = strstr(text, "onnxruntime::");
	const char *end = place ? strrchr(text, ')') : NULL;

	return end && end[1] == ' ' && end[2] != '\0' ? end + 2 : text;
}

static int status_set(struct err *err, int outcome, const char *prefix, const char *text)
{
	char line[ERR_TEXT_MAX];
	size_t bytes = 0;

	/* Of several lines the first ones say what happened; a log takes one. */
	text = status_cause(text);
	while (*text && bytes < sizeof(line) - 1)
		line[bytes++] = *text++ == '\n' ? ' ' : text[-1];
	while (bytes > 0 && line[bytes - 1] == ' ')
		bytes--;
	line[bytes] = '\0';
	return err_set(err, outcome, "%s%s", prefix, line);
}

int status_fail(const struct ort_api *api, struct ort_status *status,
                const struct engine_config *config, int outcome, const char *prefix,
                struct err *err)
{
	const char *text = api->status_text(status);
	bool is_host = strcmp(config->device, "cpu") == 0;
	int r;

	if (status_lacks_memory(text))
		outcome = is_host ? ENGINE_E_FAILED : ENGINE_E_MEMORY;
	r = status_set(err, outcome, prefix, text);
	if (strstr(text, "ORT model verification failed"))
		r = err_set(err, outcome,
		            "the .ort file is cut off or damaged, or of an older format: "
		            "convert the .onnx file once more (python -m "
		            "onnxruntime.tools.convert_onnx_models_to_ort)");
	if (status_is_about_files(text))
		r = err_set(err, ENGINE_E_MODEL,
		            "the model keeps weights in files beside it, which nothing "
		            "watches: put them into the one file, with "
		            "onnx.save(onnx.load(\"m.onnx\"), \"one.onnx\")");
	api->release_status(status);
	return r;
}

int status_of_run(const struct ort_api *api, struct ort_status *status,
                  const struct engine_config *config, struct err *err)
{
	const char *text = api->status_text(status);
	int r = status_lacks_memory(text)
	                ? ENGINE_E_MEMORY
	                : status_judge(api->status_code(status), text, config);

	r = status_set(err, r,
	               r == ENGINE_E_INPUT ? "the model refuses the request: "
	                                   : "ONNX Runtime: ",
	               text);
	api->release_status(status);
	return r;
}
