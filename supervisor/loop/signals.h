/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Signals of moultd. Each signal with a row has its handler. Other signals whose default
 * would end the process are logged and change nothing: a mistyped kill is no reason to
 * stop serving. Signals that stop or continue a process keep their default, and so do
 * those that say that it is broken (SIGSEGV, SIGABRT, SIGXCPU and the like).
 */

#include <ev.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct signals_row {
	int number;
	void (*handle)(struct ev_loop *loop, ev_signal *signal, int revents);
};

struct signals {
	struct ev_loop *loop; /* NULL: not started */
	ev_signal watchers[_NSIG];
	size_t n;
	uint64_t told_ns; /* of the last line about a signal without a row */
};

/* Ignores signals without a row silently, until signals_start(). */
void signals_ignore(void);
/* Handles @rows, whose watchers have @context as data, and logs the other signals. */
void signals_start(struct signals *signals, struct ev_loop *loop,
                   const struct signals_row *rows, size_t n_rows, void *context);
/* Ends all watchers and ignores those other signals again. */
void signals_stop(struct signals *signals);
