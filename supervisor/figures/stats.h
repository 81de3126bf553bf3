/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Ends of one model's requests, and how long each part took: for the statistics
 * extension of the protocol and for /metrics. Every figure only grows.
 *
 * Success is an answer of 2xx that a loader gave; every other end of an accepted
 * request is a failure. Loaders report the parts of the time, and no part is believed
 * to be longer than the whole. Noting is a few additions: no allocation, no clock.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/proto.h"
#include "supervisor/figures/histogram.h"

/* Sizes of batches that are told apart; further ones count in the totals alone. */
#define STATS_BATCHES 64

#define STATS_STATUS_MIN 200
#define STATS_STATUS_END 600

enum stats_part {
	STATS_SUCCESS, /* requests, from accepted to answered */
	STATS_FAIL,
	STATS_QUEUE, /* the parts of success */
	STATS_INPUT,
	STATS_INFER,
	STATS_OUTPUT,
	STATS_PART_COUNT
};

struct stats_total {
	uint64_t count;
	uint64_t ns;
};

/* Executions of batches of one size. */
struct stats_batch {
	uint32_t rows;
	uint64_t executions; /* 0: the place is free */
	uint64_t input_ns;
	uint64_t infer_ns;
	uint64_t output_ns;
};

struct stats {
	uint64_t last_ms;    /* since the epoch, of the last end; 0: none */
	uint64_t inferences; /* rows of successes */
	uint64_t executions;
	struct stats_total parts[STATS_PART_COUNT];
	struct stats_batch batches[STATS_BATCHES]; /* in no order */
	struct histogram request; /* ns: accepted to answered, or failed */
	struct histogram queue;   /* ns, of successes */
	struct histogram compute; /* ns, of executions */
	struct histogram rows;    /* of executions */
	struct histogram memory;  /* bytes, of executions, where known */
	uint64_t responses[STATS_STATUS_END - STATS_STATUS_MIN]; /* sent, by status */
};

struct stats_end {
	unsigned int status; /* HTTP, of the loader; 0: no answer counts */
	uint64_t took_ns;    /* since the request was accepted */
	uint64_t now_ms;     /* since the epoch */
};

/* Notes the LAST part of an answer, whether anybody waits for it or not. */
void stats_note_execution(struct stats *stats, const struct proto_answer *answer,
                          uint64_t took_ns);
/* Notes a request that ended with a loader's answer. */
void stats_note_answer(struct stats *stats, const struct proto_answer *answer,
                       const struct stats_end *end);
/* Notes a request that ended without one. @was_left: its client went away. */
void stats_note_failure(struct stats *stats, const struct stats_end *end, bool was_left);
/* Notes the status of an answer to a request for inference, whoever gave it. */
void stats_note_response(struct stats *stats, unsigned int status);
