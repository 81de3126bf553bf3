/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The steps of a loader, in the order of its control messages: loader_be_spare() (a spare
 * alone, until TAKE), loader_stage() (LOAD) and loader_commit() (COMMIT), both over build.c,
 * loader_warm_up() (warm-up and golden requests, then READY) or loader_host(), loader_serve()
 * (serve/serve.c or hosting/host.c, until QUIT). loader_live() runs them.
 */
#include "loader/loader.h"

#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "loader/build.h"
#include "loader/control.h"
#include "loader/proof/golden.h"
#include "loader/proof/learn.h"
#include "loader/hosting/host.h"
#include "loader/hosting/visit.h"
#include "loader/serve/lane.h"
#include "loader/load/libraries.h"
#include "loader/load/memory.h"
#include "loader/load/priority.h"
#include "loader/serve/serve.h"
#include "loader/proof/warmup.h"
#include "shared/chan.h"
#include "shared/clock.h"
#include "shared/tensor_json.h"

/* The limit of idle scheduling. With idle processors staging is over by then; on a saturated
 * machine an idle process stands still, and a reload must not. */
#define LOADER_IDLE_NS (CLOCK_NS_PER_SEC / 2)
/* A loader that is refused closes within that, below the supervisor's patience. */
#define LOADER_CLOSE_US (900 * 1000)
/* A spare may take its time: nobody waits for it. */
#define LOADER_SPARE_IDLE_NS (30 * CLOCK_NS_PER_SEC)
/* How often a spare looks whether it is out of date. */
#define LOADER_SPARE_LOOK_MS 10000

struct loader {
	struct control control;
	struct build build;
	struct lane lane;
	struct serve *serve; /* NULL: the engine hosts */
	struct host *host;   /* NULL: the engine computes */
	struct visit *visit; /* the warm-up of what is hosted; or NULL */
};

/* Functions below return CONTROL_GO_ON or the exit code of the process. */

/* Frees everything first, so that BYE's figures show the memory that stays behind. Shared weights
 * are in these figures: weights_leave(). */
static int loader_quit(struct loader *loader)
{
	int r;

	if (loader->host)
		host_end(loader->host);
	build_close(&loader->build);
	visit_free(loader->visit);
	host_free(loader->host);
	loader->visit = NULL;
	loader->host = NULL;
	serve_free(loader->serve);
	loader->serve = NULL;
	lane_fini(&loader->lane);
	build_fini(&loader->build);
	r = control_send_memory(&loader->control, PROTO_BYE, json_object());
	return r == CONTROL_GO_ON ? PROTO_EXIT_OK : r;
}

static int loader_await_quit(struct loader *loader)
{
	bool is_quit = false;
	int r = control_receive(&loader->control, PROTO_QUIT, &is_quit);

	return r == CONTROL_GO_ON ? loader_quit(loader) : r;
}

/* 0 or an outcome of enum engine_outcome with a sentence. */
static int loader_take_load(struct loader *loader, struct err *err)
{
	struct chan_message *message = loader->control.message;
	int r = build_take_load(&loader->build, message, err);

	if (r == 0 && lane_init(&loader->lane, message->fds, loader->control.generation,
	                        loader->build.config.leases, err) < 0)
		r = ENGINE_E_FAILED;
	chan_message_fini(message);
	return r;
}

static int loader_stage(struct loader *loader)
{
	const struct model_config *config = &loader->build.config;
	struct priority priority;
	struct err err = ERR_NULL;
	int r;

	r = loader_take_load(loader, &err);
	if (r)
		return control_refuse(&loader->control, r, &err);
	if (!config->is_urgent)
		priority_lower(&priority, LOADER_IDLE_NS, loader->lane.loader_bell);
	r = build_stage(&loader->build, &loader->lane.head->passed_bytes, &err);
	if (r == 0)
		build_prefill(&loader->build, (const int[]){ loader->lane.loader_bell,
		                                             loader->control.chan.fd });
	if (!config->is_urgent)
		priority_restore(&priority);
	if (r)
		return control_refuse(&loader->control, r, &err);
	return control_send(&loader->control, PROTO_STAGED, build_staged(&loader->build));
}

static int loader_commit(struct loader *loader)
{
	uint64_t start_ns = clock_now_ns();
	struct placed *placed = &loader->build.placed;
	struct err err = ERR_NULL;
	json_t *payload;
	int r;

	r = build_commit(&loader->build, loader->control.message, &err);
	/* One that is to end anyway does that: the engine may have given up for no other
	 * reason. */
	if (r && control_has_news(&loader->control))
		return loader_await_quit(loader);
	if (r)
		return control_refuse(&loader->control, r, &err);
	payload = build_committed(&loader->build,
	                          clock_ns_to_ms(clock_now_ns() - start_ns));
	r = control_send_fds(&loader->control, PROTO_COMMITTED, payload, placed->fds,
	                     placed->n_fds);
	placed_close_fds(placed);
	return r;
}

/* Finds out which tensors the model has, where the configuration leaves that to it. */
static int loader_learn(struct loader *loader, struct err *err)
{
	struct build *build = &loader->build;
	bool is_open;
	int r;

	if (!learn_is_needed(&build->config))
		return 0;
	r = learn_from_model(&build->config, build->api, build->engine, &is_open, err);
	build_show_tensors(build);
	if (r == 0 && is_open) {
		r = learn_from_answer(&build->config, &loader->lane, build->api,
		                      build->engine, err);
		build_show_tensors(build);
	}
	return r ? r : learn_check(&build->config, err);
}

static json_t *loader_ready(const struct model_config *config, double warmup_ms,
                            uint32_t n_runs, uint32_t n_golden)
{
	return json_pack("{s:f, s:i, s:i, s:o, s:o}", "warmup_ms", warmup_ms,
	                 "warmup_runs", (int)n_runs, "golden_requests", (int)n_golden,
	                 "inputs", tensors_to_json(config->inputs, config->n_inputs),
	                 "outputs", tensors_to_json(config->outputs, config->n_outputs));
}

/* Warms up, runs the golden requests, and sends READY. */
static int loader_warm_up(struct loader *loader)
{
	uint64_t start_ns = clock_now_ns();
	const struct build *build = &loader->build;
	struct err err = ERR_NULL;
	uint32_t n_runs = build->config.warmup_runs;
	uint32_t n_golden = 0;
	int r;

	/* A model that writes to read-only weights has to fail before a client asks. */
	if (build->placed.view.is_read_only && n_runs == 0)
		n_runs = 1;
	r = loader_learn(loader, &err);
	if (r == 0 && serve_new(&loader->serve, &build->config, &loader->lane, build->api,
	                        build->engine, loader->control.chan.fd) < 0)
		r = err_set(&err, ENGINE_E_FAILED, "out of memory");
	if (r == 0)
		r = warmup_run(&build->config, &loader->lane, build->api, build->engine,
		               &n_runs, &err);
	if (r == 0)
		r = golden_run(&build->config, &loader->lane, build->api, build->engine,
		               &n_golden, &err);
	if (r)
		return control_refuse(&loader->control, r, &err);
	return control_send_memory(&loader->control, PROTO_READY,
	                           loader_ready(&build->config,
	                                        clock_ns_to_ms(clock_now_ns() - start_ns),
	                                        n_runs, n_golden));
}

/* Lets the engine host the model's routes, and asks it what its first client would. */
static int loader_begin_hosting(struct loader *loader, struct err *err)
{
	const struct build *build = &loader->build;
	const struct engine_host *lent;
	int r;

	if (host_new(&loader->host, &loader->lane, loader->control.chan.fd, err) < 0)
		return ENGINE_E_FAILED;
	lent = host_lend(loader->host);
	r = visit_new(&loader->visit, lent, &build->config, loader->control.chan.fd, err);
	if (r == 0)
		r = build->api->host(build->engine,
		                     loader->visit ? visit_lend(loader->visit) : lent,
		                     err);
	if (r == 0 && loader->visit)
		r = visit_run(loader->visit, build->config.warmup_runs, err);
	return r;
}

static volatile sig_atomic_t loader_refused_exit;

static void loader_on_late_close(int number)
{
	(void)number;
	_exit(loader_refused_exit);
}

/* Closes what had begun to host, so that nothing of it stays: its processes, and its secrets. The
 * supervisor kills a refused loader that does not exit soon, and its exit code would be lost. */
static int loader_close_refused(struct loader *loader, int exit)
{
	const struct itimerval limit = { .it_value.tv_usec = LOADER_CLOSE_US };

	loader_refused_exit = exit;
	(void)signal(SIGALRM, loader_on_late_close);
	(void)setitimer(ITIMER_REAL, &limit, NULL);
	if (loader->host)
		host_end(loader->host);
	build_close(&loader->build);
	return exit;
}

/* Begins to host, and sends READY. */
static int loader_host(struct loader *loader)
{
	uint64_t start_ns = clock_now_ns();
	uint32_t n_runs = loader->build.config.warmup_runs;
	struct err err = ERR_NULL;
	int r = loader_begin_hosting(loader, &err);

	if (r && control_has_news(&loader->control))
		return loader_await_quit(loader);
	if (r)
		return loader_close_refused(loader,
		                            control_refuse(&loader->control, r, &err));
	return control_send_memory(&loader->control, PROTO_READY,
	                           json_pack("{s:f, s:i}", "warmup_ms",
	                                     clock_ns_to_ms(clock_now_ns() - start_ns),
	                                     "warmup_runs",
	                                     loader->visit ? (int)n_runs : 0));
}

static int loader_serve(struct loader *loader)
{
	struct err err = ERR_NULL;
	int r;

	r = loader->host ? host_run(loader->host, &err) : serve_run(loader->serve, &err);
	if (r == SERVE_E_BROKEN) {
		(void)control_fail("engine", err.text);
		return PROTO_EXIT_DEVICE;
	}
	if (r != SERVE_E_CONTROL)
		return control_fail("supervisor", err.text);
	return loader_await_quit(loader);
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
	r = build_be_spare(&loader->build, start->engine_dir, start->engine, err);
	if (r == 0 && start->ahead)
		r = start->ahead->prepare(err);
	if (r == 0 && libraries_init(libraries) < 0)
		r = err_set(err, ENGINE_E_FAILED, "out of memory");
	priority_restore(&priority);
	return r;
}

/* Waits for TAKE or QUIT. One that is out of date says so. */
static int loader_await_take(struct loader *loader, const struct loader_ahead *ahead)
{
	struct err err = ERR_NULL;

	while (ahead && !control_await_news(&loader->control, LOADER_SPARE_LOOK_MS))
		if (ahead->is_outdated(false, &err)) {
			(void)control_send(&loader->control, PROTO_REFUSED,
			                   json_pack("{s:s, s:o}", "code", "outdated",
			                             "reason", control_text(&err)));
			return PROTO_EXIT_OK;
		}
	return control_wait(&loader->control);
}

/* 0, or the exit code of a spare that is not the program any more that would be started now. */
static int loader_check_age(const struct loader_start *start,
                            const struct libraries *libraries)
{
	const char *replaced = libraries_find_replaced(libraries);
	struct err err = ERR_NULL;

	if (replaced)
		return control_fail("a library was replaced", replaced);
	if (start->ahead && start->ahead->is_outdated(true, &err))
		return control_fail("it is out of date", err.text);
	return 0;
}

/* Gets ready and waits for TAKE. One that is out of date by then ends. */
static int loader_be_spare(struct loader *loader, const struct loader_start *start)
{
	struct libraries libraries = { 0 };
	struct err err = ERR_NULL;
	int r;

	r = loader_get_ready(loader, start, &libraries, &err);
	if (r)
		return control_refuse(&loader->control, r, &err);
	r = loader_hello(loader);
	if (r == CONTROL_GO_ON)
		r = loader_await_take(loader, start->ahead);
	if (r != CONTROL_GO_ON)
		return r;
	if (loader->control.message->header.type == PROTO_QUIT)
		return PROTO_EXIT_OK;
	if (loader->control.message->header.type != PROTO_TAKE ||
	    loader->control.message->header.generation == 0)
		return control_fail("control channel", "a message comes out of turn");
	r = loader_check_age(start, &libraries);
	if (r)
		return r;
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
		r = loader->build.config.is_hosted ? loader_host(loader)
		                                   : loader_warm_up(loader);
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
	build_init(&loader->build, control_fd);
	loader->control.message = calloc(1, sizeof(*loader->control.message));
	if (!loader->control.message)
		return control_fail("start", "out of memory");
	if (start->engine)
		r = loader_be_spare(loader, start);
	if (r == CONTROL_GO_ON)
		r = loader_live(loader);
	/* Nothing is freed here but what outlives the process: its end is the cleanup. */
	enclosure_fini(&loader->build.enclosure);
	return r;
}
