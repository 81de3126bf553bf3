/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The methods that are not inference: few calls, small messages, read and written by protobuf-c
 * with what its compiler makes of inference.proto and health.proto.
 */
#include <stdlib.h>
#include <string.h>

#include "supervisor/grpc/conn.h"
#include "supervisor/messages/health.pb-c.h"
#include "supervisor/messages/inference.pb-c.h"
#include "supervisor/http/http.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
/* The service that gRPC's health checks ask for by its name. */
#define SERVICE "inference.GRPCInferenceService"

/* protobuf-c writes nothing where its strings point to. */
static char *cold_text(const char *text)
{
	return (char *)(uintptr_t)text;
}

static void cold_send(struct grpc_call *call, const ProtobufCMessage *message)
{
	size_t bytes = protobuf_c_message_get_packed_size(message);
	unsigned char *room = grpc_reply_room(call, bytes);

	if (!room)
		return;
	(void)protobuf_c_message_pack(message, room);
	grpc_reply_message(call);
}

static bool cold_is_server_ready(const struct grpc_call *call)
{
	return http_is_ready(call->conn->grpc->models.http);
}

/* The model of the call's route, if the client may have what it asks. NULL, with a refusal. */
static struct model *cold_model(struct grpc_call *call)
{
	const struct permit_place place = grpc_place(call->conn->grpc);

	return permit_allows(&call->permission, &place, &call->route, &call->refusal)
	               ? permit_model(&place, &call->route, &call->refusal)
	               : NULL;
}

/* Of the server */

static void cold_live(struct grpc_call *call, const ProtobufCMessage *request)
{
	Inference__ServerLiveResponse response = INFERENCE__SERVER_LIVE_RESPONSE__INIT;

	(void)request;
	response.live = true;
	cold_send(call, &response.base);
}

static void cold_ready(struct grpc_call *call, const ProtobufCMessage *request)
{
	Inference__ServerReadyResponse response = INFERENCE__SERVER_READY_RESPONSE__INIT;

	(void)request;
	response.ready = cold_is_server_ready(call);
	cold_send(call, &response.base);
}

static void cold_metadata(struct grpc_call *call, const ProtobufCMessage *request)
{
	static const char *const extensions[] = { "model_repository", "parameters" };
	Inference__ServerMetadataResponse response =
		INFERENCE__SERVER_METADATA_RESPONSE__INIT;
	char *names[COUNT(extensions)];

	(void)request;
	for (size_t i = 0; i < COUNT(extensions); i++)
		names[i] = cold_text(extensions[i]);
	response.name = cold_text("moult");
	response.version = cold_text(MOULT_VERSION);
	response.n_extensions = COUNT(names);
	response.extensions = names;
	cold_send(call, &response.base);
}

/* Of a model */

static void cold_model_ready(struct grpc_call *call, const ProtobufCMessage *request)
{
	Inference__ModelReadyResponse response = INFERENCE__MODEL_READY_RESPONSE__INIT;
	const struct model *model = cold_model(call);

	(void)request;
	if (!model) {
		grpc_reply_refusal(call);
		return;
	}
	response.ready = model_is_ready(model);
	cold_send(call, &response.base);
}

typedef Inference__ModelMetadataResponse__TensorMetadata cold_tensor;

/* Tensors of a model, in the form of protobuf-c. */
struct cold_tensors {
	cold_tensor tensors[CONFIG_TENSORS_MAX];
	cold_tensor *pointers[CONFIG_TENSORS_MAX];
	int64_t dims[CONFIG_TENSORS_MAX][TENSOR_RANK_MAX];
};

static void cold_fill(struct cold_tensors *to, const struct tensor_spec *specs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		cold_tensor *tensor = to->pointers[i] = &to->tensors[i];

		inference__model_metadata_response__tensor_metadata__init(tensor);
		memcpy(to->dims[i], specs[i].shape.dims, sizeof(to->dims[i]));
		tensor->name = cold_text(specs[i].name);
		tensor->datatype = cold_text(tensor_dtype_name(specs[i].dtype));
		tensor->n_shape = specs[i].shape.rank;
		tensor->shape = to->dims[i];
	}
}

static void cold_model_metadata(struct grpc_call *call, const ProtobufCMessage *request)
{
	Inference__ModelMetadataResponse response =
		INFERENCE__MODEL_METADATA_RESPONSE__INIT;
	const struct model *model = cold_model(call);
	const struct config_model *config = model ? model_config(model) : NULL;
	struct declared_view tensors;
	struct cold_tensors inputs;
	struct cold_tensors outputs;
	char *version;

	(void)request;
	if (config && !model_tensors(model, &tensors)) {
		(void)request_refuse(&call->refusal, 503, GRPC_RETRY_S,
		                     "model '%s' tells its inputs and outputs itself, "
		                     "and has not been loaded yet",
		                     model_name(model));
		config = NULL;
	}
	if (!config) {
		grpc_reply_refusal(call);
		return;
	}
	version = cold_text(config->version);
	cold_fill(&inputs, tensors.inputs, tensors.n_inputs);
	cold_fill(&outputs, tensors.outputs, tensors.n_outputs);
	response.name = cold_text(config->name);
	response.n_versions = 1;
	response.versions = &version;
	response.platform = cold_text(config->platform);
	response.n_inputs = tensors.n_inputs;
	response.inputs = inputs.pointers;
	response.n_outputs = tensors.n_outputs;
	response.outputs = outputs.pointers;
	cold_send(call, &response.base);
}

/* Of all models */

typedef Inference__RepositoryIndexResponse__ModelIndex cold_row;

/* The index, in the form of protobuf-c. */
struct cold_index {
	cold_row rows[CONFIG_MODELS_MAX];
	cold_row *pointers[CONFIG_MODELS_MAX];
	struct err reasons[CONFIG_MODELS_MAX];
	size_t n;
};

static void cold_add(struct cold_index *index, struct model *model, bool is_ready_only)
{
	size_t n = index->n;
	enum model_presence presence = model_presence(model, &index->reasons[n]);
	cold_row *row = &index->rows[n];

	if (is_ready_only && presence != MODEL_READY)
		return;
	inference__repository_index_response__model_index__init(row);
	row->name = cold_text(model_name(model));
	row->version = cold_text(model_config(model)->version);
	row->state = cold_text(model_presence_name(presence));
	row->reason = index->reasons[n].text;
	index->pointers[n] = row;
	index->n++;
}

static void cold_add_unloaded(struct cold_index *index,
                              const struct repository_unloaded *one)
{
	cold_row *row = &index->rows[index->n];

	inference__repository_index_response__model_index__init(row);
	row->name = cold_text(one->section->name);
	row->version = cold_text(one->section->version);
	row->state = cold_text(one->is_leaving ? "UNLOADING" : "UNAVAILABLE");
	row->reason = cold_text("unloaded");
	index->pointers[index->n++] = row;
}

static void cold_index(struct grpc_call *call, const ProtobufCMessage *request)
{
	const Inference__RepositoryIndexRequest *asked =
		(const Inference__RepositoryIndexRequest *)request;
	Inference__RepositoryIndexResponse response =
		INFERENCE__REPOSITORY_INDEX_RESPONSE__INIT;
	struct grpc *grpc = call->conn->grpc;
	const struct repository *repository = grpc->models.repository;
	const struct permit_place place = grpc_place(grpc);
	struct repository_unloaded one;
	struct cold_index *index = malloc(sizeof(*index));

	if (!index) {
		(void)request_refuse(&call->refusal, 503, GRPC_RETRY_S,
		                     "the server is out of memory");
		grpc_reply_refusal(call);
		return;
	}
	index->n = 0;
	for (struct model *const *model = grpc->models.list; *model; model++)
		if (permit_shows(&call->permission, &place, model_name(*model)))
			cold_add(index, *model, asked->ready);
	for (size_t i = 0; !asked->ready && index->n < CONFIG_MODELS_MAX &&
	                   repository->unloaded(repository->context, i, &one);
	     i++)
		if (permit_shows(&call->permission, &place, one.section->name))
			cold_add_unloaded(index, &one);
	response.n_models = index->n;
	response.models = index->pointers;
	cold_send(call, &response.base);
	free(index);
}

/* Whether @base has no parameters, which would change a model. False, with a refusal. */
static bool cold_is_plain(struct grpc_call *call, const ProtobufCMessage *base)
{
	if (base->n_unknown_fields == 0)
		return true;
	(void)request_refuse(&call->refusal, 400, 0,
	                     "parameters are not taken: change the files that the model "
	                     "comes from, and load it");
	grpc_reply_refusal(call);
	return false;
}

static void cold_load(struct grpc_call *call, const ProtobufCMessage *request)
{
	const Inference__RepositoryModelLoadRequest *asked =
		(const Inference__RepositoryModelLoadRequest *)request;

	if (cold_is_plain(call, request))
		grpc_loading_begin(call, REPOSITORY_LOAD, asked->model_name);
}

/* The one parameter that there is, unload_dependents, changes nothing: no model here has any. */
static void cold_unload(struct grpc_call *call, const ProtobufCMessage *request)
{
	const Inference__RepositoryModelUnloadRequest *asked =
		(const Inference__RepositoryModelUnloadRequest *)request;

	grpc_loading_begin(call, REPOSITORY_UNLOAD, asked->model_name);
}

/* Health */

static void cold_health(struct grpc_call *call, const ProtobufCMessage *request)
{
	const Grpc__Health__V1__HealthCheckRequest *asked =
		(const Grpc__Health__V1__HealthCheckRequest *)request;
	Grpc__Health__V1__HealthCheckResponse response =
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	if (*asked->service && strcmp(asked->service, SERVICE) != 0) {
		(void)request_refuse(&call->refusal, 404, 0,
		                     "the one service is " SERVICE);
		grpc_reply_refusal(call);
		return;
	}
	response.status =
		cold_is_server_ready(call)
			? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
			: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
	cold_send(call, &response.base);
}

/* Asks for the model that the request names, where its first two fields are name and version. */
static bool cold_take_model(struct grpc_call *call, const char *name, const char *version)
{
	const struct pb_text texts[] = {
		{ (const unsigned char *)name, strlen(name) },
		{ (const unsigned char *)version, strlen(version) },
	};

	return grpc_call_set_model(call, texts[0], texts[1]);
}

static const struct {
	const ProtobufCMessageDescriptor *request;
	void (*answer)(struct grpc_call *call, const ProtobufCMessage *request);
} cold_rows[GRPC_METHOD_COUNT] = {
	[GRPC_METHOD_SERVER_LIVE] = { &inference__server_live_request__descriptor,
	                              cold_live },
	[GRPC_METHOD_SERVER_READY] = { &inference__server_ready_request__descriptor,
	                               cold_ready },
	[GRPC_METHOD_MODEL_READY] = { &inference__model_ready_request__descriptor,
	                              cold_model_ready },
	[GRPC_METHOD_SERVER_METADATA] = { &inference__server_metadata_request__descriptor,
	                                  cold_metadata },
	[GRPC_METHOD_MODEL_METADATA] = { &inference__model_metadata_request__descriptor,
	                                 cold_model_metadata },
	[GRPC_METHOD_INDEX] = { &inference__repository_index_request__descriptor,
	                        cold_index },
	[GRPC_METHOD_LOAD] = { &inference__repository_model_load_request__descriptor,
	                       cold_load },
	[GRPC_METHOD_UNLOAD] = { &inference__repository_model_unload_request__descriptor,
	                         cold_unload },
	[GRPC_METHOD_HEALTH] = { &grpc__health__v1__health_check_request__descriptor,
	                         cold_health },
};

/* Whether the client may ask that, as far as it does not name a model. False, with a refusal. */
static bool cold_admit(struct grpc_call *call, const ProtobufCMessage *request)
{
	const Inference__ModelReadyRequest *ready =
		(const Inference__ModelReadyRequest *)request;
	const Inference__ModelMetadataRequest *metadata =
		(const Inference__ModelMetadataRequest *)request;
	const struct permit_place place = grpc_place(call->conn->grpc);

	if (call->method == GRPC_METHOD_MODEL_READY)
		return cold_take_model(call, ready->name, ready->version);
	if (call->method == GRPC_METHOD_MODEL_METADATA)
		return cold_take_model(call, metadata->name, metadata->version);
	return permit_allows(&call->permission, &place, &call->route, &call->refusal);
}

void grpc_cold_answer(struct grpc_call *call, struct pb_text message)
{
	ProtobufCMessage *request =
		protobuf_c_message_unpack(cold_rows[call->method].request, NULL,
	                                  message.bytes, message.data);

	if (!request) {
		(void)request_refuse(&call->refusal, 400, 0,
		                     "the message is not what the method takes");
		grpc_reply_refusal(call);
		return;
	}
	if (cold_admit(call, request))
		cold_rows[call->method].answer(call, request);
	else
		grpc_reply_refusal(call);
	protobuf_c_message_free_unpacked(request, NULL);
}
