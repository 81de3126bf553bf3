/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/process/restart.h"

#include "shared/clock.h"

/* The delay doubles from the first to the last. */
#define RESTART_DELAY_NS     (CLOCK_NS_PER_SEC / 2)
#define RESTART_DELAY_MAX_NS (60 * CLOCK_NS_PER_SEC)
/* Longest delay of a look for free memory, which costs nothing. */
#define RESTART_LOOK_MAX_NS (5 * CLOCK_NS_PER_SEC)

static uint64_t restart_delay(uint64_t n, uint64_t max_ns)
{
	uint64_t delay_ns = RESTART_DELAY_NS;

	for (uint64_t i = 1; i < n && delay_ns < max_ns; i++)
		delay_ns *= 2;
	return delay_ns < max_ns ? delay_ns : max_ns;
}

static uint64_t restart_on_refused(struct restart *restart,
                                   const struct restart_policy *policy)
{
	restart->n_refused++;
	restart->is_failed = restart->is_failed || restart->n_refused >= policy->limit;
	return restart_delay(restart->n_refused, RESTART_LOOK_MAX_NS);
}

uint64_t restart_on_death(struct restart *restart, const struct restart_policy *policy,
                          enum restart_death death, uint64_t now_ns)
{
	uint64_t first_ns;

	if (death == RESTART_REFUSED)
		return restart_on_refused(restart, policy);
	restart->n_refused = 0;
	if (death == RESTART_INNOCENT)
		return restart->is_failed ? RESTART_DELAY_MAX_NS : 0;
	if (death == RESTART_USEFUL) {
		restart_on_use(restart);
		return 0;
	}
	if (restart->n_deaths > 0 &&
	    now_ns - restart->deaths_ns[(restart->n_deaths - 1) % RESTART_LIMIT_MAX] >
	            policy->window_ns + RESTART_DELAY_MAX_NS)
		restart->n_deaths = 0; /* long forgotten */
	restart->deaths_ns[restart->n_deaths % RESTART_LIMIT_MAX] = now_ns;
	restart->n_deaths++;
	if (restart->n_deaths >= policy->limit) {
		first_ns = restart->deaths_ns[(restart->n_deaths - policy->limit) %
		                              RESTART_LIMIT_MAX];
		restart->is_failed =
			restart->is_failed || now_ns - first_ns <= policy->window_ns;
	}
	return restart->is_failed
	               ? RESTART_DELAY_MAX_NS
	               : restart_delay(restart->n_deaths, RESTART_DELAY_MAX_NS);
}

void restart_on_use(struct restart *restart)
{
	restart->n_deaths = 0;
}

void restart_on_ready(struct restart *restart)
{
	restart->is_failed = false;
	restart->n_refused = 0;
}
