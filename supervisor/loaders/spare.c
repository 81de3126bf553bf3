/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A row for each engine whose models ask for a spare. A row is waiting, starting or
 * ready; its timer stands for the next try, or for the end of patience. spares_take()
 * hands over the process and channel of a ready row, and the row starts another one
 * later. Spares that are ended go to a grave, since reaping waits for the loop. A ready
 * spare runs code of the past: when it is taken, and at every poll interval, it is
 * compared with what lies on disk.
 */

#include "supervisor/loaders/spare.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/proto.h"
#include "supervisor/memory/engine_base.h"
#include "supervisor/process/programs.h"
#include "supervisor/process/restart.h"

/* Delay after a spare was taken: the reload needs the processors first. */
#define SPARE_LEISURE_S 1.
/* The engine is opened at idle priority, which can take long on a busy machine. */
#define SPARE_START_S 120.
/* Delay until memory is looked at again. */
#define SPARE_NO_ROOM_S 10.
/* Delay after a spare made room: what needed the memory has to grow first. */
#define SPARE_MADE_ROOM_S 60.
/* Spares that were killed and are not reaped yet. */
#define SPARE_GRAVES 16

enum spare_state {
	SPARE_NONE, /* until the timer rings */
	SPARE_STARTING,
	SPARE_READY,
};

struct spare {
	struct spares *spares;
	char *engine;
	enum spare_state state;
	struct child child;
	struct child_listener listener;
	struct chan chan;
	ev_io chan_io;
	/* In NONE the next try; in STARTING the end of patience. */
	ev_timer timer;
	struct device_use use;
	uint64_t last_bytes;      /* needed by the last one; 0: none was measured */
	struct programs programs; /* what it was started from */
	struct restart deaths;
	struct spare_counts counts;
	struct err last_error; /* of the last that was lost; "" once one was taken */
};

struct spare_grave {
	struct child child;
	struct child_listener listener;
	struct device_use use;
};

struct spares {
	struct ev_loop *loop;
	struct device *device;
	const struct engine_bases *bases;
	const struct config *config;
	struct spare *rows[CONFIG_MODELS_MAX];
	size_t n_rows;
	struct spare_grave graves[SPARE_GRAVES];
	ev_timer look; /* looks for files that were replaced */
};

static const char *spare_state_name(enum spare_state state)
{
	static const char *const names[] = { "waiting", "starting", "ready" };

	return names[state];
}

/* Death */

static void spare_on_buried(void *context, int status)
{
	struct spare_grave *grave = context;

	(void)status;
	device_remove(&grave->use);
}

static void spare_on_last_line(void *context, const char *line)
{
	(void)context;
	(void)line;
}

/* Kills @child and has it reaped when the loop comes round; its memory counts as leaving,
 * and so stands in nobody's way. */
static void spares_bury(struct spares *spares, struct child *child)
{
	pid_t pid = child->pid;

	if (pid == 0) {
		child_fini(child);
		return;
	}
	child_signal(child, SIGKILL);
	for (size_t i = 0; i < SPARE_GRAVES; i++) {
		struct spare_grave *grave = &spares->graves[i];

		if (grave->child.pid != 0)
			continue;
		grave->listener = (struct child_listener){
			.on_exit = spare_on_buried,
			.on_line = spare_on_last_line,
			.context = grave,
		};
		child_move(&grave->child, child, &grave->listener);
		device_add(spares->device, &grave->use, pid, 0);
		grave->use.is_leaving = true;
		return;
	}
	child_fini(child); /* blocks: children do not end as they should */
}

static void spare_set_timer(struct spare *spare, double delay_s)
{
	ev_timer_stop(spare->spares->loop, &spare->timer);
	ev_timer_set(&spare->timer, delay_s, 0.);
	ev_timer_start(spare->spares->loop, &spare->timer);
}

/* The row has no spare any more, whatever becomes of the process. */
static void spare_let_go(struct spare *spare, double next_s)
{
	if (ev_is_active(&spare->chan_io))
		ev_io_stop(spare->spares->loop, &spare->chan_io);
	if (spare->state == SPARE_READY && spare->use.now_bytes > 0)
		spare->last_bytes = spare->use.now_bytes;
	device_remove(&spare->use);
	spare->state = SPARE_NONE;
	spare->counts.is_ready = false;
	spare_set_timer(spare, next_s);
}

/* Ends a spare on purpose. */
static void spare_end(struct spare *spare, const char *why, double next_s)
{
	if (spare->state == SPARE_NONE) {
		spare_set_timer(spare, next_s);
		return;
	}
	log_event(LOG_LEVEL_NOTICE, "spare_ended", "engine=%s pid=%d reason=%s",
	          spare->engine, (int)spare->child.pid, LOG_QUOTED(why));
	spare->counts.lost++;
	spare_let_go(spare, next_s);
	chan_fini(&spare->chan);
	spares_bury(spare->spares, &spare->child);
}

/* Logs a spare that was of no use; returns how long to wait. */
static double spare_back_off(struct spare *spare, const char *why)
{
	static const struct restart_policy policy = {
		.limit = RESTART_LIMIT_MAX,
		.window_ns = 60 * CLOCK_NS_PER_SEC,
	};
	uint64_t delay_ns = restart_on_death(&spare->deaths, &policy, RESTART_USELESS,
	                                     clock_now_ns());

	(void)err_set(&spare->last_error, 0, "%s", why);
	log_event(LOG_LEVEL_WARNING, "spare_lost",
	          "engine=%s pid=%d state=%s delay_s=%.1f reason=%s", spare->engine,
	          (int)spare->use.pid, spare_state_name(spare->state),
	          (double)delay_ns / 1e9, LOG_QUOTED(why));
	return (double)delay_ns / 1e9;
}

/* The spare has failed, not by our will. */
static void spare_fail(struct spare *spare, const char *why)
{
	double delay_s = spare_back_off(spare, why);

	spare->counts.lost++;
	spare_let_go(spare, delay_s);
	chan_fini(&spare->chan);
	spares_bury(spare->spares, &spare->child);
}

/* Age */

/* Ends a spare that was started from other files than would be used now. True: ended. */
static bool spare_end_if_old(struct spare *spare)
{
	struct programs programs;
	const char *why;

	programs_look(&programs, spare->spares->config, spare->engine);
	why = programs_replaced(&spare->programs, &programs);
	if (!why && programs_are_gone(spare->child.pid))
		why = "a library was replaced";
	if (why)
		spare_end(spare, why, SPARE_LEISURE_S);
	return why != NULL;
}

static void spares_on_look(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct spares *spares = timer->data;

	(void)loop;
	(void)revents;
	for (size_t i = 0; i < spares->n_rows; i++)
		if (spares->rows[i]->state == SPARE_READY)
			(void)spare_end_if_old(spares->rows[i]);
}

/* Birth */

static void spare_on_line(void *context, const char *line)
{
	const struct spare *spare = context;

	log_event(LOG_LEVEL_INFO, "spare_log", "engine=%s pid=%d line=%s", spare->engine,
	          (int)spare->use.pid, LOG_QUOTED(line));
}

static void spare_on_chan(struct ev_loop *loop, ev_io *io, int revents);

static void spare_on_exit(void *context, int status)
{
	struct spare *spare = context;
	char text[64];

	/* Read messages first: REFUSED has the reason. */
	if (ev_is_active(&spare->chan_io))
		spare_on_chan(spare->spares->loop, &spare->chan_io, EV_READ);
	if (spare->state != SPARE_NONE)
		spare_fail(spare, child_describe(status, text, sizeof(text)));
}

static void spare_on_refused(struct spare *spare, const char *payload)
{
	json_t *object = json_loads(payload, 0, NULL);
	const char *reason = json_string_value(json_object_get(object, "reason"));
	struct err why = ERR_NULL;

	(void)err_set(&why, 0, "%s", reason ? reason : "it refused and gave no reason");
	err_clean(why.text);
	json_decref(object);
	spare_fail(spare, why.text);
}

static void spare_on_ready(struct spare *spare)
{
	ev_timer_stop(spare->spares->loop, &spare->timer);
	spare->state = SPARE_READY;
	spare->counts.is_ready = true;
	device_claim(&spare->use, 0);
	device_measure(spare->spares->device);
	log_event(LOG_LEVEL_INFO, "spare_ready", "engine=%s pid=%d anon_bytes=%llu",
	          spare->engine, (int)spare->child.pid,
	          (unsigned long long)spare->use.now_bytes);
}

static void spare_on_message(struct spare *spare, const struct chan_message *message)
{
	if (message->header.generation == 0 && message->header.type == PROTO_HELLO &&
	    spare->state == SPARE_STARTING)
		spare_on_ready(spare);
	else if (message->header.generation == 0 && message->header.type == PROTO_REFUSED)
		spare_on_refused(spare, message->payload);
	else
		spare_fail(spare, "it sent a message that is not allowed");
}

static void spare_on_chan(struct ev_loop *loop, ev_io *io, int revents)
{
	struct spare *spare = io->data;
	FREE struct chan_message *message = malloc(sizeof(*message));
	struct err err = ERR_NULL;
	int r;

	(void)revents;
	if (!message)
		return; /* level-triggered: tried again in the next round */
	r = chan_recv(&spare->chan, message, &err);
	if (r == 0) {
		spare_on_message(spare, message);
		chan_message_fini(message);
	} else if (r == CHAN_E_CLOSED) {
		ev_io_stop(loop, io); /* the pidfd tells the rest */
	} else if (r != CHAN_E_EMPTY) {
		spare_fail(spare, r < 0 ? strerror(-r) : err.text);
	}
}

/* 0 or -errno with a sentence. */
static int spare_spawn(struct spare *spare, struct err *err)
{
	const struct config *config = spare->spares->config;
	CLOSE_FD int theirs = -1;
	char parent[32];
	FREE char *engine = NULL;
	FREE char *dir = NULL;
	int r;

	(void)snprintf(parent, sizeof(parent), "--parent=%d", (int)getpid());
	if (asprintf(&engine, "--spare=%s", spare->engine) < 0)
		engine = NULL;
	if (asprintf(&dir, "--engine-dir=%s", config->engine_dir) < 0)
		dir = NULL;
	if (!engine || !dir)
		return err_set(err, -ENOMEM, "out of memory");
	r = chan_pair(&spare->chan, &theirs);
	if (r < 0)
		return err_set(err, r, "no control channel: %s", strerror(-r));
	r = child_spawn(&spare->child, spare->spares->loop,
	                (char *[]){ config->loader, parent, engine, dir, NULL }, theirs,
	                &spare->listener, err);
	if (r < 0)
		chan_fini(&spare->chan);
	return r;
}

static void spare_start(struct spare *spare)
{
	uint64_t claim_bytes = spare->last_bytes;
	struct err err = ERR_NULL;
	int r;

	if (claim_bytes == 0)
		claim_bytes = engine_base_bytes(spare->spares->bases, spare->engine);
	/* A spare takes only memory that nobody else needs. */
	if (!device_has_room(spare->spares->device, claim_bytes, 0)) {
		spare_set_timer(spare, SPARE_NO_ROOM_S);
		return;
	}
	programs_look(&spare->programs, spare->spares->config, spare->engine);
	spare->use.pid = 0;
	r = spare_spawn(spare, &err);
	if (r < 0) {
		spare_set_timer(spare, spare_back_off(spare, err.text));
		return;
	}
	spare->state = SPARE_STARTING;
	spare->counts.started++;
	device_add(spare->spares->device, &spare->use, spare->child.pid, claim_bytes);
	ev_io_init(&spare->chan_io, spare_on_chan, spare->chan.fd, EV_READ);
	spare->chan_io.data = spare;
	ev_io_start(spare->spares->loop, &spare->chan_io);
	spare_set_timer(spare, SPARE_START_S);
}

static void spare_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct spare *spare = timer->data;

	(void)loop;
	(void)revents;
	if (spare->state == SPARE_NONE)
		spare_start(spare);
	else
		spare_fail(spare, "it was not ready in time");
}

/* Rows */

static struct spare *spares_find(const struct spares *spares, const char *engine)
{
	for (size_t i = 0; i < spares->n_rows; i++)
		if (strcmp(spares->rows[i]->engine, engine) == 0)
			return spares->rows[i];
	return NULL;
}

static void spares_add(struct spares *spares, const char *engine)
{
	struct spare *spare = calloc(1, sizeof(*spare));
	char *name = strdup(engine);

	if (!spare || !name) {
		free(spare);
		free(name);
		return; /* the next configuration brings another chance */
	}
	*spare = (struct spare){
		.spares = spares,
		.engine = name,
		.listener = { .on_exit = spare_on_exit,
		              .on_line = spare_on_line,
		              .context = spare },
		.chan = { .fd = -1 },
		.counts = { .engine = name },
	};
	child_init(&spare->child);
	ev_init(&spare->chan_io, spare_on_chan);
	ev_init(&spare->timer, spare_on_timer);
	spare->timer.data = spare;
	spares->rows[spares->n_rows++] = spare;
	spare_set_timer(spare, SPARE_LEISURE_S);
}

static void spares_remove(struct spares *spares, size_t i)
{
	struct spare *spare = spares->rows[i];

	spare_end(spare, "no model asks for it any more", SPARE_LEISURE_S);
	ev_timer_stop(spares->loop, &spare->timer);
	free(spare->engine);
	free(spare);
	spares->rows[i] = spares->rows[--spares->n_rows];
}

static bool spares_is_wanted(const struct config *config, const char *engine)
{
	for (size_t i = 0; i < config->n_models; i++)
		if (config->models[i]->spare &&
		    strcmp(config->models[i]->engine, engine) == 0)
			return true;
	return false;
}

void spares_set_config(struct spares *spares, const struct config *config)
{
	double look_s = (double)config->poll_ns / 1e9;

	spares->config = config;
	/* Remove first: rows[] has room for one row per model. */
	for (size_t i = spares->n_rows; i-- > 0;)
		if (!spares_is_wanted(config, spares->rows[i]->engine))
			spares_remove(spares, i);
	for (size_t i = 0; i < config->n_models; i++) {
		const struct config_model *section = config->models[i];

		if (section->spare && !spares_find(spares, section->engine))
			spares_add(spares, section->engine);
	}
	ev_timer_stop(spares->loop, &spares->look);
	if (spares->n_rows == 0)
		return;
	ev_timer_set(&spares->look, look_s, look_s);
	ev_timer_start(spares->loop, &spares->look);
}

void spares_stop(struct spares *spares)
{
	ev_timer_stop(spares->loop, &spares->look);
	while (spares->n_rows > 0)
		spares_remove(spares, spares->n_rows - 1);
}

/* Use */

/* True: @config starts the same programs. Inputs kept from an earlier configuration may
 * name other files. */
static bool spares_are_of(const struct spares *spares, const struct config *config)
{
	return strcmp(spares->config->loader, config->loader) == 0 &&
	       strcmp(spares->config->engine_dir, config->engine_dir) == 0;
}

bool spares_take(struct spares *spares, const struct inputs *inputs, uint64_t number,
                 struct child *ret_child, const struct child_listener *listener,
                 struct chan *ret_chan)
{
	struct spare *spare = spares_find(spares, inputs->section->engine);
	int r;

	if (!spare || spare->state != SPARE_READY ||
	    !spares_are_of(spares, inputs->config) || spare_end_if_old(spare))
		return false;
	r = chan_send(&spare->chan, PROTO_TAKE, number, NULL, NULL, 0);
	if (r < 0) {
		spare_fail(spare, strerror(-r));
		return false;
	}
	spare->counts.taken++;
	restart_on_use(&spare->deaths);
	spare->last_error.text[0] = '\0';
	spare_let_go(spare, SPARE_LEISURE_S);
	child_move(ret_child, &spare->child, listener);
	*ret_chan = spare->chan;
	spare->chan.fd = -1;
	return true;
}

void spares_return(struct spares *spares, const char *engine, struct child *child)
{
	struct spare *spare = spares_find(spares, engine);

	if (spare) {
		spare->counts.lost++;
		if (spare->state == SPARE_NONE)
			spare_set_timer(spare, spare_back_off(spare, "it did not answer "
			                                             "when it was "
			                                             "taken"));
	}
	spares_bury(spares, child);
}

static uint64_t spare_bytes(const struct spare *spare)
{
	const struct device_use *use = &spare->use;

	if (spare->state == SPARE_NONE)
		return 0;
	return use->now_bytes > use->claim_bytes ? use->now_bytes : use->claim_bytes;
}

uint64_t spares_bytes(const struct spares *spares)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < spares->n_rows; i++)
		bytes += spare_bytes(spares->rows[i]);
	return bytes;
}

uint64_t spares_bytes_to_take(const struct spares *spares, const char *engine)
{
	const struct spare *spare = spares_find(spares, engine);

	return spare && spare->state == SPARE_READY ? spare_bytes(spare) : 0;
}

void spares_make_room(struct spares *spares, const char *why)
{
	for (size_t i = 0; i < spares->n_rows; i++)
		spare_end(spares->rows[i], why, SPARE_MADE_ROOM_S);
}

bool spares_at(const struct spares *spares, size_t i, struct spare_counts *ret_counts)
{
	if (i >= spares->n_rows)
		return false;
	*ret_counts = spares->rows[i]->counts;
	return true;
}

json_t *spares_to_json(const struct spares *spares)
{
	json_t *array = json_array();

	device_measure(spares->device);
	for (size_t i = 0; i < spares->n_rows; i++) {
		const struct spare *spare = spares->rows[i];
		const char *error = spare->last_error.text;

		(void)json_array_append_new(
			array,
			json_pack("{s:s,s:s,s:i,s:I,s:I,s:I,s:I,s:o}", "engine",
		                  spare->engine, "state", spare_state_name(spare->state),
		                  "pid", (int)spare->child.pid, "anon_bytes",
		                  (json_int_t)spare->use.now_bytes, "started",
		                  (json_int_t)spare->counts.started, "taken",
		                  (json_int_t)spare->counts.taken, "lost",
		                  (json_int_t)spare->counts.lost, "last_error",
		                  *error ? json_string(error) : json_null()));
	}
	return array;
}

int spares_new(struct spares **ret_spares, struct ev_loop *loop, struct device *device,
               const struct engine_bases *bases)
{
	struct spares *spares = calloc(1, sizeof(*spares));

	if (!spares)
		return -ENOMEM;
	spares->loop = loop;
	spares->device = device;
	spares->bases = bases;
	ev_init(&spares->look, spares_on_look);
	spares->look.data = spares;
	for (size_t i = 0; i < SPARE_GRAVES; i++)
		child_init(&spares->graves[i].child);
	*ret_spares = spares;
	return 0;
}

void spares_free(struct spares *spares)
{
	if (!spares)
		return;
	spares_stop(spares);
	for (size_t i = 0; i < SPARE_GRAVES; i++) {
		child_fini(&spares->graves[i].child);
		device_remove(&spares->graves[i].use);
	}
	free(spares);
}
