/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A request for inference while its message comes. Contents of raw_input_contents go into the
 * model's request arena as they come, behind room for the JSON that is written when the message
 * is whole and says the same. Room is left because that JSON has the tensors' sizes, which are
 * known at the end; the rest of it are spaces, up to a bound that keeps the first tensor aligned.
 * All other fields wait in a heap of their own, which is small where contents are raw.
 */
#include <stdlib.h>
#include <string.h>

#include "supervisor/grpc/conn.h"

/* Fields of a message whose contents are raw: names, shapes and parameters. */
#define GRPC_FIELDS_BYTES ((size_t)64 * 1024)
/* Fields with contents in them: what gRPC's libraries take by default. */
#define GRPC_TYPED_BYTES ((size_t)4 * 1024 * 1024)
/* Of all calls together. */
#define GRPC_ALL_FIELDS_BYTES ((size_t)64 * 1024 * 1024)
#define GRPC_FIRST_BYTES      512
#define GRPC_ALIGN            ((size_t)64)

static bool ask_refuse(struct grpc_call *call, int status, const struct err *err)
{
	(void)request_refuse(&call->refusal, (unsigned int)status, 0, "%s", err->text);
	return false;
}

/* The fields */

static void ask_set_room(struct grpc_call *call, size_t room)
{
	struct grpc_ask *ask = &call->ask;
	struct grpc_asks *asks = &call->conn->grpc->asks;

	asks->fields_bytes = asks->fields_bytes - ask->fields_room + room;
	ask->fields_room = room;
}

static bool ask_grow(struct grpc_call *call, size_t bytes)
{
	struct grpc_ask *ask = &call->ask;
	size_t room = ask->fields_room ? ask->fields_room : GRPC_FIRST_BYTES;
	unsigned char *grown;

	while (room < bytes)
		room *= 2;
	grown = call->conn->grpc->asks.fields_bytes - ask->fields_room + room >
	                        GRPC_ALL_FIELDS_BYTES
	                ? NULL
	                : realloc(ask->fields, room);
	if (!grown)
		return request_refuse(&call->refusal, 503, GRPC_RETRY_S,
		                      "there is no memory for another message now") == 0;
	ask->fields = grown;
	ask_set_room(call, room);
	return true;
}

bool grpc_ask_fields(struct grpc_call *call, const void *data, size_t bytes)
{
	struct grpc_ask *ask = &call->ask;
	bool is_small = ask->n_raw > 0 || call->method != GRPC_METHOD_INFER;
	size_t most = is_small ? GRPC_FIELDS_BYTES : GRPC_TYPED_BYTES;

	if (ask->fields_bytes + bytes > most)
		return request_refuse(&call->refusal, 413, 0,
		                      "the message has more than %zu bytes beside "
		                      "raw_input_contents: send tensors there",
		                      most) == 0;
	if (ask->fields_bytes + bytes > ask->fields_room &&
	    !ask_grow(call, ask->fields_bytes + bytes))
		return false;
	memcpy(ask->fields + ask->fields_bytes, data, bytes);
	ask->fields_bytes += bytes;
	return true;
}

static bool ask_read(struct grpc_call *call, struct infer *infer)
{
	const struct grpc_ask *ask = &call->ask;
	const struct pb_text fields = { ask->fields ? ask->fields
		                                    : (const unsigned char *)"",
		                        ask->fields_bytes };
	struct err err = ERR_NULL;
	int r = infer_read(infer, fields, &err);

	return r == 0 || ask_refuse(call, r, &err);
}

/* The request */

/* The model that is asked, once it is known that the client may. NULL, with a refusal. */
static struct model *ask_find(struct grpc_call *call, const struct infer *infer)
{
	const struct permit_place place = grpc_place(call->conn->grpc);
	struct model *model;

	if (infer->model.bytes == 0) {
		(void)request_refuse(&call->refusal, 400, 0,
		                     "model_name is missing, or comes behind "
		                     "raw_input_contents");
		return NULL;
	}
	if (!grpc_call_set_model(call, infer->model, infer->version) ||
	    !permit_allows(&call->permission, &place, &call->route, &call->refusal))
		return NULL;
	model = permit_model(&place, &call->route, &call->refusal);
	if (!model || !model_config(model)->route)
		return model;
	(void)request_refuse(&call->refusal, 400, 0,
	                     "model '%s' has routes (%.200s), and takes no inference",
	                     call->route.model, model_config(model)->route);
	return NULL;
}

/* Begins the request, of @tensors_bytes behind the JSON. */
static bool ask_begin(struct grpc_call *call, struct model *model, uint64_t tensors_bytes)
{
	struct grpc_ask *ask = &call->ask;
	char length[24];
	char target[CONFIG_NAME_MAX + 24];
	const struct proto_field fields[] = {
		{ proto_text_of("content-type"),
		  proto_text_of("application/octet-stream") },
		{ proto_text_of("inference-header-content-length"),
		  { length,
		    (size_t)snprintf(length, sizeof(length), "%zu", ask->json_room) } },
	};
	const struct request_start start = {
		.method = proto_text_of("POST"),
		.target = { target,
		            (size_t)snprintf(target, sizeof(target),
		                             "/v2/models/%s/infer", call->route.model) },
		.fields = fields,
		.n_fields = sizeof(fields) / sizeof(fields[0]),
		.body_bytes = ask->json_room + tensors_bytes,
		.json_bytes = ask->json_room,
		.timeout_ns = call->timeout_ns,
		.timeout_name = "grpc-timeout",
		.on_part = grpc_call_on_part,
		.context = call,
	};
	struct request *request;

	if (model_begin(model, &start, &request, &call->refusal) != 0)
		return false;
	grpc_call_take(call, request);
	return true;
}

/* Writes the JSON, with spaces behind it up to the room that it has; or finds that room. */
static bool ask_write_json(struct grpc_call *call, const struct infer *infer)
{
	struct grpc *grpc = call->conn->grpc;
	struct grpc_ask *ask = &call->ask;
	struct err err = ERR_NULL;
	size_t room = ask->json_room;
	size_t bytes;
	int r = infer_write_json(infer, grpc->json, sizeof(grpc->json), &bytes, &err);

	if (r)
		return ask_refuse(call, r, &err);
	if (room == 0)
		room = ask->json_room = (bytes + GRPC_ALIGN - 1) & ~(GRPC_ALIGN - 1);
	if (bytes > room)
		return request_refuse(&call->refusal, 400, 0,
		                      "raw_input_contents must come behind all other "
		                      "fields of the message") == 0;
	memset(grpc->json + bytes, ' ', room - bytes);
	return true;
}

/* The first of raw_input_contents: the tensors, whose sizes are not known, take what is left of the
 * message at the most. */
static bool ask_begin_raw(struct grpc_call *call)
{
	uint64_t left = call->split.message_left;
	struct model *model;
	struct infer infer;

	if (call->ask.fields_bytes > GRPC_FIELDS_BYTES)
		return request_refuse(&call->refusal, 413, 0,
		                      "the message has more than %zu bytes before "
		                      "raw_input_contents",
		                      GRPC_FIELDS_BYTES) == 0;
	if (!ask_read(call, &infer))
		return false;
	model = ask_find(call, &infer);
	if (!model)
		return false;
	infer_set_bound(&infer, left);
	return ask_write_json(call, &infer) && ask_begin(call, model, left) &&
	       request_append(call->request, call->conn->grpc->json, call->ask.json_room,
	                      &call->refusal) == 0;
}

bool grpc_ask_raw(struct grpc_call *call, uint64_t bytes)
{
	struct grpc_ask *ask = &call->ask;

	if (ask->n_raw == CONFIG_TENSORS_MAX)
		return request_refuse(&call->refusal, 400, 0,
		                      "the request has more than %d raw_input_contents",
		                      CONFIG_TENSORS_MAX) == 0;
	if (ask->n_raw == 0 && !ask_begin_raw(call))
		return false;
	ask->raw_bytes[ask->n_raw++] = bytes;
	return true;
}

/* The end */

static bool ask_put(void *context, const void *data, size_t bytes)
{
	struct grpc_call *call = context;

	return request_append(call->request, data, bytes, &call->refusal) == 0;
}

static bool ask_end_typed(struct grpc_call *call, struct infer *infer)
{
	const struct infer_sink sink = { ask_put, call };
	struct err err = ERR_NULL;
	struct model *model = ask_find(call, infer);
	uint64_t bytes = 0;
	int r;

	if (!model)
		return false;
	r = infer_measure(infer, &err);
	if (r)
		return ask_refuse(call, r, &err);
	for (size_t i = 0; i < infer->n_inputs; i++)
		bytes += infer->inputs[i].bytes;
	return ask_write_json(call, infer) && ask_begin(call, model, bytes) &&
	       ask_put(call, call->conn->grpc->json, call->ask.json_room) &&
	       infer_write_contents(infer, &sink);
}

static bool ask_end_raw(struct grpc_call *call, struct infer *infer)
{
	const struct grpc_ask *ask = &call->ask;
	struct err err = ERR_NULL;
	int r = infer_set_raw(infer, ask->raw_bytes, ask->n_raw, &err);

	if (r)
		return ask_refuse(call, r, &err);
	if (!ask_write_json(call, infer))
		return false;
	request_overwrite(call->request, call->conn->grpc->json, ask->json_room);
	return true;
}

bool grpc_ask_end(struct grpc_call *call)
{
	struct infer infer;

	if (!ask_read(call, &infer) ||
	    !(call->ask.n_raw > 0 ? ask_end_raw(call, &infer)
	                          : ask_end_typed(call, &infer)))
		return false;
	grpc_ask_forget(call);
	return true;
}

void grpc_ask_forget(struct grpc_call *call)
{
	struct grpc_ask *ask = &call->ask;

	free(ask->fields);
	ask->fields = NULL;
	ask_set_room(call, 0);
}
