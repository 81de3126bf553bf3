/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A bench for the real generation.c, with a process that does nothing: the test's program
 * itself, started as a loader. The test speaks for that process. Every failure ends the test.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/chan.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/loaders/message.h"
#include "supervisor/loop/pump.h"
#include "supervisor/traffic/queue.h"
#include "tests/unit/config_bench.h"

#define GENERATION_BENCH_NUMBER 7
#define GENERATION_BENCH_CLAIM  (UINT64_C(1) << 20)

struct spares;

struct generation_bench {
	struct ev_loop *loop;
	struct pump pump;
	struct config *config;
	struct inputs *inputs;
	struct device device;
	struct queue queue;
	struct generation_listener listener;
	struct generation *generation;
	struct chan loader; /* the loader's end */
	struct chan_message message;
	unsigned int n_news; /* states that the listener has heard of */
	unsigned int n_lost; /* leases that came back */
	ev_timer late;
	bool is_late;
};

/* To be called first in main(): returns only where this program is not a loader. */
void generation_bench_be_loader(int argc, char **argv);

/* A configuration of model m with the lines @more, whose loader is this program. Time for
 * staging, commit, warm-up, draining, stopping and reclaiming: 11 to 16 seconds. */
struct config *generation_bench_load(const char *more);

/* Makes what a generation needs, and no generation so far. */
void generation_bench_prepare(struct generation_bench *bench);
/* Makes the generation, perhaps from a spare; @spares may be NULL. */
void generation_bench_begin_with(struct generation_bench *bench, struct spares *spares);
/* Both of these, until the process runs; the deadline of SPAWNED begins then. */
void generation_bench_begin(struct generation_bench *bench);
void generation_bench_end(struct generation_bench *bench);
/* The test is the loader from now on. */
void generation_bench_take_channel(struct generation_bench *bench);

/* Waits until the generation is in @state, or its loader has said something (NONE). */
void generation_bench_wait_for(struct generation_bench *bench,
                               enum generation_state state);
/* The same for anything else: go rounds of the loop between these two. A round that comes too
 * late fails with @what. */
void generation_bench_begin_waiting(struct generation_bench *bench);
void generation_bench_go_round(struct generation_bench *bench, const char *what);
void generation_bench_end_waiting(struct generation_bench *bench);

/* Sends what a loader would say, and has the loop see it. */
void generation_bench_say(struct generation_bench *bench, enum proto_type type,
                          uint64_t number, const char *payload);
/* The next message that the loader gets is of @type. */
void generation_bench_hear(struct generation_bench *bench, enum proto_type type);
/* Takes the generation to @state, and checks what its loader hears on the way. */
void generation_bench_rise(struct generation_bench *bench, enum generation_state state);
