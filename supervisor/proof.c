/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models come and go here as they do under a supervisor, each for one generation. A model
 * keeps its place until its loader is reaped, so that its memory is free before the next
 * model counts on it. A model that does not fit beside the others is built again when
 * they are gone.
 *
 * Starting and ending is up to the timer step, outside the models' own calls. Receipts,
 * stopped models and signals only change states and start that timer.
 */

#include "supervisor/proof.h"

#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "shared/clock.h"
#include "supervisor/devices/devices.h"
#include "supervisor/memory/engine_base.h"
#include "supervisor/loaders/loads.h"
#include "supervisor/loop/pump.h"
#include "supervisor/model/model.h"
#include "supervisor/neighbour.h"
#include "supervisor/keep/numbers.h"
#include "supervisor/process/orphans.h"
#include "supervisor/process/privileges.h"
#include "supervisor/loop/signals.h"
#include "supervisor/spares/spares.h"
#include "supervisor/weights/store.h"

#define PROOF_MIB 1048576.0
/* Beside a moultd that serves: setpriority(2). */
#define PROOF_NICE 10
/* The driver's report of what was just built may be late, or never come. */
#define PROOF_LOOK_S    0.1
#define PROOF_LOOKS_MAX 20
/* After an interrupt, loaders have so many seconds to end. */
#define PROOF_PATIENCE_S 1.

enum proof_state {
	PROOF_WAITING,
	PROOF_BUILDING,
	PROOF_BUILT,  /* until the driver has told what the model took of its GPU */
	PROOF_TRIED,  /* to be stopped, outside the model's own calls */
	PROOF_ENDING, /* until its loader is gone */
	PROOF_OVER,
};

struct proof_entry {
	const struct config_model *section;
	struct model *model; /* BUILDING to ENDING */
	enum proof_state state;
	bool is_alone;        /* there was no room for it beside others */
	bool is_again;        /* a second try, with weights of its own */
	bool is_known;        /* its outcome was said */
	unsigned int n_looks; /* at its GPU, when it is built */
};

struct proof {
	struct ev_loop *loop;
	struct pump pump; /* of all lanes */
	struct config *config;
	struct orphans *orphans;
	struct devices devices;
	struct store store;
	struct loads loads;
	struct engine_bases bases;
	struct numbers numbers;
	struct spares *spares; /* always empty */
	struct signals signals;
	struct model_listener listener;
	struct neighbour neighbour;
	struct proof_entry entries[CONFIG_MODELS_MAX];
	size_t n_entries;
	ev_timer step;
	ev_timer patience; /* runs after an interrupt */
	ev_timer look;     /* while models are BUILT */
	struct proof_result result;
	void (*say)(void *context, const char *line);
	void *context;
};

static bool proof_is_there(const struct proof_entry *entry)
{
	return entry->model != NULL;
}

static size_t proof_count_there(const struct proof *proof)
{
	size_t n = 0;

	for (size_t i = 0; i < proof->n_entries; i++)
		n += proof_is_there(&proof->entries[i]);
	return n;
}

static struct proof_entry *proof_find(struct proof *proof, const struct model *model)
{
	for (size_t i = 0; i < proof->n_entries; i++)
		if (proof->entries[i].model == model)
			return &proof->entries[i];
	return NULL;
}

/* Outcomes */

static void proof_say(struct proof *proof, struct proof_entry *entry, const char *outcome)
{
	struct err line;

	(void)err_set(&line, 0, "model %s: %s", entry->section->name, outcome);
	entry->is_known = true;
	proof->say(proof->context, line.text);
}

static void proof_say_good(struct proof *proof, struct proof_entry *entry)
{
	const struct receipt *receipt = model_receipt(entry->model);
	struct model_memory memory = model_memory(entry->model, UINT64_MAX);
	char gpu[CONFIG_DEVICE_MAX + 48] = "";
	char golden[48] = "";
	struct err outcome;

	if (memory.gpu && memory.gpu_bytes > 0)
		(void)snprintf(gpu, sizeof(gpu), ", %.1f MiB of %s",
		               (double)memory.gpu_bytes / PROOF_MIB, memory.gpu);
	if (receipt->golden > 0)
		(void)snprintf(golden, sizeof(golden), ", golden requests %llu",
		               (unsigned long long)receipt->golden);
	(void)err_set(&outcome, 0, "ok, %.1f s, %.1f MiB%s%s", receipt->total_ms / 1e3,
	              (double)memory.host_bytes / PROOF_MIB, gpu, golden);
	proof->result.n_good++;
	proof_say(proof, entry, outcome.text);
}

static void proof_say_bad(struct proof *proof, struct proof_entry *entry,
                          const struct receipt *receipt)
{
	bool has_no_room = receipt->decision.strategy == STRATEGY_REFUSED;
	struct err outcome;

	(void)err_set(&outcome, 0, "%s%s: %s", has_no_room ? "not tried" : "failed",
	              has_no_room && proof->neighbour.pid > 0
	                      ? " beside the moultd that runs"
	                      : "",
	              receipt->reason.text);
	if (has_no_room)
		proof->result.n_not_tried++;
	else
		proof->result.n_failed++;
	proof_say(proof, entry, outcome.text);
}

static void proof_on_built(struct proof *proof, struct proof_entry *entry)
{
	struct device *gpu = devices_gpu(&proof->devices, entry->section->device);

	/* A driver that never answered is not waited for. */
	if (gpu && proof->devices.nvml.as_of_ns != 0 && !device_measure(gpu) &&
	    entry->n_looks++ < PROOF_LOOKS_MAX) {
		entry->state = PROOF_BUILT;
		ev_timer_start(proof->loop, &proof->look);
		return;
	}
	entry->state = PROOF_TRIED;
	ev_timer_start(proof->loop, &proof->step);
	proof_say_good(proof, entry);
}

static void proof_on_look(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct proof *proof = timer->data;

	(void)loop;
	(void)revents;
	for (size_t i = 0; i < proof->n_entries; i++)
		if (proof->entries[i].state == PROOF_BUILT)
			proof_on_built(proof, &proof->entries[i]);
}

static void proof_on_receipt(void *context, struct model *model,
                             const struct receipt *receipt)
{
	struct proof *proof = context;
	struct proof_entry *entry = proof_find(proof, model);

	if (!entry || entry->state != PROOF_BUILDING)
		return;
	if (receipt->outcome == RECEIPT_FAILED && !entry->is_again &&
	    model_stops_sharing(model)) {
		entry->is_again = true;
		return; /* the model's next loader has weights of its own */
	}
	if (receipt->outcome != RECEIPT_FAILED) {
		proof_on_built(proof, entry);
		return;
	}
	entry->state = PROOF_TRIED;
	ev_timer_start(proof->loop, &proof->step);
	if (receipt->decision.strategy == STRATEGY_REFUSED &&
	    proof_count_there(proof) > 1)
		entry->is_alone = true;
	else
		proof_say_bad(proof, entry, receipt);
}

/* Coming and going */

static void proof_start(struct proof *proof, struct proof_entry *entry)
{
	const struct model_context context = {
		.loop = proof->loop,
		.pump = &proof->pump,
		.config = proof->config,
		.device = &proof->devices.host,
		.devices = &proof->devices,
		.store = &proof->store,
		.loads = &proof->loads,
		.bases = &proof->bases,
		.numbers = &proof->numbers,
		.spares = proof->spares,
		.listener = &proof->listener,
	};
	struct err err = ERR_NULL;

	if (model_new(&entry->model, &context, entry->section, &err) < 0) {
		entry->model = NULL;
		entry->state = PROOF_OVER;
		proof->result.n_failed++;
		proof_say(proof, entry, err.text);
		return;
	}
	entry->state = PROOF_BUILDING;
	(void)model_reload(entry->model, MODEL_CAUSE_START);
}

/* Starts up to loads_at_once models. Models that had no room beside others come last, one
 * after the other. */
static void proof_start_some(struct proof *proof)
{
	for (int is_alone = 0; is_alone <= 1; is_alone++) {
		size_t max = is_alone ? 1 : proof->loads.max;

		for (size_t i = 0; i < proof->n_entries; i++) {
			struct proof_entry *entry = &proof->entries[i];

			if (proof_count_there(proof) >= max)
				return;
			if (entry->state == PROOF_WAITING && entry->is_alone == is_alone)
				proof_start(proof, entry);
		}
	}
}

static void proof_end(struct proof *proof, struct proof_entry *entry)
{
	if (entry->state == PROOF_TRIED) {
		entry->state = PROOF_ENDING;
		model_stop(entry->model);
	}
	if (entry->state != PROOF_ENDING || !model_is_stopped(entry->model))
		return;
	model_free(entry->model);
	entry->model = NULL;
	entry->state = entry->is_known || proof->result.is_interrupted ? PROOF_OVER
	                                                               : PROOF_WAITING;
}

static void proof_on_step(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct proof *proof = timer->data;

	(void)revents;
	for (size_t i = 0; i < proof->n_entries; i++)
		proof_end(proof, &proof->entries[i]);
	proof_start_some(proof);
	if (proof_count_there(proof) == 0)
		ev_break(loop, EVBREAK_ALL);
}

static void proof_on_stopped(void *context, struct model *model)
{
	struct proof *proof = context;

	(void)model;
	ev_timer_start(proof->loop, &proof->step);
}

/* Loaders that are still there are killed with their models, in proof_free(). */
static void proof_on_patience(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)timer;
	(void)revents;
	ev_break(loop, EVBREAK_ALL);
}

/* A second signal waits for no loader. */
static void proof_on_signal(struct ev_loop *loop, ev_signal *signal, int revents)
{
	struct proof *proof = signal->data;

	(void)revents;
	if (proof->result.is_interrupted) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	proof->result.is_interrupted = true;
	for (size_t i = 0; i < proof->n_entries; i++) {
		struct proof_entry *entry = &proof->entries[i];

		if (entry->state == PROOF_BUILDING || entry->state == PROOF_BUILT)
			entry->state = PROOF_TRIED;
		else if (entry->state == PROOF_WAITING)
			entry->state = PROOF_OVER;
	}
	ev_timer_start(loop, &proof->patience);
	ev_timer_start(loop, &proof->step);
}

/* Other news of models and weights */

static void proof_on_model(void *context, struct model *model)
{
	(void)context;
	(void)model;
}

static void proof_on_file_touched(void *context, const struct stat *before,
                                  const struct stat *after)
{
	(void)context;
	(void)before;
	(void)after;
}

static void proof_on_store(void *context)
{
	const struct proof *proof = context;

	for (size_t i = 0; i < proof->n_entries; i++)
		if (proof_is_there(&proof->entries[i]))
			model_on_store(proof->entries[i].model);
}

/* Birth */

/* Gives each model one loader, and nothing that outlives the proof. */
static void proof_adapt(struct config *config)
{
	for (size_t i = 0; i < config->n_models; i++) {
		struct config_model *section = config->models[i];

		section->replicas = 1;
		section->spare = false;
		section->keep_good = false;
		section->keep_secrets = false;
		section->watch_window_ns = 0;
		section->retry_delay_ns = 0;
	}
}

/* The moultd that serves has the first claim to memory and processors. */
static void proof_stand_back(struct proof *proof)
{
	const struct neighbour *neighbour = &proof->neighbour;

	(void)setpriority(PRIO_PROCESS, 0, PROOF_NICE);
	device_set_neighbour(&proof->devices.host, neighbour->host_bytes);
	for (size_t i = 0; i < proof->config->n_models; i++) {
		struct device *gpu =
			devices_gpu(&proof->devices, proof->config->models[i]->device);

		if (gpu)
			device_set_neighbour(gpu,
			                     neighbour_gpu_bytes(neighbour, gpu->name,
			                                         gpu->uuid));
	}
}

static void proof_look_around(struct proof *proof)
{
	struct err why = ERR_NULL;
	struct err line;

	if (neighbour_look(&proof->neighbour, proof->config->control, &why) !=
	    NEIGHBOUR_E_UNKNOWN)
		return;
	(void)err_set(&line, 0,
	              "whether a moultd runs is not known, nor what it needs: %s",
	              why.text);
	proof->say(proof->context, line.text);
}

static void proof_free(struct proof *proof)
{
	store_listen(&proof->store, NULL, NULL);
	for (size_t i = 0; i < proof->n_entries; i++)
		model_free(proof->entries[i].model);
	spares_free(proof->spares);
	if (proof->loop) {
		orphans_free(proof->orphans);
		loads_fini(&proof->loads);
		ev_timer_stop(proof->loop, &proof->step);
		ev_timer_stop(proof->loop, &proof->patience);
		ev_timer_stop(proof->loop, &proof->look);
		signals_stop(&proof->signals);
		store_fini(&proof->store);
		devices_fini(&proof->devices);
		ev_loop_destroy(proof->loop);
	}
	free(proof);
}

static int proof_open(struct proof *proof, struct err *err)
{
	static const struct signals_row rows[] = {
		{ SIGTERM, proof_on_signal },
		{ SIGINT, proof_on_signal },
		{ SIGQUIT, proof_on_signal },
		{ SIGHUP, proof_on_signal },
	};
	struct config *config = proof->config;
	int r;

	/* Before the rights of root go: the loaders' user may not be allowed to ask. */
	proof_look_around(proof);
	r = geteuid() == 0 ? privileges_drop(config, NULL, err) : 0;
	if (r < 0)
		return r;
	r = orphans_new(&proof->orphans, proof->loop);
	if (r == 0)
		r = spares_new(&proof->spares, proof->loop, &proof->devices.host,
		               &proof->bases);
	if (r < 0)
		return err_set(err, r, "out of memory");
	signals_start(&proof->signals, proof->loop, rows, sizeof(rows) / sizeof(rows[0]),
	              proof);
	loads_init(&proof->loads, proof->loop);
	loads_set_max(&proof->loads, config->loads_at_once);
	devices_set_config(&proof->devices, config);
	devices_wait(&proof->devices);
	if (proof->neighbour.pid > 0)
		proof_stand_back(proof);
	for (size_t i = 0; i < config->n_models; i++)
		proof->entries[proof->n_entries++].section = config->models[i];
	return 0;
}

static struct proof *proof_new(struct config *config)
{
	struct proof *proof = calloc(1, sizeof(*proof));

	if (!proof)
		return NULL;
	proof->config = config;
	proof->numbers = (struct numbers)NUMBERS_NULL;
	proof->listener = (struct model_listener){
		.on_receipt = proof_on_receipt,
		.on_good = proof_on_model,
		.on_file_touched = proof_on_file_touched,
		.on_ready = proof_on_model,
		.on_stopped = proof_on_stopped,
		.context = proof,
	};
	/* Not the default loop: that one would reap our children. */
	proof->loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	if (!proof->loop) {
		free(proof);
		return NULL;
	}
	pump_init(&proof->pump, proof->loop);
	ev_timer_init(&proof->step, proof_on_step, 0., 0.);
	proof->step.data = proof;
	ev_timer_init(&proof->patience, proof_on_patience, PROOF_PATIENCE_S, 0.);
	ev_timer_init(&proof->look, proof_on_look, PROOF_LOOK_S, 0.);
	proof->look.data = proof;
	devices_init(&proof->devices, proof->loop);
	store_init(&proof->store, &proof->devices.host);
	store_listen(&proof->store, proof_on_store, proof);
	loads_init(&proof->loads, proof->loop);
	return proof;
}

int proof_run(struct proof_result *ret_result, struct config *config,
              void (*say)(void *context, const char *line), void *context,
              struct err *err)
{
	struct proof *proof;
	int r;

	proof_adapt(config);
	proof = proof_new(config);
	if (!proof)
		return err_set(err, -ENOMEM, "out of memory");
	proof->say = say;
	proof->context = context;
	r = proof_open(proof, err);
	if (r == 0) {
		ev_timer_start(proof->loop, &proof->step);
		(void)ev_run(proof->loop, 0);
		for (size_t i = 0; i < proof->n_entries; i++)
			proof->result.n_not_tried += !proof->entries[i].is_known;
		*ret_result = proof->result;
	}
	proof_free(proof);
	return r;
}
