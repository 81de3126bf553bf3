/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any bytes as moult.conf: refused with a sentence, or accepted and then printable. An accepted
 * configuration equals itself, also after it was written and read again. Behind a form feed a
 * second file begins, which takes the place of the first.
 */

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/config/config.h"
#include "supervisor/config/file.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);

/* Checks that a section reads back: it is kept as text beside the one that served last. */
static void check_section(const struct config *config, const struct config_model *model)
{
	FREE char *text = config_model_to_text(model);
	struct config *copy = NULL;
	struct err err = ERR_NULL;

	assert(text);
	assert(config_of_section(&copy, config, text, &err) == 0);
	assert(copy->n_models == 1);
	assert(strcmp(copy->models[0]->name, model->name) == 0);
	assert(!config_model_needs_generation(model, copy->models[0]));
	config_unref(copy);
}

/* Checks the same for the other sections. */
static void check_head(const struct config *config)
{
	FREE char *text = config_head_to_text(config);
	struct config *copy = NULL;
	char keys[256];
	struct err err = ERR_NULL;

	assert(text && config_new(&copy, config->file) == 0);
	assert(config_read_text(copy, text, CONFIG_FILE_MAIN, &err) == 0);
	assert(config_restart_keys(config, copy, keys, sizeof(keys)) == 0);
	assert(copy->host.budget_bytes == config->host.budget_bytes);
	assert(copy->settle_ns == config->settle_ns);
	config_unref(copy);
}

static void check(const struct config *config)
{
	json_t *all = config_to_json(config);
	char keys[256];

	assert(all);
	json_decref(all);
	assert(config_restart_keys(config, config, keys, sizeof(keys)) == 0);
	check_head(config);
	for (size_t i = 0; i < config->n_models; i++) {
		const struct config_model *model = config->models[i];
		FREE char *json =
			config_model_to_json(config, model,
		                             (struct config_manner){ .is_lean = i & 1 });

		assert(json);
		assert(!config_model_needs_generation(model, model));
		assert(config_find(config, model->name) == model);
		check_section(config, model);
	}
}

/* Puts @fresh in the place of @running, whose values go on where a restart is needed. */
static void replace(const struct config *running, struct config *fresh)
{
	char keys[256];

	(void)config_restart_keys(running, fresh, keys, sizeof(keys));
	assert(config_keep_restart_keys(fresh, running) == 0);
	assert(config_restart_keys(running, fresh, keys, sizeof(keys)) == 0);
	for (size_t i = 0; i < fresh->n_models; i++) {
		const struct config_model *model = fresh->models[i];
		const struct config_model *old = config_find(running, model->name);

		if (!old)
			continue;
		(void)config_model_needs_generation(old, model);
		assert(config_model_restart_keys(old, model, keys, sizeof(keys)) == 0);
	}
}

static struct config *load(const unsigned char *data, size_t bytes)
{
	CLOSE_FD int fd = memfd_create("moult.conf", MFD_CLOEXEC);
	struct config *config = NULL;
	struct err err = ERR_NULL;
	char path[64];

	if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes)
		return NULL;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (config_load(&config, path, &err) == 0)
		check(config);
	else
		assert(err.text[0] != '\0' && !config);
	return config;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
	const unsigned char *split = bytes > 0 ? memchr(data, '\f', bytes) : NULL;
	size_t first = split ? (size_t)(split - data) : bytes;
	struct config *running = load(data, first);

	if (split && running) {
		struct config *fresh = load(split + 1, bytes - first - 1);

		if (fresh)
			replace(running, fresh);
		config_unref(fresh);
	}
	config_unref(running);
	return 0;
}
