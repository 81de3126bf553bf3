/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/gpu/cuda_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#define CUDA_AT(field) offsetof(struct cuda_library, field)

static const struct {
	const char *name;
	size_t at;
} cuda_symbols[] = {
	{ "cuGetErrorName", CUDA_AT(error_name) },
	{ "cuInit", CUDA_AT(init) },
	{ "cuDeviceGetCount", CUDA_AT(device_count) },
	{ "cuDeviceGet", CUDA_AT(device) },
	{ "cuDeviceGetAttribute", CUDA_AT(attribute) },
	{ "cuDevicePrimaryCtxRetain", CUDA_AT(context) },
	{ "cuDevicePrimaryCtxRelease_v2", CUDA_AT(context_release) },
	{ "cuCtxSetCurrent", CUDA_AT(use_context) },
	{ "cuCtxSynchronize", CUDA_AT(synchronize) },
	{ "cuMemGetAllocationGranularity", CUDA_AT(granularity) },
	{ "cuMemCreate", CUDA_AT(create) },
	{ "cuMemRelease", CUDA_AT(release) },
	{ "cuMemAddressReserve", CUDA_AT(reserve) },
	{ "cuMemAddressFree", CUDA_AT(unreserve) },
	{ "cuMemMap", CUDA_AT(map) },
	{ "cuMemUnmap", CUDA_AT(unmap) },
	{ "cuMemSetAccess", CUDA_AT(set_access) },
	{ "cuMemExportToShareableHandle", CUDA_AT(export_fd) },
	{ "cuMemImportFromShareableHandle", CUDA_AT(import_fd) },
	{ "cuMemAlloc_v2", CUDA_AT(allocate) },
	{ "cuMemFree_v2", CUDA_AT(free) },
	{ "cuPointerGetAttribute", CUDA_AT(pointer_attribute) },
	{ "cuMemHostAlloc", CUDA_AT(allocate_host) },
	{ "cuMemFreeHost", CUDA_AT(free_host) },
	{ "cuMemcpyHtoD_v2", CUDA_AT(to_device) },
	{ "cuMemcpyHtoDAsync_v2", CUDA_AT(to_device_async) },
	{ "cuMemcpyDtoH_v2", CUDA_AT(to_host) },
	{ "cuStreamCreate", CUDA_AT(stream_new) },
	{ "cuStreamDestroy_v2", CUDA_AT(stream_free) },
	{ "cuEventCreate", CUDA_AT(event_new) },
	{ "cuEventRecord", CUDA_AT(event_record) },
	{ "cuEventSynchronize", CUDA_AT(event_wait) },
	{ "cuEventDestroy_v2", CUDA_AT(event_free) },
};

const char *cuda_library_error(const struct cuda_library *library, int code)
{
	const char *name = NULL;

	if (library->error_name(code, &name) != CUDA_SUCCESS_CODE || !name)
		return "an unknown error";
	return name;
}

int cuda_library_open(struct cuda_library *library, const char *name, struct err *err)
{
	int code;

	*library = (struct cuda_library){ .dl = dlopen(name, RTLD_NOW | RTLD_LOCAL) };
	if (!library->dl)
		return err_set(err, -ENOENT, "there is no driver: %s", dlerror());
	for (size_t i = 0; i < sizeof(cuda_symbols) / sizeof(cuda_symbols[0]); i++) {
		void *symbol = dlsym(library->dl, cuda_symbols[i].name);

		if (!symbol)
			return err_set(err, -ENOSYS,
			               "the driver is too old: %s has no %s", name,
			               cuda_symbols[i].name);
		/* POSIX promises this for dlsym(); ISO C has no cast for it. */
		memcpy((char *)library + cuda_symbols[i].at, &symbol, sizeof(symbol));
	}
	code = library->init(0);
	if (code != CUDA_SUCCESS_CODE)
		return err_set(err, -ENODEV, "the driver does not start: %s",
		               cuda_library_error(library, code));
	return 0;
}
