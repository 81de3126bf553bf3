/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One request from its first byte to its last, and where it stands.
 *
 * Its head and body are written once, into the model's request arena. From then on
 * holding, leasing and replaying only move this small struct between queues. A request is
 * in exactly one state. The counters of its model change with the state, in
 * request_set_state() and nowhere else, so that at any moment
 *
 *	accepted = answered + failed + held + leased.
 *
 * Two parties hold a request: its queue, while it is HELD or LEASED, and the HTTP connection (the owner), from model_begin() until
 * request_release(). The request is freed when both have let go.
 */

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "shared/err.h"
#include "shared/proto.h"

struct config_model;
struct evidence_case;
struct lane;
struct queue;

/* Bytes of an answer's head that need no memory of their own: those of the engines that compute. */
#define REQUEST_HEAD_ROOM 192

/* The request header for the client's own timeout: a number of milliseconds. */
#define REQUEST_TIMEOUT_HEADER "Moult-Timeout-Ms"

enum request_state {
	REQUEST_RECEIVING, /* the body is coming in; not counted yet */
	REQUEST_HELD,      /* waits in the model's queue */
	REQUEST_LEASED,    /* a loader has it */
	REQUEST_ANSWERED,
	REQUEST_FAILED,
	REQUEST_STATE_COUNT
};

/* Why no loader answered a request. */
enum request_failure {
	REQUEST_FAILURE_LEFT,     /* the client left before there was an answer */
	REQUEST_FAILURE_DEADLINE, /* the time was over, held or leased */
	REQUEST_FAILURE_POISON,   /* the request ends loaders */
	REQUEST_FAILURE_CRASH,    /* a loader died amid the answer, or while stopping */
	REQUEST_FAILURE_DOWN,     /* no loader is going to take it */
	REQUEST_FAILURE_COUNT
};

const char *request_failure_name(enum request_failure failure);

struct request_counts {
	uint64_t accepted;
	uint64_t answered;
	uint64_t faults; /* answers that are the model's own failure, with any status */
	uint64_t failed;
	uint64_t failures[REQUEST_FAILURE_COUNT]; /* parts of failed, by reason */
	uint64_t held;
	uint64_t leased;
	uint64_t replayed;   /* times that a request went back to the queue */
	uint64_t held_bytes; /* heads and bodies of held requests */
};

/* Part of an answer. The bytes lie in a response arena that stays mapped, and the loader
 * does not reuse them, until request_part_free(). */
struct request_part {
	STAILQ_ENTRY(request_part) link;
	struct lane *lane; /* a reference; NULL: the supervisor's own text */
	uint64_t token;
	const void *body;
	size_t body_bytes;
	bool is_last;
	char text[]; /* the supervisor's own text */
};

struct request {
	TAILQ_ENTRY(request) link; /* in a list of its queue while HELD */
	struct queue *queue;
	struct lane *lane; /* while LEASED: borrowed, the lane knows its leases */
	enum request_state state;
	bool has_owner;
	bool is_answering; /* a part reached the owner: no replay is possible */
	bool is_expired;   /* answered 504 while LEASED: the loader's answer is dropped */
	bool is_fault;     /* the answer is the model's own failure */
	bool is_broken;    /* the rest never comes: the owner closes the connection */
	bool is_hosted;    /* of a route: the engine's own to read and to answer */
	bool may_replay;   /* another loader may be asked after the death of the first */
	bool is_case;    /* asked by model/arbiter.c for no client: counts for nothing */
	bool is_suspect; /* may have ended a loader: leased with nothing beside it */
	uint8_t crashes; /* crashes of loaders that had the request */
	uint8_t kills;   /* kills, by somebody else, of loaders that worked on it */
	uint8_t level;   /* level of priority in the queue; 0 comes first */
	uint64_t lease;  /* the latest lease */
	size_t offset;   /* place in the request arena: the head, then the body */
	size_t head_bytes;
	size_t body_offset;
	size_t body_bytes;
	size_t length_bytes;    /* announced length of the body; SIZE_MAX: not known */
	size_t announced_bytes; /* the same while the body has a place and has not come */
	size_t json_bytes;   /* announced length of the JSON; SIZE_MAX: the whole body */
	bool is_encoded;     /* the body is compressed */
	uint64_t timeout_ns; /* the shortest of all that apply, from accepted_ns on */
	const char *timeout_name; /* what asked for that timeout */
	uint64_t accepted_ns;
	uint64_t deadline_ns;
	ev_timer deadline;

	/* The answer, once on_part has been called. */
	unsigned int status;        /* HTTP */
	unsigned int answer_status; /* the loader's, wanted or not */
	uint64_t generation;        /* of the answer; 0: the supervisor's own */
	unsigned int retry_after_s; /* 0: none */
	unsigned char *head;        /* own copy of the answer's head, or NULL */
	size_t answer_head_bytes;
	unsigned char head_room[REQUEST_HEAD_ROOM];     /* for heads that fit */
	STAILQ_HEAD(request_parts, request_part) parts; /* not yet taken by the owner */

	void (*on_part)(struct request *request, void *context);
	void *context;
};

struct request_start {
	bool is_hosted; /* of a route */
	struct proto_text method;
	struct proto_text target;
	const struct proto_field *fields; /* names in lower case */
	size_t n_fields;
	uint64_t body_bytes;      /* Content-Length, or UINT64_MAX when it is not known */
	uint64_t json_bytes;      /* Inference-Header-Content-Length, or UINT64_MAX */
	bool is_encoded;          /* the body is compressed */
	uint64_t timeout_ns;      /* asked for by the head, or CLOCK_NEVER */
	const char *timeout_name; /* of what asked; NULL: REQUEST_TIMEOUT_HEADER */
	/* Called when a part of the answer, or a failure in the form of one, has arrived.
	 * The first call comes with status and head set. Called from the loop, never from
	 * inside model_begin(), request_append() or model_submit(), and never after
	 * request_release(). */
	void (*on_part)(struct request *request, void *context);
	void *context;
};

/* Why the supervisor itself turns a request away. */
struct request_refusal {
	unsigned int status; /* HTTP: 413, 431, 503, ... */
	unsigned int retry_after_s;
	struct err err;
};

/* Copies the next bytes of the body into the arena. 0, or a positive outcome with @refusal
 * filled (413: larger than max_body; 503: the arena is full). */
int request_append(struct request *request, const void *data, size_t bytes,
                   struct request_refusal *refusal);

/* Finds room for the next bytes of the body, at most @most: *ret_bytes of them, one at least,
 * may be written to *ret_at until the next call for @request. Of those request_came() says
 * how many were. Outcomes as request_append(). */
int request_room(struct request *request, size_t most, void **ret_at, size_t *ret_bytes,
                 struct request_refusal *refusal);
void request_came(struct request *request, size_t bytes);
/* Writes @bytes over the beginning of the body, of which as much has come. */
void request_overwrite(struct request *request, const void *data, size_t bytes);

/* Opens the head of the answer for proto_head_next(); an answer without a head reads as
 * one without fields. Valid while @request is held. 0 or -EBADMSG. */
int request_answer_head(const struct request *request, struct proto_head *ret_head);

/* Takes the next part, or NULL when none has arrived. The caller owns it. */
struct request_part *request_take_part(struct request *request);
/* Gives the bytes back to the loader. Accepts NULL. Loop thread only. */
void request_part_free(struct request_part *part);

/* The owner lets go, answered or not: the client left, or the response is on its way. A
 * held request fails at once. A leased one is cancelled and ends when the loader says
 * so. */
void request_release(struct request *request);

/* For the model and its lanes only: request.c, until it is answered */

/* Makes a request with room in @queue's arena for the head and @start's body; @queue is
 * borrowed. 0, or a positive outcome with @refusal filled. */
int request_new(struct request **ret_request, struct queue *queue,
                const struct request_start *start, struct request_refusal *refusal);

/* Makes a request of @one's head and body, ready to be leased and without a deadline
 * timer, for the owner that @start names. 0, or -ENOMEM: there is no room. */
int request_new_case(struct request **ret_request, struct queue *queue,
                     const struct evidence_case *one, const struct request_start *start);

/* All of the body has come: the request is accepted now, and its deadline is the shortest
 * of @timeout_ns, its head's and its body's. */
void request_complete(struct request *request, uint64_t timeout_ns);
/* 0, or a positive outcome with @refusal filled: as much waits as @section allows. */
int request_check_room(const struct request *request, const struct config_model *section,
                       unsigned int retry_after_s, struct request_refusal *refusal);

/* answer.c */

/* No part of the answer has come. */
void request_open_answer(struct request *request);
/* From now on the deadline answers 504: for a request that is HELD or LEASED. */
void request_start_deadline(struct request *request);
/* The request, which is in no list and in no lane, is not going to be answered: the queue
 * lets go of it, which may free it. */
void request_fail(struct request *request, enum request_failure failure);
/* The same, and an owner who still waits is told @reason. */
void request_give_up(struct request *request, enum request_failure failure,
                     unsigned int status, unsigned int retry_after_s, const char *reason);
/* Answers the owner of a leased @request: nobody waits for the loader any more. The
 * loader still reads the arena, so the lease ends when the loader says so. */
void request_expire(struct request *request, unsigned int status,
                    unsigned int retry_after_s, const char *reason);
/* Frees the request if nobody holds it any more. */
void request_try_free(struct request *request);

/* Takes in all answers that have come through @lane and delivers them. 0, or
 * LANE_E_VIOLATION with a sentence. */
int request_collect(struct lane *lane, struct err *err);

/* state.c: the only way to another state, which keeps the counters. The queue and the
 * lanes hold and lease; ANSWERED and FAILED are for answer.c. */
void request_set_state(struct request *request, enum request_state state);
/* Counts why @request fails, or that its answer is the model's own failure. */
void request_count_failure(const struct request *request, enum request_failure failure);
void request_count_fault(const struct request *request);

/* Bytes that the request occupies. */
static inline uint64_t request_bytes(const struct request *request)
{
	return request->head_bytes + request->body_bytes;
}

/* Turns a request away: fills @refusal and returns 1. */
int request_refuse(struct request_refusal *refusal, unsigned int status,
                   unsigned int retry_after_s, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Answers an owner that still waits with the supervisor's own error; the state stays. */
void request_answer_error(struct request *request, unsigned int status,
                          unsigned int retry_after_s, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
