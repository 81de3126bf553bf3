/* SPDX-License-Identifier: Apache-2.0 */

/* loader/gpu/cuda_library.h against a toolkit's cuda.h: compiling it is the test. */

#include <cuda.h>

#define _Static_assert static_assert
#include "loader/gpu/cuda_library.h"
#include "tests/unit/abi.hpp"

/* The library looks up these names, and not those that the header makes of them. */
#undef cuDevicePrimaryCtxRelease
#undef cuMemAlloc
#undef cuMemFree
#undef cuMemcpyHtoD
#undef cuMemcpyHtoDAsync
#undef cuMemcpyDtoH
#undef cuStreamDestroy
#undef cuEventDestroy

ABI_CALL(cuGetErrorName, cuda_library, error_name);
ABI_CALL(cuInit, cuda_library, init);
ABI_CALL(cuDeviceGetCount, cuda_library, device_count);
ABI_CALL(cuDeviceGet, cuda_library, device);
ABI_CALL(cuDeviceGetAttribute, cuda_library, attribute);
ABI_CALL(cuDevicePrimaryCtxRetain, cuda_library, context);
ABI_CALL(cuDevicePrimaryCtxRelease_v2, cuda_library, context_release);
ABI_CALL(cuCtxSetCurrent, cuda_library, use_context);
ABI_CALL(cuCtxSynchronize, cuda_library, synchronize);
ABI_CALL(cuMemGetAllocationGranularity, cuda_library, granularity);
ABI_CALL(cuMemCreate, cuda_library, create);
ABI_CALL(cuMemRelease, cuda_library, release);
ABI_CALL(cuMemAddressReserve, cuda_library, reserve);
ABI_CALL(cuMemAddressFree, cuda_library, unreserve);
ABI_CALL(cuMemMap, cuda_library, map);
ABI_CALL(cuMemUnmap, cuda_library, unmap);
ABI_CALL(cuMemSetAccess, cuda_library, set_access);
ABI_CALL(cuMemExportToShareableHandle, cuda_library, export_fd);
ABI_CALL(cuMemImportFromShareableHandle, cuda_library, import_fd);
ABI_CALL(cuMemAlloc_v2, cuda_library, allocate);
ABI_CALL(cuMemFree_v2, cuda_library, free);
ABI_CALL(cuPointerGetAttribute, cuda_library, pointer_attribute);
ABI_CALL(cuMemHostAlloc, cuda_library, allocate_host);
ABI_CALL(cuMemFreeHost, cuda_library, free_host);
ABI_CALL(cuMemcpyHtoD_v2, cuda_library, to_device);
ABI_CALL(cuMemcpyHtoDAsync_v2, cuda_library, to_device_async);
ABI_CALL(cuMemcpyDtoH_v2, cuda_library, to_host);
ABI_CALL(cuStreamCreate, cuda_library, stream_new);
ABI_CALL(cuStreamDestroy_v2, cuda_library, stream_free);
ABI_CALL(cuEventCreate, cuda_library, event_new);
ABI_CALL(cuEventRecord, cuda_library, event_record);
ABI_CALL(cuEventSynchronize, cuda_library, event_wait);
ABI_CALL(cuEventDestroy_v2, cuda_library, event_free);

ABI_VALUE(CUDA_SUCCESS, CUDA_SUCCESS_CODE);
ABI_VALUE(CUDA_ERROR_OUT_OF_MEMORY, CUDA_E_OUT_OF_MEMORY);
ABI_VALUE(CUDA_ERROR_DEVICE_UNAVAILABLE, CUDA_E_UNAVAILABLE);
ABI_VALUE(CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
          CUDA_DEVICE_READ_BY_HOST);
ABI_VALUE(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, CUDA_DEVICE_HAS_VMM);
ABI_VALUE(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
          CUDA_DEVICE_HAS_POSIX_FD);
ABI_VALUE(CU_MEM_ALLOCATION_TYPE_PINNED, CUDA_MEMORY_PINNED);
ABI_VALUE(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CUDA_HANDLE_POSIX_FD);
ABI_VALUE(CU_MEM_LOCATION_TYPE_DEVICE, CUDA_LOCATION_DEVICE);
ABI_VALUE(CU_MEM_ACCESS_FLAGS_PROT_READ, CUDA_ACCESS_READ);
ABI_VALUE(CU_MEM_ACCESS_FLAGS_PROT_READWRITE, CUDA_ACCESS_READ_WRITE);
ABI_VALUE(CU_MEM_ALLOC_GRANULARITY_RECOMMENDED, CUDA_GRANULARITY_BEST);
ABI_VALUE(CU_POINTER_ATTRIBUTE_HOST_POINTER, CUDA_POINTER_HOST);
ABI_VALUE(CU_EVENT_BLOCKING_SYNC, CUDA_EVENT_BLOCKING);
ABI_VALUE(CU_EVENT_DISABLE_TIMING, CUDA_EVENT_NO_TIMING);
ABI_VALUE(CU_STREAM_NON_BLOCKING, CUDA_STREAM_ALONE);

ABI_SIZE(CUmemAllocationProp, cuda_memory);
ABI_FIELD(CUmemAllocationProp, type, cuda_memory, type);
ABI_FIELD(CUmemAllocationProp, requestedHandleTypes, cuda_memory, handle_types);
ABI_FIELD(CUmemAllocationProp, location, cuda_memory, location);
ABI_FIELD(CUmemAllocationProp, win32HandleMetaData, cuda_memory, win32);
using allocation_flags = decltype(CUmemAllocationProp::allocFlags);
static_assert(offsetof(CUmemAllocationProp, allocFlags) ==
                              offsetof(cuda_memory, compression) &&
                      sizeof(allocation_flags) ==
                              sizeof(cuda_memory) - offsetof(cuda_memory, compression),
              "allocFlags");
#define ABI_FLAG(theirs, ours)                                                           \
	static_assert(offsetof(allocation_flags, theirs) ==                              \
	                              offsetof(cuda_memory, ours) -                      \
	                                      offsetof(cuda_memory, compression) &&      \
	                      sizeof(allocation_flags::theirs) ==                        \
	                              sizeof(cuda_memory::ours),                         \
	              "allocFlags." #theirs)
ABI_FLAG(compressionType, compression);
ABI_FLAG(gpuDirectRDMACapable, rdma);
ABI_FLAG(usage, usage);
ABI_FLAG(reserved, reserved);
ABI_SIZE(CUmemAccessDesc, cuda_access);
ABI_FIELD(CUmemAccessDesc, location, cuda_access, location);
ABI_FIELD(CUmemAccessDesc, flags, cuda_access, flags);
ABI_SIZE(CUmemLocation, cuda_location);
ABI_FIELD(CUmemLocation, type, cuda_location, type);
ABI_FIELD(CUmemLocation, id, cuda_location, id);
ABI_SIZE(CUdeviceptr, uint64_t);
ABI_SIZE(CUmemGenericAllocationHandle, uint64_t);
