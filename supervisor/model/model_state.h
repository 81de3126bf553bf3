/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model from the inside, for model.c (what others may know), queue.c (requests),
 * poison.c (who is to blame), watch.c (inputs on disk), reload.c with its parts
 * (generations) and trial.c (the watch window) only.
 */

#include <sys/stat.h>

#include "supervisor/devices/devices.h"
#include "supervisor/traffic/evidence.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/traffic/hold.h"
#include "supervisor/loaders/loads.h"
#include "supervisor/model/model.h"
#include "supervisor/traffic/poison.h"
#include "supervisor/traffic/queue.h"
#include "supervisor/model/receipt.h"
#include "supervisor/process/restart.h"
#include "supervisor/weights/store.h"
#include "supervisor/devices/strategy.h"
#include "supervisor/inputs/watch.h"

/* Dead generations that wait for the loop to come round before they are freed. */
#define MODEL_GRAVES 24
/* Loaders beside the active one. */
#define MODEL_REPLICAS (CONFIG_REPLICAS_MAX - 1)
/* Until a replica that found no room is tried again. */
#define MODEL_REPLICA_RETRY_S 5.
/* Generations that survive SIGKILL and are not waited for; one more is. */
#define MODEL_STUCK 4

#define RELOAD_CAUSE(cause) (1u << (unsigned int)(cause))
/* Why a reload ends that nothing is wrong with. */
#define RELOAD_STOPPING "the model is being stopped"
/* Nobody changed anything: what is known to be bad need not be tried again. */
#define RELOAD_RECOVERY                                                                  \
	(RELOAD_CAUSE(MODEL_CAUSE_CRASH) | RELOAD_CAUSE(MODEL_CAUSE_REBUILD))

/* The passage that is in flight. */
struct model_reload {
	bool in_flight;
	unsigned int causes;
	struct inputs
		*inputs; /* of the candidate: a reference; NULL: none could be read */
	struct strategy_decision decision;     /* by main memory, then by both */
	struct strategy_decision gpu_decision; /* facts.device NULL: no GPU */
	struct receipt receipt;
	bool is_newest; /* inputs are what was on disk, and not known ones */
	uint64_t started_ns;
};

/* The watch window. */
struct model_trial {
	ev_timer look; /* active while it is open */
	uint64_t begun_ns;
	unsigned int n_deaths;
	bool has_asked; /* the rollback that is pending is ours, not somebody's */
	unsigned int n_called_off; /* of those, within this window */
	struct pulse before;       /* of the generation before */
};

/* What looks at a rollback that the watch window asks for. */
struct model_arbiter {
	enum evidence_kind kind;
	struct evidence *evidence; /* to be asked of the rollback's candidate; or NULL */
	double share;   /* of the cases, computed by more than which it goes on */
	bool is_trying; /* the candidate that is READY is being asked */
	struct request *request; /* that it has now; or NULL */
	ev_timer step;           /* the next one, or the end of this one's time */
	unsigned int n_tried;
	unsigned int n_computed;
	bool is_stuck; /* it did not answer in time */
};

enum model_input { MODEL_INPUT_SECRETS, MODEL_INPUT_FILE, MODEL_INPUT_COUNT };

struct model {
	struct model_context context;
	const struct config_model *section; /* the newest; context.config keeps it */
	char name[CONFIG_NAME_MAX];
	struct queue queue;
	struct generation_listener listener;

	/* queue.c */
	struct hold hold;
	uint64_t served; /* the generation that was active last */

	/* poison.c */
	struct poison poison;
	uint64_t poison_refused; /* requests with a body that is remembered */

	struct generation *active;
	struct store_copy *copy; /* of the weights that serve, or served last; or NULL */
	struct inputs *writer;   /* their loader died of writing to such; or NULL */
	struct generation *candidate;
	struct generation *retiring;
	struct generation *stuck[MODEL_STUCK]; /* put aside, UNKILLABLE */
	struct generation *graves[MODEL_GRAVES];
	ev_timer bury;

	/* replicas.c */
	struct generation *replicas[MODEL_REPLICAS]; /* in any order, with holes */
	struct generation_listener replica_listener;
	unsigned int scale; /* `moultctl scale`; 0: as configured */
	struct restart replica_deaths;
	ev_timer grow; /* the next replica is tried later */

	/* watch.c */
	struct watch_path *secrets_watch;
	struct watch_path *file_watch;
	char seen_secrets[SECRETS_DIGEST_HEX]; /* a change from these wants a reload */
	struct stat seen_file;
	ev_timer unsettled;                  /* secrets changed while being read */
	unsigned int n_unsettled;            /* so often, one after the other */
	struct err stale[MODEL_INPUT_COUNT]; /* why what is on disk is of no use, or "" */
	struct err skipped;                  /* among the secrets, and why; or "" */

	/* reload/again.c */
	ev_timer restart;          /* a loader died: back-off */
	ev_timer again;            /* a reload failed for a reason that may pass */
	ev_timer wait;             /* looks at what the next reload waits for */
	unsigned int again_causes; /* of that reload */
	unsigned int n_again;      /* in a row */
	unsigned int n_pauses;     /* of those: so many cost a pause */

	/* reload.c */
	struct loads_turn turn; /* to be built */
	uint64_t figures_ns;    /* the next one waits for the GPU's since then; 0: no */
	unsigned int pending;   /* bits of enum model_cause */
	ev_timer kick;          /* starts what is pending, once per round of the loop */
	struct model_reload reload;
	uint64_t receipts;           /* begun so far */
	struct err death;            /* why one that served ended since then; "" */
	struct orphans_left orphans; /* that loaders left since the last receipt */
	struct receipt last;         /* of the last that is over; number 0: none */
	uint64_t reloads[MODEL_CAUSE_COUNT][RECEIPT_OUTCOME_COUNT];
	struct inputs *good;        /* of the last generation that served */
	struct inputs *previous;    /* of the one before: what a rollback returns to */
	struct err no_way_back;     /* why there is no previous one, or "" */
	struct inputs *rollback_to; /* asked for */
	struct inputs *refused; /* identity: not to be tried again unless somebody asks */
	struct restart deaths;
	struct model_trial trial;
	struct model_arbiter arbiter;
	uint64_t inactive_since_ns; /* no loader takes requests; 0: one does */
	bool was_killed;            /* somebody's kill -9 ended the last that served */
	struct err last_error;      /* of the last failed reload; "" after a good one */
	char public_error[128];     /* the same, as anybody may know it */
	bool is_stopping;
	bool is_stopped;
};

/* model.c: what in its section is likely a mistake goes into the log, unless @before, which may
 * be NULL, had it already. */
void model_log_doubt(const struct model *model, const struct config_model *before);

/* queue.c: leases to the active generation what is held and fits. */
void model_dispatch(struct model *model);
/* Answers everything that is held with 503. */
void model_fail_held(struct model *model, const char *reason);
/* Ends @request, which is in no list; one that is waited for is answered. May free it. */
void model_fail_request(struct request *request, enum request_failure failure,
                        unsigned int status, const char *reason);
void model_on_answers(void *context, struct generation *generation);
/* Hands the news on to reload_on_state() and sees what came of it. */
void model_on_state(void *context, struct generation *generation,
                    enum generation_state from);
/* For `moultctl status`: a new reference; null for NULL. */
json_t *model_generation_to_json(const struct generation *generation);
json_t *model_hold_to_json(struct model *model);

/* poison.c: judges the requests of a dead loader, holds or fails them. */
void model_on_lease_lost(void *context, struct generation *generation,
                         struct request *request);
/* 0, or a refusal: @request's body is remembered. */
int model_refuse_poison(struct model *model, const struct request *request,
                        struct request_refusal *refusal);
/* Somebody else ended it, not the kernel for want of memory: that says nothing about it. */
bool model_was_killed(const struct generation *dead);
/* A generation that was built from anything new may cope with what the last one did not. */
void model_forget_poison(struct model *model);
/* For `moultctl status`: a new reference. */
json_t *model_poison_to_json(struct model *model);

/* watch.c: says when an input changed on disk. */
void model_watch_init(struct model *model);
void model_watch_fini(struct model *model);
/* (Re)arms the watches that the section asks for. */
void model_watch_arm(struct model *model);
/* What a reload was tried with, or refused for, is no change any more. */
void model_watch_note(struct model *model, const struct inputs_found *found);
/* Secrets are changing: look again soon. @reason is for people when that does not end. */
void model_watch_retry(struct model *model, const struct err *reason);
/* Nobody serves, and the secrets have changed while being read for long enough: what is
 * built next does without them. */
bool model_watch_gives_up(const struct model *model);
/* Why an input is of no use as it lies on disk; "": it is of use. */
void model_watch_set_stale(struct model *model, enum model_input input,
                           const char *reason);
/* The first such reason, or "". */
const char *model_watch_stale(const struct model *model);

/* replicas.c */
void replicas_init(struct model *model);
void replicas_fini(struct model *model);
/* As many as are wanted, of the generation that serves. */
void replicas_adjust(struct model *model);
/* All of them end. */
void replicas_retire(struct model *model);
/* Of the generation that serves, beside the active one; those that serve, or all. */
unsigned int replicas_count(const struct model *model, bool only_serving);
/* One of a generation that does not serve any more, or that is ending; NULL: none. */
struct generation *replicas_old(const struct model *model);
/* The serving loader with the fewest leases and no suspect, the active one among them. */
struct generation *replicas_pick(const struct model *model);
/* The active one died: another one of its generation becomes it, if one serves. */
bool replicas_take_over(struct model *model);
/* One that served died, the active one or another. */
void replicas_on_death(struct model *model, const struct generation *dead);
/* Adds what they hold. */
void replicas_add_memory(const struct model *model, struct memory_sample *sample);
/* Memory that they hold, as last measured. */
uint64_t replicas_bytes(const struct model *model);
/* For `moultctl status`: a new reference. */
json_t *replicas_to_json(const struct model *model);

/* trial.c: the watch window */
void trial_init(struct model *model);
void trial_fini(struct model *model);
/* @generation serves from now on; a window opens when its inputs are new, and ends when
 * others are tried. */
void trial_begin(struct model *model, uint64_t generation, bool has_new_inputs);
/* The serving loader died: may ask for a rollback. */
void trial_on_death(struct model *model, const char *why);
bool trial_is_open(const struct model *model);
/* The rollback that it has asked for is called off: it goes on looking, at what comes now. */
void trial_reopen(struct model *model);

/* arbiter.c: the requests to blame, or the generation */
enum arbiter_verdict {
	ARBITER_NONE,       /* nothing came of it */
	ARBITER_UPHELD,     /* what served before can compute them */
	ARBITER_CALLED_OFF, /* it fails on them, too */
};

void arbiter_init(struct model *model);
void arbiter_fini(struct model *model);
/* A rollback was asked for. Takes @evidence, which may be NULL. It is upheld when more than
 * @share of its cases of @kind are computed by what served before. */
void arbiter_open(struct model *model, struct evidence *evidence, enum evidence_kind kind,
                  double share);
/* Somebody wants the rollback, whatever comes of it. True: the candidate was being asked, and
 * cannot be promoted while it works on that. */
bool arbiter_drop(struct model *model);
/* The candidate is READY. True: it is asked first, and promoted or retired afterwards. */
bool arbiter_try(struct model *model);
/* @candidate, which was to serve, is dead. Ends it; with a sentence when called off. */
enum arbiter_verdict arbiter_on_dead(struct model *model,
                                     const struct generation *candidate,
                                     struct err *ret_why);
/* @dead had @request, which is_case. */
void arbiter_on_lease_lost(struct model *model, const struct generation *dead,
                           struct request *request);

/* reload.c */
void reload_init(struct model *model);
void reload_fini(struct model *model);
void reload_on_state(void *context, struct generation *generation,
                     enum generation_state from);
/* Starts what is pending, if it may. */
void reload_try_start(struct model *model);
void reload_stop(struct model *model);
/* The generation whose memory a new one has to live beside, or NULL. */
struct generation *reload_old(const struct model *model);
/* *@slot refers to @inputs from now on. */
void reload_set_inputs(struct inputs **slot, struct inputs *inputs);

/* reload/rollback.c */

/* As model_rollback(), but leaves alone what is being built. */
int reload_ask_rollback(struct model *model, uint64_t *ret_number, struct err *err);
/* A person has asked for a rollback while the one in flight waits to be started: it is over,
 * and true. */
bool reload_is_overtaken(struct model *model);
/* The watch window asked for a way back from what does not serve any more: newer @inputs were
 * on their way already and are judged by themselves. They may go back to the same. True: the
 * rollback is dropped. */
bool reload_drop_rollback(struct model *model, const struct inputs *inputs);
/* The rollback that is in flight does not go on: what serves stays. */
void reload_call_off(struct model *model, const char *why);
/* Once more, without being looked at. */
void reload_roll_back_again(struct model *model, struct inputs *inputs);
/* @inputs are not to be tried again unless somebody asks. */
void reload_refuse(struct model *model, const struct inputs *inputs);
/* A generation will come, or is expected to soon: requests may be held for it. */
bool reload_is_expected(const struct model *model);

/* @dead is gone: what it left behind is for the next receipt. */
void reload_receipt_note_orphans(struct model *model, const struct generation *dead);
/* The reload in flight is over; the next one begins when something is pending. */
void reload_finish(struct model *model, enum receipt_outcome outcome, const char *reason);
/* The candidate is started; goes on from STAGED. */
void reload_spawn(struct model *model);
/* The next generation may come from a spare loader. */
bool reload_may_take_spare(const struct model *model);
/* The old one takes no more requests; they wait. */
void reload_retire_active(struct model *model);
/* The old one goes before the new one takes what it needs. */
bool reload_is_lean(const struct model *model);
/* What the candidate claims of main memory; a lean one, beside what the old one holds, all
 * that it is going to need. */
uint64_t reload_claim(const struct model *model);

/* reload/staged.c: a candidate is STAGED */
void reload_on_staged(struct model *model);
/* The candidate alone has a claim to all the memory that it is going to need. */
void reload_claim_all(struct model *model);
void reload_commit(struct model *model);

/* reload/again.c: what follows a failure, and when */

enum reload_failure {
	RELOAD_MAY_PASS,   /* the same inputs may make it another time */
	RELOAD_IS_FINAL,   /* they would fail again */
	RELOAD_WAS_KILLED, /* by somebody else: says nothing about them */
	RELOAD_NO_ROOM,    /* nothing was started */
};

void reload_again_init(struct model *model);
/* Nothing is tried again by itself any more. */
void reload_again_fini(struct model *model);
/* What is pending waits for something, for @reason, and is tried every @look_s seconds. */
void reload_again_wait(struct model *model, double look_s, const char *reason);
/* The newest inputs serve. */
void reload_again_stop(struct model *model);
/* Somebody asks, or something changed: what failed before does not count. */
void reload_again_forget(struct model *model);
/* The candidate did not make it. */
void reload_failed(struct model *model, const char *reason, enum reload_failure failure);
/* Nobody serves: another loader is tried, when the back-off says so. */
void reload_schedule_restart(struct model *model, enum restart_death death);

/* reload/end.c: what the end of a generation means for the others */
void reload_on_dead(struct model *model, struct generation *generation);
void reload_on_unkillable(struct model *model, struct generation *generation);
/* The next step of a reload that waits for old generations, when the last is gone. */
void reload_go_on(struct model *model);
/* What @dead, which served or was to, says of its inputs. */
enum restart_death reload_judge(const struct generation *dead);
/* @generation is dead and freed soon. True: it was among those put aside. */
bool reload_bury(struct model *model, struct generation *generation);
/* It survives SIGKILL. False: too many do, and it is waited for. */
bool reload_put_aside(struct model *model, struct generation *generation);
/* Frees the dead, once per round of the loop. */
void reload_on_bury(struct ev_loop *loop, ev_timer *timer, int revents);

/* reload/plan.c */

/* What model->pending asks for: a new reference in *ret_inputs. 0, or an outcome of
 * inputs_new() with a sentence. */
int reload_plan_read_inputs(struct model *model, struct inputs **ret_inputs,
                            struct err *err);
/* Nothing has served yet and what is on disk is of no use: model->good becomes what was kept
 * of an earlier run, if that is something else. */
void reload_plan_remember(struct model *model);
/* model->good served well: it is kept for the next run. */
void reload_plan_keep(struct model *model);
/* By main memory, then joined with that by the GPU in *ret_gpu. *ret_wants_spares_room: it
 * counts on the memory of the spare loaders, too. */
struct strategy_decision reload_plan_decide(const struct model *model,
                                            const struct inputs *inputs,
                                            struct strategy_decision *ret_gpu,
                                            bool *ret_wants_spares_room);
/* The candidate is STAGED, and needs something else than what was decided by: likewise, with it
 * where it is. @gpu is what was decided by the GPU, and what is now. */
struct strategy_decision reload_plan_decide_again(const struct model *model,
                                                  struct strategy_decision *gpu,
                                                  bool *ret_wants_spares_room);

/* reload/gpu.c: the memory of the GPU that a model computes on */

/* A reload beside what serves is decided by how full the GPU is when it is wanted: true while
 * the driver has not said that and may yet. Goes on without it in the end. */
bool reload_gpu_wait(struct model *model, const struct inputs *inputs);
/* facts.device is NULL when it computes on none. */
struct strategy_decision reload_gpu_decide(const struct model *model,
                                           const struct inputs *inputs);
/* Where the candidate is to compute, and what it claims there beside the old generation. */
void reload_gpu_begin(const struct model *model, struct generation_start *start);
/* It cannot share: what it claims there from now on. */
void reload_gpu_claim(const struct model *model, struct generation *candidate);
/* Alone, it claims all that it needs. */
void reload_gpu_claim_all(const struct model *model, struct generation *candidate);
/* @old ends, and is to keep the place of the one that follows. */
void reload_gpu_keep_place(const struct model *model, struct generation *old);
/* @retired left memory behind that the reload needs. True with a sentence. */
bool reload_gpu_is_refused(const struct model *model, const struct generation *retired,
                           struct err *ret_why);
/* Another loader of what serves; 0 or -ENOMEM with a sentence. */
int reload_gpu_begin_replica(const struct model *model, struct generation_start *start,
                             struct err *err);
/* @replica cannot share its weights, and claims all that it needs then; 0 or -ENOMEM with a
 * sentence: that is not free. */
int reload_gpu_check_private(const struct model *model, struct generation *replica,
                             struct err *err);
/* What @generation took there taught of its inputs. */
void reload_gpu_learn(struct generation *generation);
/* The receipt's GPU, and in *ret_bytes what it has in use now. */
void reload_gpu_note(struct model *model, uint64_t *ret_bytes);
/* How the memory of @dead came back. */
void reload_gpu_note_reclaim(struct model *model, const struct generation *dead);

/* reload/weights.c: where the weights of a generation lie */

/* The GPU in whose memory a generation of @inputs shares them; NULL: on none. */
struct device *reload_weights_gpu(const struct model *model, const struct inputs *inputs);
/* The shared copy on that, or NULL. */
struct store_copy *reload_weights_placed(const struct model *model,
                                         const struct inputs *inputs);
/* Bytes of shared weights on @gpu that come free when this model lets go of what it has. */
uint64_t reload_weights_gpu_bytes(const struct model *model, const struct device *gpu);
/* @dead may have died of writing to weights that nobody may write to: then it is not tried
 * like that again, and true. */
bool reload_weights_was_written(struct model *model, const struct generation *dead);
/* Somebody asks: what could not be shared may be now. */
void reload_weights_forget(struct model *model);
/* How a generation of @inputs is to have its weights. */
enum config_share reload_weights_share(const struct model *model,
                                       const struct inputs *inputs);
/* Weights over which this model's loaders die, and over which none of any model serves, are
 * let go. */
void reload_weights_doubt(struct model *model);
/* Another model's loader fills the copy that one of @inputs would need. */
bool reload_weights_wait(const struct model *model, const struct inputs *inputs);
/* Facts about them: is_resident, copy_bytes, and in old_bytes what would come free. */
void reload_weights_note(const struct model *model, const struct inputs *inputs,
                         struct strategy_facts *facts);
/* Says in @start where the candidate's weights are. Its copy is a reference for the caller.
 * 0 or -errno with a sentence. */
int reload_weights_begin(struct model *model, struct generation_start *start,
                         struct err *err);
/* The old generation is gone, and its shared weights go too unless generations of @inputs
 * map that very copy. */
void reload_weights_make_room(struct model *model, const struct inputs *inputs);
/* What @fresh, which is about to serve, taught of how it has its weights. */
void reload_weights_learn(const struct model *model, const struct generation *fresh);
/* What is shared of this model's weights now, in bytes of memory: each copy once. */
uint64_t reload_weights_bytes(const struct model *model);
/* For `moultctl status`: a new reference. */
json_t *reload_weights_to_json(const struct model *model);
/* Those of @fresh serve from now on; NULL: none do any more. */
void reload_weights_swap(struct model *model, const struct generation *fresh);

/* reload/receipt.c: writes model->reload.receipt */
/* The first of the causes that the reload in flight has. */
enum model_cause reload_receipt_cause(const struct model *model);
void reload_receipt_open(struct model *model);
void reload_receipt_note_candidate(struct model *model,
                                   const struct generation *candidate);
void reload_receipt_note_retired(struct model *model, const struct generation *retired);
void reload_receipt_note_peak(struct model *model);
