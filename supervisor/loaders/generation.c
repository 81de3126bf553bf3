/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One loader and its life. table.c says what leads from state to state;
 * generation_apply() stores the new state, generation_enter() acts on it, then the
 * listener is told, and the next event may follow at once. Events come from four places:
 * messages on the channel (message.c), the lane (answers, violations), the process (its
 * exit), and timers. What the loader wrote before it died, or before a timer rang, is
 * read first.
 *
 * The parts call nothing here, and this file has the callbacks of their timers: link.c
 * (process and channel), patience.c (deadlines), claims.c (what the loader holds),
 * weights.c (where its weights are), reclaim.c (what comes back). Faults of a spare that
 * is untried have it replaced, and do not touch the generation.
 */

#include "supervisor/loaders/generation.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/server_folder.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/loaders/said.h"
#include "supervisor/loaders/weights.h"

/* A process has come: it counts, and has a deadline. */
static void generation_begin(struct generation *generation,
                             const struct generation_place *place)
{
	generation_claims_begin(generation, place);
	generation_patience_watch(generation);
	generation_patience_begin(generation);
}

static void generation_fail(struct generation *generation, enum generation_event event,
                            const char *text)
{
	struct generation_place place;
	struct err err = ERR_NULL;

	if (generation_link_is_untried(generation)) {
		place = generation_claims_end(generation);
		if (generation_link_replace(generation, text, &err) == 0) {
			generation_begin(generation, &place);
			return;
		}
		event = GENERATION_EV_EXITED;
		text = err.text;
	}
	/* The first reason is the cause; later ones are consequences. */
	if (generation->failure.text[0] == '\0')
		(void)err_set(&generation->failure, 0, "%s", text);
	generation_apply(generation, event);
}

static void generation_on_lease_lost(void *context, struct request *request)
{
	struct generation *generation = context;

	generation->listener->on_lease_lost(generation->listener->context, generation,
	                                    request);
}

/* The process is gone, or as good as gone. Answers that it had published are still good
 * and are delivered first. */
static void generation_close(struct generation *generation)
{
	generation_link_close(generation);
	generation_patience_end(generation);
	(void)request_collect(generation->lane, NULL);
	lane_close(generation->lane, generation_on_lease_lost, generation);
}

/* Entries of a place that are looked at. What lies behind them is left to the next one. */
#define GENERATION_SWEEP_MAX 16384

/* Programs have a folder for temporary files, and so has a driver; nobody else has one. */
bool generation_may_leave_folder(const struct generation *generation)
{
	const struct config_model *section = generation->inputs->section;

	return strcmp(section->device, "cpu") != 0 ||
	       (strcmp(section->engine, "torch") != 0 &&
	        strcmp(section->engine, "identity") != 0);
}

/* The process is gone, and its main memory with it. */
static void generation_bury(struct generation *generation)
{
	generation_close(generation);
	device_remove(&generation->use);
	generation_weights_drop(generation);
}

/* Side effects of entering a state. Returns the event that follows at once, or COUNT. */
static enum generation_event generation_enter(struct generation *generation,
                                              enum generation_event event)
{
	struct child *child = &generation->link.child;
	bool is_sent = true;

	switch (generation->state) {
	case GENERATION_STAGING:
		is_sent = generation_weights_load(generation);
		break;
	case GENERATION_COMMITTING:
		device_note_placing(&generation->gpu_use);
		is_sent = generation_weights_commit(generation);
		break;
	case GENERATION_ACTIVE:
		generation_claims_note_active(generation);
		generation_weights_serve(generation);
		break;
	case GENERATION_DRAINING:
		if (lane_leased(generation->lane) == 0)
			return GENERATION_EV_DRAINED;
		break;
	case GENERATION_STOPPING:
		is_sent = generation_link_send(generation, PROTO_QUIT, NULL, NULL, 0);
		break;
	case GENERATION_TERMINATING:
		child_signal(child, SIGTERM);
		break;
	case GENERATION_FAILED:
		/* A loader that refused exits by itself, and its code says more than
		 * ours. */
		if (event != GENERATION_EV_REFUSED)
			child_signal(child, SIGKILL);
		break;
	case GENERATION_KILLING:
		child_signal(child, SIGKILL);
		break;
	case GENERATION_UNKILLABLE:
		log_event(LOG_LEVEL_ERR, "loader_unkillable", "model=%s gen=%llu pid=%d",
		          generation->model, (unsigned long long)generation->number,
		          (int)generation->pid);
		/* The process never runs again: another loader answers what it holds. */
		generation_close(generation);
		break;
	case GENERATION_RECLAIMING:
		generation_bury(generation);
		if (generation_reclaim_begin(generation))
			return GENERATION_EV_RECLAIMED;
		break;
	case GENERATION_DEAD:
		generation_reclaim_fini(generation);
		break;
	case GENERATION_NONE:
	case GENERATION_SPAWNED:
	case GENERATION_STAGED:
	case GENERATION_WARMING:
	case GENERATION_READY:
	case GENERATION_STATE_COUNT:
		break;
	}
	if (!is_sent)
		generation_fail(generation, GENERATION_EV_VIOLATION,
		                "the loader does not read its control channel");
	return GENERATION_EVENT_COUNT;
}

void generation_apply(struct generation *generation, enum generation_event event)
{
	enum generation_state from = generation->state;
	enum generation_state to = generation_next(from, event);
	enum generation_event follows;
	uint64_t now = clock_now_ns();

	assert(to != GENERATION_NONE);
	if (to == from)
		return;
	generation->state = to;
	generation->entered_ns[to] = now;
	log_event(LOG_LEVEL_INFO, "generation_state",
	          "model=%s gen=%llu pid=%d from=%s to=%s on=%s took_ms=%.1f",
	          generation->model, (unsigned long long)generation->number,
	          (int)generation->pid, generation_state_name(from),
	          generation_state_name(to), generation_event_name(event),
	          clock_ns_to_ms(now - generation->entered_ns[from]));
	generation_patience_begin(generation);
	follows = generation_enter(generation, event);
	/* Sending may have failed and led on from here: then the listener was told
	 * already. */
	if (generation->state == to)
		generation->listener->on_state(generation->listener->context, generation,
		                               from);
	if (follows != GENERATION_EVENT_COUNT && generation->state == to)
		generation_apply(generation, follows);
}

void generation_dismiss(struct generation *generation, const struct err *why)
{
	generation->failure = *why;
	generation_apply(generation, GENERATION_EV_RETIRE);
}

void generation_note_unkillable(struct generation *generation)
{
	(void)err_set(
		&generation->failure, 0,
		"process %d of generation %llu survives SIGKILL and keeps %.1f MiB: "
		"the kernel or a driver holds it",
		(int)generation->pid, (unsigned long long)generation->number,
		(double)generation->use.now_bytes / 1048576.0);
}

void generation_note_culprit(struct generation *generation)
{
	generation->has_culprit = true;
}

void generation_set_listener(struct generation *generation,
                             const struct generation_listener *listener)
{
	generation->listener = listener;
}

static void generation_collect(void *context)
{
	struct generation *generation = context;
	uint32_t leased = lane_leased(generation->lane);
	struct err err = ERR_NULL;

	if (request_collect(generation->lane, &err) == LANE_E_VIOLATION) {
		if (generation_next(generation->state, GENERATION_EV_VIOLATION) !=
		            GENERATION_NONE &&
		    generation->state != GENERATION_KILLING &&
		    generation->state != GENERATION_UNKILLABLE)
			generation_fail(generation, GENERATION_EV_VIOLATION, err.text);
		return;
	}
	if (lane_leased(generation->lane) == leased)
		return;
	generation->n_answered += leased - lane_leased(generation->lane);
	if (generation->state == GENERATION_DRAINING &&
	    lane_leased(generation->lane) == 0) {
		generation_apply(generation, GENERATION_EV_DRAINED);
		return;
	}
	generation->listener->on_answers(generation->listener->context, generation);
}

/* The channel */

static void generation_on_message(struct generation *generation,
                                  struct chan_message *message)
{
	struct err err = ERR_NULL;
	enum generation_event event;

	/* Ring contents count before this message, as the loader wrote them first: a
	 * loader that broke the rings must not become ACTIVE. */
	if (message->header.type == PROTO_READY)
		generation_collect(generation);
	event = generation_read_message(message, generation->number, generation->state,
	                                &generation->report, &err);
	if (event == GENERATION_EV_REFUSED)
		generation->is_permanent = generation->report.refuses_input;
	if (event == GENERATION_EV_REFUSED || event == GENERATION_EV_VIOLATION) {
		generation_fail(generation, event, err.text);
		return;
	}
	if (event == GENERATION_EV_STAGED)
		said_staged(generation);
	if (!generation_weights_settle(generation, event, message, &err) ||
	    (event == GENERATION_EV_READY && !said_ready(generation, &err))) {
		generation_fail(generation, GENERATION_EV_VIOLATION, err.text);
		return;
	}
	generation_apply(generation, event);
}

static void generation_on_broken(struct generation *generation, const char *why)
{
	generation_fail(generation, GENERATION_EV_VIOLATION, why);
}

int generation_submit(struct generation *generation, struct request *request)
{
	/* A violation shows in the next collect. */
	if (generation->state != GENERATION_ACTIVE ||
	    lane_submit(generation->lane, request) != 0)
		return LANE_E_FULL;
	generation_patience_on_lease(generation);
	return 0;
}

int generation_try(struct generation *generation, struct request *request)
{
	assert(request->is_case);
	if (generation->state != GENERATION_READY)
		return LANE_E_FULL;
	return lane_submit(generation->lane, request) ? LANE_E_FULL : 0;
}

/* Timers */

/* What helps one that has not come up in time. */
static const char *generation_late_remedy(const struct generation *generation)
{
	bool is_python = config_is_python(generation->inputs->section);

	if (generation->state == GENERATION_STAGING && !generation->patience.hurry_ns)
		return is_python
		               ? ": raise stage_timeout, or see that no module waits, or "
		                 "starts a server of its own, when it is imported"
		               : ": raise stage_timeout if it needs longer";
	if (generation->state == GENERATION_COMMITTING)
		return ": raise commit_timeout if it needs longer";
	if (generation->state == GENERATION_WARMING)
		return is_python ? ": raise warmup_timeout, or see what its start or its "
		                   "first request waits for"
		                 : ": raise warmup_timeout if it needs longer";
	return "";
}

static void generation_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct generation *generation = timer->data;
	enum generation_state state = generation->state;
	char text[192];

	(void)loop;
	(void)revents;
	/* Messages that the loader has sent count first: moultd itself may have been
	 * stopped for a while. */
	generation_link_read(generation);
	if (generation->state != state)
		return;
	if (generation_link_is_untried(generation))
		(void)snprintf(text, sizeof(text), "it does not answer");
	else
		(void)snprintf(text, sizeof(text), "still %s after %.1f s%s",
		               generation_state_name(state),
		               (double)generation->patience.deadlines_ns[state] / 1e9,
		               generation_late_remedy(generation));
	if (state == GENERATION_DRAINING)
		log_event(LOG_LEVEL_WARNING, "drain_deadline",
		          "model=%s gen=%llu leases=%u action=replay", generation->model,
		          (unsigned long long)generation->number,
		          lane_leased(generation->lane));
	generation_fail(generation, GENERATION_EV_DEADLINE, text);
}

static void generation_on_look(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct generation *generation = timer->data;
	struct err why = ERR_NULL;
	enum generation_event event = generation_patience_look(generation, &why);

	(void)loop;
	(void)revents;
	if (event != GENERATION_EVENT_COUNT)
		generation_fail(generation, event, why.text);
}

static void generation_on_poll(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct generation *generation = timer->data;

	(void)loop;
	(void)revents;
	if (generation_reclaim_look(generation))
		generation_apply(generation, GENERATION_EV_RECLAIMED);
}

/* Birth and death */

/* A SIGKILL that moultd did not send, while the kernel counted victims, was the
 * kernel's. The loader's own group counts those of max_memory. */
static bool generation_is_oom_victim(const struct generation *generation, int status)
{
	enum generation_state state = generation->state;
	bool was_ours = state == GENERATION_KILLING || state == GENERATION_UNKILLABLE ||
	                state == GENERATION_FAILED;

	return !was_ours && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
	       (generation->link.child.kin.is_oom_victim ||
	        host_oom_kills(&generation->use.device->memory) > generation->oom_kills);
}

/* Of an interpreter that ended before it had imported what it hosts. False: it is none. */
static bool generation_explain_python(struct generation *generation, const char *how)
{
	const struct config_model *section = generation->inputs->section;
	const char *last_line = generation->link.last_line;

	if (!config_is_python(section))
		return false;
	if (generation->state == GENERATION_SPAWNED)
		(void)err_set(
			&generation->failure, 0,
			"python = %s ended before it was a loader (%s): give the path "
			"of a Python from 3.9 on%s%s",
			config_python(section), how,
			last_line[0] ? "; its last words: " : "", last_line);
	else if (generation->state == GENERATION_STAGING)
		(void)err_set(
			&generation->failure, 0,
			"the process ended while it imported what it serves (%s): no "
			"module may end it; event=loader_log has what it said%s%s",
			how, last_line[0] ? ", at last: " : "", last_line);
	return generation->failure.text[0] != '\0';
}

static void generation_explain_exit(struct generation *generation, const char *how)
{
	const char *state = generation_state_name(generation->state);
	const char *last_line = generation->link.last_line;
	uint64_t now_bytes = generation->use.now_bytes;

	if (generation->was_oom_victim)
		(void)err_set(
			&generation->failure, 0,
			"the loader died while %s: the kernel killed it, out of memory "
			"(it held %.1f MiB when last looked at): give it more, or set "
			"budget in [device host]",
			state, (double)now_bytes / 1048576.0);
	else if (!generation_explain_python(generation, how))
		(void)err_set(&generation->failure, 0, "the loader died while %s: %s%s%s",
		              state, how, last_line[0] ? "; its last words: " : "",
		              last_line);
}

static void generation_on_exit(struct generation *generation, int status)
{
	bool is_expected;
	char text[64];

	(void)child_describe(status, text, sizeof(text));
	if (generation_link_is_untried(generation)) {
		generation_fail(generation, GENERATION_EV_EXITED, text);
		return;
	}
	if (generation->link.child.pid != 0 || generation_is_over(generation))
		return; /* a message just now had the spare replaced */
	is_expected = generation->state == GENERATION_STOPPING && status == 0;
	generation->exit_status = status;
	/* Its memory is back, and the kernel may have counted it as a victim. */
	host_forget(&generation->use.device->memory);
	generation->was_oom_victim = generation_is_oom_victim(generation, status);
	if (!is_expected && generation->failure.text[0] == '\0')
		generation_explain_exit(generation, text);
	if (WIFEXITED(status) && (WEXITSTATUS(status) == PROTO_EXIT_CONFIG ||
	                          WEXITSTATUS(status) == PROTO_EXIT_MODEL))
		generation->is_permanent = true;
	log_event(is_expected ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "loader_exit",
	          "model=%s gen=%llu pid=%d state=%s status=%s leases=%u reason=%s",
	          generation->model, (unsigned long long)generation->number,
	          (int)generation->pid, generation_state_name(generation->state),
	          LOG_QUOTED(text), lane_leased(generation->lane),
	          LOG_QUOTED(generation->failure.text));
	generation_apply(generation, GENERATION_EV_EXITED);
}

int generation_new(struct generation **ret_generation, struct ev_loop *loop,
                   const struct generation_start *start,
                   const struct generation_listener *listener, struct err *err)
{
	static const struct generation_link_listener link_listener = {
		.on_message = generation_on_message,
		.on_broken = generation_on_broken,
		.on_exit = generation_on_exit,
	};
	const struct config_model *section = start->inputs->section;
	const struct generation_place place = {
		.device = start->device,
		.claim_bytes = start->claim_bytes,
		.gpu = start->gpu,
		.gpu_claim_bytes = start->gpu_claim_bytes,
		.gpu_weights_bytes = start->gpu_weights_bytes,
	};
	struct generation *generation = calloc(1, sizeof(*generation));
	int r;

	if (!generation)
		return err_set(err, -ENOMEM, "out of memory");
	generation->number = start->number;
	generation->model = start->model;
	generation->loop = loop;
	generation->listener = listener;
	generation->inputs = inputs_ref(start->inputs);
	generation_link_init(generation, &link_listener);
	generation_patience_init(generation, start->section, generation_on_deadline,
	                         generation_on_look);
	generation_reclaim_init(generation, generation_on_poll);
	r = generation_weights_init(generation, start);
	if (r == 0)
		r = lane_new(&generation->lane, start->queue, start->number,
		             section->leases, section->response_arena_bytes);
	if (r < 0)
		(void)err_set(err, r, "no resources for a generation: %s", strerror(-r));
	else
		r = generation_link_open(generation, start->spares, start->section, err);
	if (r < 0) {
		generation_free(generation);
		return r;
	}
	generation->oom_kills = host_oom_kills(&start->device->memory);
	generation->state = GENERATION_SPAWNED;
	generation->entered_ns[GENERATION_SPAWNED] = clock_now_ns();
	generation_begin(generation, &place);
	lane_start(generation->lane, generation_collect, generation);
	*ret_generation = generation;
	return 0;
}

void generation_free(struct generation *generation)
{
	if (!generation)
		return;
	if (generation->state != GENERATION_NONE && generation->state != GENERATION_DEAD)
		generation_bury(generation);
	generation_patience_fini(generation);
	generation_reclaim_fini(generation);
	generation_link_fini(generation);
	/* Killed here: nobody is told, and moultd is about to end. */
	if (generation->state != GENERATION_NONE &&
	    generation->state != GENERATION_DEAD &&
	    generation_may_leave_folder(generation))
		reclaim_sweep(generation->inputs->config, generation->model,
		              GENERATION_SWEEP_MAX);
	lane_unref(generation->lane);
	generation_weights_fini(generation);
	inputs_unref(generation->inputs);
	free(generation);
}

bool generation_is_over(const struct generation *generation)
{
	return generation->state == GENERATION_DEAD;
}

double generation_phase_ms(const struct generation *generation,
                           enum generation_state state)
{
	uint64_t start = generation->entered_ns[state];
	uint64_t end = 0;

	if (start == 0)
		return 0;
	for (unsigned int i = 0; i < GENERATION_STATE_COUNT; i++) {
		uint64_t entered = generation->entered_ns[i];

		if (i != (unsigned int)state && entered >= start &&
		    (end == 0 || entered < end))
			end = entered;
	}
	return clock_ns_to_ms((end ? end : clock_now_ns()) - start);
}

uint64_t generation_load_ns(const struct generation *generation)
{
	static const enum generation_state states[] = {
		GENERATION_SPAWNED,
		GENERATION_STAGING,
		GENERATION_COMMITTING,
		GENERATION_WARMING,
	};
	double ms = 0;

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		ms += generation_phase_ms(generation, states[i]);
	return (uint64_t)(ms * 1e6);
}
