/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How one generation does: answers, errors and computing times of the last two minutes.
 * Noting costs a few instructions; times go in, no clock is read.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"

#define PULSE_BUCKETS   12
#define PULSE_BUCKET_NS UINT64_C(10000000000)
/* Four slots per doubling, from 1 us to over an hour. */
#define PULSE_SLOTS 128

struct pulse_bucket {
	uint64_t start_ns; /* 0: empty */
	uint64_t answers;
	uint64_t errors;
	uint32_t slots[PULSE_SLOTS]; /* of computing times */
};

struct pulse {
	uint64_t generation; /* answers of others are not noted */
	struct pulse_bucket buckets[PULSE_BUCKETS];
	unsigned int current;
};

struct pulse_summary {
	uint64_t answers;
	uint64_t errors;  /* that the model is to blame for, among them */
	uint64_t slow_ns; /* nine in ten were computed within this time; 0: no answer */
};

/* What is no longer like before. */
struct pulse_policy {
	uint32_t
		errors_percent; /* so many percentage points more errors; 0: not looked at */
	uint32_t latency_percent; /* so many per cent of the time before; 0: likewise */
};

void pulse_reset(struct pulse *pulse, uint64_t generation);
/* What an answer says of the model. */
enum pulse_kind {
	PULSE_GOOD,
	PULSE_FAULT,   /* it failed, whatever the status */
	PULSE_NOTHING, /* the request was to blame, or the time: does not count */
};

void pulse_note(struct pulse *pulse, uint64_t generation, enum pulse_kind kind,
                uint64_t compute_ns, uint64_t now_ns);
/* Of the answers. */
double pulse_error_percent(const struct pulse_summary *summary);
struct pulse_summary pulse_sum(const struct pulse *pulse, uint64_t now_ns);

/* True, with a sentence: @now is worse than @before by more than @policy allows. False also
 * as long as either has too few answers to tell; without a @before only errors count. */
bool pulse_is_worse(const struct pulse_summary *before, const struct pulse_summary *now,
                    const struct pulse_policy *policy, struct err *why);
