/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A loader counts the bytes in memory that it shares with moultd (passed_bytes in
 * shared/proto.h), so that telling costs no message, no wake-up and no bound: moultd looks when
 * somebody asks.
 */

#include "supervisor/parts/load.h"

#include <stdbool.h>

#include "shared/clock.h"
#include "supervisor/loaders/generation.h"

const char *load_phase(enum generation_state state, uint64_t passed, uint64_t total)
{
	bool is_under_way = passed > 0 && passed < total;

	switch (state) {
	case GENERATION_SPAWNED:
		return "spawn";
	case GENERATION_STAGING:
		return is_under_way ? "read" : "stage";
	case GENERATION_STAGED:
		return "wait";
	case GENERATION_COMMITTING:
		return is_under_way ? "place" : "commit";
	case GENERATION_WARMING:
		return "warm-up";
	case GENERATION_READY:
	case GENERATION_ACTIVE:
		return "swap";
	case GENERATION_NONE:
	case GENERATION_DRAINING:
	case GENERATION_STOPPING:
	case GENERATION_TERMINATING:
	case GENERATION_KILLING:
	case GENERATION_UNKILLABLE:
	case GENERATION_FAILED:
	case GENERATION_RECLAIMING:
	case GENERATION_DEAD:
	case GENERATION_STATE_COUNT:
		break;
	}
	return "ending";
}

json_t *load_to_json(const struct generation *candidate)
{
	uint64_t total = (uint64_t)candidate->inputs->file.st_size;
	uint64_t passed = lane_passed_bytes(candidate->lane);
	uint64_t since_ns = candidate->entered_ns[GENERATION_SPAWNED];
	bool is_told;

	if (passed > total)
		passed = total;
	is_told = passed > 0;
	return json_pack(
		"{s:I,s:s,s:f,s:o,s:o,s:o}", "generation", (json_int_t)candidate->number,
		"phase", load_phase(candidate->state, passed, total), "elapsed_ms",
		since_ns ? clock_ns_to_ms(clock_now_ns() - since_ns) : 0., "read_bytes",
		is_told ? json_integer((json_int_t)passed) : json_null(), "total_bytes",
		is_told ? json_integer((json_int_t)total) : json_null(), "percent",
		is_told ? json_integer((json_int_t)((double)passed / (double)total * 100))
			: json_null());
}

json_t *load_trial_to_json(uint64_t number, double elapsed_ms, double window_ms)
{
	return json_pack("{s:I,s:s,s:f,s:f,s:n,s:n,s:n}", "generation",
	                 (json_int_t)number, "phase", "trial", "elapsed_ms", elapsed_ms,
	                 "window_ms", window_ms, "read_bytes", "total_bytes", "percent");
}
