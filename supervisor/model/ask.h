/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is pending for a model, and the step of the reload that serves it. ask.c alone writes
 * both; reload/start.c begins what is pending, once in a round of the loop.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/model/model.h"
#include "supervisor/parts/reload_table.h"

struct generation;
struct inputs;

#define RELOAD_CAUSE(cause) (1u << (unsigned int)(cause))
/* Why a reload ends that nothing is wrong with. */
#define RELOAD_STOPPING  "the model is being stopped"
#define RELOAD_OVERTAKEN "ended before it served: a rollback was asked for"
#define RELOAD_BEHIND    "ended before it served: newer inputs were waiting"
/* Causes with which what is being built is not what anybody wants any more. */
#define RELOAD_NEWER                                                                     \
	(RELOAD_CAUSE(MODEL_CAUSE_SECRETS) | RELOAD_CAUSE(MODEL_CAUSE_CONFIG) |          \
	 RELOAD_CAUSE(MODEL_CAUSE_FILE) | RELOAD_CAUSE(MODEL_CAUSE_CODE) |               \
	 RELOAD_CAUSE(MODEL_CAUSE_SIGNAL) | RELOAD_CAUSE(MODEL_CAUSE_MANUAL))
/* Causes with which nobody changed anything: inputs known to be bad need not be tried
 * again. */
#define RELOAD_RECOVERY                                                                  \
	(RELOAD_CAUSE(MODEL_CAUSE_CRASH) | RELOAD_CAUSE(MODEL_CAUSE_REBUILD) |           \
	 RELOAD_CAUSE(MODEL_CAUSE_RECYCLE))

/* How long a candidate gets while newer inputs wait. */
struct model_usual {
	uint64_t load_ns;         /* what the last ones took; 0: none has served yet */
	unsigned int n_overtaken; /* candidates, since one has served */
};

struct ask {
	unsigned int pending; /* RELOAD_CAUSE() bits */
	bool was_asked;       /* something was, or has changed, since the last start */
	bool is_trials;       /* the rollback that is pending: no person's */
	ev_timer kick;        /* starts what is pending, once per round of the loop */
	ev_timer newer; /* what is pending may overtake the candidate from then on */
	struct model_usual usual;
};

void ask_init(struct model *model,
              void (*on_kick)(struct ev_loop *loop, ev_timer *timer, int revents),
              void (*on_newer)(struct ev_loop *loop, ev_timer *timer, int revents));
/* Nothing is pending any more. */
void ask_fini(struct model *model);
/* The only way from one step to the next. */
void reload_enter(struct model *model, enum reload_step step);
/* Ends the candidate, unless it is ending; @why is its failure, NULL: it has none. */
void reload_give_up(struct model *model, const char *why);
/* As model_rollback(), but leaves alone what is being built. */
int reload_ask_rollback(struct model *model, bool is_trials, uint64_t *ret_number,
                        struct err *err);
/* The watch window asked for a way back from inputs that do not serve any more. Newer
 * @inputs were on their way already and are judged by themselves; they may go back to the
 * same. True: the rollback is dropped. */
bool reload_drops_rollback(struct model *model, const struct inputs *inputs);
/* True: a generation will come, or is expected to soon: requests may be held for it. */
bool reload_is_expected(const struct model *model);
/* Has reload/start.c look at what is pending in the next round of the loop. */
void ask_kick(struct model *model);
/* Adds @causes, as RELOAD_CAUSE() bits, to what is pending, or takes them away. */
void ask_add(struct model *model, unsigned int causes);
void ask_drop(struct model *model, unsigned int causes);
/* Has reload/newer.c look in @after_s whether what is pending may overtake the candidate. */
void ask_look_at_newer(struct model *model, double after_s);
/* @fresh, which serves from now on, has taken its time. */
void ask_note_load(struct model *model, const struct generation *fresh);
/* A candidate was overtaken. */
void ask_note_overtaken(struct model *model);
/* Takes what is pending, for the reload that begins. */
unsigned int ask_take(struct model *model);
