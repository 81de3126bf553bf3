/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where the weights of a generation lie. Shared ones are referred to by every generation
 * that maps them and by the model for as long as they serve, so that they survive a loader
 * that dies; what is to serve no more is let go before anything takes its place.
 */

#include "shared/log.h"
#include "supervisor/model_state.h"

#define RELOAD_WEIGHTS_MAX (4 + MODEL_REPLICAS)
/* So many loaders in a row were of no use over one copy: it may be what is wrong. */
#define RELOAD_WEIGHTS_DOUBT 2

static const struct inputs *reload_weights_last(const struct model *model)
{
	return model->active ? model->active->inputs : model->good;
}

/* An engine that could not share is not asked again until it is told something else. */
static bool reload_weights_cannot(const struct model *model, const struct inputs *inputs)
{
	const struct inputs *last = reload_weights_last(model);

	return last && *last->why_private.text &&
	       !config_model_needs_generation(last->section, inputs->section);
}

enum config_share reload_weights_share(const struct model *model,
                                       const struct inputs *inputs)
{
	if (inputs->weights_fd < 0 || reload_weights_cannot(model, inputs))
		return CONFIG_SHARE_OFF;
	return inputs->section->share;
}

/* Every copy that this model refers to, once. */
static size_t reload_weights_list(const struct model *model,
                                  const struct store_copy **ret_list)
{
	const struct store_copy *all[RELOAD_WEIGHTS_MAX] = {
		model->copy,
		model->active ? model->active->copy : NULL,
		model->retiring ? model->retiring->copy : NULL,
		model->candidate ? model->candidate->copy : NULL,
	};
	size_t count = 0;

	for (size_t i = 0; i < MODEL_REPLICAS; i++)
		all[4 + i] = model->replicas[i] ? model->replicas[i]->copy : NULL;
	for (size_t i = 0; i < RELOAD_WEIGHTS_MAX; i++) {
		bool is_new = all[i] != NULL;

		for (size_t j = 0; j < count; j++)
			is_new = is_new && ret_list[j] != all[i];
		if (is_new)
			ret_list[count++] = all[i];
	}
	return count;
}

uint64_t reload_weights_bytes(const struct model *model)
{
	const struct store_copy *list[RELOAD_WEIGHTS_MAX];
	size_t count = reload_weights_list(model, list);
	uint64_t bytes = 0;

	(void)device_measure(model->context.device);
	for (size_t i = 0; i < count; i++)
		bytes += list[i]->use.now_bytes;
	return bytes;
}

/* The weights that serve now and that nobody but this model has. */
static uint64_t reload_weights_own_bytes(const struct model *model)
{
	const struct generation *mine[] = { model->active, model->retiring,
		                            model->candidate };
	unsigned int refs = 1;

	for (size_t i = 0; i < sizeof(mine) / sizeof(mine[0]); i++)
		refs += mine[i] && mine[i]->copy == model->copy;
	for (size_t i = 0; i < MODEL_REPLICAS; i++)
		refs += model->replicas[i] && model->replicas[i]->copy == model->copy;
	return model->copy && model->copy->refs <= refs ? store_copy_bytes(model->copy)
	                                                : 0;
}

void reload_weights_doubt(struct model *model)
{
	if (!model->copy || reload_old(model) ||
	    model->deaths.n_deaths < RELOAD_WEIGHTS_DOUBT || model->copy->n_serving > 0)
		return;
	log_event(LOG_LEVEL_WARNING, "weights_doubted",
	          "model=%s weights_sha256=%.16s action=\"reading the model file again\"",
	          model->name, model->copy->sha256);
	/* Models that hold it still cannot serve with it either. */
	store_copy_abandon(model->copy);
	store_copy_unref(model->copy);
	model->copy = NULL;
}

bool reload_weights_wait(const struct model *model, const struct inputs *inputs)
{
	return reload_weights_share(model, inputs) == CONFIG_SHARE_MEMORY &&
	       !store_find(model->context.store, &inputs->file) &&
	       store_is_coming(model->context.store, &inputs->file, !model->active);
}

void reload_weights_note(const struct model *model, const struct inputs *inputs,
                         struct strategy_facts *facts)
{
	enum config_share share = reload_weights_share(model, inputs);
	const struct store_copy *copy = NULL;

	if (share == CONFIG_SHARE_MEMORY) {
		copy = store_find(model->context.store, &inputs->file);
		facts->is_resident = copy != NULL;
		facts->copy_bytes = copy ? 0 : (uint64_t)inputs->file.st_size;
	}
	if (share == CONFIG_SHARE_FILE)
		facts->is_resident =
			model->good &&
			inputs_is_same_file(&model->good->file, &inputs->file);
	if (copy != model->copy)
		facts->resident_bytes = reload_weights_own_bytes(model);
	facts->old_bytes += facts->resident_bytes;
}

/* Operators who share the file itself vouch for it: it is hashed once. */
static const char *reload_weights_known_hash(const struct model *model,
                                             const struct inputs *inputs)
{
	const struct inputs *good = model->good;

	return good && good->weights_sha256[0] &&
	                       inputs_is_same_file(&good->file, &inputs->file)
	               ? good->weights_sha256
	               : NULL;
}

int reload_weights_begin(struct model *model, struct generation_start *start,
                         struct err *err)
{
	const struct inputs *inputs = start->inputs;
	enum config_share share = reload_weights_share(model, inputs);
	const struct store_wish wish = {
		.file = &inputs->file,
		.claim_bytes = start->manner.is_lean ? 0 : (uint64_t)inputs->file.st_size,
		.is_urgent = start->manner.is_urgent,
		.is_late = start->manner.is_lean,
	};
	int r;

	if (!reload_old(model) && start->manner.is_lean)
		reload_weights_make_room(model, inputs);
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

void reload_weights_learn(const struct model *model, const struct generation *fresh)
{
	struct inputs *inputs = fresh->inputs;

	inputs->footprint.is_private =
		!fresh->copy && inputs->section->share != CONFIG_SHARE_FILE;
	if (*fresh->report.why_private.text)
		inputs->why_private = fresh->report.why_private;
	else if (reload_weights_cannot(model, inputs))
		inputs->why_private = reload_weights_last(model)->why_private;
}

json_t *reload_weights_to_json(const struct model *model)
{
	static const char *const names[] = {
		[CONFIG_SHARE_MEMORY] = "memory",
		[CONFIG_SHARE_FILE] = "file",
		[CONFIG_SHARE_OFF] = "off",
	};
	const struct inputs *inputs = model->active ? model->active->inputs : NULL;
	enum config_share share = CONFIG_SHARE_OFF;

	if (inputs)
		share = reload_weights_share(model, inputs);
	return json_pack("{s:s,s:I,s:s?}", "share", names[share], "shared_bytes",
	                 (json_int_t)reload_weights_bytes(model), "why_private",
	                 inputs && *inputs->why_private.text ? inputs->why_private.text
	                                                     : NULL);
}

void reload_weights_make_room(struct model *model, const struct inputs *inputs)
{
	const struct store_copy *next = NULL;

	/* As it was reckoned with: see reload_weights_note(). */
	if (reload_weights_share(model, inputs) == CONFIG_SHARE_MEMORY)
		next = store_find(model->context.store, &inputs->file);
	if (model->copy != next) {
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
