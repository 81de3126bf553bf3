/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What became of the requests of one model, and how long each part took: for the
 * statistics extension of the protocol and for /metrics. Everything only grows.
 *
 * Success is an answer of 2xx that a loader gave; every other end of an accepted request
 * is a failure. Parts of the time are told by loaders, and no part is believed to be longer
 * than the whole. Noting is a few additions, without memory to be had or a clock to be read.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/proto.h"
#include "supervisor/figures/histogram.h"

/* Sizes of batches that are told apart: further ones are counted in the whole alone. */
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

/* What was computed in batches of one size. */
struct stats_batch {
	uint32_t rows;
	uint64_t executions; /* 0: the place is free */
	uint64_t input_ns;
	uint64_t infer_ns;
	uint64_t output_ns;
};

struct stats {
	uint64_t last_ms;    /* since the epoch: a request came to its end; 0: none has */
	uint64_t inferences; /* rows of successes */
	uint64_t executions;
	struct stats_total parts[STATS_PART_COUNT];
	struct stats_batch batches[STATS_BATCHES]; /* in no order */
	struct histogram request; /* ns: accepted to answered, or failed */
	struct histogram queue;   /* ns, of successes */
	struct histogram compute; /* ns, of executions */
	struct histogram rows;    /* of executions */
	struct histogram memory;  /* bytes that those took, where known */
	uint64_t responses[STATS_STATUS_END - STATS_STATUS_MIN]; /* sent, by status */
};

struct stats_end {
	unsigned int
		status;   /* HTTP, of the loader's answer; 0: it gave none that counts */
	uint64_t took_ns; /* since the request was accepted */
	uint64_t now_ms;  /* since the epoch */
};

/* The LAST part of a loader's answer has come, whether anybody waits for it or not. */
void stats_note_execution(struct stats *stats, const struct proto_answer *answer,
                          uint64_t took_ns);
/* A loader has answered. */
void stats_note_answer(struct stats *stats, const struct proto_answer *answer,
                       const struct stats_end *end);
/* A request ended without an answer of a loader. @was_left: its client went away. */
void stats_note_failure(struct stats *stats, const struct stats_end *end, bool was_left);
/* An answer to a request for inference goes out, of whomever it is. */
void stats_note_response(struct stats *stats, unsigned int status);
