/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Another moultd, which runs already and answers at its control socket: how much memory
 * its loaders hold. `moultd -t --load` (proof.c) asks before it loads models beside it.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/devices/nvml.h"

struct neighbour_gpu {
	char name[CONFIG_DEVICE_MAX];
	char uuid[NVML_UUID_BYTES]; /* "": not known */
	uint64_t bytes;
};

struct neighbour {
	pid_t pid;
	uint64_t
		host_bytes; /* private memory of its loaders, and weights that they share */
	struct neighbour_gpu gpus[CONFIG_GPUS_MAX];
	size_t n_gpus;
};

enum {
	_NEIGHBOUR_E_SUCCESS,
	NEIGHBOUR_E_NONE,    /* nobody listens there */
	NEIGHBOUR_E_UNKNOWN, /* no answer, or none that makes sense: a sentence */
};

/* Asks the moultd at @control, and blocks for NEIGHBOUR_WAIT_MS at the most. 0, or one of
 * the outcomes above. */
#define NEIGHBOUR_WAIT_MS 5000
int neighbour_look(struct neighbour *ret_neighbour, const char *control, struct err *err);
/* Bytes that the neighbour's loaders hold on the GPU @name, or on the card with that
 * @uuid. */
uint64_t neighbour_gpu_bytes(const struct neighbour *neighbour, const char *name,
                             const char *uuid);
