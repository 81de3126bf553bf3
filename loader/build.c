/* SPDX-License-Identifier: Apache-2.0 */

/*
 * LOAD: build_take_load(), then build_stage(): weights into memory (load/weights.c), the engine's
 * library (engine_host.c), the engine's stage. COMMIT: build_commit(): weights onto the device
 * (load/placed.c), the engine's commit.
 *
 * An engine that cannot share weights (PRIVATE) is closed and staged once more with private
 * ones: build_unshare(). Weights that nobody needs any more are given back as early as possible,
 * because the old generation still has its own: build_settle_weights().
 */
#include "loader/build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loader/control.h"
#include "loader/engine_host.h"
#include "loader/load/memory.h"
#include "loader/load/pools.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/proto.h"

void build_init(struct build *build, int quit_fd)
{
	*build = (struct build){
		.secrets = SECRETS_NULL,
		.weights = WEIGHTS_NULL,
		.weights_fd = -1,
		.store_fd = -1,
		.quit_fd = quit_fd,
		.enclosure = ENCLOSURE_NULL,
	};
}

void build_close(struct build *build)
{
	if (build->api)
		build->api->close(build->engine);
	build->engine = NULL;
}

void build_fini(struct build *build)
{
	placed_drop(&build->placed);
	weights_leave(&build->weights);
	secrets_fini(&build->secrets);
	enclosure_fini(&build->enclosure);
	model_config_fini(&build->config);
}

int build_be_spare(struct build *build, const char *engine_dir, const char *engine,
                   struct err *err)
{
	int r;

	/* Nobody has said how many there will be. */
	pools_prepare(1);
	r = engine_host_open(&build->api, engine_dir, engine, err);
	build->spare_of = engine;
	if (r == 0 && build->api->prepare)
		build->api->prepare();
	return r;
}

/* LOAD */

/* Takes the chunks, which stand in the store's place. Returns how many descriptors are left. */
static size_t build_take_placed(struct build *build, int *fds, size_t n_fds)
{
	const struct model_config *config = &build->config;
	size_t n_chunks = 0;

	if (config->placed == PLACED_MAP && n_fds > PROTO_LOAD_FD_CHUNKS)
		n_chunks = n_fds - PROTO_LOAD_FD_CHUNKS;
	/* The channel lets no more than PROTO_CHUNKS_MAX chunks through. */
	placed_take(&build->placed, config->placed, &config->chunks, config->canary,
	            fds + PROTO_LOAD_FD_CHUNKS, n_chunks);
	/* Placed weights go from the file to the device: this process never holds them. */
	build->is_lean = config->is_lean || config->placed != PLACED_NOT;
	return n_fds - n_chunks;
}

/* Takes the descriptors of the weights, and of the store or the chunks. */
static int build_take_fds(struct build *build, int *fds, size_t n_fds, struct err *err)
{
	if (n_fds > PROTO_LOAD_FD_WEIGHTS)
		build->weights_fd = take_fd(&fds[PROTO_LOAD_FD_WEIGHTS]);
	n_fds = build_take_placed(build, fds, n_fds);
	if (n_fds > PROTO_LOAD_FD_STORE)
		build->store_fd = take_fd(&fds[PROTO_LOAD_FD_STORE]);
	if (n_fds < PROTO_LOAD_FD_WEIGHTS || n_fds > PROTO_LOAD_FD_COUNT ||
	    (build->store_fd >= 0) != (build->config.share == WEIGHTS_FILL) ||
	    (build->weights_fd < 0 && build->config.share == WEIGHTS_MAP))
		return err_set(err, ENGINE_E_FAILED, "LOAD came with %zu descriptors",
		               n_fds);
	return 0;
}

static int build_check_secrets(struct build *build, struct err *err)
{
	const struct model_config *config = &build->config;
	int r;

	for (size_t i = 0; i < config->n_required_secrets; i++)
		if (!secrets_find(&build->secrets, config->required_secrets[i]))
			return err_set(err, ENGINE_E_CONFIG,
			               "required secret '%s' is missing",
			               config->required_secrets[i]);
	if (config->secrets_env &&
	    (r = secrets_export(&build->secrets, config->secrets_env, err)) < 0)
		return r == -ENOMEM ? ENGINE_E_FAILED : ENGINE_E_CONFIG;
	return 0;
}

int build_take_load(struct build *build, struct chan_message *message, struct err *err)
{
	int *fds = message->fds;
	int r = model_config_init(&build->config, message->payload, err);

	if (r < 0)
		return r == -ENOMEM ? ENGINE_E_FAILED : ENGINE_E_CONFIG;
	r = build_take_fds(build, fds, message->n_fds, err);
	if (r)
		return r;
	if (secrets_init(&build->secrets, take_fd(&fds[PROTO_LOAD_FD_SECRETS]), err) < 0)
		return ENGINE_E_FAILED;
	return build_check_secrets(build, err);
}

/* Translates an outcome of load/weights.h into one of enum engine_outcome. */
static int build_weights_outcome(int r)
{
	return r < 0 ? ENGINE_E_FAILED : r ? ENGINE_E_MODEL : 0;
}

static int build_read_weights(struct build *build, struct err *err)
{
	struct weights_source source = {
		.share = build->config.share,
		.is_lean = build->is_lean,
		.fd = take_fd(&build->weights_fd),
		.store_fd = take_fd(&build->store_fd),
		.path = build->config.path,
		.sha256 = build->config.weights_sha256,
		.passed = build->passed,
	};

	if (source.path)
		return build_weights_outcome(weights_init(&build->weights, &source, err));
	close_fd(&source.fd);
	close_fd(&source.store_fd);
	return 0;
}

/* Called where the file's bytes and the engine's copy of them are in memory at once. */
static void build_note_loading(struct build *build)
{
	struct memory_use use;

	memory_measure(&use);
	if (build->loading_bytes < use.anon_bytes)
		build->loading_bytes = use.anon_bytes;
}

/* Called when the engine is open and has seen no model: all private memory but the file's bytes
 * is the engine's own. */
static void build_note_engine(struct build *build)
{
	const struct weights *weights = &build->weights;
	uint64_t file_bytes =
		weights->share == WEIGHTS_PRIVATE && weights->data ? weights->bytes : 0;
	struct memory_use use;

	memory_measure(&use);
	build->engine_bytes =
		use.anon_bytes > file_bytes ? use.anon_bytes - file_bytes : 0;
}

/* Whether the engine can do what the section asks for. */
static int build_check_engine(const struct build *build, struct err *err)
{
	const struct model_config *config = &build->config;

	if (config->is_hosted && !build->api->host)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine '%s' computes, and hosts no routes: leave route "
		               "out, or choose an engine that hosts",
		               config->engine);
	if (!config->is_hosted && !build->api->infer)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine '%s' hosts routes, and computes nothing: give the "
		               "model a route",
		               config->engine);
	if (config->working_bytes > 0 && !build->api->measure)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine '%s' cannot keep to working_memory: leave it out",
		               config->engine);
	return 0;
}

static int build_open_engine(struct build *build, struct err *err)
{
	const struct model_config *config = &build->config;
	int r = 0;

	/* Set before any library looks: the driver counts its cards once. */
	if (config->gpu && setenv("CUDA_VISIBLE_DEVICES", config->gpu, 1) < 0)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	if (!build->api && !config->is_hosted)
		pools_prepare(config->threads);
	if (!build->api)
		r = engine_host_open(&build->api, config->engine_dir, config->engine,
		                     err);
	else if (strcmp(build->spare_of, config->engine) != 0)
		r = err_set(err, ENGINE_E_FAILED, "a spare of engine '%s' cannot be '%s'",
		            build->spare_of, config->engine);
	if (r)
		return r;
	r = build_check_engine(build, err);
	if (r)
		return r;
	if (!config->is_hosted)
		pools_set_threads(config->threads);
	if (config->working_directory && chdir(config->working_directory) < 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "working_directory '%s' cannot be entered: %s",
		               config->working_directory, strerror(errno));
	build->engine_config = (struct engine_config){
		.model = config->model,
		.device = config->device,
		.weights_bytes = build->weights.bytes,
		.is_lean = build->is_lean,
		.is_placed = config->placed != PLACED_NOT,
		.threads = config->threads,
		.working_bytes = config->working_bytes,
		.max_batch = config->max_batch,
		.is_hosted = config->is_hosted,
		.inputs = config->inputs,
		.n_inputs = config->n_inputs,
		.outputs = config->outputs,
		.n_outputs = config->n_outputs,
		.options = config->options,
		.n_options = config->n_options,
		.secrets = build->secrets.rows,
		.n_secrets = build->secrets.n_rows,
		.quit_fd = build->quit_fd,
	};
	return 0;
}

/* Puts the walls up round the opened engine. No byte of the model was interpreted before. */
static int build_enclose(struct build *build, struct err *err)
{
	struct enclosure *enclosure = &build->enclosure;
	int r = enclosure_init(enclosure, &build->config, build->api,
	                       &build->engine_config, err);

	build->engine_config.folder = *enclosure->folder ? enclosure->folder : NULL;
	build->engine_config.port = enclosure->walls.said.port;
	return r;
}

/* Tells the engine which form of the weights there is now. */
static void build_show_weights(struct build *build)
{
	const struct weights *weights = &build->weights;
	bool is_shared = weights->share != WEIGHTS_PRIVATE;

	build->engine_config.weights = weights->data;
	build->engine_config.is_shared = is_shared;
	build->engine_config.weights_fd = build->is_lean && !is_shared ? weights->fd : -1;
}

static bool build_is_shared(const struct build *build)
{
	return build->engine_config.is_shared || build->engine_config.is_placed;
}

/* Starts over with private weights: closes the engine, gives shared and placed weights back, and
 * keeps the sentence in @err as the reason. The caller stages again. */
static void build_unshare(struct build *build, struct err *err)
{
	build->private = (struct placed_private){ .why = *err, .is_lasting = true };
	err->text[0] = '\0';
	build_close(build);
	placed_drop(&build->placed);
	build->engine_config.is_placed = false;
	build->engine_config.placed = NULL;
	weights_unshare(&build->weights);
	/* The supervisor counted room for one copy: from here on the loader is lean, and the
	 * engine reads the file itself. */
	build->is_lean = build->engine_config.is_lean = true;
	build_show_weights(build);
}

static int build_stage_engine(struct build *build, struct err *err)
{
	int r;

	build_show_weights(build);
	if (build->engine_config.is_placed && !build->api->takes_placed) {
		(void)err_set(err, 0, "engine %s places its weights itself",
		              build->api->name);
		build_unshare(build, err);
	}
	r = build->api->stage(&build->engine_config, &build->engine, err);
	if (r != ENGINE_E_PRIVATE || !build_is_shared(build))
		return r;
	build_unshare(build, err);
	return build->api->stage(&build->engine_config, &build->engine, err);
}

/* Seals and gives back weights at STAGED and COMMITTED, when the engine is done with them.
 * Shared weights stay; until COMMITTED those for another device than the host stay as well. */
static int build_settle_weights(struct build *build, bool is_committed, struct err *err)
{
	bool is_host = strcmp(build->config.device, "cpu") == 0;

	if (weights_seal(&build->weights, build->config.path, err) < 0)
		return ENGINE_E_FAILED;
	if (build->weights.share != WEIGHTS_PRIVATE || (!is_host && !is_committed))
		return 0;
	weights_drop(&build->weights);
	build->engine_config.weights = NULL;
	build->engine_config.weights_fd = -1;
	return 0;
}

static json_t *build_why_private(const struct build *build)
{
	return *build->private.why.text ? control_text(&build->private.why) : json_null();
}

static double build_lap_ms(uint64_t *since_ns)
{
	uint64_t now_ns = clock_now_ns();
	double ms = clock_ns_to_ms(now_ns - *since_ns);

	*since_ns = now_ns;
	return ms;
}

/* Names the file whose fault @r is. Returns @r. */
static int build_blame_file(const struct build *build, int r, struct err *err)
{
	return r == ENGINE_E_MODEL && build->config.path
	               ? err_prefix(err, r, "model file '%s'", build->config.path)
	               : r;
}

int build_stage(struct build *build, _Atomic uint64_t *passed, struct err *err)
{
	uint64_t since_ns = clock_now_ns();
	int r;

	build->passed = passed;
	r = build_read_weights(build, err);
	build->weights_ms = build_lap_ms(&since_ns);
	if (r == 0)
		r = build_open_engine(build, err);
	if (r == 0)
		r = build_enclose(build, err);
	build->engine_ms = build_lap_ms(&since_ns);
	if (r)
		return r;
	build_note_engine(build);
	r = build_blame_file(build, build_stage_engine(build, err), err);
	if (r)
		return r;
	build->module_ms = build_lap_ms(&since_ns);
	build_note_loading(build);
	return build->is_lean ? 0 : build_settle_weights(build, false, err);
}

void build_prefill(struct build *build, const int hurry_fds[2])
{
	uint64_t since_ns = clock_now_ns();
	const struct placed_prefill prefill = {
		.limit_bytes = build->config.prefill_bytes,
		.hurry_fds = { hurry_fds[0], hurry_fds[1] },
	};
	struct err err = ERR_NULL;

	if (build->placed.mode != PLACED_FILL || prefill.limit_bytes == 0)
		return;
	if (placed_prefill(&build->placed, build->config.device, &build->weights,
	                   build->config.threads, &prefill, &err))
		log_event(LOG_LEVEL_WARNING, "prefill_failed", "reason=%s",
		          LOG_QUOTED(err.text));
	build->prefill_ms = build_lap_ms(&since_ns);
	/* A context on the card takes main memory, too. */
	build_note_loading(build);
}

json_t *build_staged(const struct build *build)
{
	const struct weights *weights = &build->weights;
	json_int_t prefilled_bytes = (json_int_t)placed_ahead_bytes(&build->placed);

	return json_pack("{s:s, s:I, s:o, s:b, s:I, s:I, s:I, s:s, s:f, s:f, s:f, s:f, "
	                 "s:s, s:s}",
	                 "weights_sha256", weights->sha256, "weights_bytes",
	                 (json_int_t)weights->bytes, "private", build_why_private(build),
	                 "private_lasts", (int)build->private.is_lasting,
	                 "loading_anon_bytes", (json_int_t)build->loading_bytes,
	                 "engine_anon_bytes", (json_int_t)build->engine_bytes,
	                 "prefilled_bytes", prefilled_bytes, "engine_version",
	                 build->api->version, "weights_ms", build->weights_ms,
	                 "engine_ms", build->engine_ms, "module_ms", build->module_ms,
	                 "prefill_ms", build->prefill_ms, "walls",
	                 build->enclosure.walls.on.text, "walls_missing",
	                 build->enclosure.walls.missing.text);
}

/* COMMIT */

/* Puts the weights on the device, unless that is the engine's task. */
static int build_place(struct build *build, struct err *err)
{
	int r;

	if (build->placed.mode == PLACED_NOT)
		return 0;
	r = placed_run(&build->placed, build->config.device, &build->weights,
	               &build->private, err);
	if (r == 0)
		build->engine_config.placed = &build->placed.view;
	return r;
}

/* True when commit read the file itself, and not a copy that another loader had made. */
static bool build_has_read(const struct build *build)
{
	return build->weights.share == WEIGHTS_PRIVATE &&
	       (build->placed.mode != PLACED_MAP || *build->private.why.text);
}

/* The engine's commit. A lean loader gets its weights only now. */
static int build_commit_engine(struct build *build, struct err *err)
{
	bool places = build->is_lean && build->config.path;
	int r = 0;

	if (places && build->weights.share == WEIGHTS_FILL)
		r = build_weights_outcome(weights_place(&build->weights,
		                                        build->config.path, err));
	if (r)
		return r;
	if (places)
		build_show_weights(build);
	r = build_place(build, err);
	if (r == 0)
		r = build->api->commit(build->engine, err);
	if (r == ENGINE_E_PRIVATE && places && build_is_shared(build)) {
		build_unshare(build, err);
		r = build_stage_engine(build, err);
		if (r == 0)
			r = build->api->commit(build->engine, err);
	}
	if (r == 0 && places && build_has_read(build))
		r = build_weights_outcome(weights_check(&build->weights,
		                                        build->config.path, err));
	return r;
}

int build_commit(struct build *build, struct chan_message *message, struct err *err)
{
	int r;

	if (message->n_fds > 0)
		placed_take_scrap(&build->placed, message->payload, message->fds,
		                  message->n_fds);
	chan_message_fini(message);
	r = build_blame_file(build, build_commit_engine(build, err), err);
	if (r == 0 && (build->is_lean || build->weights.share == WEIGHTS_PRIVATE))
		r = build_settle_weights(build, true, err);
	return r;
}

void build_show_tensors(struct build *build)
{
	build->engine_config.n_inputs = build->config.n_inputs;
	build->engine_config.n_outputs = build->config.n_outputs;
}

json_t *build_committed(const struct build *build, double place_ms)
{
	return json_pack("{s:o, s:b, s:o, s:f}", "private", build_why_private(build),
	                 "private_lasts", (int)build->private.is_lasting, "placed",
	                 placed_to_json(&build->placed), "place_ms", place_ms);
}
