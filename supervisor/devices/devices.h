/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * All devices: main memory, and every GPU that a model or a section names. A GPU is
 * known by its UUID; "cuda:N" is looked up once: the N-th card as the driver counts
 * them (nvidia-smi does so, too), or the N-th in CUDA_VISIBLE_DEVICES when moultd has
 * that.
 */

#include <jansson.h>
#include <stddef.h>

#include "supervisor/config/config.h"
#include "supervisor/devices/device.h"
#include "supervisor/devices/nvml.h"

#define DEVICES_GPUS_MAX NVML_CARDS_MAX

struct devices {
	struct device host;
	struct nvml nvml;
	char *helper; /* path of moult-nvml; NULL until one is needed */
	struct device gpus[DEVICES_GPUS_MAX];
	size_t n_gpus;
	const struct config *config; /* borrowed: the newest */
};

void devices_init(struct devices *devices, struct ev_loop *loop);
void devices_fini(struct devices *devices);

/* Budgets and reserves count from now on; starts asking the driver when a model or a section
 * names a GPU. */
void devices_set_config(struct devices *devices, const struct config *config);
/* Waits for the driver's first report, NVML_START_MS at most. For the start, before
 * anybody is served. */
void devices_wait(struct devices *devices);

/* Checks that a model's @device can be used, as far as is known. 0, or -ENODEV with a
 * sentence when the driver has no such card. */
int devices_check(const struct devices *devices, const char *device, struct err *err);
/* The GPU that a model's @device means, borrowed; NULL: none, or one that is not
 * there. */
struct device *devices_gpu(struct devices *devices, const char *device);
/* The driver's number of a card; -1: not known. */
int devices_index(const struct devices *devices, const struct device *gpu);
/* Main memory, as far as loaders are concerned: a new reference. */
json_t *devices_memory_to_json(struct devices *devices);
/* All GPUs for `moultctl status`: a new reference. */
json_t *devices_to_json(struct devices *devices);
