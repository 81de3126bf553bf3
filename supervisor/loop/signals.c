/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loop/signals.h"

#include <string.h>

#include "shared/clock.h"
#include "shared/log.h"

/* signal(7): signals whose default ends a process and that say nothing about its health.
 * Real-time signals are of that kind, too. */
static const int signals_idle[] = { SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF,
	                            SIGPOLL, SIGPWR,  SIGSTKFLT };
/* Signals of errors that calls return as well, and that are handled there. */
static const int signals_silent[] = { SIGPIPE, SIGXFSZ };

#define SIGNALS_COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void signals_on_idle(struct ev_loop *loop, ev_signal *signal, int revents)
{
	struct signals *signals = signal->data;
	uint64_t now_ns = clock_now_ns();

	(void)loop;
	(void)revents;
	if (signals->told_ns && now_ns - signals->told_ns < CLOCK_NS_PER_SEC)
		return;
	signals->told_ns = now_ns;
	log_event(LOG_LEVEL_WARNING, "signal_ignored", "signal=%d name=%s action=none",
	          signal->signum, LOG_QUOTED(strsignal(signal->signum)));
}

void signals_ignore(void)
{
	for (size_t i = 0; i < SIGNALS_COUNT(signals_idle); i++)
		(void)signal(signals_idle[i], SIG_IGN);
	for (size_t i = 0; i < SIGNALS_COUNT(signals_silent); i++)
		(void)signal(signals_silent[i], SIG_IGN);
	for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
		(void)signal(number, SIG_IGN);
}

static void signals_add(struct signals *signals, const struct signals_row *row,
                        void *context)
{
	ev_signal *watcher = &signals->watchers[signals->n++];

	ev_signal_init(watcher, row->handle, row->number);
	watcher->data = context;
	ev_signal_start(signals->loop, watcher);
}

void signals_start(struct signals *signals, struct ev_loop *loop,
                   const struct signals_row *rows, size_t n_rows, void *context)
{
	struct signals_row idle = { .handle = signals_on_idle };

	signals_ignore();
	signals->loop = loop;
	for (size_t i = 0; i < n_rows; i++)
		signals_add(signals, &rows[i], context);
	for (size_t i = 0; i < SIGNALS_COUNT(signals_idle); i++) {
		idle.number = signals_idle[i];
		signals_add(signals, &idle, signals);
	}
	for (idle.number = SIGRTMIN; idle.number <= SIGRTMAX; idle.number++)
		signals_add(signals, &idle, signals);
}

void signals_stop(struct signals *signals)
{
	if (!signals->loop)
		return;
	for (size_t i = 0; i < signals->n; i++)
		ev_signal_stop(signals->loop, &signals->watchers[i]);
	signals_ignore();
	signals->loop = NULL;
}
