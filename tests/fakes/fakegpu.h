/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * GPU memory for tests: memfds of one name. The kernel itself accounts who holds how much, and
 * what kill -9 gives back. An allocation counts once, however many processes have it open or
 * mapped.
 */

#include <stddef.h>
#include <stdint.h>

#define FAKEGPU_NAME     "fakegpu-"
#define FAKEGPU_HELD_MAX 256
/* Hidden, because no driver exports such a function. */
#define FAKEGPU_HIDDEN __attribute__((visibility("hidden")))

struct fakegpu_held {
	int pid;
	uint64_t bytes;
};

struct fakegpu_use {
	uint64_t bytes; /* the sum of all processes */
	struct fakegpu_held held[FAKEGPU_HELD_MAX];
	unsigned int n_held;
};

/* The name of @card's memory: "fakegpu-MACHINE-CARD". NVIDIA_FAKE_MACHINE tells tests apart
 * that run side by side. */
FAKEGPU_HIDDEN void fakegpu_name(unsigned int card, char *ret_name, size_t size);

/* Counts the memory of all processes that have one of moult's names: looking into every
 * process of the machine would take longer than the thing to be measured. */
FAKEGPU_HIDDEN void fakegpu_count(unsigned int card, struct fakegpu_use *ret_use);
