/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a model has of its passage from one generation to the next. The files of reload/ write
 * it, each its part: members.h says which.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/devices/strategy.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/parts/receipt.h"
#include "supervisor/parts/reload_table.h"
#include "supervisor/process/restart.h"

struct inputs;

/* The reload that is in flight. */
struct model_reload {
	enum reload_step step; /* reload_enter() alone */
	unsigned int causes;
	struct inputs
		*inputs; /* of the candidate: a reference; NULL: none could be read */
	struct strategy_decision decision;     /* by main memory, then by both */
	struct strategy_decision gpu_decision; /* facts.device NULL: no GPU */
	struct receipt receipt;
	bool is_newest; /* inputs were read from disk, not known before */
	uint64_t started_ns;
};

/* What is tried again by itself. */
struct model_retry {
	ev_timer restart;      /* a loader died: back-off */
	ev_timer again;        /* a reload failed for a reason that may pass */
	ev_timer wait;         /* looks at what the next reload waits for */
	unsigned int causes;   /* of the reload that is tried again */
	unsigned int n_tries;  /* in a row */
	unsigned int n_pauses; /* tries that cost a pause */
	struct restart deaths;
};

/* The other loaders of the generation that serves. */
struct model_replicas {
	struct generation_listener listener;
	unsigned int scale; /* `moultctl scale`; 0: as configured */
	struct restart deaths;
	ev_timer grow; /* the next replica is tried later */
};

/* When a loader is replaced, although nothing is wrong with it. */
struct model_recycle {
	ev_timer look;     /* active while the model's limits ask for it */
	uint64_t tried;    /* number of the generation that was to be replaced last */
	uint64_t again_ns; /* it is tried again from then on */
	unsigned int n_tries;
	struct err why; /* for the receipt; "" */
};
