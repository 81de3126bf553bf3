/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The arithmetic of a reload, and the sentence that explains it.
 *
 * strategy_free() reckons what is free with and without the old generation,
 * strategy_choose() takes the first strategy that fits or checks the wanted one,
 * strategy_prefill() reckons the part of the weights that may come early,
 * strategy_explain() words the outcome with its numbers. Sizes saturate and UINT64_MAX
 * is "no limit", so nothing wraps. The facts stay in the decision: the receipt shows
 * the numbers that were decided on.
 */

#include "supervisor/devices/strategy.h"

#include "shared/saturate.h"

#define STRATEGY_MIB 1048576.0
/* Smallest chunk of weights that a loader makes at once; sizes are rounded up by less. */
#define STRATEGY_CHUNK_BYTES (UINT64_C(32) << 20)

static const char *const strategy_names[] = {
	[STRATEGY_HANDOFF] = "handoff", [STRATEGY_OVERLAP] = "overlap",
	[STRATEGY_STAGED] = "staged",   [STRATEGY_STOP_FIRST] = "stop-first",
	[STRATEGY_REFUSED] = "refused",
};

_Static_assert(sizeof(strategy_names) / sizeof(strategy_names[0]) == STRATEGY_COUNT,
               "one name per strategy");

const char *strategy_name(enum strategy strategy)
{
	return strategy_names[strategy];
}

/* Sizes saturate: UINT64_MAX is "no limit". */
static uint64_t strategy_minus(uint64_t a, uint64_t b)
{
	return a == UINT64_MAX ? a : saturate_minus(a, b);
}

static uint64_t strategy_plus(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void strategy_keep_place(const struct strategy_facts *facts, struct device_use *old,
                         const struct device_use *candidate)
{
	/* Shared weights that are to go keep a place themselves. */
	uint64_t place_bytes = saturate_minus(facts->need_bytes, facts->resident_bytes);

	if (candidate)
		place_bytes = saturate_minus(place_bytes, candidate->claim_bytes);
	/* Whatever a report shows, the place stays. */
	device_claim(old,
	             old->claim_bytes > place_bytes ? old->claim_bytes : place_bytes);
}

static uint64_t strategy_free(const struct strategy_facts *facts, bool is_old_gone)
{
	uint64_t headroom = facts->has_old && !is_old_gone ? facts->headroom_bytes : 0;
	uint64_t given_back = is_old_gone ? facts->old_bytes : 0;
	/* A reserve while nobody serves would help nobody. */
	bool has_server = facts->has_old || facts->room.has_neighbour;
	uint64_t reserve = has_server ? facts->room.reserve_bytes : 0;
	uint64_t planned =
		strategy_minus(facts->room.budget_bytes,
	                       strategy_minus(facts->room.used_bytes, given_back));
	uint64_t real = strategy_plus(facts->room.available_bytes, given_back);
	uint64_t least = planned < real ? planned : real;

	return strategy_minus(least, strategy_plus(headroom, reserve));
}

static enum strategy strategy_choose(const struct strategy_decision *decision)
{
	const struct strategy_facts *facts = &decision->facts;
	uint64_t overlap_bytes = facts->loading_bytes > facts->need_bytes
	                                 ? facts->loading_bytes
	                                 : facts->need_bytes;
	bool fits = overlap_bytes <= decision->free_bytes &&
	            !(facts->is_exclusive && facts->has_old);
	bool fits_alone = facts->need_bytes <= decision->free_alone_bytes;
	bool fits_staged = facts->staged_bytes <= decision->free_bytes;

	enum strategy both = facts->is_resident ? STRATEGY_HANDOFF : STRATEGY_OVERLAP;

	switch (facts->wanted) {
	case CONFIG_STRATEGY_OVERLAP:
		/* Without an old generation a lean candidate loses nothing. */
		if (!fits && fits_alone && !facts->has_old)
			return STRATEGY_STOP_FIRST;
		return fits ? both : STRATEGY_REFUSED;
	case CONFIG_STRATEGY_STAGED:
		return fits_alone && fits_staged ? STRATEGY_STAGED : STRATEGY_REFUSED;
	case CONFIG_STRATEGY_STOP_FIRST:
		return fits_alone ? STRATEGY_STOP_FIRST : STRATEGY_REFUSED;
	case CONFIG_STRATEGY_AUTO:
		break;
	}
	if (fits)
		return both;
	if (!fits_alone)
		return STRATEGY_REFUSED;
	return facts->has_old && fits_staged ? STRATEGY_STAGED : STRATEGY_STOP_FIRST;
}

static uint64_t strategy_prefill(const struct strategy_decision *decision)
{
	const struct strategy_facts *facts = &decision->facts;
	uint64_t own_bytes = strategy_minus(facts->need_bytes, facts->weights_bytes);
	uint64_t most_bytes = (facts->weights_bytes + STRATEGY_CHUNK_BYTES - 1) /
	                      STRATEGY_CHUNK_BYTES * STRATEGY_CHUNK_BYTES;
	uint64_t bytes = strategy_minus(decision->free_bytes,
	                                strategy_plus(own_bytes, facts->peaks_bytes));

	/* Without a figure for free memory the old generation could run short. */
	if (!facts->may_prefill || !facts->has_old || facts->is_exclusive ||
	    facts->room.available_bytes == UINT64_MAX || bytes < STRATEGY_CHUNK_BYTES)
		return 0;
	return bytes < most_bytes ? bytes : most_bytes;
}

/* Words a decision that the compute mode made, not want of memory. */
static void strategy_explain_exclusive(struct strategy_decision *decision)
{
	bool is_refused = decision->strategy == STRATEGY_REFUSED;

	(void)err_set(&decision->why, 0,
	              "the compute mode of %s lets one process use it at a time%s",
	              decision->facts.device,
	              is_refused ? ": choose another strategy, or nvidia-smi -c DEFAULT"
	                         : ", and the old generation goes first");
}

static bool strategy_is_exclusive(const struct strategy_decision *decision)
{
	const struct strategy_facts *facts = &decision->facts;

	if (!facts->is_exclusive || !facts->has_old ||
	    decision->free_alone_bytes < facts->need_bytes)
		return false;
	return decision->strategy != STRATEGY_REFUSED ||
	       facts->wanted == CONFIG_STRATEGY_OVERLAP;
}

/* Words the engine's part of a need that nobody has measured. */
static struct err strategy_say_engine(const struct strategy_facts *facts)
{
	struct err text = ERR_NULL;

	if (facts->engine_bytes > 0)
		(void)err_set(&text, 0, ", %.1f MiB of them for the engine itself,",
		              (double)facts->engine_bytes / STRATEGY_MIB);
	return text;
}

static void strategy_explain(struct strategy_decision *decision)
{
	const struct strategy_facts *facts = &decision->facts;
	double need = (double)facts->need_bytes / STRATEGY_MIB;
	double beside = (double)decision->free_bytes / STRATEGY_MIB;
	double alone = (double)decision->free_alone_bytes / STRATEGY_MIB;
	double staged = (double)facts->staged_bytes / STRATEGY_MIB;
	struct err engine = strategy_say_engine(facts);

	switch (decision->strategy) {
	case STRATEGY_HANDOFF:
		(void)err_set(&decision->why, 0,
		              "the weights are in memory already; %.1f MiB are needed "
		              "beside them",
		              need);
		break;
	case STRATEGY_OVERLAP:
		if (decision->free_bytes == UINT64_MAX)
			(void)err_set(&decision->why, 0, "nothing limits the memory");
		else
			(void)err_set(&decision->why, 0,
			              "%.1f MiB are needed and %.1f MiB are free", need,
			              beside);
		break;
	case STRATEGY_STAGED:
		(void)err_set(&decision->why, 0,
		              "%.1f MiB are needed, %.1f MiB are free beside the old "
		              "generation and %.1f MiB without it; %.1f MiB prepare the "
		              "new one",
		              need, beside, alone, staged);
		break;
	case STRATEGY_STOP_FIRST:
		(void)err_set(&decision->why, 0,
		              "%.1f MiB are needed, %.1f MiB are free beside the old "
		              "generation and %.1f MiB without it",
		              need, beside, alone);
		break;
	case STRATEGY_REFUSED:
		(void)err_set(
			&decision->why, 0,
			"not enough memory: %.1f MiB are needed%s %.1f MiB are free "
			"(%.1f MiB without the old generation; reserve %.1f MiB; "
			"other models hold %.1f MiB): raise budget in "
			"[device %s], free memory, or choose another strategy",
			need, *engine.text ? engine.text : ",", beside, alone,
			(double)facts->room.reserve_bytes / STRATEGY_MIB,
			(double)strategy_minus(facts->room.used_bytes, facts->old_bytes) /
				STRATEGY_MIB,
			facts->device);
		break;
	case STRATEGY_COUNT:
		break;
	}
}

struct strategy_decision strategy_decide(const struct strategy_facts *facts)
{
	struct strategy_decision decision = {
		.facts = *facts,
		.free_bytes = strategy_free(facts, false),
		.free_alone_bytes = strategy_free(facts, true),
	};

	decision.strategy = strategy_choose(&decision);
	decision.prefill_bytes = strategy_prefill(&decision);
	if (strategy_is_exclusive(&decision))
		strategy_explain_exclusive(&decision);
	else
		strategy_explain(&decision);
	return decision;
}

/* The enum is ordered from the mildest strategy to the strictest. */
void strategy_join(struct strategy_decision *decision, struct strategy_decision *other)
{
	if (other->strategy > decision->strategy) {
		decision->strategy = other->strategy;
		decision->why = other->why;
	}
	if (decision->strategy != STRATEGY_STAGED)
		other->prefill_bytes = 0;
}

json_t *strategy_to_json(const struct strategy_decision *decision)
{
	const struct strategy_facts *facts = &decision->facts;

	return json_pack("{s:s?,s:s,s:s,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,"
	                 "s:o,s:o,s:o}",
	                 "device", facts->device, "strategy",
	                 strategy_name(decision->strategy), "why", decision->why.text,
	                 "resident", (int)facts->is_resident, "copy_bytes",
	                 memory_bytes_to_json(facts->copy_bytes), "need_bytes",
	                 memory_bytes_to_json(facts->need_bytes), "engine_bytes",
	                 memory_bytes_to_json(facts->engine_bytes), "loading_bytes",
	                 memory_bytes_to_json(facts->loading_bytes), "staged_bytes",
	                 memory_bytes_to_json(facts->staged_bytes), "old_bytes",
	                 memory_bytes_to_json(facts->old_bytes), "headroom_bytes",
	                 memory_bytes_to_json(facts->headroom_bytes), "used_bytes",
	                 memory_bytes_to_json(facts->room.used_bytes), "budget_bytes",
	                 memory_bytes_to_json(facts->room.budget_bytes),
	                 "available_bytes",
	                 memory_bytes_to_json(facts->room.available_bytes),
	                 "reserve_bytes", memory_bytes_to_json(facts->room.reserve_bytes),
	                 "free_bytes", memory_bytes_to_json(decision->free_bytes),
	                 "free_alone_bytes",
	                 memory_bytes_to_json(decision->free_alone_bytes),
	                 "prefill_bytes", memory_bytes_to_json(decision->prefill_bytes));
}
