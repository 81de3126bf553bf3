/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One served name: its queue, the generation that serves it, the candidate that may
 * replace that one, and the decision to swap.
 *
 * There is at most one candidate and one retiring generation beside the active one. A
 * candidate that fails changes nothing for the active generation. Requests are bound to a
 * generation when they are leased, not when they are accepted.
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/model/receipt.h"
#include "supervisor/traffic/request.h"

struct control_call;
struct device;
struct devices;
struct engine_bases;
struct loads;
struct model;
struct numbers;
struct spares;
struct stats;
struct store;
struct watch;

enum model_cause {
	MODEL_CAUSE_START,
	MODEL_CAUSE_SECRETS,
	MODEL_CAUSE_CONFIG,
	MODEL_CAUSE_FILE,
	MODEL_CAUSE_SIGNAL,
	MODEL_CAUSE_MANUAL,
	MODEL_CAUSE_ROLLBACK,
	MODEL_CAUSE_REBUILD, /* a candidate failed when the old one was gone */
	MODEL_CAUSE_CRASH,
	MODEL_CAUSE_COUNT
};

const char *model_cause_name(enum model_cause cause);

/* Upward news, set once by the supervisor. */
struct model_listener {
	/* A reload (or a start) is over, whatever became of it; @receipt is borrowed. */
	void (*on_receipt)(void *context, struct model *model,
	                   const struct receipt *receipt);
	/* The model's newest inputs have served well. */
	void (*on_good)(void *context, struct model *model);
	/* A file, maybe another model's as well, is as it was, although stat(2) says
	 * otherwise. */
	void (*on_file_touched)(void *context, const struct stat *before,
	                        const struct stat *after);
	/* The model became ready, or ceased to be. */
	void (*on_ready)(void *context, struct model *model);
	/* A removed model is gone and may be freed. */
	void (*on_stopped)(void *context, struct model *model);
	void *context;
};

struct model_memory {
	uint64_t host_bytes;
	uint64_t gpu_bytes;
	const char *gpu; /* the device that it is on, borrowed; NULL: none */
	int gpu_index;   /* the driver's number of that; -1: not known, or none */
};

struct model_context {
	struct ev_loop *loop;
	struct watch *watch;   /* NULL: no change on disk is heard of */
	struct config *config; /* replaced by model_set_config(); a reference is taken */
	struct device *device; /* main memory, which the model is to share */
	struct devices *devices;    /* its GPU is one of them */
	struct store *store;        /* of weights, in that memory */
	struct loads *loads;        /* so many models are built at once */
	struct engine_bases *bases; /* what engines take by themselves */
	struct numbers *numbers;    /* of generations, one counter for all models */
	struct keeper *keeper;      /* of what served well; NULL where nothing is kept */
	struct spares *spares;      /* loaders that were started ahead */
	const struct model_listener *listener;
};

/* @config and its model section are borrowed until model_set_config() brings others.
 * 0 or -errno with a sentence. Nothing is started yet. */
int model_new(struct model **ret_model, const struct model_context *context,
              const struct config_model *config, struct err *err);
/* Kills what is left, answers what waits with 503. */
void model_free(struct model *model);

/* Takes over the section of a new configuration; reloads when it needs to.
 * True: a reload was asked for. */
bool model_set_config(struct model *model, struct config *config,
                      const struct config_model *fresh);

/* Loaders that serve. */
unsigned int model_loaders(const struct model *model);
/* So many loaders from now on, until the configuration says something else. 0, or -ERANGE
 * with a sentence. */
int model_scale(struct model *model, unsigned int replicas, struct err *err);

/* A file is as it was, although stat(2) says otherwise. */
void model_on_file_touched(struct model *model, const struct stat *before,
                           const struct stat *after);

/* Asks for a reload, which starts in the next round of the loop. One is in flight at most
 * and one pending: more are the same one, but for a rollback, which comes before what else is
 * pending. Receipts count up per model: the first from the number on that is returned, and
 * that is not about a rollback, answers this. */
uint64_t model_reload(struct model *model, enum model_cause cause);
/* A copy of weights is full, or will never be: a reload that waits for that goes on. */
void model_on_store(struct model *model);
/* Asks for a reload to the inputs that served before the present ones. 0 with the number from
 * which on the first receipt about a rollback answers it, or -ENOENT with a sentence. */
int model_rollback(struct model *model, uint64_t *ret_number, struct err *err);
/* The strategy that a reload would take now, and why: a new reference. */
json_t *model_explain(struct model *model);

/* No new requests; drains and ends every generation; on_stopped follows, from the loop. */
void model_stop(struct model *model);
/* The time of the end is over: answers what is held or leased with 503, now. Comes before
 * model_stop(), or after it. */
void model_give_up(struct model *model);
/* All of its processes are gone. */
bool model_is_stopped(const struct model *model);
/* No owner holds a request of it any more: model_free() is safe. */
bool model_is_unused(const struct model *model);

/* Begins a request. 0 with *ret_request (the caller is its owner), or a positive outcome
 * with @refusal filled. */
int model_begin(struct model *model, const struct request_start *start,
                struct request **ret_request, struct request_refusal *refusal);
/* The body is whole: hold or lease it. 0, or a positive outcome with @refusal filled; in
 * either case the owner still has to release it. */
int model_submit(struct request *request, struct request_refusal *refusal);

const char *model_name(const struct model *model);
/* Reloads that ended so. */
uint64_t model_reloads(const struct model *model, enum model_cause cause,
                       enum receipt_outcome outcome);
/* What lies on disk of it is of no use. */
bool model_is_stale(const struct model *model);
/* Of the last reload that is over, or NULL; borrowed until the next one is. */
const struct receipt *model_receipt(const struct model *model);
/* An answered warm-up of the active generation, not merely a live process. */
bool model_is_ready(const struct model *model);
enum model_presence {
	MODEL_READY,
	MODEL_LOADING,     /* a generation is on its way */
	MODEL_UNAVAILABLE, /* none is */
};

const char *model_presence_name(enum model_presence presence);
/* Why it is not ready, in @ret_why; "" when it is. */
enum model_presence model_presence(struct model *model, struct err *ret_why);
/* Why the last reload failed, as anybody may know it. Borrowed until the next call. */
const char *model_public_error(struct model *model);
/* Its start is over, whatever became of it. */
bool model_is_tried(const struct model *model);
/* A loader died in its warm-up, and maybe because its weights were shared: the next ones have
 * their own. */
bool model_stops_sharing(const struct model *model);
/* Generation that serves now, 0: none. */
uint64_t model_generation(const struct model *model);
/* The section that the serving generation was built from; without one, the newest. */
const struct config_model *model_config(const struct model *model);
/* The section of what has served well, or the newest as long as nothing has. */
const struct config_model *model_good_config(const struct model *model);
/* Why the last reload failed; "" after a good one. Borrowed. */
const char *model_last_error(const struct model *model);
const struct request_counts *model_counts(const struct model *model);
/* What all loaders of the model hold now, those that come or go among them, and the weights
 * that they share, each copy once. Looking costs microseconds for each loader: after
 * @until_ns the figures are those of the last look. */
struct model_memory model_memory(const struct model *model, uint64_t until_ns);
const struct stats *model_stats(const struct model *model);
/* An answer to a request for inference goes out to a client, of whomever it is. */
void model_note_response(struct model *model, unsigned int status);
/* See recorder_start(). model_stop() ends it. */
int model_record(struct model *model, struct control_call *call, unsigned int count,
                 uint64_t timeout_ns, struct err *err);
/* State for `moultctl status`: a new reference. */
json_t *model_to_json(struct model *model);
