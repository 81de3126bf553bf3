/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Signals of moultd. Some mean something; the others whose default would end the process are
 * logged and change nothing: a mistyped kill is no reason to stop serving. Left as they are:
 * what stops and continues a process, and what says that it is broken (SIGSEGV, SIGABRT,
 * SIGXCPU and the like).
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
	uint64_t told_ns; /* the last line about one that means nothing */
};

/* Until signals_start(), what means nothing is ignored without a word. */
void signals_ignore(void);
/* @rows are what means something; their watchers have @context as data. */
void signals_start(struct signals *signals, struct ev_loop *loop,
                   const struct signals_row *rows, size_t n_rows, void *context);
void signals_stop(struct signals *signals);
