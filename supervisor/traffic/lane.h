/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The data path to one loader: three rings, two doorbells, the response arena and the
 * leases. A lane knows requests, and nothing of a generation's life.
 *
 * Nothing that the loader writes is believed: each descriptor is copied, then its lease,
 * generation and bounds are checked. The first violation ends the lane; there is no
 * resynchronising. A lane outlives its loader for as long as a part of an answer is still
 * on its way to a client. The layout of rings and descriptors is in shared/proto.h.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "shared/proto.h"
#include "supervisor/traffic/queue.h"

struct lane;

enum {
	_LANE_E_SUCCESS,
	LANE_E_FULL,      /* the loader holds all the leases that it may */
	LANE_E_VIOLATION, /* the loader broke the protocol: kill it */
	LANE_E_EMPTY,     /* no answer has come */
};

/* A part of an answer, checked. */
struct lane_answer {
	struct request *request; /* its lease ended with the last part */
	struct proto_answer answer;
	const unsigned char *head; /* the loader can still write to it: copy it */
	struct request_part *part; /* the caller's */
};

/* @leases is a power of two, at most PROTO_LEASES_MAX. @queue is borrowed. The caller
 * owns the reference. 0 or -errno. */
int lane_new(struct lane **ret_lane, struct queue *queue, uint64_t generation,
             uint32_t leases, size_t response_arena_bytes);
struct lane *lane_ref(struct lane *lane);
void lane_unref(struct lane *lane); /* accepts NULL */

/* Fills in the descriptors of a LOAD, @secrets_fd included; each keeps its owner. */
void lane_fds(const struct lane *lane, int secrets_fd, int ret_fds[PROTO_LOAD_FD_COUNT]);
/* Joins the loop: @on_look is called in each round in which an answer may have come, and
 * is to take what did, until lane_close(). */
void lane_start(struct lane *lane, void (*on_look)(void *context), void *context);

/* Leases @request to the loader: RECEIVING or HELD becomes LEASED. 0, LANE_E_FULL or
 * LANE_E_VIOLATION. The doorbell rings before the loop blocks. */
int lane_submit(struct lane *lane, struct request *request);
/* The client has left: tells the loader. */
void lane_cancel(struct lane *lane, struct request *request);
/* Takes @part, of an answer of this lane, which has been sent: its place is the loader's again.
 * The reference to @lane stays. */
void lane_release(struct lane *lane, struct request_part *part);

/* Takes the next part of an answer. 0, LANE_E_EMPTY, or LANE_E_VIOLATION with a
 * sentence. */
int lane_next(struct lane *lane, struct lane_answer *ret_answer, struct err *err);
/* So many parts can wait at once. */
uint32_t lane_answers_max(const struct lane *lane);
/* Called before READY: nobody serves, so the loader is to stand back no more. */
void lane_hurry(struct lane *lane);

/* The loader is dead: takes its leases back, hands each to @on_lease, the youngest first,
 * and stops talking to the loader. */
void lane_close(struct lane *lane,
                void (*on_lease)(void *context, struct request *request), void *context);

/* Shows each leased request to @visit, which must not end a lease. */
void lane_visit(const struct lane *lane,
                void (*visit)(void *context, struct request *request), void *context);

/* Number of leases that the loader holds. */
uint32_t lane_leased(const struct lane *lane);
/* True: a suspect is leased, and nothing else may be beside it. */
bool lane_has_suspect(const struct lane *lane);
/* True: the loader may have begun to work on @lease. The loader says so itself: a value
 * that cannot be is taken for the worst. */
bool lane_has_begun(const struct lane *lane, uint64_t lease);
/* True: the loader has work, and unread answers take most of its arena. */
bool lane_waits_for_readers(const struct lane *lane);
/* Rises while the loader works. Hostile: compare for change only. */
uint64_t lane_progress(const struct lane *lane);
/* Bytes of the model file that the loader says to have gone through. Hostile: to be clamped, and
 * shown only. */
uint64_t lane_passed_bytes(const struct lane *lane);
