/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The steps of a loader, in the order of its control messages: loader_be_spare() (a spare
 * alone, until TAKE), loader_stage() (LOAD: weights into memory, the engine's library, its
 * stage), loader_commit() (COMMIT: weights onto the device, the engine's commit),
 * loader_warm_up() (warm-up and golden requests, then READY), loader_serve() (serve/serve.c,
 * until QUIT). loader_live() runs them.
 *
 * An engine that cannot share weights (PRIVATE) is closed and staged once more with private
 * ones: loader_unshare(). Weights that nobody needs any more are given back as early as
 * possible, because the old generation still has its own: loader_settle_weights().
 */
#include "loader/loader.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader/control.h"
#include "loader/engine_host.h"
#include "loader/proof/golden.h"
#include "loader/serve/lane.h"
#include "loader/load/libraries.h"
#include "loader/load/memory.h"
#include "loader/load/model_config.h"
#include "loader/load/placed.h"
#include "loader/load/priority.h"
#include "loader/load/secrets.h"
#include "loader/serve/serve.h"
#include "loader/proof/warmup.h"
#include "loader/load/weights.h"
#include "shared/chan.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"

/* The limit of idle scheduling. With idle processors staging is over by then; on a saturated
 * machine an idle process stands still, and a reload must not. */
#define LOADER_IDLE_NS (CLOCK_NS_PER_SEC / 2)
/* A spare may take its time: nobody waits for it. */
#define LOADER_SPARE_IDLE_NS (30 * CLOCK_NS_PER_SEC)

struct loader {
	struct control control;
	const char *spare_of; /* the engine that a spare has opened; NULL: no spare */
	struct model_config config;
	struct secrets secrets;
	struct weights weights;
	struct placed placed;          /* the weights on the device */
	int weights_fd;                /* from LOAD, until weights_init() takes it */
	int store_fd;                  /* likewise */
	struct placed_private private; /* why weights are private that were to be shared */
	uint64_t loading_bytes;        /* the most private memory while loading */
	uint64_t engine_bytes;         /* private memory of an engine without a model */
	double weights_ms;             /* reading, hashing, mapping the weights */
	double engine_ms;              /* opening the engine's libraries */
	double module_ms;              /* the engine's stage */
	double prefill_ms;             /* placing a part of the weights ahead */
	double place_ms;               /* COMMIT, until the weights are on the device */
	struct lane lane;
	struct engine_config engine_config; /* the engine keeps a pointer to it */
	const struct engine_api *api;       /* in a spare set before TAKE */
	struct engine *engine;
	struct serve *serve;
};

/* Functions below return CONTROL_GO_ON or the exit code of the process. */

/* Frees everything first, so that BYE's figures show the memory that stays behind. */
static int loader_quit(struct loader *loader)
{
	int r;

	if (loader->api)
		loader->api->close(loader->engine);
	loader->engine = NULL;
	serve_free(loader->serve);
	loader->serve = NULL;
	placed_drop(&loader->placed);
	weights_drop(&loader->weights);
	lane_fini(&loader->lane);
	secrets_fini(&loader->secrets);
	model_config_fini(&loader->config);
	r = control_send_memory(&loader->control, PROTO_BYE, json_object());
	return r == CONTROL_GO_ON ? PROTO_EXIT_OK : r;
}

static int loader_check_secrets(struct loader *loader, struct err *err)
{
	const struct model_config *config = &loader->config;
	int r;

	for (size_t i = 0; i < config->n_required_secrets; i++)
		if (!secrets_find(&loader->secrets, config->required_secrets[i]))
			return err_set(err, ENGINE_E_CONFIG,
			               "required secret '%s' is missing",
			               config->required_secrets[i]);
	if (config->secrets_env &&
	    (r = secrets_export(&loader->secrets, config->secrets_env, err)) < 0)
		return r == -ENOMEM ? ENGINE_E_FAILED : ENGINE_E_CONFIG;
	return 0;
}

/* Takes the chunks, which stand in the store's place. Returns how many descriptors are left. */
static size_t loader_take_placed(struct loader *loader, size_t n_fds)
{
	struct model_config *config = &loader->config;
	size_t n_chunks = 0;

	if (config->placed == PLACED_MAP && n_fds > PROTO_LOAD_FD_CHUNKS)
		n_chunks = n_fds - PROTO_LOAD_FD_CHUNKS;
	/* The channel lets no more than PROTO_CHUNKS_MAX chunks through. */
	placed_take(&loader->placed, config->placed, &config->chunks, config->canary,
	            loader->control.message->fds + PROTO_LOAD_FD_CHUNKS, n_chunks);
	/* Placed weights go from the file to the device: this process never holds them. */
	config->is_lean |= config->placed != PLACED_NOT;
	return n_fds - n_chunks;
}

/* 0 or an outcome of enum engine_outcome with a sentence. */
static int loader_take_load(struct loader *loader, struct err *err)
{
	int *fds = loader->control.message->fds;
	size_t n_fds = loader->control.message->n_fds;
	int r;

	r = model_config_init(&loader->config, loader->control.message->payload, err);
	if (r < 0)
		return r == -ENOMEM ? ENGINE_E_FAILED : ENGINE_E_CONFIG;
	if (n_fds > PROTO_LOAD_FD_WEIGHTS)
		loader->weights_fd = take_fd(&fds[PROTO_LOAD_FD_WEIGHTS]);
	n_fds = loader_take_placed(loader, n_fds);
	if (n_fds > PROTO_LOAD_FD_STORE)
		loader->store_fd = take_fd(&fds[PROTO_LOAD_FD_STORE]);
	if (n_fds < PROTO_LOAD_FD_WEIGHTS || n_fds > PROTO_LOAD_FD_COUNT ||
	    (loader->store_fd >= 0) != (loader->config.share == WEIGHTS_FILL) ||
	    (loader->weights_fd < 0 && loader->config.share == WEIGHTS_MAP))
		return err_set(err, ENGINE_E_FAILED, "LOAD came with %zu descriptors",
		               n_fds);
	if (lane_init(&loader->lane, fds, loader->control.generation,
	              loader->config.leases, err) < 0 ||
	    secrets_init(&loader->secrets, take_fd(&fds[PROTO_LOAD_FD_SECRETS]), err) < 0)
		return ENGINE_E_FAILED;
	return loader_check_secrets(loader, err);
}

/* Translates an outcome of load/weights.h into one of enum engine_outcome. */
static int loader_weights_outcome(int r)
{
	return r < 0 ? ENGINE_E_FAILED : r ? ENGINE_E_MODEL : 0;
}

static int loader_read_weights(struct loader *loader, struct err *err)
{
	struct weights_source source = {
		.share = loader->config.share,
		.is_lean = loader->config.is_lean,
		.fd = take_fd(&loader->weights_fd),
		.store_fd = take_fd(&loader->store_fd),
		.path = loader->config.path,
		.sha256 = loader->config.weights_sha256,
	};

	if (source.path)
		return loader_weights_outcome(weights_init(&loader->weights, &source,
		                                           err));
	close_fd(&source.fd);
	close_fd(&source.store_fd);
	return 0;
}

/* Called where the file's bytes and the engine's copy of them are in memory at once. */
static void loader_note_loading(struct loader *loader)
{
	struct memory_use use;

	memory_measure(&use);
	if (loader->loading_bytes < use.anon_bytes)
		loader->loading_bytes = use.anon_bytes;
}

/* Called when the engine is open and has seen no model: all private memory but the file's bytes
 * is the engine's own. */
static void loader_note_engine(struct loader *loader)
{
	const struct weights *weights = &loader->weights;
	uint64_t file_bytes =
		weights->share == WEIGHTS_PRIVATE && weights->data ? weights->bytes : 0;
	struct memory_use use;

	memory_measure(&use);
	loader->engine_bytes =
		use.anon_bytes > file_bytes ? use.anon_bytes - file_bytes : 0;
}

static int loader_open_engine(struct loader *loader, struct err *err)
{
	const struct model_config *config = &loader->config;
	int r = 0;

	/* Set before any library looks: the driver counts its cards once. */
	if (config->gpu && setenv("CUDA_VISIBLE_DEVICES", config->gpu, 1) < 0)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	if (!loader->api)
		r = engine_host_open(&loader->api, config->engine_dir, config->engine,
		                     err);
	else if (strcmp(loader->spare_of, config->engine) != 0)
		r = err_set(err, ENGINE_E_FAILED, "a spare of engine '%s' cannot be '%s'",
		            loader->spare_of, config->engine);
	if (r)
		return r;
	if (config->working_bytes > 0 && !loader->api->measure)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine '%s' cannot keep to working_memory: leave it out",
		               config->engine);
	loader->engine_config = (struct engine_config){
		.model = config->model,
		.device = config->device,
		.weights_bytes = loader->weights.bytes,
		.is_lean = config->is_lean,
		.is_placed = config->placed != PLACED_NOT,
		.threads = config->threads,
		.working_bytes = config->working_bytes,
		.max_batch = config->max_batch,
		.inputs = config->inputs,
		.n_inputs = config->n_inputs,
		.outputs = config->outputs,
		.n_outputs = config->n_outputs,
		.options = config->options,
		.n_options = config->n_options,
		.secrets = loader->secrets.rows,
		.n_secrets = loader->secrets.n_rows,
	};
	return 0;
}

/* Tells the engine which form of the weights there is now. */
static void loader_show_weights(struct loader *loader)
{
	const struct weights *weights = &loader->weights;
	bool is_shared = weights->share != WEIGHTS_PRIVATE;

	loader->engine_config.weights = weights->data;
	loader->engine_config.is_shared = is_shared;
	loader->engine_config.weights_fd =
		loader->config.is_lean && !is_shared ? weights->fd : -1;
}

static bool loader_is_shared(const struct loader *loader)
{
	return loader->engine_config.is_shared || loader->engine_config.is_placed;
}

/* Starts over with private weights: closes the engine, gives shared and placed weights back, and
 * keeps the sentence in @err as the reason. The caller stages again. */
static void loader_unshare(struct loader *loader, struct err *err)
{
	loader->private = (struct placed_private){ .why = *err, .is_lasting = true };
	err->text[0] = '\0';
	loader->api->close(loader->engine);
	loader->engine = NULL;
	placed_drop(&loader->placed);
	loader->engine_config.is_placed = false;
	loader->engine_config.placed = NULL;
	weights_unshare(&loader->weights);
	/* The supervisor counted room for one copy: from here on the loader is lean, and the
	 * engine reads the file itself. */
	loader->config.is_lean = loader->engine_config.is_lean = true;
	loader_show_weights(loader);
}

static int loader_stage_engine(struct loader *loader, struct err *err)
{
	int r;

	loader_show_weights(loader);
	if (loader->engine_config.is_placed && !loader->api->takes_placed) {
		(void)err_set(err, 0, "engine %s places its weights itself",
		              loader->api->name);
		loader_unshare(loader, err);
	}
	r = loader->api->stage(&loader->engine_config, &loader->engine, err);
	if (r != ENGINE_E_PRIVATE || !loader_is_shared(loader))
		return r;
	loader_unshare(loader, err);
	return loader->api->stage(&loader->engine_config, &loader->engine, err);
}

/* Puts the weights on the device, unless that is the engine's task. */
static int loader_place(struct loader *loader, struct err *err)
{
	int r;

	if (loader->placed.mode == PLACED_NOT)
		return 0;
	r = placed_run(&loader->placed, loader->config.device, &loader->weights,
	               &loader->private, err);
	if (r == 0)
		loader->engine_config.placed = &loader->placed.view;
	return r;
}

/* True when commit read the file itself, and not a copy that another loader had made. */
static bool loader_has_read(const struct loader *loader)
{
	return loader->weights.share == WEIGHTS_PRIVATE &&
	       (loader->placed.mode != PLACED_MAP || *loader->private.why.text);
}

/* The engine's commit. A lean loader gets its weights only now. */
static int loader_commit_engine(struct loader *loader, struct err *err)
{
	bool places = loader->config.is_lean && loader->config.path;
	int r = 0;

	if (places && loader->weights.share == WEIGHTS_FILL)
		r = loader_weights_outcome(weights_place(&loader->weights,
		                                         loader->config.path, err));
	if (r)
		return r;
	if (places)
		loader_show_weights(loader);
	r = loader_place(loader, err);
	if (r == 0)
		r = loader->api->commit(loader->engine, err);
	if (r == ENGINE_E_PRIVATE && places && loader_is_shared(loader)) {
		loader_unshare(loader, err);
		r = loader_stage_engine(loader, err);
		if (r == 0)
			r = loader->api->commit(loader->engine, err);
	}
	if (r == 0 && places && loader_has_read(loader))
		r = loader_weights_outcome(weights_check(&loader->weights,
		                                         loader->config.path, err));
	return r;
}

/* Seals and gives back weights at STAGED and COMMITTED, when the engine is done with them.
 * Shared weights stay; until COMMITTED those for another device than the host stay as well. */
static int loader_settle_weights(struct loader *loader, bool is_committed,
                                 struct err *err)
{
	bool is_host = strcmp(loader->config.device, "cpu") == 0;

	if (weights_seal(&loader->weights, loader->config.path, err) < 0)
		return ENGINE_E_FAILED;
	if (loader->weights.share != WEIGHTS_PRIVATE || (!is_host && !is_committed))
		return 0;
	weights_drop(&loader->weights);
	loader->engine_config.weights = NULL;
	loader->engine_config.weights_fd = -1;
	return 0;
}

static json_t *loader_why_private(const struct loader *loader)
{
	return *loader->private.why.text ? control_text(loader->private.why.text)
	                                 : json_null();
}

static double loader_lap_ms(uint64_t *since_ns)
{
	uint64_t now_ns = clock_now_ns();
	double ms = clock_ns_to_ms(now_ns - *since_ns);

	*since_ns = now_ns;
	return ms;
}

/* Reads the weights, opens the engine and stages it. */
static int loader_build(struct loader *loader, struct err *err)
{
	uint64_t since_ns = clock_now_ns();
	int r;

	r = loader_read_weights(loader, err);
	loader->weights_ms = loader_lap_ms(&since_ns);
	if (r == 0)
		r = loader_open_engine(loader, err);
	loader->engine_ms = loader_lap_ms(&since_ns);
	if (r)
		return r;
	loader_note_engine(loader);
	r = loader_stage_engine(loader, err);
	if (r == ENGINE_E_MODEL && loader->config.path)
		(void)err_prefix(err, r, "model file '%s'", loader->config.path);
	if (r)
		return r;
	loader->module_ms = loader_lap_ms(&since_ns);
	loader_note_loading(loader);
	return loader->config.is_lean ? 0 : loader_settle_weights(loader, false, err);
}

/* Brings a part of the weights to the device ahead, where the old generation leaves room. A
 * failure costs only time: COMMIT does all that is left. */
static void loader_prefill(struct loader *loader)
{
	uint64_t since_ns = clock_now_ns();
	const struct placed_prefill prefill = {
		.limit_bytes = loader->config.prefill_bytes,
		.hurry_fds = { loader->lane.loader_bell, loader->control.chan.fd },
	};
	struct err err = ERR_NULL;

	if (loader->placed.mode != PLACED_FILL || prefill.limit_bytes == 0)
		return;
	if (placed_prefill(&loader->placed, loader->config.device, &loader->weights,
	                   loader->config.threads, &prefill, &err))
		log_event(LOG_LEVEL_WARNING, "prefill_failed", "reason=%s",
		          LOG_QUOTED(err.text));
	loader->prefill_ms = loader_lap_ms(&since_ns);
	/* A context on the card takes main memory, too. */
	loader_note_loading(loader);
}

static json_t *loader_staged(const struct loader *loader)
{
	const struct weights *weights = &loader->weights;
	json_int_t prefilled_bytes = (json_int_t)placed_ahead_bytes(&loader->placed);

	return json_pack("{s:s, s:I, s:o, s:b, s:I, s:I, s:I, s:s, s:f, s:f, s:f, s:f}",
	                 "weights_sha256", weights->sha256, "weights_bytes",
	                 (json_int_t)weights->bytes, "private",
	                 loader_why_private(loader), "private_lasts",
	                 (int)loader->private.is_lasting, "loading_anon_bytes",
	                 (json_int_t)loader->loading_bytes, "engine_anon_bytes",
	                 (json_int_t)loader->engine_bytes, "prefilled_bytes",
	                 prefilled_bytes, "engine_version", loader->api->version,
	                 "weights_ms", loader->weights_ms, "engine_ms", loader->engine_ms,
	                 "module_ms", loader->module_ms, "prefill_ms",
	                 loader->prefill_ms);
}

static int loader_stage(struct loader *loader)
{
	struct priority priority;
	struct err err = ERR_NULL;
	int r;

	r = loader_take_load(loader, &err);
	chan_message_fini(loader->control.message);
	if (r)
		return control_refuse(&loader->control, r, &err);
	if (!loader->config.is_urgent)
		priority_lower(&priority, LOADER_IDLE_NS, loader->lane.loader_bell);
	r = loader_build(loader, &err);
	if (r == 0)
		loader_prefill(loader);
	if (!loader->config.is_urgent)
		priority_restore(&priority);
	if (r)
		return control_refuse(&loader->control, r, &err);
	return control_send(&loader->control, PROTO_STAGED, loader_staged(loader));
}

/* Takes the chunks that COMMIT brings to be written over. */
static void loader_take_scrap(struct loader *loader)
{
	struct chan_message *message = loader->control.message;

	if (message->n_fds > 0)
		placed_take_scrap(&loader->placed, message->payload, message->fds,
		                  message->n_fds);
	chan_message_fini(message);
}

static int loader_commit(struct loader *loader)
{
	uint64_t since_ns = clock_now_ns();
	struct err err = ERR_NULL;
	int r;

	loader_take_scrap(loader);

	r = loader_commit_engine(loader, &err);
	if (r == ENGINE_E_MODEL && loader->config.path)
		(void)err_prefix(&err, r, "model file '%s'", loader->config.path);
	if (r == 0 &&
	    (loader->config.is_lean || loader->weights.share == WEIGHTS_PRIVATE))
		r = loader_settle_weights(loader, true, &err);
	if (r)
		return control_refuse(&loader->control, r, &err);
	/* A model that writes to read-only weights has to fail before a client asks. */
	if (loader->placed.view.is_read_only && loader->config.warmup_runs == 0)
		loader->config.warmup_runs = 1;
	loader->place_ms = loader_lap_ms(&since_ns);
	r = control_send_fds(&loader->control, PROTO_COMMITTED,
	                     json_pack("{s:o, s:b, s:o, s:f}", "private",
	                               loader_why_private(loader), "private_lasts",
	                               (int)loader->private.is_lasting, "placed",
	                               placed_to_json(&loader->placed), "place_ms",
	                               loader->place_ms),
	                     loader->placed.fds, loader->placed.n_fds);
	placed_close_fds(&loader->placed);
	return r;
}

/* Warms up, runs the golden requests, and sends READY. */
static int loader_warm_up(struct loader *loader)
{
	uint64_t start_ns = clock_now_ns();
	struct err err = ERR_NULL;
	uint32_t n_runs = 0;
	uint32_t n_golden = 0;
	int r;

	r = serve_new(&loader->serve, &loader->config, &loader->lane, loader->api,
	              loader->engine, loader->control.chan.fd);
	if (r < 0)
		r = err_set(&err, ENGINE_E_FAILED, "out of memory");
	else
		r = warmup_run(&loader->config, &loader->lane, loader->api,
		               loader->engine, &n_runs, &err);
	if (r == 0)
		r = golden_run(&loader->config, &loader->lane, loader->api,
		               loader->engine, &n_golden, &err);
	if (r)
		return control_refuse(&loader->control, r, &err);
	return control_send_memory(&loader->control, PROTO_READY,
	                           json_pack("{s:f, s:i, s:i}", "warmup_ms",
	                                     clock_ns_to_ms(clock_now_ns() - start_ns),
	                                     "warmup_runs", (int)n_runs,
	                                     "golden_requests", (int)n_golden));
}

static int loader_serve(struct loader *loader)
{
	struct err err = ERR_NULL;
	bool is_quit = false;
	int r;

	r = serve_run(loader->serve, &err);
	if (r == SERVE_E_BROKEN) {
		(void)control_fail("engine", err.text);
		return PROTO_EXIT_DEVICE;
	}
	if (r != SERVE_E_CONTROL)
		return control_fail("supervisor", err.text);
	r = control_receive(&loader->control, PROTO_QUIT, &is_quit);
	return r == CONTROL_GO_ON ? loader_quit(loader) : r;
}

static int loader_hello(struct loader *loader)
{
	return control_send(&loader->control, PROTO_HELLO,
	                    json_pack("{s:s, s:i}", "build", MOULT_VERSION, "pid",
	                              (int)getpid()));
}

/* Does what needs neither model nor device nor secret, at idle priority. 0 or an outcome of
 * enum engine_outcome. */
static int loader_get_ready(struct loader *loader, const struct loader_start *start,
                            struct libraries *libraries, struct err *err)
{
	struct priority priority;
	int r;

	priority_lower(&priority, LOADER_SPARE_IDLE_NS, loader->control.chan.fd);
	r = engine_host_open(&loader->api, start->engine_dir, start->engine, err);
	if (r == 0 && loader->api->prepare)
		loader->api->prepare();
	if (r == 0 && libraries_init(libraries) < 0)
		r = err_set(err, ENGINE_E_FAILED, "out of memory");
	priority_restore(&priority);
	return r;
}

/* Gets ready and waits for TAKE. A spare whose libraries were replaced meanwhile ends: it has to
 * be the program that would be started now. */
static int loader_be_spare(struct loader *loader, const struct loader_start *start)
{
	struct libraries libraries = { 0 };
	struct err err = ERR_NULL;
	const char *replaced;
	int r;

	loader->spare_of = start->engine;
	r = loader_get_ready(loader, start, &libraries, &err);
	if (r)
		return control_refuse(&loader->control, r, &err);
	r = loader_hello(loader);
	if (r == CONTROL_GO_ON)
		r = control_wait(&loader->control);
	if (r != CONTROL_GO_ON)
		return r;
	if (loader->control.message->header.type == PROTO_QUIT)
		return PROTO_EXIT_OK;
	if (loader->control.message->header.type != PROTO_TAKE ||
	    loader->control.message->header.generation == 0)
		return control_fail("control channel", "a message comes out of turn");
	replaced = libraries_find_replaced(&libraries);
	if (replaced)
		return control_fail("a library was replaced", replaced);
	libraries_fini(&libraries);
	memory_offer(MEMORY_OFFER_LOADER);
	loader->control.generation = loader->control.message->header.generation;
	return CONTROL_GO_ON;
}

static int loader_live(struct loader *loader)
{
	static const struct {
		enum proto_type wanted;
		int (*step)(struct loader *loader);
	} rows[] = {
		{ PROTO_LOAD, loader_stage },
		{ PROTO_COMMIT, loader_commit },
	};
	int r;

	r = loader_hello(loader);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && r == CONTROL_GO_ON;
	     i++) {
		bool is_quit = false;

		r = control_receive(&loader->control, rows[i].wanted, &is_quit);
		if (r == CONTROL_GO_ON)
			r = is_quit ? loader_quit(loader) : rows[i].step(loader);
	}
	if (r == CONTROL_GO_ON)
		r = loader_warm_up(loader);
	return r == CONTROL_GO_ON ? loader_serve(loader) : r;
}

int loader_run(int control_fd, const struct loader_start *start)
{
	struct loader *loader = calloc(1, sizeof(*loader));
	int r = CONTROL_GO_ON;

	if (!loader)
		return control_fail("start", "out of memory");
	loader->control.generation = start->generation;
	loader->control.chan.fd = control_fd;
	loader->lane = (struct lane)LANE_NULL;
	loader->secrets = (struct secrets)SECRETS_NULL;
	loader->weights = (struct weights)WEIGHTS_NULL;
	loader->weights_fd = loader->store_fd = -1;
	loader->control.message = calloc(1, sizeof(*loader->control.message));
	if (!loader->control.message)
		return control_fail("start", "out of memory");
	if (start->engine)
		r = loader_be_spare(loader, start);
	/* Nothing is freed here: the end of the process is the cleanup. */
	return r == CONTROL_GO_ON ? loader_live(loader) : r;
}
