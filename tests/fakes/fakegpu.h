/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * GPU memory for tests: memfds of this name, so that who holds how much, and what kill -9
 * gives back, is the kernel's own account. An allocation counts once, however many processes
 * have it open or mapped.
 */

#include <stddef.h>
#include <stdint.h>

#define FAKEGPU_NAME     "fakegpu-"
#define FAKEGPU_HELD_MAX 256
/* No driver has such a function. */
#define FAKEGPU_HIDDEN __attribute__((visibility("hidden")))

struct fakegpu_held {
	int pid;
	uint64_t bytes;
};

struct fakegpu_use {
	uint64_t bytes; /* of all of them */
	struct fakegpu_held held[FAKEGPU_HELD_MAX];
	unsigned int n_held;
};

/* The name of @card's memory: "fakegpu-MACHINE-CARD". NVIDIA_FAKE_MACHINE tells tests apart
 * that run side by side. */
FAKEGPU_HIDDEN void fakegpu_name(unsigned int card, char *ret_name, size_t size);

/* Looks through all processes that are moult's by name: a look into every one of a machine
 * would take longer than what is to be measured. */
FAKEGPU_HIDDEN void fakegpu_count(unsigned int card, struct fakegpu_use *ret_use);
