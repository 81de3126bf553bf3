/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One loader process of a generation, and its life from spawn to proof that it is gone.
 *
 * One table (table.c) says which event leads from which state to which.
 * generation_apply() is the only writer of the state. Every state but DEAD has a deadline
 * (patience.h); 0 there means none: READY and ACTIVE last as long as an operator wants. A
 * message that a state does not allow is a violation and costs the loader its life. An
 * event of our own that a state does not allow is a bug here (assert).
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/devices/device.h"
#include "supervisor/loaders/link.h"
#include "supervisor/loaders/message.h"
#include "supervisor/loaders/patience.h"
#include "supervisor/loaders/reclaim.h"
#include "supervisor/loaders/table.h"
#include "supervisor/inputs/inputs.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/process/programs.h"
#include "supervisor/weights/store.h"

struct generation;
struct spares;

struct generation_listener {
	/* Called after a change of state and its side effects. At DEAD the listener may
	 * free the generation later, not inside the call. */
	void (*on_state)(void *context, struct generation *generation,
	                 enum generation_state from);
	/* A lease comes back from a dead loader: the listener holds or fails the request,
	 * which is LEASED still. */
	void (*on_lease_lost)(void *context, struct generation *generation,
	                      struct request *request);
	/* Answers have come in: there may be room for more leases. */
	void (*on_answers)(void *context, struct generation *generation);
	void *context;
};

/* Each part is written to by its own file. */
struct generation {
	uint64_t number;
	enum generation_state state;
	const char *model; /* name, borrowed from the model */
	struct ev_loop *loop;
	const struct generation_listener *listener;
	struct generation_link link;
	struct lane *lane;
	struct generation_patience patience;
	uint64_t entered_ns[GENERATION_STATE_COUNT]; /* 0: never entered */
	struct inputs *inputs;                       /* a reference */
	/* link.c */
	pid_t pid;                /* kept after death, for records */
	struct programs programs; /* what its loader was started from */
	struct spares *spares;    /* where its loader came from; NULL: no spare */
	/* weights.c */
	char *load_payload;      /* owned until LOAD is sent */
	struct store_copy *copy; /* shared weights: a reference; NULL: it has its own */
	bool is_lean;            /* holds no copy of the model before COMMIT */
	uint64_t prefill_bytes;  /* but up to this much of its GPU */
	/* claims.c */
	struct device_use use;      /* main memory, until the process is reaped */
	struct device_use gpu_use;  /* its GPU, until DEAD */
	uint64_t gpu_weights_bytes; /* of the claim there: shared weights to bring */
	struct generation_reclaim reclaim;
	int exit_status;
	uint64_t n_answered; /* leases that ended, a hint of use */
	uint64_t oom_kills;  /* the kernel's count when the loader was spawned */
	bool is_permanent;   /* failed in a way that the same input would repeat */
	bool was_oom_victim; /* the kernel killed it for want of memory */
	bool has_culprit;    /* it died of a request */
	struct err failure;  /* why it FAILED or was killed; "" */
	struct generation_report report;
};

struct generation_start {
	uint64_t number;
	const char *model;
	struct inputs *inputs; /* another reference is taken */
	/* The newest section, for timeouts and spares; read by generation_new() only. */
	const struct config_model *section;
	struct config_manner manner;
	struct device *device;
	struct store_copy *copy; /* shared weights: another reference is taken; or NULL */
	uint64_t claim_bytes;    /* of @device, until ACTIVE */
	struct spares *spares;   /* one of them may be taken; NULL: none may */
	struct device *gpu;      /* the GPU that the model computes on; or NULL */
	uint64_t gpu_claim_bytes;
	uint64_t gpu_weights_bytes; /* see struct generation_place */
	struct queue *queue;
};

/* Spawns a loader or takes a spare. 0 with a generation in SPAWNED, which the caller
 * frees, or -errno with a sentence. @listener is borrowed. */
int generation_new(struct generation **ret_generation, struct ev_loop *loop,
                   const struct generation_start *start,
                   const struct generation_listener *listener, struct err *err);
/* Kills the loader if it lives; leases must have been taken back. Accepts NULL. */
void generation_free(struct generation *generation);

/* Applies COMMIT, PROMOTE or RETIRE: events of our own. */
void generation_apply(struct generation *generation, enum generation_event event);
/* Applies RETIRE to a candidate that is to fail, and to say @why. */
void generation_dismiss(struct generation *generation, const struct err *why);
/* Takes for the failure that the loader survives SIGKILL. */
void generation_note_unkillable(struct generation *generation);
/* The loader died of a request. */
void generation_note_culprit(struct generation *generation);
/* Before COMMIT: the loader is to hold no copy of the model until then. */
void generation_make_lean(struct generation *generation);
/* @listener gets the news from now on; borrowed. */
void generation_set_listener(struct generation *generation,
                             const struct generation_listener *listener);

/* Makes the timeouts of @section count, at once. */
void generation_set_config(struct generation *generation,
                           const struct config_model *section);

/* Hurries a candidate when nobody serves any more: it stands back for nobody, and has at
 * most @within_ns for what is left of staging. */
void generation_hurry(struct generation *generation, uint64_t within_ns);

/* Leases a request to the loader (ACTIVE only). 0 or LANE_E_FULL. A corrupt lane gives
 * LANE_E_FULL too, and the loop kills the loader. */
int generation_submit(struct generation *generation, struct request *request);
/* Leases a case (traffic/evidence.h) to a candidate that is READY, under the caller's own
 * deadline. 0 or LANE_E_FULL. */
int generation_try(struct generation *generation, struct request *request);

/* True: DEAD, so that generation_free() kills nobody. */
bool generation_is_over(const struct generation *generation);
/* Time spent in @state, in ms; 0 when it was never entered. */
double generation_phase_ms(const struct generation *generation,
                           enum generation_state state);
/* True: a loader that is killed leaves a folder behind (shared/server_folder.h). */
bool generation_may_leave_folder(const struct generation *generation);
/* What it took until it was READY, or has taken up to now, without its wait for the old one. */
uint64_t generation_load_ns(const struct generation *generation);
