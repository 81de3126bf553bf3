/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where the weights of a generation lie. Shared weights are referred to by every
 * generation that maps them, and by the model for as long as they serve, so that they
 * survive a loader that dies. Weights that are to serve no more are let go before
 * anything takes their place.
 *
 * reload_weights_share() says how a generation has its weights: the section's wish,
 * unless a loader said that it cannot. reload_weights_begin() takes a copy from the store
 * for a candidate or a replica; reload_weights_swap() makes it the model's when the
 * candidate serves.
 */

#include <signal.h>
#include <sys/wait.h>

#include "shared/file.h"
#include "shared/log.h"
#include "shared/proto.h"
#include "supervisor/reload/reload.h"

#define RELOAD_WEIGHTS_MAX (1 + FLEET_MAX)
/* After so many useless loaders in a row over one copy, the copy may be at fault. */
#define RELOAD_WEIGHTS_DOUBT 2

static const struct inputs *reload_weights_last(const struct model *model)
{
	return model->fleet.active ? model->fleet.active->inputs : model->ledger.good;
}

/* Finds inputs that a loader was told to share and could not; or NULL. An engine or a
 * card that can never share such weights is not asked again until it is told something
 * else, is given another file, or somebody asks (reload_weights_forget()). */
static const struct inputs *reload_weights_cannot(const struct model *model,
                                                  const struct inputs *inputs)
{
	const struct inputs *told[] = { reload_weights_last(model),
		                        model->ledger.writer };

	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
		if (told[i] && told[i]->is_private_lasting &&
		    file_is_same(&told[i]->file, &inputs->file) &&
		    !config_model_needs_generation(told[i]->section, inputs->section))
			return told[i];
	return NULL;
}

/* Inputs that a loader has died of stay known: the next would die of them as well. */
void reload_weights_forget(struct model *model)
{
	if (model->fleet.active && model->fleet.active->inputs != model->ledger.writer)
		inputs_learn_anew(model->fleet.active->inputs);
	if (model->ledger.good && model->ledger.good != model->ledger.writer)
		inputs_learn_anew(model->ledger.good);
}

/* True: the candidate of @inputs has said that its weights are private. */
static bool reload_weights_are_private(const struct model *model,
                                       const struct inputs *inputs)
{
	const struct generation *candidate = model->fleet.candidate;

	return candidate && candidate->inputs == inputs &&
	       *candidate->report.why_private.text;
}

enum config_share reload_weights_share(const struct model *model,
                                       const struct inputs *inputs)
{
	if (inputs->weights_fd < 0 || reload_weights_cannot(model, inputs) ||
	    reload_weights_are_private(model, inputs))
		return CONFIG_SHARE_OFF;
	return inputs->section->share;
}

struct device *reload_weights_gpu(const struct model *model, const struct inputs *inputs)
{
	return reload_weights_share(model, inputs) == CONFIG_SHARE_OFF
	               ? NULL
	               : devices_gpu(model->context.devices, inputs->section->device);
}

struct store_copy *reload_weights_placed(const struct model *model,
                                         const struct inputs *inputs)
{
	const struct device *gpu = reload_weights_gpu(model, inputs);

	return gpu ? store_find(model->context.store, gpu, &inputs->file) : NULL;
}

/* The copy that a generation of @inputs would take as it is, or NULL. */
static struct store_copy *reload_weights_next(const struct model *model,
                                              const struct inputs *inputs)
{
	if (reload_weights_gpu(model, inputs))
		return reload_weights_placed(model, inputs);
	return reload_weights_share(model, inputs) == CONFIG_SHARE_MEMORY
	               ? store_find(model->context.store, model->context.device,
	                            &inputs->file)
	               : NULL;
}

/* Lists every copy that this model refers to, once. */
static size_t reload_weights_list(const struct model *model, struct store_copy **ret_list)
{
	struct generation *loaders[FLEET_MAX];
	size_t n = fleet_list(&model->fleet, loaders);
	size_t count = 0;

	if (model->copy)
		ret_list[count++] = model->copy;
	for (size_t i = 0; i < n; i++) {
		bool is_new = loaders[i]->copy != NULL;

		for (size_t j = 0; j < count; j++)
			is_new = is_new && ret_list[j] != loaders[i]->copy;
		if (is_new)
			ret_list[count++] = loaders[i]->copy;
	}
	return count;
}

/* Looks at the listed copies alone: measuring the device would look at every loader. */
static uint64_t reload_weights_held(const struct model *model)
{
	struct store_copy *list[RELOAD_WEIGHTS_MAX];
	size_t count = reload_weights_list(model, list);
	uint64_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		if (!store_copy_is_placed(list[i]))
			bytes += device_look(&list[i]->use);
	return bytes;
}

uint64_t reload_weights_bytes(const struct model *model)
{
	(void)device_measure(model->context.device);
	return reload_weights_held(model);
}

/* True: nobody but this model has the weights that serve now. */
static bool reload_weights_is_own(const struct model *model)
{
	struct generation *mine[FLEET_MAX];
	size_t n = fleet_list(&model->fleet, mine);
	unsigned int refs = 1;

	for (size_t i = 0; i < n; i++)
		refs += mine[i]->copy == model->copy;
	return model->copy && model->copy->refs <= refs;
}

uint64_t reload_weights_gpu_bytes(const struct model *model, const struct device *gpu)
{
	return reload_weights_is_own(model) && model->copy->device == gpu
	               ? model->copy->use.memory_bytes
	               : 0;
}

void reload_weights_doubt(struct model *model)
{
	if (!model->copy || fleet_old(&model->fleet) ||
	    model->retry.deaths.n_deaths < RELOAD_WEIGHTS_DOUBT ||
	    model->copy->n_serving > 0)
		return;
	log_event(LOG_LEVEL_WARNING, "weights_doubted",
	          "model=%s weights_sha256=%.16s action=\"reading the model file again\"",
	          model->name, model->copy->sha256);
	/* Models that still hold the copy cannot serve with it either. */
	store_copy_spoil(model->copy);
	store_copy_unref(model->copy);
	model->copy = NULL;
}

bool reload_weights_wait(const struct model *model, const struct inputs *inputs)
{
	const struct device *gpu = reload_weights_gpu(model, inputs);

	return (gpu || reload_weights_share(model, inputs) == CONFIG_SHARE_MEMORY) &&
	       !reload_weights_next(model, inputs) &&
	       store_is_coming(model->context.store, gpu ? gpu : model->context.device,
	                       &inputs->file, !model->fleet.active);
}

void reload_weights_note(const struct model *model, const struct inputs *inputs,
                         struct strategy_facts *facts)
{
	enum config_share share = reload_weights_share(model, inputs);
	const struct store_copy *copy = reload_weights_next(model, inputs);

	if (reload_weights_gpu(model, inputs)) {
		/* Main memory is only passed through, page by page. */
		facts->is_resident = true;
	} else if (share == CONFIG_SHARE_MEMORY) {
		facts->is_resident = copy != NULL;
		facts->copy_bytes = copy ? 0 : (uint64_t)inputs->file.st_size;
	} else if (share == CONFIG_SHARE_FILE) {
		facts->is_resident =
			model->ledger.good &&
			file_is_same(&model->ledger.good->file, &inputs->file);
	}
	if (copy != model->copy && !store_copy_is_placed(model->copy) &&
	    reload_weights_is_own(model))
		facts->resident_bytes = store_copy_bytes(model->copy);
	facts->old_bytes += facts->resident_bytes;
}

/* The hash of a file that is shared itself is computed once: operators vouch for the
 * file. */
static const char *reload_weights_known_hash(const struct model *model,
                                             const struct inputs *inputs)
{
	const struct inputs *good = model->ledger.good;

	return good && good->weights_sha256[0] && file_is_same(&good->file, &inputs->file)
	               ? good->weights_sha256
	               : NULL;
}

static int reload_weights_begin_placed(struct model *model,
                                       struct generation_start *start, struct device *gpu,
                                       struct err *err)
{
	const struct inputs *inputs = start->inputs;
	struct config_manner *manner = &start->manner;
	const struct store_copy *copy;
	const struct store_wish wish = {
		.device = gpu,
		.file = &inputs->file,
		.is_urgent = manner->is_urgent,
		.is_late = true,
	};
	int r = store_take(model->context.store, &wish, &start->copy, err);

	if (r < 0)
		return r;
	copy = start->copy;
	manner->placed = copy->is_full ? "map" : "fill";
	if (copy->is_full) {
		manner->weights_sha256 = copy->sha256;
		manner->chunk_bytes = copy->chunks.chunk_bytes;
		manner->mapped_bytes = copy->chunks.mapped_bytes;
		manner->canary = copy->chunks.canary;
	} else if (inputs->section->share == CONFIG_SHARE_FILE) {
		manner->weights_sha256 = reload_weights_known_hash(model, inputs);
	}
	return 0;
}

int reload_weights_begin(struct model *model, struct generation_start *start,
                         struct err *err)
{
	const struct inputs *inputs = start->inputs;
	enum config_share share = reload_weights_share(model, inputs);
	struct device *gpu = reload_weights_gpu(model, inputs);
	const struct store_wish wish = {
		.device = model->context.device,
		.file = &inputs->file,
		.claim_bytes = start->manner.is_lean ? 0 : (uint64_t)inputs->file.st_size,
		.is_urgent = start->manner.is_urgent,
		.is_late = start->manner.is_lean,
	};
	int r;

	/* A placed copy is kept until COMMIT, for its chunks. */
	if (!fleet_old(&model->fleet) && start->manner.is_lean && !gpu)
		reload_weights_make_room(model, inputs);
	if (gpu)
		return reload_weights_begin_placed(model, start, gpu, err);
	/* A loader that could not share has its weights placed nevertheless. */
	if (reload_weights_cannot(model, inputs) && inputs->weights_fd >= 0 &&
	    inputs->section->share != CONFIG_SHARE_OFF &&
	    devices_gpu(model->context.devices, inputs->section->device))
		start->manner.placed = "private";
	if (share == CONFIG_SHARE_FILE) {
		start->manner.weights = "map";
		start->manner.weights_sha256 = reload_weights_known_hash(model, inputs);
	}
	if (share != CONFIG_SHARE_MEMORY)
		return 0;
	r = store_take(model->context.store, &wish, &start->copy, err);
	if (r < 0)
		return r;
	start->manner.weights = start->copy->is_full ? "map" : "fill";
	start->manner.weights_sha256 = start->copy->is_full ? start->copy->sha256 : NULL;
	return 0;
}

bool reload_weights_learn(const struct model *model, const struct generation *fresh)
{
	struct inputs *inputs = fresh->inputs;
	const struct inputs *told = reload_weights_cannot(model, inputs);
	const struct err *why = told ? &told->why_private : NULL;
	bool is_lasting = told != NULL;

	if (*fresh->report.why_private.text) {
		why = &fresh->report.why_private;
		is_lasting = fresh->report.is_private_lasting;
	}
	inputs_learn_private(inputs, why, is_lasting);
	return !fresh->copy && (inputs->section->share != CONFIG_SHARE_FILE || why);
}

json_t *reload_weights_to_json(const struct model *model)
{
	static const char *const names[] = {
		[CONFIG_SHARE_MEMORY] = "memory",
		[CONFIG_SHARE_FILE] = "file",
		[CONFIG_SHARE_OFF] = "off",
	};
	const struct inputs *inputs =
		model->fleet.active ? model->fleet.active->inputs : NULL;
	enum config_share share = CONFIG_SHARE_OFF;

	if (inputs)
		share = reload_weights_share(model, inputs);
	return json_pack("{s:s,s:I,s:I,s:s?}", "share", names[share], "shared_bytes",
	                 (json_int_t)reload_weights_held(model), "device_bytes",
	                 store_copy_is_placed(model->copy)
	                         ? (json_int_t)model->copy->use.memory_bytes
	                         : 0,
	                 "why_private",
	                 inputs && *inputs->why_private.text ? inputs->why_private.text
	                                                     : NULL);
}

void reload_weights_give(struct model *model, const struct generation *candidate)
{
	store_copy_give(candidate->copy, &model->copy);
}

void reload_weights_make_room(struct model *model, const struct inputs *inputs)
{
	/* The condition is that of reload_weights_note(), by which the reload was
	 * decided. */
	if (model->copy != reload_weights_next(model, inputs)) {
		store_copy_unref(model->copy);
		model->copy = NULL;
	}
}

void reload_weights_swap(struct model *model, const struct generation *fresh)
{
	struct store_copy *last = model->copy;

	model->copy = store_copy_ref(fresh ? fresh->copy : NULL);
	store_copy_unref(last);
}

/* Nothing that a process can say tells a fault in its weights from any other: it is
 * supposed once, and a loader that dies of something else does so again. A device without
 * enough memory (PROTO_EXIT_MEMORY) is no fault: with weights of its own a loader would
 * need more. */
bool reload_weights_was_written(struct model *model, const struct generation *dead)
{
	int status = dead->exit_status;
	struct err why;
	bool has_faulted =
		(WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) ||
		(WIFEXITED(status) && WEXITSTATUS(status) == PROTO_EXIT_DEVICE);

	if (!dead->gpu_use.mapped_bytes || !dead->entered_ns[GENERATION_WARMING] ||
	    dead->entered_ns[GENERATION_READY] || !has_faulted)
		return false;
	(void)err_set(
		&why, 0,
		"a loader died in the warm-up over weights that nobody may write to: "
		"%.320s",
		dead->failure.text);
	inputs_learn_private(dead->inputs, &why, true);
	log_event(LOG_LEVEL_WARNING, "weights_private", "model=%s gen=%llu reason=%s",
	          model->name, (unsigned long long)dead->number, LOG_QUOTED(why.text));
	ledger_note_writer(&model->ledger, dead->inputs);
	return true;
}
