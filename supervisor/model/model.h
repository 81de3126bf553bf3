/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One served name: its queue, the generation that serves it, the candidate that may
 * replace that one, and the decision to swap.
 *
 * At most one candidate and one retiring generation are beside the active one. A
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
#include "supervisor/inputs/declared.h"
#include "supervisor/parts/receipt.h"
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
	MODEL_CAUSE_CODE, /* of an application */
	MODEL_CAUSE_SIGNAL,
	MODEL_CAUSE_MANUAL,
	MODEL_CAUSE_ROLLBACK,
	MODEL_CAUSE_REBUILD, /* a candidate failed when the old one was gone */
	MODEL_CAUSE_CRASH,
	MODEL_CAUSE_RECYCLE, /* a loader has served, lived or grown as much as it may */
	MODEL_CAUSE_COUNT
};

const char *model_cause_name(enum model_cause cause);

/* News for the supervisor, which sets this once. */
struct model_listener {
	/* A reload (or a start) is over, well or not; @receipt is borrowed. */
	void (*on_receipt)(void *context, struct model *model,
	                   const struct receipt *receipt);
	/* The model's newest inputs have served well. */
	void (*on_good)(void *context, struct model *model);
	/* A file's content is unchanged, although stat(2) says otherwise. Other models
	 * may use the file, too. */
	void (*on_file_touched)(void *context, const struct stat *before,
	                        const struct stat *after);
	/* The model became ready, or ceased to be. */
	void (*on_ready)(void *context, struct model *model);
	/* A model that was removed is gone and may be freed. */
	void (*on_stopped)(void *context, struct model *model);
	void *context;
};

struct model_memory {
	uint64_t host_bytes;
	uint64_t gpu_bytes;
	/* Of these: weights that loaders share, each copy once. */
	uint64_t host_shared_bytes;
	uint64_t gpu_shared_bytes;
	const char *gpu; /* the device that the model is on, borrowed; NULL: none */
	int gpu_index;   /* the driver's number of that device; -1: not known, or none */
};

struct model_context {
	struct ev_loop *loop;
	struct pump *pump;     /* of all lanes */
	struct watch *watch;   /* NULL: changes on disk are not heard of */
	struct config *config; /* replaced by model_set_config(); a reference is taken */
	struct device *device; /* main memory, which the model shares with others */
	struct devices *devices;    /* its GPU is one of them */
	struct store *store;        /* copies of weights */
	struct loads *loads;        /* bounds how many models are built at once */
	struct engine_bases *bases; /* memory that engines take by themselves */
	struct numbers *numbers;    /* generation numbers, one counter for all models */
	struct keeper *keeper;      /* keeps what served well; NULL: nothing is kept */
	struct spares *spares;      /* loaders that were started ahead */
	const struct model_listener *listener;
};

/* @config and its model section are borrowed until model_set_config() brings others. 0
 * with a model that the caller frees, or -errno with a sentence. Nothing is started
 * yet. */
int model_new(struct model **ret_model, const struct model_context *context,
              const struct config_model *config, struct err *err);
/* Kills what is left, answers waiting requests with 503. Accepts NULL. */
void model_free(struct model *model);

/* Takes over the section of a new configuration, and reloads when that is needed. True: a
 * reload was asked for. */
bool model_set_config(struct model *model, struct config *config,
                      const struct config_model *fresh);

/* Number of loaders that serve. */
unsigned int model_loaders(const struct model *model);
/* Sets the number of loaders, until the configuration says something else. 0, or -ERANGE
 * with a sentence. */
int model_scale(struct model *model, unsigned int replicas, struct err *err);

/* A file's content is unchanged, although stat(2) says otherwise. */
void model_on_file_touched(struct model *model, const struct stat *before,
                           const struct stat *after);

/* Asks for a reload, which starts in the next round of the loop. At most one reload is in
 * flight and one pending. Further requests join the pending one; a rollback comes before
 * everything else that is pending. Receipts are numbered per model: the first that is not
 * about a rollback, from the returned number on, answers this call. */
uint64_t model_reload(struct model *model, enum model_cause cause);
/* A copy of weights is full, or will never be: a reload that waits for that goes on. */
void model_on_store(struct model *model);
/* Asks for a reload to the inputs that served before the present ones. 0, and the first
 * receipt about a rollback from *ret_number on answers it; or -ENOENT with a sentence. */
int model_rollback(struct model *model, uint64_t *ret_number, struct err *err);
/* Tells the strategy that a reload would take now, and why: a new reference. */
json_t *model_explain(struct model *model);

/* Refuses new requests, drains and ends every generation; on_stopped follows, from the
 * loop. */
void model_stop(struct model *model);
/* The time for ending is over: answers held and leased requests with 503, now. May be
 * called before model_stop() or after it. */
void model_give_up(struct model *model);
/* True: all processes of the model are gone. */
bool model_is_stopped(const struct model *model);
/* True: no owner holds a request of the model any more, so model_free() is safe. */
bool model_is_unused(const struct model *model);

/* Begins a request. 0 with *ret_request, whose owner is the caller, or a positive outcome
 * with @refusal filled. */
int model_begin(struct model *model, const struct request_start *start,
                struct request **ret_request, struct request_refusal *refusal);
/* The body is whole: holds or leases the request. 0, or a positive outcome with @refusal
 * filled; in either case the owner still has to release it. */
int model_submit(struct request *request, struct request_refusal *refusal);

const char *model_name(const struct model *model);
/* The one of @models, behind the last of which is NULL, with @name; or NULL. */
struct model *model_find(struct model *const *models, const char *name);
/* Number of reloads of @cause that ended with @outcome. */
uint64_t model_reloads(const struct model *model, enum model_cause cause,
                       enum receipt_outcome outcome);
/* True: the inputs on disk are of no use, were refused, or were rolled back from. */
bool model_is_stale(const struct model *model);
/* The layers of walls round the loader that serves, as it told them: "no_core, seccomp"; "": none
 * serves. Borrowed until the next reload. */
const char *model_walls(const struct model *model);
/* The receipt of the last reload that is over, or NULL; borrowed until the next one
 * is. */
const struct receipt *model_receipt(const struct model *model);
/* True: the active generation has answered its warm-up, and does not fail at what it is
 * asked (unready_errors); a live process is not enough. */
bool model_is_ready(const struct model *model);
enum model_presence {
	MODEL_READY,
	MODEL_LOADING,     /* a generation is on its way */
	MODEL_UNAVAILABLE, /* no generation is on its way */
};

const char *model_presence_name(enum model_presence presence);
/* Says in @ret_why why the model is not ready; "" when it is. */
enum model_presence model_presence(struct model *model, struct err *ret_why);
/* Why the last reload failed, in words that anybody may know; "": it did not. Borrowed until
 * the next call. */
const char *model_public_error(struct model *model);
/* Why no generation serves, likewise, and never "". */
const char *model_public_reason(struct model *model);
/* True: the model's start is over, well or not. */
bool model_is_tried(const struct model *model);
/* True: a loader died in its warm-up, maybe because its weights were shared; the next
 * ones have their own. */
bool model_stops_sharing(const struct model *model);
/* Number of the generation that serves now; 0: none. */
uint64_t model_generation(const struct model *model);
/* The section that the serving generation was built from; without one, the newest. */
const struct config_model *model_config(const struct model *model);
/* The tensors of what serves, borrowed until the next round; without that, of what has served
 * well. False: some are not known yet. */
bool model_tensors(const struct model *model, struct declared_view *ret_view);
/* The section of what has served well; the newest as long as nothing has. */
const struct config_model *model_good_config(const struct model *model);
/* Why the last reload failed; "" after a good one. Borrowed. */
const char *model_last_error(const struct model *model);
/* Borrowed, and so is model_stats(): live counters, which change with the next request. */
const struct request_counts *model_counts(const struct model *model);
/* Memory of all loaders of the model, those that come or go included, and of the weights
 * that they share, each copy once. A look costs microseconds for each loader: after
 * @until_ns the figures are those of the last look. */
struct model_memory model_memory(const struct model *model, uint64_t until_ns);
const struct stats *model_stats(const struct model *model);
/* Counts an answer that goes out to a client of an inference request, the supervisor's
 * own answers included. */
void model_note_response(struct model *model, unsigned int status);
/* See recorder_start(). model_stop() ends the recording. */
int model_record(struct model *model, struct control_call *call, unsigned int count,
                 uint64_t timeout_ns, struct err *err);
/* State for `moultctl status`: a new reference. */
json_t *model_to_json(struct model *model);
