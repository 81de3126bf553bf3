/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The requests of one model: the arena that they lie in, the counters, and those that are
 * held. They are held by priority, then by age; those that may have ended a loader are kept
 * apart. It outlives every generation.
 */

#include <ev.h>

#include "shared/arena.h"
#include "shared/memfd.h"
#include "supervisor/traffic/detail.h"
#include "supervisor/traffic/poison.h"
#include "supervisor/figures/pulse.h"
#include "supervisor/traffic/request.h"
#include "supervisor/figures/stats.h"

struct evidence;
struct recorder;

TAILQ_HEAD(request_list, request);

/* Levels of priority: what the protocol calls 1, the highest, to 9. Its 0, the default, is
 * the one in the middle; beyond the last is the last. */
#define QUEUE_LEVELS        9
#define QUEUE_LEVEL_DEFAULT 4

struct queue {
	const char *model; /* name, for messages; borrowed */
	struct ev_loop *loop;
	struct memfd memory; /* the request arena: loaders can only read it */
	struct arena arena;
	uint64_t max_body_bytes;
	size_t announced_bytes; /* of bodies on their way, as far as they have a place */
	struct request_counts counts;
	struct request_counts case_counts; /* of those with is_case */
	struct detail detail;
	struct pulse pulse; /* of the serving generation */
	struct stats stats;
	struct request_list levels[QUEUE_LEVELS];
	struct request_list suspects;
	struct poison suspicion; /* bodies of suspects that left before they were tried */
	struct evidence *evidence; /* is shown what fails; NULL: nobody asks */
	struct recorder *recorder; /* is shown what is answered; mostly NULL */
};

/* 0 or -errno. */
int queue_init(struct queue *queue, struct ev_loop *loop, const char *model,
               size_t arena_bytes, uint64_t max_body_bytes);
/* No request may be left. */
void queue_fini(struct queue *queue);

/* The level of a priority as the protocol has it. */
uint8_t queue_level(uint64_t priority);

/* Holds @request, where its level and age (accepted_ns) put it. */
void queue_hold(struct queue *queue, struct request *request);
/* Takes one that is held out of its list; its state is the caller's affair. */
void queue_take(struct queue *queue, struct request *request);
/* The next one that is no suspect, or NULL. */
struct request *queue_first(struct queue *queue);
/* The oldest suspect, or NULL. */
struct request *queue_first_suspect(struct queue *queue);
bool queue_is_empty(const struct queue *queue);

/* The body as it was sent, and how much of it is JSON if it is not compressed. */
const void *queue_body(const struct queue *queue, const struct request *request);
size_t queue_json_bytes(const struct request *request);

/* A suspect has ended. Unless it was answered its body stays under suspicion for a while: a
 * client that gives up and comes again brings no new request. */
void queue_note_suspect(struct queue *queue, const struct request *request,
                        bool is_answered);
/* A suspect with the body of @request has left without being tried. */
bool queue_is_suspicious(struct queue *queue, const struct request *request);
