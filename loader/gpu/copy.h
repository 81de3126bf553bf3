/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Copies bytes of a file into a GPU's memory, through pinned memory that the card reads by
 * itself. Several threads copy; each reads one piece while another one is on its way.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/gpu/cuda_library.h"

enum gpu_copy_outcome {
	_GPU_COPY_E_SUCCESS,
	GPU_COPY_E_DRIVER, /* the driver refuses, with a code of its own */
	GPU_COPY_E_CUT,    /* is_cut() has ended it */
};

/* The source of the bytes. Both functions are called from several threads at once. */
struct gpu_copy_source {
	/* Puts @bytes from @at into @buffer; 0 or -errno. */
	int (*read)(void *context, size_t at, void *buffer, size_t bytes);
	/* Called before each piece; true ends the copy. NULL: never. */
	bool (*is_cut)(void *context);
	void *context;
};

struct gpu_copy {
	const struct cuda_library *cuda;
	struct cuda_context *context;
	const struct gpu_copy_source *source;
	uint64_t address; /* on the device, of the source's first byte */
	size_t from;
	size_t to; /* the first byte that is not copied */
};

/* Copies with @n_threads threads at the most (0: one for each processor of this process). When it
 * returns no piece is on its way any more. 0; an outcome, DRIVER with *ret_code (enum cuda_code);
 * or -errno. */
int gpu_copy_run(const struct gpu_copy *copy, unsigned int n_threads, int *ret_code);
