/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The requests of one model: the arena that they lie in, the counters, and the requests
 * that are held, ordered by priority, then by age. Suspects, which may have ended a
 * loader, are held apart. The queue outlives every generation.
 */

#include <ev.h>

#include "shared/arena.h"
#include "shared/memfd.h"
#include "supervisor/traffic/detail.h"
#include "supervisor/traffic/poison.h"
#include "supervisor/traffic/request.h"
#include "supervisor/figures/stats.h"

struct pump;
struct recorder;

TAILQ_HEAD(request_list, request);

/* Levels of priority: 1 of the protocol, the highest, to 9. Priority 0, the default, is
 * the one in the middle; a number beyond 9 counts as 9. */
#define QUEUE_LEVELS        9
#define QUEUE_LEVEL_DEFAULT 4

struct queue {
	const char *model; /* name, for messages; borrowed */
	struct pump *pump; /* of all lanes */
	struct ev_loop *loop;
	/* Who hears of each part of an answer; NULL: nobody. */
	void (*on_answer)(void *context, const struct request *request,
	                  const struct proto_answer *answer, uint64_t now_ns);
	void *context;
	struct memfd memory; /* the request arena, which loaders can only read */
	struct arena arena;
	uint64_t max_body_bytes;
	size_t announced_bytes; /* announced by bodies on their way that have a place */
	struct request_counts counts;
	struct request_counts case_counts; /* of requests with is_case */
	struct detail detail;
	struct stats stats;
	struct request_list levels[QUEUE_LEVELS];
	struct request_list suspects;
	struct request_list spares; /* freed requests, for the next ones */
	unsigned int n_spares;
	struct poison suspicion;   /* bodies of suspects that left untried */
	struct recorder *recorder; /* gets what is answered; mostly NULL */
};

/* @pump and @model are borrowed. 0 or -errno. */
int queue_init(struct queue *queue, struct pump *pump, const char *model,
               size_t arena_bytes, uint64_t max_body_bytes);
/* No request may be left. */
void queue_fini(struct queue *queue);

/* A request of @queue, with nothing in it; NULL: out of memory. */
struct request *queue_new_request(struct queue *queue);
/* Takes @request, which is in no list. */
void queue_free_request(struct queue *queue, struct request *request);

/* @on_answer is called with each part of an answer before the owner gets it: what a
 * request was answered is known to it by answer_status and is_fault. */
void queue_listen(struct queue *queue,
                  void (*on_answer)(void *context, const struct request *request,
                                    const struct proto_answer *answer, uint64_t now_ns),
                  void *context);

/* The level of a priority of the protocol. */
uint8_t queue_level(uint64_t priority);

/* Holds @request, in the place that its level and age (accepted_ns) give it. */
void queue_hold(struct queue *queue, struct request *request);
/* Takes a held request out of its list; the caller sees to its state. */
void queue_take(struct queue *queue, struct request *request);
/* The held request that a loader with @leased leases may have now, or NULL: suspects go
 * first, the oldest in front, and one at a time with nothing beside it. */
struct request *queue_next(struct queue *queue, uint32_t leased);
/* True: no request is held. */
bool queue_is_empty(const struct queue *queue);

/* The body as it was sent, and how many bytes of it are JSON if it is not compressed. */
const void *queue_body(const struct queue *queue, const struct request *request);
size_t queue_json_bytes(const struct request *request);

/* @request, which is in no list, is one of the suspects from now on, or is not. */
void queue_set_suspect(struct request *request, bool is_suspect);
/* A suspect has ended. Unless it was answered, its body stays under suspicion for a
 * while: a client that gives up and comes again brings no new request. */
void queue_note_suspect(struct queue *queue, const struct request *request,
                        bool is_answered);
/* True: a suspect with the body of @request has left without being tried. */
bool queue_is_suspicious(struct queue *queue, const struct request *request);
