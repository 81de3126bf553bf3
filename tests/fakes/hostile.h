/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A loader that misbehaves on request, for moultd's tests: "loader = .../hostile_loader"
 * in [supervisor] starts it instead of moult-loader. The hostile loader uses the real channel
 * and the real rings, and answers a request with the request's own bytes, until a fault fires.
 *
 * Faults are words, separated by blanks or commas:
 *
 *	NAME[=NUMBER][-on-STATE][+SKIP][#TAG]
 *
 * STATE is the generation's, as far as the loader can know it (default: active). SKIP: not
 * at the first but at the SKIP+1st occasion. TAG: at most once over all processes; the file
 * LOADER.TAG is created then and holds the pid. LOADER is the path by which the loader was
 * started (a symbolic link gives each test its own). Words are read from the file LOADER.MODEL
 * before anything else, and from a request whose body begins with "!WORDS\n"; words of a
 * request are about this request alone.
 *
 * With a fault in draining the loader withholds the first request that it gets, so that draining
 * lasts, and SIGUSR1 fires the fault. With one in terminating the loader does not heed QUIT.
 *
 * hostile_fault.c has the table of names.
 */

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/chan.h"
#include "shared/memfd.h"
#include "shared/proto.h"
#include "shared/ring.h"

#define HOSTILE_FAULTS_MAX 16
#define HOSTILE_TAG_MAX    64

enum hostile_state {
	HOSTILE_SPAWNED,     /* before HELLO */
	HOSTILE_STAGING,     /* LOAD has come */
	HOSTILE_STAGED,      /* STAGED is sent */
	HOSTILE_COMMITTING,  /* COMMIT has come */
	HOSTILE_WARMING,     /* COMMITTED is sent */
	HOSTILE_READY,       /* READY is sent, no request was taken */
	HOSTILE_ACTIVE,      /* the loader holds a request */
	HOSTILE_DRAINING,    /* SIGUSR1 came while it withheld a request */
	HOSTILE_STOPPING,    /* QUIT has come */
	HOSTILE_TERMINATING, /* SIGTERM has come */
	HOSTILE_STATE_COUNT
};

enum hostile_action {
	/* the process */
	HOSTILE_KILL,
	HOSTILE_SEGV,
	HOSTILE_ABORT,
	HOSTILE_STOP,
	HOSTILE_EXIT,
	HOSTILE_SPIN,
	HOSTILE_SILENCE,
	HOSTILE_DEAF,
	HOSTILE_REFUSE,
	HOSTILE_UNKILLABLE,
	HOSTILE_STRAGGLER,
	HOSTILE_CHATTER,
	HOSTILE_SLEEP,
	/* the control channel */
	HOSTILE_CHAN_GARBAGE,
	HOSTILE_CHAN_SHORT,
	HOSTILE_CHAN_HALF,
	HOSTILE_CHAN_HUGE,
	HOSTILE_CHAN_LENGTH,
	HOSTILE_CHAN_RESERVED,
	HOSTILE_CHAN_VERSION,
	HOSTILE_CHAN_TYPE,
	HOSTILE_CHAN_TURN,
	HOSTILE_CHAN_GENERATION,
	HOSTILE_CHAN_JSON,
	HOSTILE_CHAN_FDS,
	HOSTILE_CHAN_EMPTY,
	HOSTILE_CHAN_CLOSE,
	HOSTILE_CHAN_STORM,
	/* rings and doorbells: only after LOAD */
	HOSTILE_RING_BACK,
	HOSTILE_RING_JUMP,
	HOSTILE_RING_STALE,
	HOSTILE_RING_SCRIBBLE,
	HOSTILE_RING_CONSUMED,
	HOSTILE_RING_PASSED,
	HOSTILE_BELL_STORM,
	HOSTILE_BELL_FULL,
	/* the answer to one request */
	HOSTILE_ANSWER,
	HOSTILE_PARTS = HOSTILE_ANSWER,
	HOSTILE_SLOW,
	HOSTILE_DELAY,
	HOSTILE_WITHHOLD,
	HOSTILE_HEEDLESS,
	HOSTILE_AGAIN,
	HOSTILE_LEASE,
	HOSTILE_GENERATION,
	HOSTILE_OUTSIDE,
	HOSTILE_WRAP,
	HOSTILE_LONG,
	HOSTILE_HEAD_OUTSIDE,
	HOSTILE_HEAD_LONG,
	HOSTILE_HEAD_GARBAGE,
	HOSTILE_HEAD_INJECT,
	HOSTILE_STATUS,
	HOSTILE_PART_STATUS,
	HOSTILE_NO_FIRST,
	HOSTILE_FIRST_TWICE,
	HOSTILE_FLAGS,
	HOSTILE_ROWS,
	HOSTILE_NO_LAST,
	HOSTILE_ENDLESS,
	/* the store that is to be filled, at staging */
	HOSTILE_SHARE_EMPTY,
	HOSTILE_SHARE_OPEN,
	HOSTILE_SHARE_HASH,
	HOSTILE_SHARE_PRIVATE,
	HOSTILE_SHARE_AHEAD,
	HOSTILE_ACTION_COUNT
};

struct hostile_fault {
	enum hostile_action action;
	enum hostile_state state;
	uint64_t number;
	uint64_t skip; /* so many occasions pass first */
	char tag[HOSTILE_TAG_MAX];
	bool is_spent;
};

struct hostile_faults {
	struct hostile_fault rows[HOSTILE_FAULTS_MAX];
	size_t n_rows;
};

/* A part of an answer that is not released yet. */
struct hostile_part {
	uint64_t token; /* 0: free */
	size_t offset;
};

/* The answer to one request. */
struct hostile_stream {
	bool is_used;
	uint64_t lease;
	unsigned char *answer; /* owned: the whole body */
	size_t answer_bytes;
	size_t json_bytes; /* JSON before binary data; 0: no binary extension */
	uint64_t n_parts;
	uint64_t n_sent;
	uint64_t slow_ns;
	uint64_t empty_until_ns; /* only empty parts until then */
	uint64_t due_ns;         /* time of the next part; CLOCK_NEVER: withheld */
	bool is_started;         /* the first part is out */
	bool is_withheld;
	bool is_heedless;             /* ignores a cancellation */
	struct hostile_faults faults; /* this request's faults, not spent yet */
};

struct hostile {
	const char *path; /* the path by which it was started */
	const char *model;
	uint64_t generation;
	struct chan chan;
	struct hostile_faults faults;
	uint32_t leases;
	int weights_fd; /* the model file or the store; or -1 */
	int store_fd;   /* the store to be filled; or -1 */
	bool is_lean;
	bool is_mapped; /* weights_fd is the store */
	bool has_rings;
	struct memfd requests;
	struct memfd answers;
	struct memfd rings;
	struct proto_rings *head;
	struct ring submit;
	struct ring answer;
	struct ring release;
	int loader_bell;
	int supervisor_bell;
	struct arena arena;
	uint64_t sequence;
	uint32_t parts_max;
	uint32_t n_parts;
	struct hostile_part *parts;
	struct hostile_stream *streams; /* one per lease */
	struct hostile_stream *drain; /* the request that makes draining last; or NULL */
	bool is_alive;                /* shows progress while it withholds */
};

/* Set by SIGUSR1 and SIGTERM. */
extern volatile sig_atomic_t hostile_has_usr1;
extern volatile sig_atomic_t hostile_has_term;

/* hostile_fault.c */

/* Adds the words of @text; an unknown word ends the process with a sentence. */
void hostile_parse(struct hostile_faults *faults, const char *text, size_t bytes);
bool hostile_has(const struct hostile_faults *faults, enum hostile_state state);
/* Takes the fault of @action that may fire now, which is spent then; or NULL. */
const struct hostile_fault *hostile_take(struct hostile *hostile,
                                         struct hostile_faults *faults,
                                         enum hostile_action action);
/* Fires all of @faults that are about @state, and not about one answer. */
void hostile_fire(struct hostile *hostile, struct hostile_faults *faults,
                  enum hostile_state state);
/* Moves the faults about answers that may fire now from the loader's to @to. */
void hostile_move(struct hostile *hostile, struct hostile_faults *to);

/* hostile_weights.c */
void hostile_take_weights(struct hostile *hostile, const json_t *load,
                          struct chan_message *message);
/* Fills the store where that is due, and writes the weights' part of STAGED or COMMITTED
 * (lean). */
void hostile_settle_weights(struct hostile *hostile, bool is_lean, char *payload,
                            size_t size);

/* hostile_process.c */
_Noreturn void hostile_refuse(struct hostile *hostile, int code);
void hostile_do_process(struct hostile *hostile, const struct hostile_fault *fault);

/* hostile_wire.c */
void hostile_do_channel(struct hostile *hostile, const struct hostile_fault *fault);
void hostile_do_rings(struct hostile *hostile, const struct hostile_fault *fault);
void hostile_ring_bell(struct hostile *hostile);

/* hostile_serve.c: serves until QUIT, or until SIGTERM where that is waited for. */
void hostile_serve(struct hostile *hostile);

/* hostile_answer.c */

/* Makes @stream the answer to @submit. */
void hostile_begin(struct hostile *hostile, struct hostile_stream *stream,
                   const struct proto_submit *submit);
/* Publishes what may go out of @stream now; frees it after the last part. */
void hostile_pump(struct hostile *hostile, struct hostile_stream *stream);
/* Takes back released parts. */
void hostile_collect(struct hostile *hostile);
void hostile_progress(struct hostile *hostile);
