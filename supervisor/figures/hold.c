/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/figures/hold.h"

#include "shared/clock.h"

/* A shorter pause takes this part of the difference off the estimate. */
#define HOLD_DECAY 4

const char *hold_cause_name(enum hold_cause cause)
{
	static const char *const names[] = {
		[HOLD_CAUSE_START] = "start",
		[HOLD_CAUSE_CRASH] = "crash",
		[HOLD_CAUSE_RELOAD] = "reload",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == HOLD_CAUSE_COUNT,
	               "one name per cause");
	return names[cause];
}

void hold_begin(struct hold *hold, enum hold_cause cause, uint64_t now_ns)
{
	if (hold->is_paused)
		return;
	hold->is_paused = true;
	hold->cause = cause;
	hold->begun_ns = hold->attempt_ns = now_ns;
}

void hold_attempt(struct hold *hold, uint64_t at_ns)
{
	if (hold->is_paused)
		hold->attempt_ns = at_ns > hold->begun_ns ? at_ns : hold->begun_ns;
}

void hold_end(struct hold *hold, uint64_t now_ns)
{
	uint64_t *usual_ns = &hold->usual_ns[hold->cause];
	uint64_t took_ns;

	if (!hold->is_paused)
		return;
	took_ns = now_ns > hold->attempt_ns ? now_ns - hold->attempt_ns : 0;
	*usual_ns = took_ns >= *usual_ns ? took_ns
	                                 : *usual_ns - (*usual_ns - took_ns) / HOLD_DECAY;
	hold->last_ns = now_ns > hold->begun_ns ? now_ns - hold->begun_ns : 0;
	hold->n_pauses++;
	hold->is_paused = false;
}

/* A cause without a history of its own borrows the worst of the others. */
static uint64_t hold_usual_ns(const struct hold *hold)
{
	uint64_t usual_ns = hold->usual_ns[hold->cause];

	for (unsigned int i = 0; i < HOLD_CAUSE_COUNT; i++)
		if (hold->usual_ns[hold->cause] == 0 && hold->usual_ns[i] > usual_ns)
			usual_ns = hold->usual_ns[i];
	return usual_ns;
}

uint64_t hold_left_ns(const struct hold *hold, uint64_t now_ns)
{
	uint64_t usual_ns = hold_usual_ns(hold);
	uint64_t took_ns;

	if (!hold->is_paused)
		return 0;
	if (now_ns <= hold->attempt_ns)
		return hold->attempt_ns - now_ns + usual_ns;
	took_ns = now_ns - hold->attempt_ns;
	return took_ns < usual_ns ? usual_ns - took_ns : took_ns / 2;
}

int hold_percent(const struct hold *hold, uint64_t now_ns)
{
	uint64_t usual_ns = hold_usual_ns(hold);
	uint64_t percent;

	if (!hold->is_paused || usual_ns == 0)
		return -1;
	if (now_ns <= hold->attempt_ns)
		return 0;
	percent = (now_ns - hold->attempt_ns) * 100 / usual_ns;
	return percent < 99 ? (int)percent : 99;
}

json_t *hold_to_json(const struct hold *hold, uint64_t now_ns)
{
	json_t *usual = json_object();

	for (unsigned int i = 0; i < HOLD_CAUSE_COUNT; i++)
		if (hold->usual_ns[i])
			(void)json_object_set_new(
				usual, hold_cause_name((enum hold_cause)i),
				json_real(clock_ns_to_ms(hold->usual_ns[i])));
	return json_pack("{s:b,s:s?,s:f,s:f,s:I,s:o}", "is_paused", hold->is_paused,
	                 "cause", hold->is_paused ? hold_cause_name(hold->cause) : NULL,
	                 "expected_ms", clock_ns_to_ms(hold_left_ns(hold, now_ns)),
	                 "last_ms", clock_ns_to_ms(hold->last_ns), "pauses",
	                 (json_int_t)hold->n_pauses, "usual_ms", usual);
}
