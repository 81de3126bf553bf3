/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The driver's libcuda.so.1, by dlopen() and by explicit versions of its symbols: the names
 * without one mean the oldest structures. No header of NVIDIA's is needed; what is declared
 * here has the layout of its ABI, which does not change under a versioned name.
 */

#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"

#define CUDA_LIBRARY "libcuda.so.1"

enum cuda_code {
	CUDA_SUCCESS_CODE = 0,
	CUDA_E_OUT_OF_MEMORY = 2,
	CUDA_E_UNAVAILABLE = 46, /* CUDA_ERROR_DEVICE_UNAVAILABLE */
};

enum {
	/* CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST */
	CUDA_DEVICE_READ_BY_HOST = 101,
	CUDA_DEVICE_HAS_VMM = 102,
	CUDA_DEVICE_HAS_POSIX_FD = 103,
	CUDA_MEMORY_PINNED = 1,     /* CU_MEM_ALLOCATION_TYPE_PINNED */
	CUDA_HANDLE_POSIX_FD = 1,   /* CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR */
	CUDA_LOCATION_DEVICE = 1,   /* CU_MEM_LOCATION_TYPE_DEVICE */
	CUDA_ACCESS_READ = 1,       /* CU_MEM_ACCESS_FLAGS_PROT_READ */
	CUDA_ACCESS_READ_WRITE = 3, /* CU_MEM_ACCESS_FLAGS_PROT_READWRITE */
	CUDA_GRANULARITY_BEST = 1,  /* CU_MEM_ALLOC_GRANULARITY_RECOMMENDED */
	CUDA_POINTER_HOST = 4,      /* CU_POINTER_ATTRIBUTE_HOST_POINTER */
	CUDA_EVENT_BLOCKING = 1,    /* CU_EVENT_BLOCKING_SYNC */
	CUDA_EVENT_NO_TIMING = 2,   /* CU_EVENT_DISABLE_TIMING */
	CUDA_STREAM_ALONE = 1,      /* CU_STREAM_NON_BLOCKING */
};

/* CUmemLocation */
struct cuda_location {
	int type;
	int id;
};

/* CUmemAllocationProp_v1 */
struct cuda_memory {
	int type;
	int handle_types;
	struct cuda_location location;
	void *win32;
	unsigned char compression;
	unsigned char rdma;
	unsigned short usage;
	unsigned char reserved[4];
};

/* CUmemAccessDesc_v1 */
struct cuda_access {
	struct cuda_location location;
	int flags;
};

_Static_assert(sizeof(struct cuda_memory) == 32, "ABI of CUmemAllocationProp");
_Static_assert(offsetof(struct cuda_memory, compression) == 24,
               "ABI of CUmemAllocationProp");
_Static_assert(sizeof(struct cuda_access) == 12, "ABI of CUmemAccessDesc");

struct cuda_context; /* the driver's */
struct cuda_stream;
struct cuda_event;

/* An address is a CUdeviceptr, a handle a CUmemGenericAllocationHandle: 64 bits each. */

struct cuda_library {
	void *dl;
	int (*error_name)(int code, const char **ret_name);
	int (*init)(unsigned int flags);
	int (*device_count)(int *ret_count);
	int (*device)(int *ret_device, int ordinal);
	int (*attribute)(int *ret_value, int attribute, int device);
	int (*context)(struct cuda_context **ret_context, int device);
	int (*context_release)(int device);
	int (*use_context)(struct cuda_context *context);
	int (*synchronize)(void);
	int (*granularity)(size_t *ret_bytes, const struct cuda_memory *memory,
	                   int which);
	int (*create)(uint64_t *ret_handle, size_t bytes,
	              const struct cuda_memory *memory, unsigned long long flags);
	int (*release)(uint64_t handle);
	int (*reserve)(uint64_t *ret_address, size_t bytes, size_t alignment,
	               uint64_t hint, unsigned long long flags);
	int (*unreserve)(uint64_t address, size_t bytes);
	int (*map)(uint64_t address, size_t bytes, size_t offset, uint64_t handle,
	           unsigned long long flags);
	int (*unmap)(uint64_t address, size_t bytes);
	int (*set_access)(uint64_t address, size_t bytes,
	                  const struct cuda_access *access, size_t count);
	int (*export_fd)(void *ret_fd, uint64_t handle, int type,
	                 unsigned long long flags);
	int (*import_fd)(uint64_t *ret_handle, void *fd, int type);
	int (*allocate)(uint64_t *ret_address, size_t bytes);
	int (*free)(uint64_t address);
	int (*pointer_attribute)(void *ret_value, int attribute, uint64_t address);
	int (*allocate_host)(void **ret_memory, size_t bytes, unsigned int flags);
	int (*free_host)(void *memory);
	int (*to_device)(uint64_t to, const void *from, size_t bytes);
	int (*to_device_async)(uint64_t to, const void *from, size_t bytes,
	                       struct cuda_stream *stream);
	int (*to_host)(void *to, uint64_t from, size_t bytes);
	int (*stream_new)(struct cuda_stream **ret_stream, unsigned int flags);
	int (*stream_free)(struct cuda_stream *stream);
	int (*event_new)(struct cuda_event **ret_event, unsigned int flags);
	int (*event_record)(struct cuda_event *event, struct cuda_stream *stream);
	int (*event_wait)(struct cuda_event *event);
	int (*event_free)(struct cuda_event *event);
};

/* Opens the library @name and initialises the driver; makes no context. The library is never
 * closed, because a framework may use it. 0, or -errno with a sentence; -ENOSYS: the driver is
 * too old. */
int cuda_library_open(struct cuda_library *library, const char *name, struct err *err);
/* "CUDA_ERROR_OUT_OF_MEMORY" */
const char *cuda_library_error(const struct cuda_library *library, int code);
