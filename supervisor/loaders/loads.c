/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loaders/loads.h"

#include <sched.h>
#include <stddef.h>

static uint32_t loads_processors(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) < 1)
		return 1;
	return (uint32_t)CPU_COUNT(&set);
}

static struct loads_turn *loads_best(const struct loads *loads)
{
	struct loads_turn *best = NULL;
	struct loads_turn *turn;

	TAILQ_FOREACH (turn, &loads->waiting, link)
		if (!best || turn->class < best->class ||
		    (turn->class == best->class && turn->bytes < best->bytes))
			best = turn;
	return best;
}

static void loads_take(struct loads *loads, struct loads_turn *turn)
{
	TAILQ_REMOVE(&loads->waiting, turn, link);
	turn->is_its = true;
	loads->n++;
}

static void loads_on_next(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct loads *loads = timer->data;
	struct loads_turn *turn;

	(void)loop;
	(void)revents;
	while (loads->n < loads->max && (turn = loads_best(loads)) != NULL) {
		loads_take(loads, turn);
		turn->on_turn(turn->context);
	}
}

static void loads_hand_out(struct loads *loads)
{
	if (!ev_is_active(&loads->next) && !TAILQ_EMPTY(&loads->waiting))
		ev_timer_start(loads->loop, &loads->next);
}

bool loads_ask(struct loads *loads, struct loads_turn *turn)
{
	if (!turn->loads) {
		turn->loads = loads;
		turn->is_its = false;
		TAILQ_INSERT_TAIL(&loads->waiting, turn, link);
	}
	if (!turn->is_its && turn->class == LOADS_URGENT)
		loads_take(loads, turn);
	if (!turn->is_its)
		loads_hand_out(loads);
	return turn->is_its;
}

void loads_end(struct loads_turn *turn)
{
	struct loads *loads = turn->loads;

	if (!loads)
		return;
	if (turn->is_its)
		loads->n--;
	else
		TAILQ_REMOVE(&loads->waiting, turn, link);
	turn->loads = NULL;
	loads_hand_out(loads);
}

bool loads_is_waiting(const struct loads_turn *turn)
{
	return turn->loads && !turn->is_its;
}

void loads_init(struct loads *loads, struct ev_loop *loop)
{
	*loads = (struct loads){ .loop = loop, .max = loads_processors() };
	TAILQ_INIT(&loads->waiting);
	ev_timer_init(&loads->next, loads_on_next, 0., 0.);
	loads->next.data = loads;
}

void loads_set_max(struct loads *loads, uint32_t max)
{
	loads->max = max ? max : loads_processors();
	loads_hand_out(loads);
}

void loads_fini(struct loads *loads)
{
	if (loads->loop)
		ev_timer_stop(loads->loop, &loads->next);
}
