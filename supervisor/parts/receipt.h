/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The record of one reload (or start): its cause, its outcome, the time of each phase,
 * and memory before, at the peak and after. Each is one JSON line in the state directory.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/err.h"
#include "supervisor/loaders/reclaim.h"
#include "supervisor/memory/memory.h"
#include "supervisor/traffic/request.h"
#include "supervisor/devices/strategy.h"

enum receipt_outcome {
	RECEIPT_OK,        /* the new generation serves and the old one is gone */
	RECEIPT_FAILED,    /* the candidate did not make it, or nothing serves after it */
	RECEIPT_UNCHANGED, /* the inputs turned out to be the same */
	RECEIPT_OUTCOME_COUNT
};

struct receipt_side {
	uint64_t generation; /* 0: none */
	pid_t pid;
};

/* The GPU that the model computes on. UINT64_MAX: not known. */
struct receipt_gpu {
	const char *device; /* NULL: none */
	const char *uuid;
	uint64_t before_bytes; /* in use by everybody */
	uint64_t peak_bytes;
	uint64_t after_bytes;
	uint64_t prefilled_bytes; /* weights brought there while the old one served */
	/* How the memory of the loader that went came back. */
	enum reclaim_verdict verdict;
	double reaped_ms;   /* from being told to go until reaped */
	double unlisted_ms; /* from there until the driver forgot it; < 0: never */
	double freed_ms;    /* from there until its bytes were back; < 0: never */
	uint64_t residual_bytes;
	struct err residue; /* who holds residual_bytes */
	unsigned int xid;   /* critical error of the card before that; 0: none */
};

struct receipt {
	uint64_t number;  /* counts up per model */
	uint64_t time_ms; /* start, since the epoch */
	const char *model;
	const char *cause;
	struct err recycle; /* the limit that a loader has reached; "" */
	struct strategy_decision decision;
	struct strategy_decision gpu_decision;
	struct receipt_gpu gpu;
	struct err death; /* why a serving loader ended since the last receipt; "" */
	struct orphans_left orphans; /* left by loaders since the last receipt */
	enum receipt_outcome outcome;
	struct err reason; /* "" when all went well */
	bool took_spare;   /* the candidate's loader was a spare */
	uint64_t golden;   /* golden requests that the candidate answered as expected */
	struct receipt_side from;
	struct receipt_side to;
	struct err walls;         /* layers that stand round the candidate */
	struct err walls_missing; /* those that do not, and why */
	/* Phases in milliseconds; 0: not reached. */
	double spawn_ms;
	double stage_ms;
	double weights_ms; /* of staging: the weights read, hashed or mapped; */
	double engine_ms;  /* the engine's libraries opened; */
	double module_ms;  /* the model built from the weights; */
	double prefill_ms; /* a part of them brought to the GPU */
	double commit_ms;
	double warmup_ms;
	double swap_ms;  /* from READY to ACTIVE */
	double pause_ms; /* no loader took requests: drain, reclaim, commit, warm-up */
	double drain_ms;
	double stop_ms; /* asking, TERM and KILL */
	double reclaim_ms;
	double total_ms;
	struct memory_sample before;
	struct memory_sample peak; /* both loaders alive */
	struct memory_sample after;
	struct request_counts requests; /* of the model, at the end */
};

const char *receipt_outcome_name(enum receipt_outcome outcome);
/* A new reference, or NULL without memory. */
json_t *receipt_to_json(const struct receipt *receipt);

/* Appends one line to STATE_DIR/receipts.jsonl; at 1 MiB the file becomes
 * receipts.jsonl.1. 0, or -errno, which does the reload no harm. */
int receipt_append(const char *state_dir, const json_t *receipt);

/* The last @max receipts of @model (NULL: of all), oldest first: a new array. */
json_t *receipt_read(const char *state_dir, const char *model, size_t max);
