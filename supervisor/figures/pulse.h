/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Health of one generation: answers, errors and computing times of the last two
 * minutes. Noting an answer costs a few instructions; the caller passes the time, no
 * clock is read.
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
	uint64_t errors;  /* of the answers: the model is to blame */
	uint64_t slow_ns; /* nine in ten were computed within this time; 0: no answer */
};

/* Limits beyond which a generation is worse than the one before. */
struct pulse_policy {
	uint32_t errors_percent;  /* percentage points; 0: not compared */
	uint32_t latency_percent; /* of the time before; 0: not compared */
	uint64_t waited_ns;       /* for a processor, by an execution now, on average */
};

void pulse_reset(struct pulse *pulse, uint64_t generation);
/* Verdict of one answer on the model. */
enum pulse_kind {
	PULSE_GOOD,
	PULSE_FAULT,   /* the model failed, whatever the status */
	PULSE_NOTHING, /* the request or its deadline is to blame: not counted */
};

void pulse_note(struct pulse *pulse, uint64_t generation, enum pulse_kind kind,
                uint64_t compute_ns, uint64_t now_ns);
/* Errors in per cent of the answers; 0 without answers. */
double pulse_error_percent(const struct pulse_summary *summary);
struct pulse_summary pulse_sum(const struct pulse *pulse, uint64_t now_ns);
/* Answers and errors of the last @within_ns, to one bucket; slow_ns is 0. */
struct pulse_summary pulse_recent(const struct pulse *pulse, uint64_t within_ns,
                                  uint64_t now_ns);

/* True, with a sentence: @now is worse than @before by more than @policy allows. False
 * while @now has too few answers to tell; times are compared only when @before has
 * enough, too. */
bool pulse_is_worse(const struct pulse_summary *before, const struct pulse_summary *now,
                    const struct pulse_policy *policy, struct err *why);
