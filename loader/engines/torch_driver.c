/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/engines/torch_driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* Puts the driver's function @name into *@ret_function, a pointer to a function. False: there is
 * none. The library is never closed: libtorch may be using it. */
static bool torch_driver_find(const char *name, void *ret_function)
{
	void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	void *symbol = driver ? dlsym(driver, name) : NULL;

	/* POSIX promises this for dlsym(); ISO C has no cast for it. */
	memcpy(ret_function, &symbol, sizeof(symbol));
	return symbol != NULL;
}

const char *torch_driver_name(char *text, size_t size)
{
	int (*get)(int *);
	int version = 0;

	if (!torch_driver_find("cuDriverGetVersion", &get) || get(&version) != 0 ||
	    version <= 0)
		(void)snprintf(text, size, "no driver (libcuda.so.1)");
	else
		/* 1000 * major + 10 * minor */
		(void)snprintf(text, size, "a driver for CUDA %d.%d", version / 1000,
		               version % 1000 / 10);
	return text;
}

bool torch_driver_shows_host(int index)
{
	/* CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST */
	static const int read_by_host = 101;
	int (*init)(unsigned int);
	int (*device)(int *, int);
	int (*attribute)(int *, int, int);
	int card = 0;
	int value = 0;

	return torch_driver_find("cuInit", &init) &&
	       torch_driver_find("cuDeviceGet", &device) &&
	       torch_driver_find("cuDeviceGetAttribute", &attribute) && init(0) == 0 &&
	       device(&card, index) == 0 && attribute(&value, read_by_host, card) == 0 &&
	       value != 0;
}

size_t torch_driver_total_bytes(void)
{
	int (*get)(size_t *, size_t *);
	size_t free_bytes = 0;
	size_t total_bytes = 0;

	return torch_driver_find("cuMemGetInfo_v2", &get) &&
	                       get(&free_bytes, &total_bytes) == 0
	               ? total_bytes
	               : 0;
}
