/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The life of one spare after another, in one place. A place is waiting, starting or ready; its
 * timer stands for the next try, or for the end of patience. spare_take() hands over the process
 * and channel of one that is ready, and another one is started later. One that is ended goes to
 * a grave. A ready spare runs code of the past: when it is taken, and at every poll interval, it
 * is compared with what lies on disk.
 */

#include "supervisor/spares/spare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

enum spare_state {
	SPARE_NONE, /* until the timer rings */
	SPARE_STARTING,
	SPARE_READY,
};

struct spare {
	struct spare_ground *ground;
	char *engine;
	struct recipe recipe;
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
	uint64_t n_started;
	uint64_t n_taken;
	uint64_t n_lost;
	struct err last_error; /* of the last that was lost; "" once one was taken */
};

static const char *spare_state_name(enum spare_state state)
{
	static const char *const names[] = { "waiting", "starting", "ready" };

	return names[state];
}

/* Death */

static void spare_set_timer(struct spare *spare, double delay_s)
{
	ev_timer_stop(spare->ground->loop, &spare->timer);
	ev_timer_set(&spare->timer, delay_s, 0.);
	ev_timer_start(spare->ground->loop, &spare->timer);
}

/* The row has no spare any more, whatever becomes of the process. */
static void spare_let_go(struct spare *spare, double next_s)
{
	if (ev_is_active(&spare->chan_io))
		ev_io_stop(spare->ground->loop, &spare->chan_io);
	if (spare->state == SPARE_READY && spare->use.now_bytes > 0)
		spare->last_bytes = spare->use.now_bytes;
	device_remove(&spare->use);
	spare->state = SPARE_NONE;
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
	spare->n_lost++;
	spare_let_go(spare, next_s);
	chan_fini(&spare->chan);
	graves_bury(&spare->ground->graves, &spare->child);
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

	spare->n_lost++;
	spare_let_go(spare, delay_s);
	chan_fini(&spare->chan);
	graves_bury(&spare->ground->graves, &spare->child);
}

/* Age */

bool spare_end_if_old(struct spare *spare)
{
	struct programs programs;
	const char *why;

	if (spare->state != SPARE_READY)
		return false;
	programs_look(&programs, spare->ground->config, spare->engine,
	              recipe_find(&spare->recipe, "--python="));
	why = programs_replaced(&spare->programs, &programs);
	if (!why && programs_are_gone(spare->child.pid))
		why = "a library was replaced";
	if (why)
		spare_end(spare, why, SPARE_LEISURE_S);
	return why != NULL;
}

bool spare_end_if_short(struct spare *spare)
{
	if (spare->state != SPARE_READY || device_has_room(spare->ground->device, 0, 0))
		return false;
	spare_end(spare, "memory is short", SPARE_MADE_ROOM_S);
	return true;
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
		spare_on_chan(spare->ground->loop, &spare->chan_io, EV_READ);
	if (spare->state != SPARE_NONE)
		spare_fail(spare, child_describe(status, text, sizeof(text)));
}

static void spare_on_refused(struct spare *spare, const char *payload)
{
	json_t *object = json_loads(payload, 0, NULL);
	const char *reason = json_string_value(json_object_get(object, "reason"));
	const char *code = json_string_value(json_object_get(object, "code"));
	bool is_outdated =
		spare->state == SPARE_READY && code && strcmp(code, "outdated") == 0;
	struct err why = ERR_NULL;

	(void)err_set(&why, 0, "%s", reason ? reason : "it refused and gave no reason");
	err_clean(why.text);
	json_decref(object);
	if (is_outdated)
		spare_end(spare, why.text, SPARE_LEISURE_S);
	else
		spare_fail(spare, why.text);
}

static void spare_on_ready(struct spare *spare)
{
	ev_timer_stop(spare->ground->loop, &spare->timer);
	spare->state = SPARE_READY;
	device_claim(&spare->use, 0);
	device_measure(spare->ground->device);
	log_event(LOG_LEVEL_INFO, "spare_ready", "engine=%s pid=%d anon_bytes=%llu",
	          spare->engine, (int)spare->child.pid,
	          (unsigned long long)spare->use.now_bytes);
	/* The first of a recipe may hold more than its engine alone. */
	(void)spare_end_if_short(spare);
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
	CLOSE_FD int theirs = -1;
	int r = chan_pair(&spare->chan, &theirs);

	if (r < 0)
		return err_set(err, r, "no control channel: %s", strerror(-r));
	r = recipe_spawn(&spare->recipe, &spare->child, spare->ground->loop, theirs,
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
		claim_bytes = engine_base_bytes(spare->ground->bases, spare->engine);
	/* A spare takes only memory that nobody else needs. */
	if (!device_has_room(spare->ground->device, claim_bytes, 0)) {
		spare_set_timer(spare, SPARE_NO_ROOM_S);
		return;
	}
	programs_look(&spare->programs, spare->ground->config, spare->engine,
	              recipe_find(&spare->recipe, "--python="));
	spare->use.pid = 0;
	r = spare_spawn(spare, &err);
	if (r < 0) {
		spare_set_timer(spare, spare_back_off(spare, err.text));
		return;
	}
	spare->state = SPARE_STARTING;
	spare->n_started++;
	device_add(spare->ground->device, &spare->use, spare->child.pid, claim_bytes);
	ev_io_init(&spare->chan_io, spare_on_chan, spare->chan.fd, EV_READ);
	spare->chan_io.data = spare;
	ev_io_start(spare->ground->loop, &spare->chan_io);
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

/* Places */

struct spare *spare_new(struct spare_ground *ground, const char *engine,
                        struct recipe *recipe)
{
	struct spare *spare = calloc(1, sizeof(*spare));
	char *name = strdup(engine);

	if (!spare || !name) {
		free(spare);
		free(name);
		return NULL;
	}
	*spare = (struct spare){
		.ground = ground,
		.engine = name,
		.listener = { .on_exit = spare_on_exit,
		              .on_line = spare_on_line,
		              .context = spare },
		.chan = { .fd = -1 },
	};
	recipe_move(&spare->recipe, recipe);
	child_init(&spare->child);
	ev_init(&spare->chan_io, spare_on_chan);
	ev_init(&spare->timer, spare_on_timer);
	spare->timer.data = spare;
	spare_set_timer(spare, SPARE_LEISURE_S);
	return spare;
}

void spare_free(struct spare *spare, const char *why)
{
	spare_end(spare, why, SPARE_LEISURE_S);
	ev_timer_stop(spare->ground->loop, &spare->timer);
	recipe_fini(&spare->recipe);
	free(spare->engine);
	free(spare);
}

/* Use */

const char *spare_engine(const struct spare *spare)
{
	return spare->engine;
}

bool spare_is_of(const struct spare *spare, const struct recipe *recipe)
{
	return recipe_is_same(&spare->recipe, recipe);
}

bool spare_is_ready(const struct spare *spare)
{
	return spare->state == SPARE_READY;
}

uint64_t spare_bytes(const struct spare *spare)
{
	const struct device_use *use = &spare->use;

	if (spare->state == SPARE_NONE)
		return 0;
	return use->now_bytes > use->claim_bytes ? use->now_bytes : use->claim_bytes;
}

void spare_make_room(struct spare *spare, const char *why)
{
	spare_end(spare, why, SPARE_MADE_ROOM_S);
}

bool spare_take(struct spare *spare, uint64_t number, struct child *ret_child,
                const struct child_listener *listener, struct chan *ret_chan)
{
	int r = chan_send(&spare->chan, PROTO_TAKE, number, NULL, NULL, 0);

	if (r < 0) {
		spare_fail(spare, strerror(-r));
		return false;
	}
	spare->n_taken++;
	restart_on_use(&spare->deaths);
	spare->last_error.text[0] = '\0';
	spare_let_go(spare, SPARE_LEISURE_S);
	child_move(ret_child, &spare->child, listener);
	*ret_chan = spare->chan;
	spare->chan.fd = -1;
	return true;
}

void spare_note_return(struct spare *spare)
{
	spare->n_lost++;
	if (spare->state == SPARE_NONE)
		spare_set_timer(spare, spare_back_off(spare, "it did not answer when it "
		                                             "was taken"));
}

/* Figures */

void spare_begin_count(const struct spare *spare, struct spare_counts *ret_counts)
{
	*ret_counts = (struct spare_counts){ .engine = spare->engine };
}

void spare_count(const struct spare *spare, struct spare_counts *counts)
{
	counts->ready += spare->state == SPARE_READY;
	counts->started += spare->n_started;
	counts->taken += spare->n_taken;
	counts->lost += spare->n_lost;
}

json_t *spare_to_json(const struct spare *spare)
{
	const char *error = spare->last_error.text;

	return json_pack("{s:s,s:s?,s:s?,s:s,s:i,s:I,s:I,s:I,s:I,s:o}", "engine",
	                 spare->engine, "python",
	                 recipe_find(&spare->recipe, "--python="), "preload",
	                 recipe_find(&spare->recipe, "--preload="), "state",
	                 spare_state_name(spare->state), "pid", (int)spare->child.pid,
	                 "anon_bytes", (json_int_t)spare->use.now_bytes, "started",
	                 (json_int_t)spare->n_started, "taken",
	                 (json_int_t)spare->n_taken, "lost", (json_int_t)spare->n_lost,
	                 "last_error", *error ? json_string(error) : json_null());
}
