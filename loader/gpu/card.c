/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The memory of a process that has just ended may not be back yet although the driver only says
 * "out of memory", hence gpu_card_waits().
 */
#include "loader/gpu/card.h"

#include <errno.h>
#include <time.h>

#include "shared/clock.h"

#define GPU_CARD_PAUSE_NS (10 * CLOCK_NS_PER_MS)

int gpu_card_error(const struct gpu_card *card, struct err *err, const char *what,
                   int code)
{
	if (code == CUDA_E_OUT_OF_MEMORY)
		return err_set(err, GPU_E_MEMORY, "the GPU is out of memory: %s", what);
	if (code == CUDA_E_UNAVAILABLE)
		return err_set(
			err, GPU_E_DEVICE,
			"another process has the GPU to itself, or its compute mode "
			"(nvidia-smi -c) lets nobody use it: %s: %s",
			what, cuda_library_error(&card->cuda, code));
	return err_set(err, GPU_E_DEVICE, "the GPU's driver refuses: %s: %s", what,
	               cuda_library_error(&card->cuda, code));
}

bool gpu_card_waits(int code, uint64_t until_ns)
{
	const struct timespec pause = { .tv_nsec = GPU_CARD_PAUSE_NS };

	if (code != CUDA_E_OUT_OF_MEMORY || clock_now_ns() >= until_ns)
		return false;
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return true;
}

int gpu_card_init(struct gpu_card *card, unsigned int ordinal, uint64_t wait_ns,
                  struct err *err)
{
	uint64_t until_ns = clock_now_ns() + wait_ns;
	int count = 0;
	int code;
	int r;

	*card = (struct gpu_card){ 0 };
	r = cuda_library_open(&card->cuda, CUDA_LIBRARY, err);
	if (r < 0)
		return r == -ENOSYS ? GPU_E_UNSUPPORTED : GPU_E_DEVICE;
	code = card->cuda.device_count(&count);
	if (code == CUDA_SUCCESS_CODE && ordinal < (unsigned int)count)
		code = card->cuda.device(&card->device, (int)ordinal);
	if (code != CUDA_SUCCESS_CODE || ordinal >= (unsigned int)count)
		return err_set(err, GPU_E_DEVICE, "the driver shows no GPU %u: %s",
		               ordinal, cuda_library_error(&card->cuda, code));
	do {
		code = card->cuda.context(&card->context, card->device);
	} while (gpu_card_waits(code, until_ns));
	if (code != CUDA_SUCCESS_CODE)
		return gpu_card_error(card, err, "a context", code);
	card->has_context = true;
	code = card->cuda.use_context(card->context);
	return code == CUDA_SUCCESS_CODE ? 0
	                                 : gpu_card_error(card, err, "its context", code);
}

void gpu_card_fini(struct gpu_card *card)
{
	if (card->has_context)
		(void)card->cuda.context_release(card->device);
	card->has_context = false;
}

struct cuda_memory gpu_card_memory(const struct gpu_card *card)
{
	return (struct cuda_memory){
		.type = CUDA_MEMORY_PINNED,
		.handle_types = CUDA_HANDLE_POSIX_FD,
		.location = { .type = CUDA_LOCATION_DEVICE, .id = card->device },
	};
}

int gpu_card_check_vmm(const struct gpu_card *card, struct err *err)
{
	static const int wanted[] = { CUDA_DEVICE_HAS_VMM, CUDA_DEVICE_HAS_POSIX_FD };

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		int has = 0;

		if (card->cuda.attribute(&has, wanted[i], card->device) !=
		            CUDA_SUCCESS_CODE ||
		    !has)
			return err_set(err, GPU_E_UNSUPPORTED, "the GPU has no %s",
			               i == 0 ? "virtual memory management"
			                      : "memory with descriptors");
	}
	return 0;
}
