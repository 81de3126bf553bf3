/* SPDX-License-Identifier: Apache-2.0 */

/* Sections written out and read back, so that they outlive the files they came from. */

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/cleanup.h"
#include "supervisor/config/file.h"
#include "supervisor/config/keys.h"
#include "supervisor/config/value.h"

static void print_value(FILE *out, const char *name, const json_t *value)
{
	if (json_is_string(value))
		(void)fprintf(out, "%s = %s\n", name, json_string_value(value));
	else if (json_is_integer(value))
		(void)fprintf(out, "%s = %lld\n", name,
		              (long long)json_integer_value(value));
	else if (json_is_boolean(value))
		(void)fprintf(out, "%s = %s\n", name, json_is_true(value) ? "yes" : "no");
}

/* A repeated key is printed in several lines. */
static int print_key(FILE *out, const struct config_key *key, const void *object)
{
	json_t *value = config_value_to_json(key, object);
	size_t i;
	json_t *element;

	if (!value)
		return -ENOMEM;
	print_value(out, key->name, value);
	json_array_foreach(value, i, element) print_value(out, key->name, element);
	json_decref(value);
	return 0;
}

static int print_table(FILE *out, const struct config_table *table, const void *object)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < table->n_keys; i++)
		r = print_key(out, &table->keys[i], object);
	return r;
}

/* Ends a stream in memory. False: a part of it is missing. */
static bool text_end(FILE *out, int r)
{
	bool is_whole = r == 0 && !ferror(out);

	return fclose(out) == 0 && is_whole;
}

char *config_head_to_text(const struct config *config)
{
	FREE char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int r;

	if (!out)
		return NULL;
	(void)fprintf(out, "[supervisor]\n");
	r = print_table(out, &config_supervisor_table, config);
	(void)fprintf(out, "[device host]\n");
	if (r == 0)
		r = print_table(out, &config_device_table, &config->host);
	for (size_t i = 0; r == 0 && i < config->n_gpus; i++) {
		(void)fprintf(out, "[device %s]\n", config->gpus[i].name);
		r = print_table(out, &config_device_table, &config->gpus[i].device);
	}
	return text_end(out, r) ? take_ptr(&text) : NULL;
}

char *config_model_to_text(const struct config_model *model)
{
	FREE char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int r;

	if (!out)
		return NULL;
	(void)fprintf(out, "[model %s]\n", model->name);
	r = print_table(out, &config_model_table, model);
	for (size_t i = 0; i < model->n_options; i++)
		(void)fprintf(out, "option.%s = %s\n", model->options[i].name,
		              model->options[i].value);
	for (size_t i = 0; i < model->n_environment; i++)
		(void)fprintf(out, "environment.%s = %s\n", model->environment[i].name,
		              model->environment[i].value);
	return text_end(out, r) ? take_ptr(&text) : NULL;
}

int config_of_section(struct config **ret_config, const struct config *like,
                      const char *text, struct err *err)
{
	struct config *config = NULL;
	int r = config_new(&config, like->file);

	if (r == 0)
		r = config_set_places(config, like->loader, like->engine_dir);
	if (r == 0 && like->loader_users) {
		config->loader_users = strdup(like->loader_users);
		r = config->loader_users ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = config_read_text(config, text, CONFIG_FILE_MODEL, err);
	if (r < 0) {
		config_unref(config);
		return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
	}
	*ret_config = config;
	return 0;
}
