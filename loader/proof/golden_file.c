/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads a golden file in three parts: the request, sealed as a rehearsal; the expected response,
 * decoded into tensors; and the bounds (tolerances, latency). The response goes through the
 * decoder for requests (golden_decode_outputs()), so that a number in a file means what the
 * same number from a client means. Every mistake is a sentence for the person who wrote the
 * file.
 */
#include "loader/proof/golden_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/proof/golden_body.h"
#include "shared/cleanup.h"
#include "shared/file.h"

static int golden_read_text(int dir_fd, const char *name, char **ret_text,
                            size_t *ret_bytes, struct err *err)
{
	CLOSE_FD int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	FREE char *text = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, ENGINE_E_CONFIG, "it cannot be opened: %s",
		               strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 ||
	    (uint64_t)st.st_size > GOLDEN_FILE_BYTES_MAX)
		return err_set(err, ENGINE_E_CONFIG,
		               "it must be a regular file of 1 to %zu bytes",
		               GOLDEN_FILE_BYTES_MAX);
	text = malloc((size_t)st.st_size);
	if (!text)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	if (file_read_at(fd, text, (size_t)st.st_size, 0) != st.st_size)
		return err_set(err, ENGINE_E_CONFIG, "it cannot be read whole");
	*ret_text = take_ptr(&text);
	*ret_bytes = (size_t)st.st_size;
	return 0;
}

/* The request */

static int golden_seal(struct rehearsal *request, const struct golden_body *body,
                       struct err *err)
{
	struct proto_field fields[2];
	size_t n = 0;

	if (body->length)
		fields[n++] = (struct proto_field){ proto_text_of(GOLDEN_LENGTH),
			                            proto_text_of(body->length) };
	if (body->encoding)
		fields[n++] = (struct proto_field){ proto_text_of(GOLDEN_ENCODING),
			                            proto_text_of(body->encoding) };
	if (rehearsal_seal(request, fields, n) < 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "the headers of 'request' are too long");
	return 0;
}

static int golden_take_request(struct golden_file *file, json_t *json, struct err *err)
{
	struct golden_body body;
	int r = golden_body_init(&body, json, "request", err);

	if (r == 0)
		r = rehearsal_alloc(&file->request, body.bytes, err);
	if (r == 0) {
		memcpy(file->request.body, body.data, body.bytes);
		r = golden_seal(&file->request, &body, err);
	}
	golden_body_fini(&body);
	return r;
}

/* The expected response */

/* Finds the model's outputs of the names in the response, and gives them default tolerances. */
static int golden_name_outputs(struct golden_file *file, const struct oip_model *model,
                               const json_t *outputs, struct err *err)
{
	size_t n = json_array_size(outputs);

	if (n == 0 || n > ENGINE_TENSORS_MAX)
		return err_set(err, ENGINE_E_CONFIG,
		               "'response' must have a list of 1 to %d outputs",
		               ENGINE_TENSORS_MAX);
	for (size_t i = 0; i < n; i++) {
		const char *name =
			json_string_value(json_object_get(json_array_get(outputs, i),
		                                          "name"));
		size_t index = tensor_spec_find(model->outputs, model->n_outputs, name);

		if (index == model->n_outputs)
			return err_set(err, ENGINE_E_CONFIG,
			               "'response' has an output '%.64s', which the "
			               "model has not",
			               name ? name : "");
		file->specs[i] = model->outputs[index];
		file->outputs[i] = (struct golden_output){
			.output = (uint32_t)index,
			.tolerance = golden_tolerance_of(file->specs[i].dtype),
		};
	}
	file->n_outputs = n;
	return 0;
}

/* Decodes the expected outputs as if they were the inputs of a request. */
static int golden_decode_outputs(struct golden_file *file, const struct oip_model *model,
                                 json_t *outputs, const unsigned char *binary,
                                 size_t binary_bytes, struct err *err)
{
	const struct oip_model reverse = {
		.name = model->name,
		.version = model->version,
		.inputs = file->specs,
		.n_inputs = file->n_outputs,
		.max_body_bytes = GOLDEN_BODY_BYTES_MAX,
		.kind = "expected output",
	};
	json_t *object = json_pack("{s:O}", "inputs", outputs);
	FREE char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	size_t bytes = text ? strlen(text) : 0;
	const struct proto_text none = { "", 0 };
	unsigned char memory[REHEARSAL_HEAD_MAX];
	char length[24];
	struct proto_field field = { proto_text_of(GOLDEN_LENGTH), { length, 0 } };
	struct proto_head head;

	json_decref(object);
	file->expected_body = text ? malloc(bytes + binary_bytes) : NULL;
	if (!file->expected_body)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	memcpy(file->expected_body, text, bytes);
	if (binary_bytes > 0)
		memcpy(file->expected_body + bytes, binary, binary_bytes);
	field.value.bytes = (size_t)snprintf(length, sizeof(length), "%zu", bytes);
	proto_head_write(memory, none, none, &field, 1);
	if (proto_head_read(&head, memory, proto_head_bytes(none, none, &field, 1)) < 0)
		return err_set(err, ENGINE_E_FAILED, "a head cannot be read");
	return oip_decode(&file->expected, &reverse, &head, file->expected_body,
	                  bytes + binary_bytes, err)
	               ? ENGINE_E_CONFIG
	               : 0;
}

/* Inflates and decodes the expected response; @body may be changed. */
static int golden_expect(struct golden_file *file, const struct oip_model *model,
                         struct golden_body *body, struct err *err)
{
	json_error_t error;
	size_t json_bytes = 0;
	json_t *response;
	json_t *outputs;
	int r;

	r = golden_body_inflate(body, GOLDEN_BODY_BYTES_MAX, err);
	if (r == 0)
		r = golden_body_json_bytes(body, &json_bytes, err);
	if (r)
		return err_prefix(err, r, "'response'");
	response = json_loadb((const char *)body->data, json_bytes, GOLDEN_JSON_FLAGS,
	                      &error);
	if (!response)
		return err_set(err, ENGINE_E_CONFIG,
		               "the body of 'response' is no JSON: %s", error.text);
	outputs = json_object_get(response, "outputs");
	r = golden_name_outputs(file, model, outputs, err);
	if (r == 0)
		r = golden_decode_outputs(file, model, outputs, body->data + json_bytes,
		                          body->bytes - json_bytes, err);
	json_decref(response);
	return r;
}

static int golden_take_response(struct golden_file *file, const struct oip_model *model,
                                json_t *json, struct err *err)
{
	struct golden_body body;
	int r = golden_body_init(&body, json, "response", err);

	if (r == 0)
		r = golden_expect(file, model, &body, err);
	golden_body_fini(&body);
	return r;
}

/* Bounds */

static int golden_set_tolerance(struct golden_tolerance *tolerance, const char *key,
                                const json_t *value, struct err *err)
{
	double number = json_number_value(value);

	if (!json_is_number(value) || !isfinite(number) || number < 0 ||
	    (strcmp(key, "abs") != 0 && strcmp(key, "rel") != 0))
		return err_set(err, ENGINE_E_CONFIG,
		               "a tolerance has abs and rel, numbers of 0 or more, not "
		               "'%.64s'",
		               key);
	if (key[0] == 'a')
		tolerance->abs = number;
	else
		tolerance->rel = number;
	return 0;
}

/* Sets the tolerance of one output. */
static int golden_tolerate(struct golden_file *file, const char *name, json_t *bounds,
                           struct err *err)
{
	const char *key;
	json_t *value;
	size_t i = tensor_spec_find(file->specs, file->n_outputs, name);
	int r = 0;

	if (i == file->n_outputs)
		return err_set(err, ENGINE_E_CONFIG,
		               "'tolerance' names '%.64s', which is no output of "
		               "'response'",
		               name);
	if (!golden_is_real(file->specs[i].dtype))
		return err_set(err, ENGINE_E_CONFIG,
		               "output '%s' is %s, which knows no tolerance", name,
		               tensor_dtype_name(file->specs[i].dtype));
	json_object_foreach(bounds, key, value)
	{
		r = golden_set_tolerance(&file->outputs[i].tolerance, key, value, err);
		if (r)
			break;
	}
	return r;
}

static int golden_take_tolerance(struct golden_file *file, json_t *tolerance,
                                 struct err *err)
{
	const char *key;
	json_t *value;
	int r = 0;

	if (tolerance && !json_is_object(tolerance))
		return err_set(err, ENGINE_E_CONFIG, "'tolerance' must be an object");
	/* The bounds for all outputs come first, then those of single ones. */
	json_object_foreach(tolerance, key, value)
	{
		for (size_t i = 0; i < file->n_outputs && r == 0; i++)
			if (!json_is_object(value) &&
			    golden_is_real(file->specs[i].dtype))
				r = golden_set_tolerance(&file->outputs[i].tolerance, key,
				                         value, err);
		if (r)
			return r;
	}
	json_object_foreach(tolerance, key, value)
	{
		if (json_is_object(value))
			r = golden_tolerate(file, key, value, err);
		if (r)
			return r;
	}
	return 0;
}

static int golden_take_latency(struct golden_file *file, const json_t *latency,
                               struct err *err)
{
	file->max_latency_ms = json_number_value(latency);
	if (!latency || (json_is_number(latency) && file->max_latency_ms > 0))
		return 0;
	return err_set(err, ENGINE_E_CONFIG, "'max_latency_ms' must be a number above 0");
}

static int golden_take(struct golden_file *file, const struct oip_model *model,
                       json_t *json, struct err *err)
{
	static const char *const keys[] = { "request",   "response",
		                            "tolerance", "max_latency_ms",
		                            "recorded",  "comment",
		                            NULL };
	int r;

	if (!json_is_object(json))
		return err_set(err, ENGINE_E_CONFIG, "it must hold one JSON object");
	r = golden_check_keys(json, "a golden request", keys, err);
	if (r == 0)
		r = golden_take_request(file, json_object_get(json, "request"), err);
	if (r == 0)
		r = golden_take_response(file, model, json_object_get(json, "response"),
		                         err);
	if (r == 0)
		r = golden_take_tolerance(file, json_object_get(json, "tolerance"), err);
	if (r == 0)
		r = golden_take_latency(file, json_object_get(json, "max_latency_ms"),
		                        err);
	return r;
}

int golden_file_new(struct golden_file **ret_file, int dir_fd, const char *name,
                    const struct oip_model *model, struct err *err)
{
	struct golden_file *file = calloc(1, sizeof(*file));
	FREE char *text = NULL;
	json_error_t error;
	json_t *json;
	size_t bytes = 0;
	int r;

	*ret_file = file;
	if (!file)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	oip_request_init(&file->expected);
	r = golden_read_text(dir_fd, name, &text, &bytes, err);
	if (r)
		return r;
	json = json_loadb(text, bytes, GOLDEN_JSON_FLAGS, &error);
	if (!json)
		return err_set(err, ENGINE_E_CONFIG, "it is no JSON: line %d: %s",
		               error.line, error.text);
	r = golden_take(file, model, json, err);
	json_decref(json);
	return r;
}

void golden_file_free(struct golden_file *file)
{
	if (!file)
		return;
	rehearsal_fini(&file->request);
	oip_request_fini(&file->expected);
	free(file->expected_body);
	free(file);
}
