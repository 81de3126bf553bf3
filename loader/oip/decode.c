/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An infer request into tensors. oip_decode() reads the head, inflates the body, and hands it to
 * oip_read_body(), which takes the first way that fits:
 *
 *	oip_read_again()  the same JSON before binary tensors as last time: no parsing
 *	oip_read_raw()    no JSON at all: the body is the one input
 *	oip_parse_cut()   lists of numbers stay text (oip/cut.c, oip/scan.c): no tree of them
 *	oip_parse()       the whole JSON as a tree, which also tells what is wrong and where
 *
 * oip/tensor.c reads the single input. Copied tensors go to scratch memory that may move, so
 * oip_tensor_settle() sets their pointers last.
 */
#include "loader/oip/oip.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "loader/oip/compress.h"
#include "loader/oip/json.h"
#include "loader/oip/tensor.h"

#define OIP_NO_HEADER SIZE_MAX
/* A longer header is not kept for the next request. */
#define OIP_HEADER_MAX ((size_t)4096)

void oip_request_init(struct oip_request *request)
{
	memset(request, 0, sizeof(*request));
}

void oip_request_fini(struct oip_request *request)
{
	oip_buffer_fini(&request->header);
	oip_buffer_fini(&request->scratch);
	oip_buffer_fini(&request->inflated);
	memset(request, 0, sizeof(*request));
}

/* The head */

struct oip_head {
	size_t json_bytes; /* or OIP_NO_HEADER */
	enum oip_encoding encoding;
};

static int oip_read_length(struct proto_text value, size_t *ret_bytes, struct err *err)
{
	size_t bytes = 0;

	if (*ret_bytes != OIP_NO_HEADER)
		return err_set(err, 400,
		               "Inference-Header-Content-Length is given twice");
	for (size_t i = 0; i < value.bytes; i++) {
		if (value.data[i] < '0' || value.data[i] > '9' || bytes > SIZE_MAX / 100)
			return err_set(
				err, 400,
				"Inference-Header-Content-Length must be a number of "
				"bytes");
		bytes = bytes * 10 + (size_t)(value.data[i] - '0');
	}
	if (value.bytes == 0)
		return err_set(err, 400, "Inference-Header-Content-Length is empty");
	*ret_bytes = bytes;
	return 0;
}

static int oip_read_head(struct oip_request *request, const struct proto_head *head,
                         struct oip_head *ret_head, struct err *err)
{
	struct proto_head walk = *head;
	struct proto_field field;
	int r;

	*ret_head = (struct oip_head){ .json_bytes = OIP_NO_HEADER };
	request->accepts = OIP_PLAIN;
	while ((r = proto_head_next(&walk, &field)) == 1) {
		r = 0;
		if (proto_text_equals(field.name, "inference-header-content-length"))
			r = oip_read_length(field.value, &ret_head->json_bytes, err);
		else if (proto_text_equals(field.name, "content-encoding"))
			r = compress_encoding(field.value, &ret_head->encoding, err);
		else if (proto_text_equals(field.name, "accept-encoding") &&
		         request->accepts == OIP_PLAIN)
			request->accepts = compress_accepted(field.value);
		if (r)
			return r;
	}
	return r < 0 ? err_set(err, 400, "the request's headers cannot be read") : 0;
}

void oip_read_work(const struct proto_head *head, size_t body_bytes,
                   struct oip_work *ret_work)
{
	struct proto_head walk = *head;
	struct proto_field field;
	size_t json_bytes = OIP_NO_HEADER;
	enum oip_encoding encoding = OIP_PLAIN;

	/* oip_decode() will say what is wrong with a field. */
	while (proto_head_next(&walk, &field) == 1) {
		if (proto_text_equals(field.name, "inference-header-content-length"))
			(void)oip_read_length(field.value, &json_bytes, NULL);
		else if (proto_text_equals(field.name, "content-encoding"))
			(void)compress_encoding(field.value, &encoding, NULL);
	}
	*ret_work = (struct oip_work){
		.json_bytes = json_bytes < body_bytes ? json_bytes : body_bytes,
		.is_compressed = encoding != OIP_PLAIN,
	};
}

/* Names and parameters */

/* Finds the parameters of @json; NULL when it has none. */
static int oip_read_parameters(struct oip_decoding *decoding, const json_t *json,
                               const json_t **ret_parameters)
{
	*ret_parameters = oip_json_get(json, "parameters");
	if (*ret_parameters && !json_is_object(*ret_parameters))
		return err_set(decoding->err, 400, "parameters must be a JSON object");
	if (oip_json_get(*ret_parameters, "shared_memory_region"))
		return err_set(decoding->err, 501,
		               "shared memory is not supported: send and receive tensors "
		               "in the body");
	return 0;
}

/* Leaves *ret_flag as it is when @parameters do not have @key. */
static int oip_read_flag(struct oip_decoding *decoding, const json_t *parameters,
                         const char *key, bool *ret_flag)
{
	const json_t *flag = oip_json_get(parameters, key);

	if (flag && !json_is_boolean(flag))
		return err_set(decoding->err, 400, "%s must be true or false", key);
	if (flag)
		*ret_flag = json_is_true(flag);
	return 0;
}

/* Refuses an unknown input or output with the names of the known ones. */
static int oip_unknown(struct oip_decoding *decoding, const char *kind, const char *name,
                       const struct tensor_spec *specs, size_t n)
{
	char known[256] = "";
	size_t used = 0;

	if (!name)
		return err_set(decoding->err, 400, "each of %ss needs a name", kind);
	for (size_t i = 0; i < n && used + TENSOR_NAME_MAX + 8 < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s'%s'",
		                         i ? ", " : "", specs[i].name);
	return err_set(decoding->err, 400, "model '%s' has no %s '%.64s'; it has %s",
	               decoding->model->name, kind, name, known);
}

static int oip_read_input(struct oip_decoding *decoding, const json_t *json)
{
	const struct oip_model *model = decoding->model;
	const char *name = oip_json_text(oip_json_get(json, "name"));
	size_t i = tensor_spec_find(model->inputs, model->n_inputs, name);
	const json_t *parameters;
	int r;

	if (i == model->n_inputs)
		return oip_unknown(decoding, "input", name, model->inputs,
		                   model->n_inputs);
	r = oip_read_parameters(decoding, json, &parameters);
	return r ? r : oip_tensor_read(decoding, i, json, parameters);
}

static int oip_read_inputs(struct oip_decoding *decoding, const json_t *inputs,
                           const struct oip_cuts *cuts)
{
	const json_t *input;
	size_t i;
	int r;

	if (!json_is_array(inputs))
		return err_set(decoding->err, 400, "the request needs a list of inputs");
	json_array_foreach(inputs, i, input)
	{
		decoding->cut = oip_cut_of(cuts, i);
		r = oip_read_input(decoding, input);
		if (r)
			return r;
	}
	r = oip_tensor_check_given(decoding);
	return r ? r : oip_tensor_check_end(decoding);
}

static int oip_want(struct oip_decoding *decoding, size_t output, bool is_binary)
{
	const struct tensor_spec *spec = &decoding->model->outputs[output];
	struct oip_request *request = decoding->request;

	for (size_t i = 0; i < request->n_wanted; i++)
		if (request->wanted[i].output == output)
			return err_set(decoding->err, 400,
			               "model '%s', output '%s': it is asked for twice",
			               decoding->model->name, spec->name);
	if (!is_binary &&
	    (spec->dtype == TENSOR_DTYPE_FP16 || spec->dtype == TENSOR_DTYPE_BF16))
		return err_set(decoding->err, 400,
		               "model '%s', output '%s': %s has no form in JSON: ask for "
		               "binary_data",
		               decoding->model->name, spec->name,
		               tensor_dtype_name(spec->dtype));
	request->wanted[request->n_wanted++] =
		(struct oip_wanted){ (uint32_t)output, is_binary };
	return 0;
}

static int oip_read_output(struct oip_decoding *decoding, const json_t *json)
{
	const struct oip_model *model = decoding->model;
	const char *name = oip_json_text(oip_json_get(json, "name"));
	size_t i = tensor_spec_find(model->outputs, model->n_outputs, name);
	bool is_binary = decoding->binary_output;
	const json_t *parameters;
	int r;

	if (i == model->n_outputs)
		return oip_unknown(decoding, "output", name, model->outputs,
		                   model->n_outputs);
	r = oip_read_parameters(decoding, json, &parameters);
	if (r == 0)
		r = oip_read_flag(decoding, parameters, "binary_data", &is_binary);
	if (r)
		return r;
	if (oip_json_get(parameters, "classification"))
		return err_set(decoding->err, 501,
		               "classification is not supported: ask for output '%s' "
		               "itself",
		               name);
	return oip_want(decoding, i, is_binary);
}

/* Reads the wanted outputs; no list, or an empty one, asks for all. Of a model whose outputs are
 * not known yet, all are wanted. */
static int oip_read_outputs(struct oip_decoding *decoding, const json_t *outputs)
{
	const json_t *output;
	size_t i;
	int r = 0;

	if (outputs && !json_is_array(outputs))
		return err_set(decoding->err, 400, "outputs must be a list");
	if (json_array_size(outputs) == 0 || decoding->model->n_outputs == 0) {
		for (i = 0; i < decoding->model->n_outputs && r == 0; i++)
			r = oip_want(decoding, i, decoding->binary_output);
		return r;
	}
	json_array_foreach(outputs, i, output)
	{
		r = oip_read_output(decoding, output);
		if (r)
			break;
	}
	return r;
}

static int oip_read_id(struct oip_decoding *decoding, const json_t *json)
{
	const char *id = oip_json_text(json);

	if (!json)
		return 0;
	if (!id || strlen(id) >= OIP_ID_MAX)
		return err_set(decoding->err, 400,
		               "id must be a string of at most %d bytes", OIP_ID_MAX - 1);
	memcpy(decoding->request->id, id, strlen(id) + 1);
	return 0;
}

/* Reads timeout, and checks priority, too: the supervisor reads priority, but refuses nothing. */
static int oip_read_numbers(struct oip_decoding *decoding, const json_t *parameters)
{
	static const char *const numbers[] = { "timeout", "priority" };
	uint64_t timeout_us;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const json_t *value = oip_json_get(parameters, numbers[i]);

		if (value && (!json_is_integer(value) || json_integer_value(value) < 0))
			return err_set(decoding->err, 400,
			               "parameter %s must be an integer, 0 or more",
			               numbers[i]);
	}
	timeout_us = (uint64_t)json_integer_value(oip_json_get(parameters, "timeout"));
	decoding->request->timeout_ns =
		timeout_us < UINT64_MAX / 1000 ? timeout_us * 1000 : 0;
	return 0;
}

static int oip_read_json(struct oip_decoding *decoding, const json_t *json,
                         const struct oip_cuts *cuts)
{
	const json_t *parameters;
	int r;

	if (!json_is_object(json))
		return err_set(decoding->err, 400, "the request must be a JSON object");
	r = oip_read_id(decoding, oip_json_get(json, "id"));
	if (r == 0)
		r = oip_read_parameters(decoding, json, &parameters);
	if (r == 0)
		r = oip_read_flag(decoding, parameters, "binary_data_output",
		                  &decoding->binary_output);
	if (r == 0)
		r = oip_read_numbers(decoding, parameters);
	if (r == 0)
		r = oip_read_outputs(decoding, oip_json_get(json, "outputs"));
	if (r == 0)
		r = oip_read_inputs(decoding, oip_json_get(json, "inputs"), cuts);
	return r;
}

/* Reads a body with Inference-Header-Content-Length: 0, which is the one input; the answer is
 * binary. */
static int oip_read_raw(struct oip_decoding *decoding)
{
	const struct oip_model *model = decoding->model;
	int r;

	if (model->n_inputs != 1)
		return err_set(
			decoding->err, 400,
			"model '%s' has %zu inputs: a raw request needs exactly one",
			model->name, model->n_inputs);
	decoding->binary_output = true;
	r = oip_read_outputs(decoding, NULL);
	return r ? r : oip_tensor_read_raw(decoding);
}

static void oip_forget(struct oip_request *request)
{
	oip_buffer_use(&request->header, 0);
	oip_tensor_forget(request);
	request->n_wanted = 0;
	request->timeout_ns = 0;
	request->id[0] = '\0';
}

/* Parses all but the lists of numbers. OIP_TENSOR_E_CUT: the whole has to be parsed. */
static int oip_parse_cut(struct oip_decoding *decoding, const char *text, size_t bytes)
{
	struct oip_decoding before = *decoding;
	struct oip_cuts cuts;
	json_t *json;
	int r = OIP_TENSOR_E_CUT;

	oip_cut(&cuts, text, bytes);
	if (cuts.n_cuts == 0 || !oip_json_is_small(oip_cut_rest(&cuts, bytes),
	                                           decoding->model->max_body_bytes))
		return r;
	json = oip_cut_parse(&cuts, text, bytes);
	if (json)
		r = oip_read_json(decoding, json, &cuts);
	json_decref(json);
	if (r == OIP_TENSOR_E_CUT) {
		oip_forget(decoding->request);
		*decoding = before;
		oip_tensor_init(decoding);
	}
	return r;
}

/* Parses without the lists first. A text that fails there is parsed whole: the tree tells what is
 * wrong, and where. */
static int oip_parse(struct oip_decoding *decoding, const unsigned char *text,
                     size_t bytes)
{
	const struct oip_cuts none = { .n_cuts = 0 };
	json_t *json;
	int r;

	r = oip_parse_cut(decoding, (const char *)text, bytes);
	if (r != OIP_TENSOR_E_CUT)
		return r;
	r = oip_json_parse(text, bytes, decoding->model->max_body_bytes, &json,
	                   decoding->err);
	if (r)
		return r;
	r = oip_read_json(decoding, json, &none);
	json_decref(json);
	return r;
}

static bool oip_is_same_header(const struct oip_request *request,
                               const unsigned char *json, size_t bytes)
{
	return bytes > 0 && request->header.used_bytes == bytes &&
	       memcmp(request->header.data, json, bytes) == 0;
}

/* Reads a body with the same header as last time: only the tensors are new. */
static int oip_read_again(struct oip_decoding *decoding)
{
	const struct oip_request *request = decoding->request;

	for (size_t i = 0; i < request->n_sequence; i++) {
		int r = oip_tensor_take(decoding, request->sequence[i].input,
		                        request->sequence[i].bytes);

		if (r)
			return r;
	}
	return oip_tensor_check_end(decoding);
}

/* Keeps the header for the next request. Without memory the next header is just parsed. */
static void oip_keep_header(struct oip_request *request, const unsigned char *json,
                            size_t bytes)
{
	if (bytes > OIP_HEADER_MAX || !oip_buffer_reserve(&request->header, bytes))
		return;
	memcpy(request->header.data, json, bytes);
	oip_buffer_use(&request->header, bytes);
}

static int oip_read_body(struct oip_decoding *decoding, const struct oip_head *head,
                         const unsigned char *body, size_t body_bytes)
{
	const size_t json_bytes =
		head->json_bytes == OIP_NO_HEADER ? body_bytes : head->json_bytes;
	int r;

	if (json_bytes > body_bytes)
		return err_set(
			decoding->err, 400,
			"Inference-Header-Content-Length is %zu, the body has only "
			"%zu bytes",
			json_bytes, body_bytes);
	decoding->binary = body + json_bytes;
	decoding->binary_bytes = body_bytes - json_bytes;
	if (oip_is_same_header(decoding->request, body, json_bytes))
		return oip_read_again(decoding);
	oip_forget(decoding->request);
	if (head->json_bytes == 0)
		return oip_read_raw(decoding);
	r = oip_parse(decoding, body, json_bytes);
	if (r == 0 && decoding->request->n_sequence == decoding->model->n_inputs)
		oip_keep_header(decoding->request, body, json_bytes);
	return r;
}

int oip_decode(struct oip_request *request, const struct oip_model *model,
               const struct proto_head *head, const unsigned char *body,
               size_t body_bytes, struct err *err)
{
	struct oip_decoding decoding = { .request = request, .model = model, .err = err };
	struct oip_head read;
	int r;

	assert(model->n_inputs > 0 && model->n_inputs <= ENGINE_TENSORS_MAX);
	assert(model->n_outputs <= ENGINE_TENSORS_MAX);
	oip_tensor_init(&decoding);
	r = oip_read_head(request, head, &read, err);
	if (r == 0 && read.encoding != OIP_PLAIN) {
		r = compress_inflate(&request->inflated, body, body_bytes,
		                     model->max_body_bytes, err);
		body = request->inflated.data;
		body_bytes = request->inflated.used_bytes;
	}
	if (r == 0)
		r = oip_read_body(&decoding, &read, body, body_bytes);
	if (r == 0)
		oip_tensor_settle(&decoding);
	return r;
}
