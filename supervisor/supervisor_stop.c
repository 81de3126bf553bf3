/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way out, in three steps. For drain_delay moultd says that it is not ready, and
 * serves. For shutdown_timeout nobody new gets in, and running requests are answered. The
 * rest is answered 503, and gets SUPERVISOR_LAST_S to read that. A further signal ends
 * drain_delay; after that, moultd ends at once.
 */

#include "shared/log.h"
#include "supervisor/grpc/grpc.h"
#include "supervisor/spares/spares.h"
#include "supervisor/supervisor_state.h"

/* Seconds for the last answers to be read, when shutdown_timeout is over. */
#define SUPERVISOR_LAST_S 1.

static void supervisor_stop_models(struct supervisor *supervisor)
{
	while (supervisor->n_models > 0)
		supervisor_remove(supervisor, supervisor->n_models - 1);
	supervisor_sweep(supervisor);
}

/* An endpoint has no connection left. */
static void supervisor_on_drained(void *context)
{
	struct supervisor *supervisor = context;

	if (--supervisor->n_draining > 0)
		return;
	supervisor->is_idle = true;
	if (supervisor->is_late)
		ev_break(supervisor->loop, EVBREAK_ALL);
	else
		supervisor_stop_models(supervisor);
}

/* Answers clients that still wait with 503. */
static void supervisor_give_up(struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->n_models; i++)
		model_give_up(supervisor->models[i]);
	for (size_t i = 0; i < supervisor->n_leaving; i++)
		model_give_up(supervisor->leaving[i]);
	supervisor_stop_models(supervisor);
}

static void supervisor_on_shutdown(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct supervisor *supervisor = timer->data;

	(void)revents;
	if (supervisor->is_late || supervisor->is_idle) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	log_event(LOG_LEVEL_WARNING, "shutdown_deadline",
	          "action=\"answering what is left with 503\"");
	supervisor->is_late = true;
	ev_timer_set(timer, SUPERVISOR_LAST_S, 0.);
	ev_timer_start(loop, timer);
	supervisor_give_up(supervisor);
}

/* Lets nobody new in, and gives running requests shutdown_timeout. */
static void supervisor_drain(struct supervisor *supervisor)
{
	ev_timer_stop(supervisor->loop, &supervisor->leave);
	log_event(LOG_LEVEL_NOTICE, "draining", "shutdown_timeout_s=%.1f",
	          (double)supervisor->config->shutdown_timeout_ns / 1e9);
	ev_timer_set(&supervisor->shutdown,
	             (double)supervisor->config->shutdown_timeout_ns / 1e9, 0.);
	ev_timer_start(supervisor->loop, &supervisor->shutdown);
	supervisor->n_draining = supervisor->grpc ? 2 : 1;
	http_drain(supervisor->http, supervisor_on_drained, supervisor);
	if (supervisor->grpc)
		grpc_drain(supervisor->grpc, supervisor_on_drained, supervisor);
}

static void supervisor_on_leave(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	supervisor_drain(timer->data);
}

void supervisor_on_stop(struct ev_loop *loop, ev_signal *signal, int revents)
{
	struct supervisor *supervisor = signal->data;

	(void)revents;
	if (ev_is_active(&supervisor->leave)) {
		log_event(LOG_LEVEL_NOTICE, "stop_again",
		          "signal=%d action=\"waiting no longer for clients to go "
		          "elsewhere\"",
		          signal->signum);
		supervisor_drain(supervisor);
		return;
	}
	if (supervisor->is_stopping) {
		log_event(LOG_LEVEL_WARNING, "stop_again",
		          "signal=%d action=\"ending at "
		          "once\"",
		          signal->signum);
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	supervisor->is_stopping = true;
	supervisor_calls_stop(supervisor);
	spares_stop(supervisor->spares);
	config_keeper_flush(&supervisor->config_keeper);
	log_event(LOG_LEVEL_NOTICE, "stopping", "signal=%d", signal->signum);
	notify_stopping(&supervisor->notify);
	/* It serves until the end. */
	if (supervisor->admin)
		http_leave(supervisor->admin);
	if (supervisor->config->drain_delay_ns == 0) {
		supervisor_drain(supervisor);
		return;
	}
	http_leave(supervisor->http);
	ev_timer_set(&supervisor->leave, (double)supervisor->config->drain_delay_ns / 1e9,
	             0.);
	ev_timer_start(loop, &supervisor->leave);
}

void supervisor_stop_init(struct supervisor *supervisor)
{
	ev_timer_init(&supervisor->leave, supervisor_on_leave, 0., 0.);
	supervisor->leave.data = supervisor;
	ev_timer_init(&supervisor->shutdown, supervisor_on_shutdown, 0., 0.);
	supervisor->shutdown.data = supervisor;
}

void supervisor_stop_fini(struct supervisor *supervisor)
{
	ev_timer_stop(supervisor->loop, &supervisor->leave);
	ev_timer_stop(supervisor->loop, &supervisor->shutdown);
}
