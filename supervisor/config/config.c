/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A configuration as a whole: its birth and end, its defaults, and what differs from
 * another one. All of that walks over the rows without knowing any of them: a new key
 * needs no change here. load.c reads files into it; a value is value.c; the rows are
 * keys.c and keys_supervisor.c.
 */

#include "supervisor/config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/config/file.h"
#include "supervisor/config/keys.h"
#include "supervisor/config/value.h"

int config_new(struct config **ret_config, const char *file)
{
	struct config *config = calloc(1, sizeof(*config));

	if (!config)
		return -ENOMEM;
	config->refs = 1;
	config->file = strdup(file);
	if (!config->file) {
		config_unref(config);
		return -ENOMEM;
	}
	*ret_config = config;
	return 0;
}

struct config *config_ref(struct config *config)
{
	config->refs++;
	return config;
}

static void config_model_free(struct config_model *model)
{
	if (!model)
		return;
	for (size_t i = 0; i < config_model_table.n_keys; i++)
		config_value_fini(&config_model_table.keys[i], model);
	free(model->file);
	free(model->doubts);
	free(model);
}

void config_unref(struct config *config)
{
	if (!config || --config->refs > 0)
		return;
	for (size_t i = 0; i < config->n_models; i++)
		config_model_free(config->models[i]);
	for (size_t i = 0; i < config_supervisor_table.n_keys; i++)
		config_value_fini(&config_supervisor_table.keys[i], config);
	free(config->file);
	free(config);
}

int config_set_defaults(const struct config_table *table, void *object, struct err *err)
{
	for (size_t i = 0; i < table->n_keys; i++) {
		const struct config_key *key = &table->keys[i];
		struct config_setting setting = { .name = key->name,
			                          .text = key->fallback };
		int r;

		if (!key->fallback)
			continue;
		r = config_value_set(key, object, &setting, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int config_set_all_defaults(struct config *config, struct err *err)
{
	int r = config_set_defaults(&config_supervisor_table, config, err);

	if (r == 0)
		r = config_set_defaults(&config_device_table, &config->host, err);
	if (r == 0)
		r = config_set_defaults(&config_device_table, &config->gpu_fallback, err);
	return r;
}

static bool is_one_word(const struct config *config, const char *word)
{
	return config->n_ready == 1 && strcmp(config->ready[0], word) == 0;
}

bool config_ready_is_all(const struct config *config)
{
	return is_one_word(config, "all");
}

bool config_ready_is_any(const struct config *config)
{
	return is_one_word(config, "any");
}

const char *config_empty_folder(const struct config *config, const char **ret_path)
{
	if (config->models_dir && config->n_in_dir == 0) {
		*ret_path = config->models_dir;
		return "models_dir";
	}
	if (config->model_repository && config->n_in_repository == 0) {
		*ret_path = config->model_repository;
		return "model_repository";
	}
	return NULL;
}

bool config_is_emptied(const struct config *running, const struct config *fresh,
                       struct err *ret_why)
{
	const char *first = NULL;
	const char *path = NULL;
	const char *key = config_empty_folder(fresh, &path);
	size_t n_lost = 0;

	if (!key)
		return false;
	for (size_t i = 0; i < running->n_models; i++) {
		const struct config_model *model = running->models[i];

		if (!model->is_in_dir || config_find(fresh, model->name))
			continue;
		first = first ? first : model->name;
		n_lost++;
	}
	if (n_lost > 0)
		(void)err_set(
			ret_why, 0,
			"%s: %s: %s: has not one %s any more, and %zu models were there "
			"('%s'): if that is meant, say so with `moultctl reload`",
			fresh->file, key, path,
			path == fresh->models_dir ? "file NAME.conf" : "model", n_lost,
			first);
	return n_lost > 0;
}

const struct config_model *config_find(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_models; i++)
		if (strcmp(config->models[i]->name, name) == 0)
			return config->models[i];
	return NULL;
}

/* Prints the names of the keys of @class that differ into @text. Returns how many. */
static size_t differing(const struct config_table *table, enum config_class class,
                        const void *running, const void *fresh, char *text, size_t size)
{
	size_t count = 0;
	size_t used = 0;

	if (size > 0)
		text[0] = '\0';
	for (size_t i = 0; i < table->n_keys; i++) {
		const struct config_key *key = &table->keys[i];
		int n;

		if (key->class != class || config_value_equal(key, running, fresh))
			continue;
		if (used < size) {
			n = snprintf(text + used, size - used, "%s%s", count ? ", " : "",
			             key->name);
			used += n > 0 ? (size_t)n : 0;
		}
		count++;
	}
	return count;
}

size_t config_restart_keys(const struct config *running, const struct config *fresh,
                           char *text, size_t size)
{
	return differing(&config_supervisor_table, CONFIG_RESTART, running, fresh, text,
	                 size);
}

size_t config_model_restart_keys(const struct config_model *running,
                                 const struct config_model *fresh, char *text,
                                 size_t size)
{
	return differing(&config_model_table, CONFIG_RESTART, running, fresh, text, size);
}

static int keep_keys(const struct config_table *table, void *fresh, const void *running)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < table->n_keys; i++)
		if (table->keys[i].class == CONFIG_RESTART)
			r = config_value_copy(&table->keys[i], fresh, running);
	return r;
}

int config_keep_restart_keys(struct config *fresh, const struct config *running)
{
	int r = keep_keys(&config_supervisor_table, fresh, running);

	for (size_t i = 0; r == 0 && i < fresh->n_models; i++) {
		const struct config_model *model =
			config_find(running, fresh->models[i]->name);

		if (model)
			r = keep_keys(&config_model_table, fresh->models[i], model);
	}
	return r;
}

bool config_model_needs_generation(const struct config_model *running,
                                   const struct config_model *fresh)
{
	return differing(&config_model_table, CONFIG_NEW_GENERATION, running, fresh, NULL,
	                 0) > 0;
}
