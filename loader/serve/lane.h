/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The loader's end of the data path: requests come in as leases, answers go out as parts
 * in the response arena, which this side alone allocates.
 *
 * The supervisor is trusted to be well-meaning, not to be free of bugs: an impossible entry in a
 * ring ends the lane, and with it the process. The rings' entries are in shared/proto.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/memfd.h"
#include "shared/proto.h"
#include "shared/ring.h"

struct lane {
	uint64_t generation;
	uint32_t leases;
	uint32_t n_leased;
	struct memfd requests;
	struct memfd answers;
	struct memfd rings;
	struct proto_rings *head;
	struct ring submit;
	struct ring answer;
	struct ring release;
	int loader_bell;
	int supervisor_bell;
	bool has_news; /* answers were published since the last flush */
	struct arena arena;
	uint64_t sequence;
	uint32_t parts_max;
	uint32_t n_parts;
	struct lane_part *parts;
	uint32_t *free_parts; /* a stack of parts_max - n_parts entries */
};

enum {
	_LANE_E_SUCCESS,
	LANE_E_EMPTY,     /* no request now */
	LANE_E_FULL,      /* no room for an answer now: wait for a release */
	LANE_E_TOO_LARGE, /* no room ever */
	LANE_E_VIOLATION, /* the supervisor sent an impossible entry */
	LANE_E_CONTROL,   /* the control channel wants attention */
	LANE_E_TIMEOUT,
};

/* The rings that wake lane_wait(); the control channel always does. */
enum lane_wake {
	LANE_WAKE_ANY,     /* requests and releases */
	LANE_WAKE_RELEASE, /* releases only */
	LANE_WAKE_REQUEST, /* requests only */
};

#define LANE_NULL                                                                        \
	{                                                                                \
		.requests = MEMFD_NULL, .answers = MEMFD_NULL, .rings = MEMFD_NULL,      \
		.loader_bell = -1, .supervisor_bell = -1                                 \
	}

/* Takes the fds of LOAD but the secrets out of @fds, also on failure. @leases is what
 * LOAD says. 0, or -errno with a sentence; lane_fini() in any case. */
int lane_init(struct lane *lane, int fds[PROTO_LOAD_FD_COUNT], uint64_t generation,
              uint32_t leases, struct err *err);
void lane_fini(struct lane *lane);

/* Shows the supervisor that this process gets work done. From any thread. */
void lane_progress(struct lane *lane);

/* Ends lane_wait() in the thread that serves. From any thread. */
void lane_nudge(struct lane *lane);

/* Notes that work on @lease begins: should the process die, @lease may be to blame. */
void lane_begin(struct lane *lane, uint64_t lease);

/* Takes the next request or cancellation, checked. 0, LANE_E_EMPTY, or LANE_E_VIOLATION with a
 * sentence. */
int lane_take(struct lane *lane, struct proto_submit *ret_submit, struct err *err);

static inline const unsigned char *lane_request(const struct lane *lane, uint64_t offset)
{
	return (const unsigned char *)lane->requests.base + offset;
}

/* Takes back the parts that the supervisor has released. 0 or LANE_E_VIOLATION with a
 * sentence. */
int lane_collect(struct lane *lane, struct err *err);

/* Reserves @bytes for an answer, 4096-byte aligned, until lane_publish() or lane_unreserve(). 0,
 * LANE_E_FULL or LANE_E_TOO_LARGE. */
int lane_reserve(struct lane *lane, size_t bytes, unsigned char **ret_memory);
/* Gives room back that is not needed after all. */
void lane_unreserve(struct lane *lane, unsigned char *memory);

/* See struct proto_answer. */
struct lane_times {
	bool is_execution;
	uint32_t rows;
	uint32_t batch_rows;
	uint64_t queue_ns;
	uint64_t decode_ns;
	uint64_t gather_ns;
	uint64_t compute_ns;
	uint64_t encode_ns;
};

struct lane_answer {
	uint64_t lease;
	unsigned char *memory; /* from lane_reserve(): the head, then the body */
	size_t head_bytes;
	size_t body_offset; /* from @memory */
	size_t body_bytes;
	uint16_t status;
	uint16_t flags; /* of enum proto_answer_flag; EXECUTION is taken from the times */
	uint64_t peak_bytes;
	struct lane_times times;
	/* Counts the parts of one answer that are under way; NULL: nobody does. Good until all
	 * are back. */
	struct lane_count *count;
};

/* Parts that the supervisor has not released yet. */
struct lane_count {
	uint32_t n_parts;
};

/* Publishes a whole answer, or a part of one; the last part ends the lease. @answer->memory is
 * the supervisor's until it is released. The bell rings only in lane_flush(). 0 or
 * LANE_E_VIOLATION with a sentence. */
int lane_publish(struct lane *lane, const struct lane_answer *answer, struct err *err);

/* Rings the supervisor's bell when it sleeps and there is news. */
void lane_flush(struct lane *lane);

/* The three steps of lane_wait(), for those who hold a lock beside the second. True: nothing has
 * come, and blocking is safe. */
bool lane_doze(struct lane *lane, enum lane_wake wake);
/* Blocks; touches nothing of @lane but its bell. */
int lane_block(const struct lane *lane, int control_fd, uint64_t deadline_ns);
void lane_awake(struct lane *lane);

/* Flushes, then blocks until something comes, at most until @deadline_ns (CLOCK_MONOTONIC;
 * CLOCK_NEVER is allowed, because the supervisor's end wakes it through @control_fd). 0,
 * LANE_E_CONTROL or LANE_E_TIMEOUT. */
int lane_wait(struct lane *lane, enum lane_wake wake, int control_fd,
              uint64_t deadline_ns);
