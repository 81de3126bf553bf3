/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Bytes of a file into a GPU's memory, through memory that the card reads by itself: several
 * threads, each of which reads one piece while another is on its way.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/gpu/cuda_library.h"

enum gpu_copy_outcome {
	_GPU_COPY_E_SUCCESS,
	GPU_COPY_E_DRIVER, /* it refuses: why is a code of its own */
	GPU_COPY_E_CUT,    /* the source does not want to go on */
};

/* Where the bytes come from. Both are called from several threads at once. */
struct gpu_copy_source {
	/* Puts @bytes from @at into @buffer; 0 or -errno. */
	int (*read)(void *context, size_t at, void *buffer, size_t bytes);
	/* Asked before each piece; NULL: it is never cut short. */
	bool (*is_cut)(void *context);
	void *context;
};

struct gpu_copy {
	const struct cuda_library *cuda;
	struct cuda_context *context;
	const struct gpu_copy_source *source;
	uint64_t address; /* on the device, of the source's first byte */
	size_t from;
	size_t to; /* the first that is not copied */
};

/* With so many threads as are of use of @n_threads; 0: of as many as this process has
 * processors. When it returns nothing is on its way any more. 0, an outcome with the driver's
 * *ret_code, or -errno. */
int gpu_copy_run(const struct gpu_copy *copy, unsigned int n_threads, int *ret_code);
