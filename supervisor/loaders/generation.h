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

#include "shared/chan.h"
#include "shared/err.h"
#include "supervisor/process/child.h"
#include "supervisor/devices/device.h"
#include "supervisor/loaders/reclaim.h"
#include "supervisor/inputs/inputs.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/process/programs.h"
#include "supervisor/weights/store.h"

enum generation_state {
	GENERATION_NONE, /* never stored */
	GENERATION_SPAWNED,
	GENERATION_STAGING,
	GENERATION_STAGED,
	GENERATION_COMMITTING,
	GENERATION_WARMING,
	GENERATION_READY,
	GENERATION_ACTIVE,
	GENERATION_DRAINING,
	GENERATION_STOPPING,    /* asked to quit */
	GENERATION_TERMINATING, /* SIGTERM */
	GENERATION_KILLING,     /* SIGKILL */
	GENERATION_UNKILLABLE,  /* survived SIGKILL: stuck in the kernel */
	GENERATION_FAILED,      /* before READY: being killed; the old one is untouched */
	GENERATION_RECLAIMING,  /* reaped: its memory is being looked for */
	GENERATION_DEAD,
	GENERATION_STATE_COUNT
};

enum generation_event {
	/* from the loader */
	GENERATION_EV_HELLO,
	GENERATION_EV_STAGED,
	GENERATION_EV_COMMITTED,
	GENERATION_EV_READY,
	GENERATION_EV_BYE,
	GENERATION_EV_REFUSED,
	/* about the loader */
	GENERATION_EV_VIOLATION,
	GENERATION_EV_STALLED,
	GENERATION_EV_EXITED,
	/* ours */
	GENERATION_EV_COMMIT,
	GENERATION_EV_PROMOTE,
	GENERATION_EV_RETIRE,
	GENERATION_EV_DRAINED,
	GENERATION_EV_DEADLINE,
	GENERATION_EV_RECLAIMED,
	GENERATION_EVENT_COUNT
};

const char *generation_state_name(enum generation_state state);
const char *generation_event_name(enum generation_event event);
/* Looks the table up: GENERATION_NONE when @event is not allowed in @state. */
enum generation_state generation_next(enum generation_state state,
                                      enum generation_event event);

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

/* The loader's words about itself; none of them is trusted. */
struct generation_report {
	char weights_sha256[65]; /* "" until STAGED */
	struct err why_private;  /* why weights are not shared that were to be; "" */
	bool is_private_lasting; /* the next loader's cannot be shared either */
	uint64_t weights_bytes;
	uint64_t prefilled_bytes;   /* taken of its GPU before COMMIT */
	struct store_chunks chunks; /* chunks that it placed; chunk_bytes 0: none yet */
	double place_ms;            /* until the weights were placed or mapped */
	char engine_version[64];
	uint64_t rss_bytes;
	uint64_t anon_bytes;
	uint64_t pss_bytes;
	uint64_t loading_bytes; /* anonymous memory, the peak until STAGED */
	uint64_t engine_bytes;  /* the engine's part of it, before it saw a model */
	double weights_ms;      /* parts of staging: weights read, hashed, mapped; */
	double engine_ms;       /* the engine's libraries opened; */
	double module_ms;       /* the model built; */
	double prefill_ms;      /* a part of the weights brought to its GPU */
	uint64_t golden;        /* golden requests that it answered as expected */
	bool refuses_input;     /* after REFUSED: the same input would be refused again */
};

/* Reads a message of loader @number, which is in @state, and puts what it says of itself
 * into @report. Returns the event that the message stands for: VIOLATION when it is
 * malformed or not allowed now. VIOLATION and REFUSED come with a sentence. */
enum generation_event generation_read_message(const struct chan_message *message,
                                              uint64_t number,
                                              enum generation_state state,
                                              struct generation_report *report,
                                              struct err *err);

/* for patience.c */
struct generation_patience {
	ev_timer timer; /* runs while there is a process */
	uint64_t stall_timeout_ns;
	uint64_t hurry_ns; /* limit for all of staging, whatever is configured; 0: none */
	uint64_t looked_ns;
	uint64_t still_ns; /* time that it was seen without progress */
	uint64_t progress; /* of the leases, as last seen */
};

struct generation {
	uint64_t number;
	enum generation_state state;
	const char *model; /* name, borrowed from the model */
	struct ev_loop *loop;
	const struct generation_listener *listener;
	struct child child;
	struct child_listener child_listener;
	struct chan chan;
	ev_io chan_io;
	struct lane *lane;
	ev_io bell_io;
	ev_prepare prepare;
	ev_check check;
	ev_idle again;     /* makes the loop go round once more */
	ev_timer deadline; /* deadline of the present state */
	struct generation_patience patience;
	uint64_t deadlines_ns[GENERATION_STATE_COUNT];
	uint64_t entered_ns[GENERATION_STATE_COUNT]; /* 0: never entered */
	char *load_payload;                          /* owned until LOAD is sent */
	struct inputs *inputs;                       /* a reference */
	struct store_copy *copy;   /* shared weights: a reference; NULL: it has its own */
	struct spares *spares;     /* where its loader came from; NULL: no spare */
	bool is_lean;              /* holds no copy of the model before COMMIT */
	uint64_t prefill_bytes;    /* but up to this much of its GPU */
	struct device_use use;     /* main memory, until the process is reaped */
	struct device_use gpu_use; /* its GPU, until DEAD */
	uint64_t
		gpu_weights_bytes; /* of its claim there: shared weights that it brings */
	struct generation_reclaim reclaim;
	uint64_t reclaim_timeout_ns;
	struct programs programs; /* what its loader was started from */
	pid_t pid;                /* kept after death, for records */
	int exit_status;
	uint64_t n_answered; /* leases that ended, a hint of use */
	uint64_t oom_kills;  /* the kernel's count when the loader was spawned */
	bool is_permanent;   /* failed in a way that the same input would repeat */
	bool was_oom_victim; /* the kernel killed it for want of memory */
	bool has_culprit;    /* it died of a request */
	struct err failure;  /* why it FAILED or was killed; "" */
	char last_line[256]; /* last line of its stderr: often the best reason there is */
	struct generation_report report;
};

struct generation_start {
	uint64_t number;
	const char *model;
	struct inputs *inputs; /* another reference is taken */
	/* The newest section, for timeouts; read by generation_new() only. */
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
/* What the generation has failed of is that it survives SIGKILL. */
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
