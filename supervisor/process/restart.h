/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * When a model whose loader died gets another one. No timers, no processes: times go in,
 * delays come out.
 *
 * A loader that was of use (it answered, or served for a while) is replaced at once,
 * however often that happens: its requests wait for the next one. Deaths without any use
 * back off, and so many of them within a window make the model FAILED: requests are then
 * turned away at once, and a loader is tried only now and then, or when an input changes.
 * A loader that one request is to blame for is replaced at once, and says nothing of the
 * others. Where there is no memory for one, that makes the model FAILED too after a while,
 * but room is looked for every few seconds.
 */

#include <stdbool.h>
#include <stdint.h>

#define RESTART_LIMIT_MAX 64

enum restart_death {
	RESTART_USELESS,
	RESTART_USEFUL,
	RESTART_INNOCENT, /* a request did it, or somebody's signal */
	RESTART_REFUSED,  /* none was started: there is no memory for one */
};

struct restart_policy {
	uint32_t limit; /* useless deaths within the window: FAILED; at most the above */
	uint64_t window_ns;
};

struct restart {
	uint64_t deaths_ns[RESTART_LIMIT_MAX]; /* of the last useless ones, a ring */
	uint64_t n_deaths;                     /* useless ones in a row */
	uint64_t n_refused;                    /* in a row */
	bool is_failed;
};

/* Returns how long to wait before the next try. */
uint64_t restart_on_death(struct restart *restart, const struct restart_policy *policy,
                          enum restart_death death, uint64_t now_ns);
/* One that was of use has ended as it should: no row of useless deaths goes on. */
void restart_on_use(struct restart *restart);
/* A generation serves. */
void restart_on_ready(struct restart *restart);
