/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The memory of fakecuda.c's card. A chunk is a memfd, and a handle its descriptor. What
 * cuMemAlloc() gives has no descriptor left: its mapping alone keeps it.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/fakes/fakecuda.h"

#define FAKECUDA_GRANULARITY ((size_t)2 << 20)
#define FAKECUDA_DRIVER_MIB  256
#define FAKECUDA_PIECES_MAX  1024

/* An allocation of cuMemAlloc(), or pinned memory of the host. */
struct fakecuda_piece {
	void *memory;
	size_t bytes;
};

static unsigned int fakecuda_n_refused;
static pthread_mutex_t fakecuda_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fakecuda_piece fakecuda_pieces[FAKECUDA_PIECES_MAX];

/* The declarations are those by which the loader calls the functions. */
int cuMemGetInfo_v2(size_t *ret_free, size_t *ret_total);
int cuMemGetAllocationGranularity(size_t *ret_bytes, const struct cuda_memory *memory,
                                  int which);
int cuMemCreate(uint64_t *ret_handle, size_t bytes, const struct cuda_memory *memory,
                unsigned long long flags);
int cuMemRelease(uint64_t handle);
int cuMemAddressReserve(uint64_t *ret_address, size_t bytes, size_t alignment,
                        uint64_t hint, unsigned long long flags);
int cuMemAddressFree(uint64_t address, size_t bytes);
int cuMemMap(uint64_t address, size_t bytes, size_t offset, uint64_t handle,
             unsigned long long flags);
int cuMemUnmap(uint64_t address, size_t bytes);
int cuMemSetAccess(uint64_t address, size_t bytes, const struct cuda_access *access,
                   size_t count);
int cuMemExportToShareableHandle(void *ret_fd, uint64_t handle, int type,
                                 unsigned long long flags);
int cuMemImportFromShareableHandle(uint64_t *ret_handle, void *fd, int type);
int cuMemAlloc_v2(uint64_t *ret_address, size_t bytes);
int cuMemFree_v2(uint64_t address);
int cuPointerGetAttribute(void *ret_value, int attribute, uint64_t address);
int cuMemHostAlloc(void **ret_memory, size_t bytes, unsigned int flags);
int cuMemFreeHost(void *memory);
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes);
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes,
                         struct cuda_stream *stream);
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes);

static uint64_t fakecuda_total(void)
{
	const char *mib = getenv("NVIDIA_FAKE_MIB");

	return ((mib ? strtoull(mib, NULL, 10) : 1024) - FAKECUDA_DRIVER_MIB) << 20;
}

int fakecuda_take(size_t bytes)
{
	struct fakegpu_use use;
	char name[40];
	int fd;

	fakegpu_count(fakecuda_card(), &use);
	if (use.bytes + bytes > fakecuda_total())
		return -1;
	fakegpu_name(fakecuda_card(), name, sizeof(name));
	fd = memfd_create(name, MFD_CLOEXEC);
	if (fd >= 0 && ftruncate(fd, (off_t)bytes) < 0) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

static void *fakecuda_pointer(uint64_t address)
{
	return (void *)(uintptr_t)address; /* NOLINT: an address is what it is */
}

int cuMemGetInfo_v2(size_t *ret_free, size_t *ret_total)
{
	struct fakegpu_use use;

	fakegpu_count(fakecuda_card(), &use);
	*ret_total = fakecuda_total();
	*ret_free = *ret_total > use.bytes ? *ret_total - use.bytes : 0;
	return 0;
}

int cuMemGetAllocationGranularity(size_t *ret_bytes, const struct cuda_memory *memory,
                                  int which)
{
	(void)memory;
	(void)which;
	*ret_bytes = FAKECUDA_GRANULARITY;
	return 0;
}

/* A handle is a descriptor plus 1, so that no handle is 0. */
int cuMemCreate(uint64_t *ret_handle, size_t bytes, const struct cuda_memory *memory,
                unsigned long long flags)
{
	int fd;

	if (bytes == 0 || bytes % FAKECUDA_GRANULARITY != 0 || flags != 0 ||
	    memory->type != CUDA_MEMORY_PINNED ||
	    memory->location.type != CUDA_LOCATION_DEVICE ||
	    memory->location.id != (int)fakecuda_ordinal)
		return FAKECUDA_E_INVALID;
	if (fakecuda_read_faults().has_no_vmm)
		return FAKECUDA_E_NOT_SUPPORTED;
	if (fakecuda_n_refused < fakecuda_read_faults().oom) {
		fakecuda_n_refused++;
		return CUDA_E_OUT_OF_MEMORY;
	}
	fd = fakecuda_take(bytes);
	if (fd < 0)
		return CUDA_E_OUT_OF_MEMORY;
	*ret_handle = (uint64_t)fd + 1;
	return 0;
}

int cuMemRelease(uint64_t handle)
{
	return close((int)handle - 1) < 0 ? FAKECUDA_E_INVALID : 0;
}

static void *fakecuda_hide(void *at, size_t bytes)
{
	return mmap(at, bytes, PROT_NONE,
	            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0),
	            -1, 0);
}

/* The parts before and behind the aligned one stay reserved: address space is free. */
int cuMemAddressReserve(uint64_t *ret_address, size_t bytes, size_t alignment,
                        uint64_t hint, unsigned long long flags)
{
	void *base = fakecuda_hide(NULL, bytes + FAKECUDA_GRANULARITY);

	(void)alignment;
	(void)hint;
	(void)flags;
	if (base == MAP_FAILED)
		return CUDA_E_OUT_OF_MEMORY;
	*ret_address = ((uint64_t)(uintptr_t)base + FAKECUDA_GRANULARITY - 1) &
	               ~(uint64_t)(FAKECUDA_GRANULARITY - 1);
	return 0;
}

int cuMemAddressFree(uint64_t address, size_t bytes)
{
	return munmap(fakecuda_pointer(address), bytes) < 0 ? FAKECUDA_E_INVALID : 0;
}

int cuMemMap(uint64_t address, size_t bytes, size_t offset, uint64_t handle,
             unsigned long long flags)
{
	(void)flags;
	if (mmap(fakecuda_pointer(address), bytes, PROT_NONE, MAP_SHARED | MAP_FIXED,
	         (int)handle - 1, (off_t)offset) == MAP_FAILED)
		return FAKECUDA_E_INVALID;
	return 0;
}

int cuMemUnmap(uint64_t address, size_t bytes)
{
	return fakecuda_hide(fakecuda_pointer(address), bytes) == MAP_FAILED
	               ? FAKECUDA_E_INVALID
	               : 0;
}

int cuMemSetAccess(uint64_t address, size_t bytes, const struct cuda_access *access,
                   size_t count)
{
	int protection = access->flags == CUDA_ACCESS_READ_WRITE ? PROT_READ | PROT_WRITE
	                 : access->flags == CUDA_ACCESS_READ     ? PROT_READ
	                                                         : PROT_NONE;

	if (count != 1)
		return FAKECUDA_E_INVALID;
	return mprotect(fakecuda_pointer(address), bytes, protection) < 0
	               ? FAKECUDA_E_INVALID
	               : 0;
}

int cuMemExportToShareableHandle(void *ret_fd, uint64_t handle, int type,
                                 unsigned long long flags)
{
	int fd = type == CUDA_HANDLE_POSIX_FD && flags == 0
	                 ? fcntl((int)handle - 1, F_DUPFD_CLOEXEC, 0)
	                 : -1;

	if (fd < 0)
		return FAKECUDA_E_INVALID;
	memcpy(ret_fd, &fd, sizeof(fd));
	return 0;
}

/* Takes only memory of this card. */
int cuMemImportFromShareableHandle(uint64_t *ret_handle, void *fd, int type)
{
	char path[32];
	char target[64];
	char wanted[64];
	char name[40];
	ssize_t n;
	int copy;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", (int)(uintptr_t)fd);
	n = readlink(path, target, sizeof(target) - 1);
	fakegpu_name(fakecuda_card(), name, sizeof(name));
	(void)snprintf(wanted, sizeof(wanted), "/memfd:%s ", name);
	if (n < 0 || type != CUDA_HANDLE_POSIX_FD ||
	    strncmp(target, wanted, strlen(wanted)) != 0)
		return FAKECUDA_E_INVALID;
	if (fakecuda_read_faults().has_no_import)
		return FAKECUDA_E_NOT_SUPPORTED;
	copy = fcntl((int)(uintptr_t)fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return CUDA_E_OUT_OF_MEMORY;
	*ret_handle = (uint64_t)copy + 1;
	return 0;
}

static int fakecuda_keep(void *memory, size_t bytes)
{
	int code = CUDA_E_OUT_OF_MEMORY;

	(void)pthread_mutex_lock(&fakecuda_lock);
	for (size_t i = 0; i < FAKECUDA_PIECES_MAX && code; i++) {
		if (!fakecuda_pieces[i].memory) {
			fakecuda_pieces[i] = (struct fakecuda_piece){ memory, bytes };
			code = CUDA_SUCCESS_CODE;
		}
	}
	(void)pthread_mutex_unlock(&fakecuda_lock);
	return code;
}

static int fakecuda_drop(void *memory)
{
	int code = FAKECUDA_E_INVALID;

	(void)pthread_mutex_lock(&fakecuda_lock);
	for (size_t i = 0; memory && i < FAKECUDA_PIECES_MAX && code; i++) {
		if (fakecuda_pieces[i].memory == memory) {
			(void)munmap(memory, fakecuda_pieces[i].bytes);
			fakecuda_pieces[i].memory = NULL;
			code = CUDA_SUCCESS_CODE;
		}
	}
	(void)pthread_mutex_unlock(&fakecuda_lock);
	return code;
}

int cuMemAlloc_v2(uint64_t *ret_address, size_t bytes)
{
	size_t rounded = (bytes + FAKECUDA_GRANULARITY - 1) & ~(FAKECUDA_GRANULARITY - 1);
	int fd = fakecuda_take(rounded);
	void *memory =
		fd < 0 ? MAP_FAILED
		       : mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (fd >= 0)
		(void)close(fd);
	if (memory == MAP_FAILED)
		return CUDA_E_OUT_OF_MEMORY;
	*ret_address = (uint64_t)(uintptr_t)memory;
	return fakecuda_keep(memory, rounded);
}

int cuMemFree_v2(uint64_t address)
{
	return fakecuda_drop(fakecuda_pointer(address));
}

int cuPointerGetAttribute(void *ret_value, int attribute, uint64_t address)
{
	void *pointer = fakecuda_pointer(address);

#ifdef FAKECUDA_STRICT
	attribute = 0;
#endif
	if (attribute != CUDA_POINTER_HOST)
		return FAKECUDA_E_INVALID;
	memcpy(ret_value, &pointer, sizeof(pointer));
	return 0;
}

int cuMemHostAlloc(void **ret_memory, size_t bytes, unsigned int flags)
{
	(void)flags;
	if (fakecuda_read_faults().has_no_pin)
		return CUDA_E_OUT_OF_MEMORY;
	*ret_memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*ret_memory == MAP_FAILED)
		return CUDA_E_OUT_OF_MEMORY;
	return fakecuda_keep(*ret_memory, bytes);
}

int cuMemFreeHost(void *memory)
{
	return fakecuda_drop(memory);
}

int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes)
{
	unsigned int ms = fakecuda_read_faults().slow_copy_ms;
	struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	if (ms)
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	memcpy(fakecuda_pointer(to), from, bytes);
	return 0;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes,
                         struct cuda_stream *stream)
{
	(void)stream;
	return cuMemcpyHtoD_v2(to, from, bytes);
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes)
{
	memcpy(to, fakecuda_pointer(from), bytes);
	return 0;
}
