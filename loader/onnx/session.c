/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The runtime copies the weights of an .onnx file, whose protobuf it parses, unless it gets them
 * beside a model without them (initializers.h). An .ort file is a flatbuffer: tensors can stay
 * where they lie. Either way they do so only while no kernel packs them anew for its own use, which
 * session.disable_prepacking forbids. The keys are those of
 * onnxruntime_session_options_config_keys.h.
 *
 * Threads that have no work sleep at once (allow_spinning): they would take the processors from
 * the other models.
 */
#include "loader/onnx/session.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "loader/onnx/status.h"
#include "shared/model_format.h"

#define SESSION_CUDA "CUDAExecutionProvider"

static int session_fail(const struct session *session, struct ort_status *status,
                        int outcome, struct err *err)
{
	return status_fail(session->api, status, session->config, outcome,
	                   "ONNX Runtime: ", err);
}

int session_init(struct session *session, struct account *account, struct err *err)
{
	const struct ort_api *api = session->api;
	struct ort_status *status;

	status = api->create_cpu_memory(ORT_ALLOCATOR_DEVICE, ORT_MEMORY_DEFAULT,
	                                &session->memory);
	/* What fails is said by a status; a line of its own would say it once more. */
	if (!status)
		status = api->create_env(ORT_LOG_FATAL, "moult", &session->env);
	if (status)
		return session_fail(session, status, ENGINE_E_FAILED, err);
	account_init(account, session->memory, session->throw);
	status = api->register_allocator(session->env, &account->allocator);
	return status ? session_fail(session, status, ENGINE_E_FAILED, err) : 0;
}

/* The device */

static bool session_is_host(const struct session *session)
{
	return strcmp(session->config->device, "cpu") == 0;
}

int session_check_device(const struct session *session, struct err *err)
{
	const struct engine_config *config = session->config;
	bool has_cuda = false;
	char **names = NULL;
	int n = 0;
	struct ort_status *status;

	if (session_is_host(session))
		return 0;
	if (strncmp(config->device, "cuda", 4) != 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "device must be cpu, cuda or cuda:N, not '%s'",
		               config->device);
	if (config->working_bytes > 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine onnx keeps to working_memory on the CPU alone: "
		               "leave it out for device = %s",
		               config->device);
	status = session->api->list_providers(&names, &n);
	if (status)
		return session_fail(session, status, ENGINE_E_FAILED, err);
	for (int i = 0; i < n; i++)
		has_cuda |= strcmp(names[i], SESSION_CUDA) == 0;
	status = session->api->free_providers(names, n);
	if (status)
		session->api->release_status(status);
	return has_cuda ? 0
	                : err_set(err, ENGINE_E_CONFIG,
	                          "device '%s' is out of reach: ONNX Runtime %s is built "
	                          "without CUDA: pip install onnxruntime-gpu, or set "
	                          "device = cpu",
	                          config->device, session->version);
}

/* Opens the provider's library and, with it, the driver. */
static struct ort_status *session_add_cuda(const struct session *session,
                                           struct ort_options *options)
{
	static const char *const keys[] = { "device_id" };
	const char *colon = strchr(session->config->device, ':');
	const char *const values[] = { colon ? colon + 1 : "0" };
	const struct ort_api *api = session->api;
	struct ort_cuda *cuda = NULL;
	struct ort_status *status = api->create_cuda(&cuda);

	if (status)
		return status;
	status = api->update_cuda(cuda, keys, values, 1);
	if (!status)
		status = api->append_cuda(options, cuda);
	api->release_cuda(cuda);
	return status;
}

/* The file */

/* The mark of a flatbuffer's kind, behind the offset of its root. */
static bool session_is_ort(const struct session_file *file)
{
	return file->bytes >= 8 && memcmp((const char *)file->data + 4, "ORTM", 4) == 0;
}

int session_share(struct session *session, const struct session_file *file,
                  struct err *err)
{
	if (!session_is_host(session))
		return err_set(err, ENGINE_E_PRIVATE, "device '%s' has memory of its own",
		               session->config->device);
	if (session->options->prepack == ONNX_PREPACK_YES)
		return err_set(err, ENGINE_E_PRIVATE,
		               "option.prepack = yes has ONNX Runtime copy the weights");
	return session_is_ort(file) ? 0
	                            : initializers_read(&session->initializers,
	                                                file->data, file->bytes, err);
}

static size_t session_read(void *context, uint64_t at, void *buffer, size_t bytes)
{
	const struct session_file *file = context;

	if (at >= file->bytes)
		return 0;
	if (bytes > file->bytes - at)
		bytes = file->bytes - (size_t)at;
	memcpy(buffer, (const char *)file->data + at, bytes);
	return bytes;
}

static int session_check_format(const struct session_file *file, struct err *err)
{
	struct session_file source = *file;
	const struct model_file model = { session_read, &source, file->bytes };

	return model_format_check_onnx(&model, err) ? ENGINE_E_MODEL : 0;
}

/* Options */

struct session_entry {
	const char *key;
	const char *value;
};

static const struct session_entry session_always[] = {
	{ "session.use_env_allocators", "1" },
	{ "session.intra_op.allow_spinning", "0" },
	{ "session.inter_op.allow_spinning", "0" },
	/* No folder: files beside the model are nobody's that was hashed. */
	{ "session.model_external_initializers_file_folder_path", "/dev/null" },
};
static const struct session_entry session_unpacked[] = {
	{ "session.disable_prepacking", "1" },
};
static const struct session_entry session_ort[] = {
	{ "session.load_model_format", "ORT" },
};
static const struct session_entry session_in_place[] = {
	{ "session.use_ort_model_bytes_directly", "1" },
	{ "session.use_ort_model_bytes_for_initializers", "1" },
};

static struct ort_status *session_set(const struct session *session,
                                      struct ort_options *options,
                                      const struct session_entry *entries, size_t n)
{
	struct ort_status *status = NULL;

	for (size_t i = 0; i < n && !status; i++)
		status = session->api->set_entry(options, entries[i].key,
		                                 entries[i].value);
	return status;
}

static struct ort_status *session_set_all(const struct session *session,
                                          struct ort_options *options,
                                          const struct session_file *file)
{
	const struct ort_api *api = session->api;
	bool is_packed = session->options->prepack == ONNX_PREPACK_AUTO
	                         ? !file->is_lasting
	                         : session->options->prepack == ONNX_PREPACK_YES;
	struct ort_status *status = session_set(session, options, session_always, 4);

	if (!status)
		status = api->disable_arena(options);
	if (!status)
		status = api->set_intra_threads(options, (int)session->config->threads);
	if (!status)
		status = api->set_inter_threads(options, 1);
	if (!status && !is_packed)
		status = session_set(session, options, session_unpacked, 1);
	if (!status && session_is_ort(file))
		status = session_set(session, options, session_ort, 1);
	if (!status && session_is_ort(file) && file->is_lasting)
		status = session_set(session, options, session_in_place, 2);
	return status;
}

/* Has the session made of the model without its weights, which it uses where they lie. A failure
 * is left to a session of the whole file to explain, if it is one of the model. */
static int session_create_shared(struct session *session, const struct session_file *file,
                                 struct ort_options *options, struct err *err)
{
	const struct initializers_use use = {
		.api = session->api,
		.editor = session->editor,
		.env = session->env,
		.memory = session->memory,
		.options = options,
		.data = file->data,
		.bytes = file->bytes,
	};
	struct ort_status *status =
		initializers_build(&session->initializers, &use, &session->ort);

	return status ? status_fail(session->api, status, session->config,
	                            ENGINE_E_PRIVATE,
	                            "ONNX Runtime does not take the weights where they "
	                            "lie: ",
	                            err)
	              : 0;
}

static int session_create(struct session *session, const struct session_file *file,
                          struct ort_options *options, struct err *err)
{
	bool is_host = file->is_host || session_is_host(session);
	struct ort_status *status = NULL;

	if (session->initializers.graph.model)
		return session_create_shared(session, file, options, err);
	if (!is_host && (status = session_add_cuda(session, options)))
		return session_fail(session, status, ENGINE_E_DEVICE, err);
	status = session->api->create_session(session->env, file->data, file->bytes,
	                                      options, &session->ort);
	return status ? session_fail(session, status,
	                             is_host ? ENGINE_E_MODEL : ENGINE_E_DEVICE, err)
	              : 0;
}

int session_build(struct session *session, const struct session_file *file,
                  struct err *err)
{
	const struct ort_api *api = session->api;
	struct ort_options *options = NULL;
	struct ort_status *status;
	int r = session_check_format(file, err);

	if (r)
		return r;
	status = api->create_options(&options);
	if (!status)
		status = session_set_all(session, options, file);
	r = status ? session_fail(session, status, ENGINE_E_FAILED, err)
	           : session_create(session, file, options, err);
	if (options)
		api->release_options(options);
	/* Copies that the runtime has let go of would stay with the process. */
	(void)malloc_trim(0);
	return r;
}

void session_drop(struct session *session)
{
	if (session->ort)
		session->api->release_session(session->ort);
	session->ort = NULL;
	initializers_drop(&session->initializers, session->api);
}

void session_fini(struct session *session)
{
	session_drop(session);
	if (session->env)
		session->api->release_env(session->env);
	if (session->memory)
		session->api->release_memory(session->memory);
	session->env = NULL;
	session->memory = NULL;
}
