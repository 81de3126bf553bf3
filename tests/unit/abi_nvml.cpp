/* SPDX-License-Identifier: Apache-2.0 */

/* supervisor/devices/nvml_library.h against a toolkit's nvml.h: compiling it is the test. */

/* Both headers define this name, as 0. */
#include <nvml.h>
static_assert(NVML_SUCCESS == 0, "success");
#define NVML_SUCCESS NVML_SUCCESS_OURS

#define _Static_assert static_assert
#include "supervisor/devices/nvml_library.h"
#include "tests/unit/abi.hpp"
static_assert(NVML_SUCCESS == 0, "success, ours");

/* The library looks up these names, and not those that the header makes of them. */
#undef nvmlEventSetWait
#undef nvmlDeviceGetComputeRunningProcesses

ABI_CALL(nvmlDeviceGetHandleByUUID, nvml_library, by_uuid);
ABI_CALL(nvmlDeviceGetUUID, nvml_library, uuid);
ABI_CALL(nvmlDeviceGetMemoryInfo_v2, nvml_library, memory_v2);
ABI_CALL(nvmlDeviceGetMemoryInfo, nvml_library, memory_v1);
ABI_CALL(nvmlDeviceGetComputeMode, nvml_library, compute_mode);
ABI_CALL(nvmlDeviceGetComputeRunningProcesses_v3, nvml_library, processes);
ABI_CALL(nvmlDeviceRegisterEvents, nvml_library, register_events);
ABI_CALL(nvmlEventSetWait_v2, nvml_library, wait);
ABI_CALL(nvmlEventSetFree, nvml_library, free_events);
ABI_CALL(nvmlShutdown, nvml_library, shutdown);
ABI_CALL(nvmlErrorString, nvml_library, error);

ABI_VALUE(NVML_ERROR_NOT_SUPPORTED, NVML_E_NOT_SUPPORTED);
ABI_VALUE(NVML_ERROR_NO_PERMISSION, NVML_E_NO_PERMISSION);
ABI_VALUE(NVML_ERROR_INSUFFICIENT_SIZE, NVML_E_INSUFFICIENT_SIZE);
ABI_VALUE(NVML_COMPUTEMODE_DEFAULT, NVML_MODE_DEFAULT);
ABI_VALUE(NVML_COMPUTEMODE_PROHIBITED, NVML_MODE_PROHIBITED);
ABI_VALUE(NVML_COMPUTEMODE_EXCLUSIVE_PROCESS, NVML_MODE_EXCLUSIVE_PROCESS);
ABI_VALUE(nvmlEventTypeXidCriticalError, NVML_EVENT_XID);
ABI_VALUE(nvmlMemory_v2, NVML_MEMORY_V2);

ABI_SIZE(nvmlMemory_t, nvml_memory_v1);
ABI_FIELD(nvmlMemory_t, total, nvml_memory_v1, total);
ABI_FIELD(nvmlMemory_t, free, nvml_memory_v1, free);
ABI_FIELD(nvmlMemory_t, used, nvml_memory_v1, used);
ABI_SIZE(nvmlMemory_v2_t, nvml_memory_v2);
ABI_FIELD(nvmlMemory_v2_t, version, nvml_memory_v2, version);
ABI_FIELD(nvmlMemory_v2_t, total, nvml_memory_v2, total);
ABI_FIELD(nvmlMemory_v2_t, reserved, nvml_memory_v2, reserved);
ABI_FIELD(nvmlMemory_v2_t, free, nvml_memory_v2, free);
ABI_FIELD(nvmlMemory_v2_t, used, nvml_memory_v2, used);
ABI_SIZE(nvmlProcessInfo_t, nvml_process_v2);
ABI_FIELD(nvmlProcessInfo_t, pid, nvml_process_v2, pid);
ABI_FIELD(nvmlProcessInfo_t, usedGpuMemory, nvml_process_v2, used_bytes);
ABI_FIELD(nvmlProcessInfo_t, gpuInstanceId, nvml_process_v2, gpu_instance);
ABI_FIELD(nvmlProcessInfo_t, computeInstanceId, nvml_process_v2, compute_instance);
ABI_SIZE(nvmlEventData_t, nvml_event);
ABI_FIELD(nvmlEventData_t, device, nvml_event, card);
ABI_FIELD(nvmlEventData_t, eventType, nvml_event, type);
ABI_FIELD(nvmlEventData_t, eventData, nvml_event, data);
ABI_FIELD(nvmlEventData_t, gpuInstanceId, nvml_event, gpu_instance);
ABI_FIELD(nvmlEventData_t, computeInstanceId, nvml_event, compute_instance);
