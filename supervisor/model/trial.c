/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The watch window: for a while after new inputs begin to serve, their pulse (errors,
 * latency, deaths of loaders) is compared with that of the inputs before. When the new
 * inputs do worse, the model goes back by itself.
 */

#include <math.h>
#include <stdio.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/saturate.h"
#include "supervisor/traffic/evidence.h"
#include "supervisor/model/members.h"

#define TRIAL_LOOK_S 0.5
/* So many deaths of loaders within the window are no coincidence. */
#define TRIAL_DEATHS_MAX 3

/* The window is closed after so many called-off rollbacks: each has cost a load. */
#define TRIAL_CALLED_OFF_MAX 3

static void trial_forget_evidence(struct model *model)
{
	evidence_free(model->trial.evidence);
	model->trial.evidence = NULL;
}

static void trial_end(struct model *model, const char *verdict)
{
	ev_timer_stop(model->context.loop, &model->trial.look);
	trial_forget_evidence(model);
	log_event(LOG_LEVEL_NOTICE, "watch_window", "model=%s gen=%llu verdict=%s",
	          model->name, (unsigned long long)model_generation(model),
	          LOG_QUOTED(verdict));
}

/* Asks for a rollback, which the arbiter upholds when what served before computes more
 * than @share of the cases of @kind. NAN: no kind of case has led here. */
static void trial_roll_back(struct model *model, const char *why, enum evidence_kind kind,
                            double share)
{
	struct evidence *evidence = isnan(share) ? NULL : model->trial.evidence;
	bool is_theirs = (model->ask.pending & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)) &&
	                 !model->ask.is_trials;
	struct err err = ERR_NULL;
	struct err text;
	uint64_t number;
	int r;

	/* A person was faster. */
	if (reload_in_flight(model) &&
	    (model->reload.causes & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK))) {
		trial_end(model, why);
		return;
	}
	/* A person who waits for the pending rollback gets it already. */
	r = reload_ask_rollback(model, !is_theirs, &number, &err);
	if (evidence)
		model->trial.evidence = NULL;
	trial_end(model, why);
	if (r < 0 || is_theirs)
		evidence_free(evidence);
	else
		arbiter_open(model, evidence, kind, share);
	if (r < 0) {
		log_event(LOG_LEVEL_ERR, "rollback_refused", "model=%s reason=%s",
		          model->name, LOG_QUOTED(err.text));
		return;
	}
	(void)err_set(&text, 0, "rolled back: %.400s", why);
	model_set_last_error(model, text.text);
	log_event(LOG_LEVEL_ERR, "rollback", "model=%s reason=%s", model->name,
	          LOG_QUOTED(why));
}

/* The share of the errors in @now that would have been allowed; NAN: errors are not what
 * is worse. */
static double trial_share(const struct pulse_summary *before,
                          const struct pulse_summary *now,
                          const struct pulse_policy *policy)
{
	double allowed = pulse_error_percent(before) + policy->errors_percent;
	double errors = pulse_error_percent(now);

	return policy->errors_percent && errors > allowed ? allowed / errors
	                                                  : (double)NAN;
}

/* What the machine owes: how long an execution had to wait for a processor. */
static uint64_t trial_waited_ns(const struct model *model)
{
	const struct model_trial *trial = &model->trial;
	uint64_t waited_ns =
		saturate_minus(fleet_waited_ns(&model->fleet), trial->waited_ns);

	return trial->n_executions ? waited_ns / trial->n_executions : 0;
}

static bool trial_is_worse(const struct model *model, const struct pulse_summary *before,
                           const struct pulse_summary *now, struct pulse_policy *policy,
                           struct err *why)
{
	if (!pulse_is_worse(before, now, policy, why))
		return false;
	policy->waited_ns = trial_waited_ns(model);
	return pulse_is_worse(before, now, policy, why);
}

static void trial_on_look(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;
	const struct config_model *section = model->section;
	struct pulse_policy policy = {
		.errors_percent = section->watch_errors,
		.latency_percent = section->watch_latency,
	};
	uint64_t now_ns = clock_now_ns();
	struct pulse_summary before =
		pulse_sum(&model->trial.before, model->trial.begun_ns);
	struct pulse_summary now = pulse_sum(&model->trial.pulse, now_ns);
	struct err why;

	(void)loop;
	(void)revents;
	if (trial_is_worse(model, &before, &now, &policy, &why))
		trial_roll_back(model, why.text, EVIDENCE_FAILED,
		                trial_share(&before, &now, &policy));
	else if (now_ns - model->trial.begun_ns >= section->watch_window_ns) {
		trial_end(model, "good");
		model_keep_good(model);
	}
}

/* Requests that nobody waits for any more count too: the loader answered them. */
static enum pulse_kind trial_kind(const struct request *request)
{
	if (request->is_fault)
		return PULSE_FAULT;
	return request->answer_status < 300 ? PULSE_GOOD : PULSE_NOTHING;
}

static void trial_on_answer(void *context, const struct request *request,
                            const struct proto_answer *answer, uint64_t now_ns)
{
	struct model *model = context;
	struct model_trial *trial = &model->trial;

	if (request->is_fault && !request->is_hosted &&
	    (answer->flags & PROTO_ANSWER_FIRST) &&
	    answer->generation == trial->pulse.generation)
		evidence_note(trial->evidence, EVIDENCE_FAILED, request);
	trial->n_executions += answer->generation == trial->pulse.generation &&
	                       (answer->flags & PROTO_ANSWER_EXECUTION) != 0;
	if (answer->flags & PROTO_ANSWER_LAST)
		pulse_note(&trial->pulse, answer->generation, trial_kind(request),
		           answer->compute_ns, now_ns);
}

static void trial_look_on(struct model *model)
{
	/* Without memory for evidence nothing is arbitrated. */
	model->trial.evidence = evidence_new();
	ev_timer_set(&model->trial.look, TRIAL_LOOK_S, TRIAL_LOOK_S);
	ev_timer_start(model->context.loop, &model->trial.look);
}

void trial_begin(struct model *model, uint64_t generation, bool has_new_inputs)
{
	struct model_trial *trial = &model->trial;

	/* Another loader of the same inputs stands where its predecessor stood. */
	model->trial.pulse.generation = generation;
	if (!has_new_inputs)
		return;
	trial->before = model->trial.pulse;
	trial->begun_ns = clock_now_ns();
	trial->n_deaths = 0;
	trial->n_called_off = 0;
	trial->n_executions = 0;
	trial->waited_ns = fleet_waited_ns(&model->fleet);
	pulse_reset(&model->trial.pulse, generation);
	ev_timer_stop(model->context.loop, &trial->look);
	trial_forget_evidence(model);
	arbiter_open(model, NULL, EVIDENCE_FAILED, 0);
	if (model->section->watch_window_ns == 0 || !model->ledger.previous ||
	    !model->reload.is_newest) {
		model_keep_good(model);
		return;
	}
	trial_look_on(model);
}

void trial_reopen(struct model *model)
{
	struct model_trial *trial = &model->trial;

	if (++trial->n_called_off > TRIAL_CALLED_OFF_MAX) {
		log_event(LOG_LEVEL_WARNING, "watch_window",
		          "model=%s gen=%llu verdict=\"no more is looked at: rollbacks "
		          "were "
		          "called off %u times\"",
		          model->name, (unsigned long long)model_generation(model),
		          trial->n_called_off);
		return;
	}
	trial->n_deaths = 0;
	pulse_reset(&model->trial.pulse, model->trial.pulse.generation);
	trial_look_on(model);
}

void trial_on_death(struct model *model, const char *why)
{
	char text[ERR_TEXT_MAX];

	if (!ev_is_active(&model->trial.look) ||
	    ++model->trial.n_deaths < TRIAL_DEATHS_MAX)
		return;
	(void)snprintf(text, sizeof(text), "%u loaders died; the last: %.380s",
	               model->trial.n_deaths, why);
	trial_roll_back(model, text, EVIDENCE_ENDED, 0);
}

void trial_init(struct model *model)
{
	queue_listen(&model->queue, trial_on_answer, model);
	ev_timer_init(&model->trial.look, trial_on_look, 0., 0.);
	model->trial.look.data = model;
}

void trial_fini(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->trial.look);
	trial_forget_evidence(model);
}
