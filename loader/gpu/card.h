/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One GPU, seen through its driver, and what is the same in all calls: the context, the words for
 * a failure, the patience with memory that is just coming free.
 */

#include <stdbool.h>
#include <stdint.h>

#include "loader/gpu/cuda_library.h"
#include "shared/err.h"

enum gpu_outcome {
	_GPU_E_SUCCESS,
	GPU_E_UNSUPPORTED, /* the driver, or the card, can never do that */
	GPU_E_MEMORY,      /* the card has too little left, and nothing came free */
	GPU_E_DAMAGED,     /* the chunks do not hold what was put there */
	GPU_E_DEVICE,      /* the driver refuses this time, and says why */
};

struct gpu_card {
	struct cuda_library cuda;
	int device;
	struct cuda_context *context;
	bool has_context;
};

/* Opens the driver and takes the primary context of card number @ordinal among those that this
 * process sees: the context that a framework computes in. Waits up to @wait_ns for memory that
 * is just coming free. 0 or an outcome with a sentence; gpu_card_fini() in any case. */
int gpu_card_init(struct gpu_card *card, unsigned int ordinal, uint64_t wait_ns,
                  struct err *err);
/* Gives the context back; it stays for others that use it. */
void gpu_card_fini(struct gpu_card *card);

/* Makes the sentence for a @code of the driver; @what was wanted. Returns the outcome. */
int gpu_card_error(const struct gpu_card *card, struct err *err, const char *what,
                   int code);
/* Pauses when memory may still come back from another process. True: try again. */
bool gpu_card_waits(int code, uint64_t until_ns);

/* The kind of memory that has a descriptor. */
struct cuda_memory gpu_card_memory(const struct gpu_card *card);
/* 0, or GPU_E_UNSUPPORTED with a sentence: the card has no such memory. */
int gpu_card_check_vmm(const struct gpu_card *card, struct err *err);
