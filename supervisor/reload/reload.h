/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The passage from one generation to the next, from the inside: what the files of reload/ say
 * to each other. model.h has what everybody may ask for.
 */

#include <stdbool.h>
#include <stdint.h>

#include "supervisor/model/members.h"

/* Delay until a replica that found no room is tried again. */
#define MODEL_REPLICA_RETRY_S 5.

/* reload/recycle.c */

void recycle_init(struct model *model);
void recycle_fini(struct model *model);
/* Looks at the section's limits from now on. */
void recycle_arm(struct model *model);
/* As model_on_answers(), and asks for another generation if @generation has answered as many
 * requests as a loader may. */
void recycle_on_answers(void *context, struct generation *generation);
/* Why the reload that begins was asked for, for its receipt; "": not to recycle. */
struct err recycle_take_why(struct model *model);

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

/* reload/newer.c */

/* What is pending has waited: ends a candidate that takes longer than they do. */
void reload_on_newer(struct ev_loop *loop, ev_timer *timer, int revents);

/* reload/plan.c */

/* True: the next generation may come from a spare loader. */
bool reload_may_take_spare(const struct model *model);
/* Gives the inputs that ask.pending asks for, a new reference, in *ret_inputs. 0, or
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

/* Ends the candidate before it gets to serve: something else is wanted. */
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
