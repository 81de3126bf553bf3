/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any bytes as moult.conf: refused with a sentence, or accepted and then printable. What
 * was accepted equals itself.
 */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/config.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);

static void use(const struct config *config)
{
	FREE char *all = config_to_json(config);
	char keys[256];

	assert(all);
	assert(config_restart_keys(config, config, keys, sizeof(keys)) == 0);
	for (size_t i = 0; i < config->n_models; i++) {
		const struct config_model *model = config->models[i];
		FREE char *json =
			config_model_to_json(config, model, (struct config_manner){ 0 });

		assert(json);
		assert(!config_model_needs_generation(model, model));
		assert(config_find(config, model->name) == model);
	}
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
	CLOSE_FD int fd = memfd_create("moult.conf", MFD_CLOEXEC);
	struct config *config = NULL;
	struct err err = ERR_NULL;
	char path[64];

	if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes)
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (config_load(&config, path, &err) == 0)
		use(config);
	else
		assert(err.text[0] != '\0' && !config);
	config_unref(config);
	return 0;
}
