/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An engine that answers with its input and has its weights in the memory of a fake GPU
 * (fakegpu.h) from commit until it ends, like a framework that copies them there. The card is
 * the one that it is told to see: the last digit of CUDA_VISIBLE_DEVICES.
 *
 * option.mib = N: it has so many, 64 without it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/engine.h"
#include "shared/engine_options.h"
#include "tests/fakes/fakegpu.h"

ENGINE_OPTIONS(fakegpu_options, "mib");

struct engine {
	const struct engine_config *config;
	size_t bytes;
	int memory_fd; /* its memory on the card */
};

static const char *fakegpu_option(const struct engine_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_options; i++)
		if (strcmp(config->options[i].name, name) == 0)
			return config->options[i].value;
	return NULL;
}

static int fakegpu_stage(const struct engine_config *config, struct engine **ret_engine,
                         struct err *err)
{
	const char *mib = fakegpu_option(config, "mib");

	for (size_t i = 0; i < config->n_options; i++)
		if (engine_options_check("fakegpu", fakegpu_options,
		                         config->options[i].name, err))
			return ENGINE_E_CONFIG;
	*ret_engine = calloc(1, sizeof(**ret_engine));
	if (!*ret_engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	(*ret_engine)->config = config;
	(*ret_engine)->memory_fd = -1;
	(*ret_engine)->bytes = (mib ? strtoul(mib, NULL, 10) : 64) << 20;
	return 0;
}

static int fakegpu_commit(struct engine *engine, struct err *err)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");
	struct fakegpu_use use;
	unsigned int card = 0;
	char name[40];
	const char *mib = getenv("NVIDIA_FAKE_MIB");

	if (visible && *visible)
		card = (unsigned int)(visible[strlen(visible) - 1] - '0');
	fakegpu_count(card, &use);
	/* The capacity of fakenvml.c's cards. */
	if (use.bytes + engine->bytes > ((mib ? strtoull(mib, NULL, 10) : 1024) - 256)
	                                        << 20)
		return err_set(err, ENGINE_E_MEMORY, "the card is out of memory");
	fakegpu_name(card, name, sizeof(name));
	engine->memory_fd = memfd_create(name, MFD_CLOEXEC);
	if (engine->memory_fd < 0 ||
	    ftruncate(engine->memory_fd, (off_t)engine->bytes) < 0)
		return err_set(err, ENGINE_E_DEVICE, "no memory of the card: %s",
		               strerror(errno));
	return 0;
}

static int fakegpu_infer(struct engine *engine, const struct engine_tensor *inputs,
                         struct engine_tensor *outputs, struct err *err)
{
	(void)err;
	memcpy(outputs, inputs, engine->config->n_outputs * sizeof(*outputs));
	return 0;
}

static void fakegpu_close(struct engine *engine)
{
	if (engine && engine->memory_fd >= 0)
		(void)close(engine->memory_fd);
	free(engine);
}

const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "fakegpu",
		.version = MOULT_VERSION,
		.stage = fakegpu_stage,
		.commit = fakegpu_commit,
		.infer = fakegpu_infer,
		.close = fakegpu_close,
	};

	return &api;
}
