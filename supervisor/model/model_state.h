/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model from the inside, for the files of model/ and of reload/ alone. In model/ lie its
 * parts: fleet.c (its loaders), ledger.c (its inputs), ask.c (what is wanted), queue.c and
 * fail.c (requests), blame.c and poison.c (who is to blame), watch.c (inputs on disk),
 * trial.c and arbiter.c (the watch window), good.c (what is kept), model.c (what others may
 * know). In reload/ lies the passage from one generation to the next, and life.c, which
 * puts all together. model.h is the view of everybody else.
 */

#include <stddef.h>
#include <sys/stat.h>

#include "supervisor/devices/devices.h"
#include "supervisor/traffic/evidence.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/figures/hold.h"
#include "supervisor/figures/pulse.h"
#include "supervisor/loaders/loads.h"
#include "supervisor/model/fleet.h"
#include "supervisor/model/ledger.h"
#include "supervisor/model/model.h"
#include "supervisor/traffic/poison.h"
#include "supervisor/traffic/queue.h"
#include "supervisor/model/receipt.h"
#include "supervisor/model/reload_table.h"
#include "supervisor/process/restart.h"
#include "supervisor/weights/store.h"
#include "supervisor/devices/strategy.h"
#include "supervisor/inputs/watch.h"

/* Delay until a replica that found no room is tried again. */
#define MODEL_REPLICA_RETRY_S 5.

#define RELOAD_CAUSE(cause) (1u << (unsigned int)(cause))
/* Why a reload ends that nothing is wrong with. */
#define RELOAD_STOPPING  "the model is being stopped"
#define RELOAD_OVERTAKEN "ended before it served: a rollback was asked for"
/* Causes with which nobody changed anything: inputs known to be bad need not be tried
 * again. */
#define RELOAD_RECOVERY                                                                  \
	(RELOAD_CAUSE(MODEL_CAUSE_CRASH) | RELOAD_CAUSE(MODEL_CAUSE_REBUILD))

/* The reload that is in flight. */
struct model_reload {
	enum reload_step step; /* reload_enter() alone */
	unsigned int causes;
	struct inputs
		*inputs; /* of the candidate: a reference; NULL: none could be read */
	struct strategy_decision decision;     /* by main memory, then by both */
	struct strategy_decision gpu_decision; /* facts.device NULL: no GPU */
	struct receipt receipt;
	bool is_newest; /* inputs were read from disk, not known before */
	uint64_t started_ns;
};

/* The watch window. */
struct model_trial {
	ev_timer look; /* active while the window is open */
	uint64_t begun_ns;
	unsigned int n_deaths;
	unsigned int n_called_off; /* rollbacks that were called off in this window */
	struct pulse pulse;        /* pulse of the serving generation */
	struct pulse before;       /* pulse of the generation before */
	struct evidence *evidence; /* gets what fails; NULL: nobody asks */
};

/* The check of a rollback that the watch window asks for. */
struct model_arbiter {
	enum evidence_kind kind;
	struct evidence *evidence; /* cases to ask of the rollback's candidate; or NULL */
	double share;              /* upheld if a larger share of the cases is computed */
	bool is_trying;            /* the candidate is READY and is being asked */
	struct request *request;   /* the case that it has now; or NULL */
	ev_timer step;             /* the next case, or the end of this one's time */
	unsigned int n_tried;
	unsigned int n_computed;
	bool is_stuck; /* the candidate did not answer in time */
};

enum model_input { MODEL_INPUT_SECRETS, MODEL_INPUT_FILE, MODEL_INPUT_COUNT };

/*
 * The files that write each member, between the start (model_new(), the _init() functions)
 * and the end (reload_fini()):
 *
 *	nobody            name listener replica_listener
 *	model/ask.c       pending was_asked is_trials kick
 *	model/arbiter.c   arbiter
 *	model/fleet.c     fleet
 *	model/ledger.c    ledger
 *	model/model.c     last_error death public_error
 *	model/poison.c    poison poison_refused
 *	model/queue.c     hold served
 *	model/trial.c     trial
 *	model/watch.c     secrets_watch file_watch seen_secrets seen_file unsettled
 *	                  n_unsettled fresh fresh_end stale skipped
 *	reload/again.c    restart again wait again_causes n_again n_pauses
 *	reload/finish.c   last reloads
 *	reload/gpu.c      figures_ns
 *	reload/life.c     context section turn is_stopping is_stopped
 *	reload/receipt.c  receipts orphans
 *	reload/replicas.c replica_deaths scale grow
 *	reload/weights.c  copy
 *
 * Of these members each part has one writer:
 *
 *	reload.step       model/ask.c
 *	reload            decisions and inputs: reload/plan.c; causes: reload/start.c;
 *	                  receipt: reload/receipt.c
 *	queue             traffic/
 *
 * deaths is written through restart.h, by reload/{again,end,swap}.c.
 */
struct model {
	struct model_context context;
	const struct config_model *section; /* the newest; context.config keeps it */
	char name[CONFIG_NAME_MAX];
	struct queue queue;
	struct generation_listener listener;

	/* queue.c */
	struct hold hold;
	uint64_t served; /* number of the generation that was active last */

	/* poison.c */
	struct poison poison;
	uint64_t poison_refused; /* requests refused because their body is remembered */

	/* reload/ */
	struct fleet fleet;
	struct store_copy *copy; /* shared weights that serve, or served last; or NULL */

	/* replicas.c */
	struct generation_listener replica_listener;
	unsigned int scale; /* `moultctl scale`; 0: as configured */
	struct restart replica_deaths;
	ev_timer grow; /* the next replica is tried later */

	/* watch.c */
	struct watch_path *secrets_watch;
	struct watch_path *file_watch;
	char seen_secrets[SECRETS_DIGEST_HEX]; /* any other digest wants a reload */
	struct stat seen_file;
	ev_timer unsettled;                  /* secrets changed while being read */
	unsigned int n_unsettled;            /* so often in a row */
	struct secrets fresh;                /* for the reload that they ask for */
	ev_timer fresh_end;                  /* they are read again from then on */
	struct err stale[MODEL_INPUT_COUNT]; /* why an input on disk is no use, or "" */
	struct err skipped;                  /* entries of the secrets, and why; or "" */

	/* reload/again.c */
	ev_timer restart;          /* a loader died: back-off */
	ev_timer again;            /* a reload failed for a reason that may pass */
	ev_timer wait;             /* looks at what the next reload waits for */
	unsigned int again_causes; /* causes of the reload that is tried again */
	unsigned int n_again;      /* tries in a row */
	unsigned int n_pauses;     /* tries that cost a pause */

	/* reload/; trial and arbiter: trial.c, arbiter.c */
	struct loads_turn turn; /* the model's turn to be built */
	uint64_t figures_ns;    /* since when it waits for the GPU's; 0: it does not */
	unsigned int pending;   /* RELOAD_CAUSE() bits */
	bool was_asked;         /* something was, or has changed, since the last start */
	bool is_trials;         /* the rollback that is pending: no person's */
	ev_timer kick;          /* starts what is pending, once per round of the loop */
	struct model_reload reload;
	uint64_t receipts;           /* begun so far */
	struct err death;            /* why a serving loader ended since then; "" */
	struct orphans_left orphans; /* left by loaders since then */
	struct receipt last;         /* the last receipt that is over; number 0: none */
	uint64_t reloads[MODEL_CAUSE_COUNT][RECEIPT_OUTCOME_COUNT];
	struct ledger ledger;
	struct restart deaths;
	struct model_trial trial;
	struct model_arbiter arbiter;
	struct err last_error;  /* why the last reload failed; "" after a good one */
	char public_error[128]; /* the same in words that anybody may know */
	bool is_stopping;
	bool is_stopped;
};

/* True: a reload has begun and has no receipt yet. */
static inline bool reload_in_flight(const struct model *model)
{
	return model->reload.step != RELOAD_IDLE;
}

/* Of the queue that is a model's. */
static inline struct model *model_of(struct queue *queue)
{
	return (struct model *)((char *)queue - offsetof(struct model, queue));
}

/* True: the watch window is open (trial.c). */
static inline bool trial_is_open(const struct model *model)
{
	return ev_is_active(&model->trial.look);
}

/* model/ask.c: what is pending, and the step of the reload that serves it */

void ask_init(struct model *model,
              void (*on_kick)(struct ev_loop *loop, ev_timer *timer, int revents));
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
/* Takes what is pending, for the reload that begins. */
unsigned int ask_take(struct model *model);

/* model/fail.c */

/* Until another loader is started. */
uint64_t model_backoff_ns(struct model *model);
/* Answers everything that is held with 503. */
void model_fail_held(struct model *model, const char *reason);
/* Ends @request, which is in no list, and answers an owner who still waits. May free
 * @request. */
void model_fail_request(struct request *request, enum request_failure failure,
                        unsigned int status, const char *reason);
/* Rounds up to seconds, as Retry-After has it. */
unsigned int model_retry_after_s(uint64_t left_ns);
/* When a client is to come again, while nothing is expected to serve soon. */
unsigned int model_down_retry_s(struct model *model);

/* model/blame.c */

/* True: somebody else ended the loader, and not the kernel for want of memory: its death
 * blames neither inputs nor requests. */
bool model_was_killed(const struct generation *dead);
/* True: @request must not be tried any more. Otherwise it may become a suspect. */
bool model_judge(const struct generation *dead, struct request *request);

/* model/arbiter.c */

/* arbiter.c: are the requests to blame, or the generation? */
enum arbiter_verdict {
	ARBITER_NONE,       /* nothing came of it */
	ARBITER_UPHELD,     /* what served before can compute them */
	ARBITER_CALLED_OFF, /* what served before fails on them, too */
};
void arbiter_init(struct model *model);
void arbiter_fini(struct model *model);
/* A rollback was asked for. Takes @evidence, which may be NULL. The rollback is upheld
 * when what served before computes more than @share of the cases of @kind. */
void arbiter_open(struct model *model, struct evidence *evidence, enum evidence_kind kind,
                  double share);
/* A person wants the rollback, whatever the cases say. True: the candidate was being
 * asked, and cannot be promoted while it works on that. */
bool arbiter_drop(struct model *model);
/* The candidate is READY. True: it is asked first, and promoted or retired afterwards. */
bool arbiter_try(struct model *model);
/* @candidate, which was to serve, is dead: ends the asking; ARBITER_CALLED_OFF comes with
 * a sentence. */
enum arbiter_verdict arbiter_on_dead(struct model *model,
                                     const struct generation *candidate,
                                     struct err *ret_why);
/* @dead had @request, a case. */
void arbiter_on_lease_lost(struct model *model, const struct generation *dead,
                           struct request *request);

/* model/poison.c */

void model_on_lease_lost(void *context, struct generation *generation,
                         struct request *request);
/* 0, or a refusal: @request's body is remembered. */
int model_refuse_poison(struct model *model, const struct request *request,
                        struct request_refusal *refusal);
/* Forgets all bodies: a generation built from anything new may cope with them. */
void model_forget_poison(struct model *model);
/* For `moultctl status`: a new reference. */
json_t *model_poison_to_json(struct model *model);

/* model/queue.c */

void model_dispatch(struct model *model);
void model_on_answers(void *context, struct generation *generation);
json_t *model_hold_to_json(struct model *model);
/* Keeps the account of pauses: @generation, which may have led, is in another state. */
void model_note_state(struct model *model, const struct generation *generation);

/* model/good.c */

/* Nothing has served yet and the inputs on disk are of no use: the ledger's good ones become
 * what an earlier run kept, if that is something else. */
void model_remember_good(struct model *model);
/* What serves served well: keeps it for the next run. */
void model_keep_good(struct model *model);

/* model/trial.c */

void trial_init(struct model *model);
void trial_fini(struct model *model);
/* @generation serves from now on. If its inputs are new a window opens; the window ends
 * when other inputs are tried. */
void trial_begin(struct model *model, uint64_t generation, bool has_new_inputs);
/* The serving loader died: may ask for a rollback. */
void trial_on_death(struct model *model, const char *why);
/* The rollback that the window asked for is called off: the window goes on, with what
 * comes now. */
void trial_reopen(struct model *model);

/* model/watch.c */

void model_watch_init(struct model *model);
void model_watch_fini(struct model *model);
/* Arms, or moves, the watches that the section asks for. */
void model_watch_arm(struct model *model);
/* Notes what a reload was tried with, or refused for: that is no change any more. */
void model_watch_note(struct model *model, const struct inputs_found *found);
/* The secrets that ask for a reload, if they were read a moment ago and no change was
 * seen since, or NULL. Borrowed. */
const struct secrets *model_watch_secrets(const struct model *model);
/* Secrets are changing: looks again soon. @reason is for people if that does not end. */
void model_watch_retry(struct model *model, const struct err *reason);
/* True: nobody serves, and the secrets have changed while being read for long enough: the
 * next generation is built without them. */
bool model_watch_gives_up(const struct model *model);
/* Notes why an input on disk is of no use; "": it is of use. */
void model_watch_set_stale(struct model *model, enum model_input input,
                           const char *reason);
/* The first such reason, or "". Borrowed. */
const char *model_watch_stale(const struct model *model);

/* model/model.c */

/* Why @dead failed, in words that anybody may know. Borrowed, until the next of these. */
const char *model_public_death(struct model *model, const struct generation *dead);
/* Why the last reload failed; "": it did not. */
void model_set_last_error(struct model *model, const char *reason);
/* Why a loader that served ended; "": the last receipt has said so. */
void model_note_death(struct model *model, const char *why);

/* reload/receipt.c */

/* @dead is gone: puts what it left behind into the next receipt. */
void reload_receipt_note_orphans(struct model *model, const struct generation *dead);
/* The first of the causes of the reload in flight. */
enum model_cause reload_receipt_cause(const struct model *model);
/* Begins the receipt of the reload in flight; the others add what they know. */
void reload_receipt_open(struct model *model);
void reload_receipt_note_decision(struct model *model);
void reload_receipt_note_start(struct model *model, const struct generation *candidate);
void reload_receipt_note_pause(struct model *model, double pause_ms);
/* The rest, at the end; what was noted since the last receipt is in this one. */
void reload_receipt_close(struct model *model, enum receipt_outcome outcome,
                          const char *reason);
/* Memory now, of all that serves. */
struct memory_sample reload_receipt_sample(const struct model *model);
void reload_receipt_note_candidate(struct model *model,
                                   const struct generation *candidate);
void reload_receipt_note_retired(struct model *model, const struct generation *retired);
void reload_receipt_note_peak(struct model *model);

/* reload/weights.c: where the weights of a generation lie */

/* Bytes of shared weights on @gpu that come free when this model lets go of its copy. */
uint64_t reload_weights_gpu_bytes(const struct model *model, const struct device *gpu);
/* Bytes of memory of this model's shared weights now, each copy once. */
uint64_t reload_weights_bytes(const struct model *model);
/* The GPU in whose memory a generation of @inputs shares its weights; NULL: none. */
struct device *reload_weights_gpu(const struct model *model, const struct inputs *inputs);
/* The full shared copy on that GPU, or NULL. Borrowed. */
struct store_copy *reload_weights_placed(const struct model *model,
                                         const struct inputs *inputs);
/* True: @dead may have died of writing to weights that nobody may write to; they are not
 * shared like that again. */
bool reload_weights_was_written(struct model *model, const struct generation *dead);
/* Lets weights that could not be shared be tried again: somebody asks. */
void reload_weights_forget(struct model *model);
/* How a generation of @inputs is to have its weights. */
enum config_share reload_weights_share(const struct model *model,
                                       const struct inputs *inputs);
/* Lets go of weights over which this model's loaders die, and over which no loader of any
 * model serves. */
void reload_weights_doubt(struct model *model);
/* True: another model's loader fills the copy that a generation of @inputs would need. */
bool reload_weights_wait(const struct model *model, const struct inputs *inputs);
/* Fills in the facts about weights: is_resident, copy_bytes, and adds to old_bytes what
 * would come free. */
void reload_weights_note(const struct model *model, const struct inputs *inputs,
                         struct strategy_facts *facts);
/* Says in @start where the candidate's weights are. start->copy is a reference for the
 * caller. 0 or -errno with a sentence. */
int reload_weights_begin(struct model *model, struct generation_start *start,
                         struct err *err);
/* The copy that the candidate fills gets what the model's copy gives back, if it may. */
void reload_weights_give(struct model *model, const struct generation *candidate);
/* The old generation is gone: lets go of its shared weights, unless generations of
 * @inputs map that very copy. */
void reload_weights_make_room(struct model *model, const struct inputs *inputs);
/* Notes in the inputs why the weights of @fresh, which is about to serve, are not shared.
 * True: they are its own. */
bool reload_weights_learn(const struct model *model, const struct generation *fresh);
/* For `moultctl status`: a new reference. */
json_t *reload_weights_to_json(const struct model *model);
/* The weights of @fresh serve from now on; NULL: none do any more. */
void reload_weights_swap(struct model *model, const struct generation *fresh);

/* reload/gpu.c */

/* A reload beside what serves depends on how full the GPU is when the reload is wanted.
 * True while the driver has not said that and may yet; in the end the reload goes on
 * without it. */
bool reload_gpu_wait(struct model *model, const struct inputs *inputs);
/* The next wait is another one. */
void reload_gpu_forget_wait(struct model *model);
/* facts.device is NULL when the model computes on no GPU. */
struct strategy_decision reload_gpu_decide(const struct model *model,
                                           const struct inputs *inputs);
/* Says in @start where the candidate is to compute, and what it claims there beside the
 * old generation. */
void reload_gpu_begin(const struct model *model, struct generation_start *start);
/* Sets the claim on the GPU of a candidate that cannot share. */
void reload_gpu_claim(const struct model *model, struct generation *candidate);
/* Alone, the candidate claims all of the GPU that it needs. */
void reload_gpu_claim_all(const struct model *model, struct generation *candidate);
/* True, with a sentence: @retired has not given back memory that the reload needs. */
bool reload_gpu_is_refused(const struct model *model, const struct generation *retired,
                           struct err *ret_why);
/* Prepares @start for another loader of what serves. 0 or -errno with a sentence. */
int reload_gpu_begin_replica(const struct model *model, struct generation_start *start,
                             struct err *err);
/* @replica cannot share its weights: claims all that it needs then. 0, or -ENOMEM with a
 * sentence: that is not free. */
int reload_gpu_check_private(const struct model *model, struct generation *replica,
                             struct err *err);
/* Notes in the inputs what @generation took of the GPU. */
void reload_gpu_learn(struct generation *generation);
/* Fills in the receipt's GPU, and in *ret_bytes what it has in use now. */
void reload_gpu_note(struct model *model, uint64_t *ret_bytes);
/* Notes in the receipt how the memory of @dead came back. */
void reload_gpu_note_reclaim(struct model *model, const struct generation *dead);

/* reload/plan.c */

/* True: the next generation may come from a spare loader. */
bool reload_may_take_spare(const struct model *model);
/* Gives the inputs that model->pending asks for, a new reference, in *ret_inputs. 0, or
 * an outcome of inputs_new() with a sentence. */
int reload_plan_read_inputs(struct model *model, struct inputs **ret_inputs,
                            struct err *err);
/* Decides by main memory and by the GPU, and joins both: model->reload has it, and the
 * receipt. */
void reload_plan_settle(struct model *model);
/* The same again for a STAGED candidate that needs something else than was decided by,
 * with the candidate in its place. */
void reload_plan_settle_again(struct model *model);
/* The reload in flight is for @inputs, whose reference is taken; NULL: it is over. */
void reload_plan_take(struct model *model, struct inputs *inputs);

/* reload/again.c */

enum reload_failure {
	RELOAD_MAY_PASS,   /* the same inputs may make it another time */
	RELOAD_IS_FINAL,   /* the same inputs would fail again */
	RELOAD_WAS_KILLED, /* killed by somebody else: says nothing about the inputs */
	RELOAD_NO_ROOM,    /* nothing was started, for want of memory */
};
void reload_again_init(struct model *model);
/* Stops all timers: nothing is tried again by itself any more. */
void reload_again_fini(struct model *model);
/* Has the pending causes wait, for @reason; they are tried every @look_s seconds. */
void reload_again_wait(struct model *model, double look_s, const char *reason);
/* What is pending begins: nothing waits for it any more. */
void reload_again_begin(struct model *model);
/* The newest inputs serve: nothing is to be tried again. */
void reload_again_stop(struct model *model);
/* Forgets earlier failures: somebody asks, or something changed. */
void reload_again_forget(struct model *model);
/* Starts another loader when the back-off says so: nobody serves. */
void reload_schedule_restart(struct model *model, enum restart_death death);
/* Nobody serves, and @death is why: the same, unless a reload is coming. */
void reload_restart(struct model *model, enum restart_death death);
/* Tries changes on disk again without anybody's asking. */
void reload_schedule_again(struct model *model);

/* reload/finish.c */

/* Ends the candidate before it gets to serve: a person has asked for a rollback. */
void reload_overtake(struct model *model, const char *why);
/* True: a person has asked for a rollback while the reload in flight waits to be started;
 * that reload is over. */
bool reload_is_overtaken(struct model *model);
/* Ends the rollback that is in flight: what serves stays. */
void reload_call_off(struct model *model, const char *why);
/* Asks for the rollback once more; the arbiter does not look at it again. */
void reload_roll_back_again(struct model *model, struct inputs *inputs);
/* The reload in flight is over; the next one begins when something is pending. */
void reload_finish(struct model *model, enum receipt_outcome outcome, const char *reason);
/* The candidate did not make it. */
void reload_failed(struct model *model, const char *reason, enum reload_failure failure);

/* reload/spawn.c */

/* Bytes that the candidate claims of main memory. A lean one claims what it needs beyond
 * what the old one holds, and no less than it stages. */
uint64_t reload_claim(const struct model *model);
/* Starts the candidate; reload_on_staged() goes on. */
void reload_spawn(struct model *model);
/* Retires the active generation; requests wait from now on. */
void reload_retire_active(struct model *model);
/* True: the old generation goes before the new one takes what it needs. */
bool reload_is_lean(const struct model *model);

/* reload/staged.c */

void reload_on_staged(struct model *model);
/* Gives the candidate alone a claim to all the memory that it is going to need. */
void reload_claim_all(struct model *model);
/* Claims all that the STAGED candidate needs, and lets it COMMIT. */
void reload_commit(struct model *model);

/* reload/swap.c */

/* The candidate is ACTIVE: it serves from now on, and the old one retires. */
void reload_swap(struct model *model);

/* reload/judge.c: what the end of a loader says */

/* True: the loader was of use, with or without answers. */
bool reload_was_of_use(const struct generation *dead);
/* The candidate's end: fails the reload, or finishes it. */
void reload_judge_candidate(struct model *model);
/* The candidate lives beside no loader any more, since @dead is. */
void reload_hurry(struct model *model, const struct generation *dead);
/* Judges what the death of @dead, which served or was to, says of its inputs. */
enum restart_death reload_judge(const struct generation *dead);
/* @generation survives SIGKILL: puts it aside. False: too many do, and it is waited
 * for. */
bool reload_put_aside(struct model *model, struct generation *generation);

/* reload/start.c */

/* Starts what is pending, if it may. */
void reload_try_start(struct model *model);

/* reload/reload.c */

/* Something happened: does what the table says. @about is the loader that it happened to,
 * where that is not the candidate; @why ends up in a receipt. Both may be NULL. */
void reload_tell(struct model *model, enum reload_event event,
                 const struct generation *about, const char *why);
/* Tells the reload if no old generation is left. */
void reload_go_on(struct model *model);

/* reload/replicas.c */

void replicas_init(struct model *model);
void replicas_fini(struct model *model);
/* As many as configured, whatever `moultctl scale` said. */
void replicas_rescale(struct model *model);
/* Brings the loaders of the serving generation to the wanted number. */
void replicas_adjust(struct model *model);
/* The active loader died. True: a replica of its generation became the active one. */
bool replicas_take_over(struct model *model);
/* A loader that served died, the active one or a replica. */
void replicas_on_death(struct model *model, const struct generation *dead);
/* For `moultctl status`: a new reference. */
json_t *replicas_to_json(const struct model *model);

/* reload/end.c */

/* on_state of the candidate, the active and the retiring generation (loaders/generation.h). */
void reload_on_state(void *context, struct generation *generation,
                     enum generation_state from);
void reload_on_dead(struct model *model, struct generation *generation);
void reload_on_unkillable(struct model *model, struct generation *generation);
