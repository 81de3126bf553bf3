/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Decides when a model whose loader died gets another one. No timers, no processes:
 * times go in, delays come out.
 *
 * A loader that was of use (it answered, or served for a while) is replaced at once,
 * however often that happens: its requests wait for the next one. Deaths without any
 * use back off, and too many of them within the window make the model FAILED: requests
 * are then turned away at once, and a loader is tried only now and then, or when an
 * input changes. A loader that died of one request is replaced at once, and counts for
 * nothing. Refusals for want of memory make the model FAILED too after a while, but
 * room is looked for every few seconds.
 */

#include <stdbool.h>
#include <stdint.h>

#define RESTART_LIMIT_MAX 64

enum restart_death {
	RESTART_USELESS,
	RESTART_USEFUL,
	RESTART_INNOCENT, /* a request or a signal from outside ended it */
	RESTART_REFUSED,  /* none was started, for want of memory */
};

struct restart_policy {
	uint32_t limit; /* useless deaths in the window; at most RESTART_LIMIT_MAX */
	uint64_t window_ns;
};

struct restart {
	uint64_t deaths_ns[RESTART_LIMIT_MAX]; /* of the last useless deaths, a ring */
	uint64_t n_deaths;                     /* useless deaths in a row */
	uint64_t n_refused;                    /* in a row */
	bool is_failed;
};

/* Notes a death, or a refusal. Returns the wait before the next try, in ns. */
uint64_t restart_on_death(struct restart *restart, const struct restart_policy *policy,
                          enum restart_death death, uint64_t now_ns);
/* A useful loader has ended as it should: ends the row of useless deaths. */
void restart_on_use(struct restart *restart);
/* A generation serves: the model is not FAILED any more. */
void restart_on_ready(struct restart *restart);
