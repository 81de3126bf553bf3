/* SPDX-License-Identifier: Apache-2.0 */

/* Which spares there are: a row for each recipe, rows of one engine beside each other. */

#include "supervisor/spares/spares.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/spares/spare.h"

struct spares {
	struct spare_ground ground;
	struct spare *rows[CONFIG_MODELS_MAX];
	size_t n_rows;
	ev_timer look; /* looks for files that were replaced, and at memory */
};

static void spares_on_look(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct spares *spares = timer->data;

	(void)loop;
	(void)revents;
	for (size_t i = 0; i < spares->n_rows; i++)
		if (!spare_end_if_old(spares->rows[i]))
			(void)spare_end_if_short(spares->rows[i]);
}

/* Rows */

static struct spare *spares_find(const struct spares *spares, const struct recipe *recipe)
{
	for (size_t i = 0; i < spares->n_rows; i++)
		if (spare_is_of(spares->rows[i], recipe))
			return spares->rows[i];
	return NULL;
}

/* Where a row of @engine goes: behind its others. */
static size_t spares_place(const struct spares *spares, const char *engine)
{
	size_t i = spares->n_rows;

	while (i > 0 && strcmp(spare_engine(spares->rows[i - 1]), engine) != 0)
		i--;
	return i > 0 ? i : spares->n_rows;
}

/* Takes @recipe. Without memory the next configuration brings another chance. */
static void spares_add(struct spares *spares, const char *engine, struct recipe *recipe)
{
	struct spare *spare = spare_new(&spares->ground, engine, recipe);
	size_t at = spares_place(spares, engine);

	if (!spare)
		return;
	memmove(&spares->rows[at + 1], &spares->rows[at],
	        (spares->n_rows - at) * sizeof(spares->rows[0]));
	spares->rows[at] = spare;
	spares->n_rows++;
}

static void spares_remove(struct spares *spares, size_t at)
{
	spare_free(spares->rows[at], "no model asks for it any more");
	spares->n_rows--;
	memmove(&spares->rows[at], &spares->rows[at + 1],
	        (spares->n_rows - at) * sizeof(spares->rows[0]));
}

/* Recipes of the models that ask for a spare. */
struct spares_wanted {
	struct recipe rows[CONFIG_MODELS_MAX];
	const char *engines[CONFIG_MODELS_MAX];
	size_t n_rows;
};

static struct spares_wanted *spares_want(const struct config *config)
{
	struct spares_wanted *wanted = calloc(1, sizeof(*wanted));
	struct err err = ERR_NULL;

	for (size_t i = 0; wanted && i < config->n_models; i++) {
		const struct config_model *section = config->models[i];
		struct recipe *recipe = &wanted->rows[wanted->n_rows];

		if (!section->spare)
			continue;
		if (recipe_init_spare(recipe, config, section, section, &err) < 0) {
			recipe_fini(recipe);
			continue;
		}
		wanted->engines[wanted->n_rows++] = section->engine;
	}
	return wanted;
}

static bool spares_is_wanted(const struct spares_wanted *wanted,
                             const struct spare *spare)
{
	for (size_t i = 0; i < wanted->n_rows; i++)
		if (spare_is_of(spare, &wanted->rows[i]))
			return true;
	return false;
}

void spares_set_config(struct spares *spares, const struct config *config)
{
	double look_s = (double)config->poll_ns / 1e9;
	struct spares_wanted *wanted = spares_want(config);

	spares->ground.config = config;
	/* Remove first: rows[] has room for one row per model. */
	for (size_t i = spares->n_rows; i-- > 0;)
		if (!wanted || !spares_is_wanted(wanted, spares->rows[i]))
			spares_remove(spares, i);
	for (size_t i = 0; wanted && i < wanted->n_rows; i++) {
		if (!spares_find(spares, &wanted->rows[i]))
			spares_add(spares, wanted->engines[i], &wanted->rows[i]);
		recipe_fini(&wanted->rows[i]);
	}
	free(wanted);
	ev_timer_stop(spares->ground.loop, &spares->look);
	if (spares->n_rows == 0)
		return;
	ev_timer_set(&spares->look, look_s, look_s);
	ev_timer_start(spares->ground.loop, &spares->look);
}

void spares_stop(struct spares *spares)
{
	ev_timer_stop(spares->ground.loop, &spares->look);
	while (spares->n_rows > 0)
		spares_remove(spares, spares->n_rows - 1);
}

/* Use */

bool spares_take(struct spares *spares, const struct recipe *recipe, uint64_t number,
                 struct child *ret_child, const struct child_listener *listener,
                 struct chan *ret_chan)
{
	struct spare *spare = spares_find(spares, recipe);

	return spare && spare_is_ready(spare) && !spare_end_if_old(spare) &&
	       spare_take(spare, number, ret_child, listener, ret_chan);
}

void spares_return(struct spares *spares, const struct recipe *recipe,
                   struct child *child)
{
	struct spare *spare = spares_find(spares, recipe);

	if (spare)
		spare_note_return(spare);
	graves_bury(&spares->ground.graves, child);
}

uint64_t spares_bytes(const struct spares *spares)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < spares->n_rows; i++)
		bytes += spare_bytes(spares->rows[i]);
	return bytes;
}

uint64_t spares_bytes_to_take(const struct spares *spares, const struct recipe *recipe)
{
	const struct spare *spare = spares_find(spares, recipe);

	return spare && spare_is_ready(spare) ? spare_bytes(spare) : 0;
}

void spares_make_room(struct spares *spares, const char *why)
{
	for (size_t i = 0; i < spares->n_rows; i++)
		spare_make_room(spares->rows[i], why);
}

/* Figures */

bool spares_sum(const struct spares *spares, size_t *at, struct spare_counts *ret_counts)
{
	if (*at >= spares->n_rows)
		return false;
	spare_begin_count(spares->rows[*at], ret_counts);
	for (; *at < spares->n_rows &&
	       strcmp(spare_engine(spares->rows[*at]), ret_counts->engine) == 0;
	     (*at)++)
		spare_count(spares->rows[*at], ret_counts);
	return true;
}

json_t *spares_to_json(const struct spares *spares)
{
	json_t *array = json_array();

	device_measure(spares->ground.device);
	for (size_t i = 0; i < spares->n_rows; i++)
		(void)json_array_append_new(array, spare_to_json(spares->rows[i]));
	return array;
}

/* Birth and death */

int spares_new(struct spares **ret_spares, struct ev_loop *loop, struct device *device,
               const struct engine_bases *bases)
{
	struct spares *spares = calloc(1, sizeof(*spares));

	if (!spares)
		return -ENOMEM;
	spares->ground.loop = loop;
	spares->ground.device = device;
	spares->ground.bases = bases;
	graves_init(&spares->ground.graves, device);
	ev_init(&spares->look, spares_on_look);
	spares->look.data = spares;
	*ret_spares = spares;
	return 0;
}

void spares_free(struct spares *spares)
{
	if (!spares)
		return;
	spares_stop(spares);
	graves_fini(&spares->ground.graves);
	free(spares);
}
