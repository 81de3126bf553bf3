/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A libcuda.so.1 whose device memory is that of fakegpu.h: memfds, mapped where the caller
 * wants them. The kernel itself keeps account of who holds a chunk, gives memory back after
 * kill -9, makes two mappings of a chunk one memory, and faults a write to a read-only one. The
 * host can read that memory, and cuPointerGetAttribute() says so.
 *
 * Compiled with FAKECUDA_STRICT the library behaves like a card: the host cannot read its memory,
 * and a libtorch without CUDA has nothing to compute over.
 *
 * The visible card is the last digit of CUDA_VISIBLE_DEVICES, or all are; a process uses one. A
 * context costs FAKECUDA_CONTEXT_MIB. The capacity is that of fakenvml.c, and the file of
 * NVIDIA_FAKE_CONTROL may have these lines:
 *
 *	oom N          the first N allocations of a process fail
 *	no-import      no descriptor is taken
 *	no-vmm         the card has no virtual memory management
 *	no-pin         main memory cannot be pinned
 *	exclusive      the compute mode lets one process have a context
 *	slow-copy MS   a copy to the card takes so much longer
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/fakes/fakecuda.h"

#define FAKECUDA_CONTEXT_MIB 16

unsigned int fakecuda_ordinal;

static int fakecuda_context_fd = -1;
static int fakecuda_only_fd = -1; /* a bound name: no other process has a context */
static unsigned int fakecuda_retained;

/* The declarations are those by which the loader calls the functions. */
int cuGetErrorName(int code, const char **ret_name);
int cuInit(unsigned int flags);
int cuDeviceGetCount(int *ret_count);
int cuDeviceGet(int *ret_device, int ordinal);
int cuDeviceGetAttribute(int *ret_value, int attribute, int device);
int cuDeviceGetUuid_v2(unsigned char *ret_uuid, int device);
int cuDeviceGetName(char *ret_name, int bytes, int device);
int cuDriverGetVersion(int *ret_version);
int cuDevicePrimaryCtxRetain(struct cuda_context **ret_context, int device);
int cuDevicePrimaryCtxRelease_v2(int device);
int cuCtxSetCurrent(struct cuda_context *context);
int cuCtxSynchronize(void);
int cuStreamCreate(struct cuda_stream **ret_stream, unsigned int flags);
int cuStreamDestroy_v2(struct cuda_stream *stream);
int cuEventCreate(struct cuda_event **ret_event, unsigned int flags);
int cuEventRecord(struct cuda_event *event, struct cuda_stream *stream);
int cuEventSynchronize(struct cuda_event *event);
int cuEventDestroy_v2(struct cuda_event *event);

struct fakecuda_faults fakecuda_read_faults(void)
{
	const char *path = getenv("NVIDIA_FAKE_CONTROL");
	FILE *file = path ? fopen(path, "re") : NULL;
	struct fakecuda_faults faults = { 0 };
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		(void)sscanf(line, "oom %u", &faults.oom);
		(void)sscanf(line, "slow-copy %u", &faults.slow_copy_ms);
		faults.has_no_import |= strcmp(line, "no-import\n") == 0;
		faults.has_no_vmm |= strcmp(line, "no-vmm\n") == 0;
		faults.has_no_pin |= strcmp(line, "no-pin\n") == 0;
		faults.is_exclusive |= strcmp(line, "exclusive\n") == 0;
	}
	if (file)
		(void)fclose(file);
	return faults;
}

static const char *fakecuda_visible(void)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");

	return visible && *visible ? visible : NULL;
}

unsigned int fakecuda_card(void)
{
	const char *visible = fakecuda_visible();

	return visible ? (unsigned int)(visible[strlen(visible) - 1] - '0')
	               : fakecuda_ordinal;
}

int cuGetErrorName(int code, const char **ret_name)
{
	switch (code) {
	case CUDA_SUCCESS_CODE:
		*ret_name = "CUDA_SUCCESS";
		return 0;
	case FAKECUDA_E_INVALID:
		*ret_name = "CUDA_ERROR_INVALID_VALUE";
		return 0;
	case CUDA_E_OUT_OF_MEMORY:
		*ret_name = "CUDA_ERROR_OUT_OF_MEMORY";
		return 0;
	case CUDA_E_UNAVAILABLE:
		*ret_name = "CUDA_ERROR_DEVICE_UNAVAILABLE";
		return 0;
	case FAKECUDA_E_NO_DEVICE:
		*ret_name = "CUDA_ERROR_NO_DEVICE";
		return 0;
	case FAKECUDA_E_BAD_DEVICE:
		*ret_name = "CUDA_ERROR_INVALID_DEVICE";
		return 0;
	case FAKECUDA_E_NOT_SUPPORTED:
		*ret_name = "CUDA_ERROR_NOT_SUPPORTED";
		return 0;
	default:
		return FAKECUDA_E_INVALID;
	}
}

int cuInit(unsigned int flags)
{
	return flags == 0 ? 0 : FAKECUDA_E_INVALID;
}

int cuDeviceGetCount(int *ret_count)
{
	const char *cards = getenv("NVIDIA_FAKE_CARDS");

	*ret_count = fakecuda_visible() || !cards ? 1 : (int)strtol(cards, NULL, 10);
	return 0;
}

int cuDeviceGet(int *ret_device, int ordinal)
{
	int count;

	(void)cuDeviceGetCount(&count);
	if (ordinal < 0 || ordinal >= count)
		return FAKECUDA_E_BAD_DEVICE;
	*ret_device = ordinal;
	fakecuda_ordinal = (unsigned int)ordinal;
	return 0;
}

int cuDeviceGetAttribute(int *ret_value, int attribute, int device)
{
	(void)device;
#ifndef FAKECUDA_STRICT
	if (attribute == CUDA_DEVICE_READ_BY_HOST) {
		*ret_value = 1;
		return 0;
	}
#endif
	*ret_value = (attribute == CUDA_DEVICE_HAS_VMM ||
	              attribute == CUDA_DEVICE_HAS_POSIX_FD) &&
	             !fakecuda_read_faults().has_no_vmm;
	return 0;
}

int cuDeviceGetUuid_v2(unsigned char *ret_uuid, int device)
{
	(void)device;
	memset(ret_uuid, 0, 16);
	ret_uuid[6] = 0x40;
	ret_uuid[8] = 0x80;
	ret_uuid[15] = (unsigned char)fakecuda_card();
	return 0;
}

int cuDeviceGetName(char *ret_name, int bytes, int device)
{
	(void)device;
	return bytes > 0 && snprintf(ret_name, (size_t)bytes, "Fake GPU") >= 0
	               ? 0
	               : FAKECUDA_E_INVALID;
}

int cuDriverGetVersion(int *ret_version)
{
	*ret_version = 13000;
	return 0;
}

/* Binds a name that only one process of the machine can have, until it ends. */
static bool fakecuda_is_alone(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[40];
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	fakegpu_name(fakecuda_card(), name, sizeof(name));
	(void)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s", name);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
		fakecuda_only_fd = fd;
		return true;
	}
	if (fd >= 0)
		(void)close(fd);
	return !fakecuda_read_faults().is_exclusive;
}

int cuDevicePrimaryCtxRetain(struct cuda_context **ret_context, int device)
{
	(void)device;
	if (fakecuda_retained == 0 && fakecuda_only_fd < 0 && !fakecuda_is_alone())
		return CUDA_E_UNAVAILABLE;
	if (fakecuda_retained == 0)
		fakecuda_context_fd = fakecuda_take((size_t)FAKECUDA_CONTEXT_MIB << 20);
	if (fakecuda_context_fd < 0)
		return CUDA_E_OUT_OF_MEMORY;
	fakecuda_retained++;
	*ret_context = (struct cuda_context *)&fakecuda_context_fd;
	return 0;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
	(void)device;
	if (fakecuda_retained == 0)
		return FAKECUDA_E_INVALID;
	if (--fakecuda_retained == 0) {
		(void)close(fakecuda_context_fd);
		fakecuda_context_fd = -1;
		if (fakecuda_only_fd >= 0)
			(void)close(fakecuda_only_fd);
		fakecuda_only_fd = -1;
	}
	return 0;
}

int cuCtxSetCurrent(struct cuda_context *context)
{
	(void)context;
	return 0;
}

int cuCtxSynchronize(void)
{
	return 0;
}

/* Streams and events are names only: every copy is done when its call returns. */

int cuStreamCreate(struct cuda_stream **ret_stream, unsigned int flags)
{
	(void)flags;
	*ret_stream = (struct cuda_stream *)&fakecuda_context_fd;
	return 0;
}

int cuStreamDestroy_v2(struct cuda_stream *stream)
{
	(void)stream;
	return 0;
}

int cuEventCreate(struct cuda_event **ret_event, unsigned int flags)
{
	(void)flags;
	*ret_event = (struct cuda_event *)&fakecuda_context_fd;
	return 0;
}

int cuEventRecord(struct cuda_event *event, struct cuda_stream *stream)
{
	(void)event;
	(void)stream;
	return 0;
}

int cuEventSynchronize(struct cuda_event *event)
{
	(void)event;
	return 0;
}

int cuEventDestroy_v2(struct cuda_event *event)
{
	(void)event;
	return 0;
}
