/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Asks the GPU's driver without libtorch, for engine torch. Nothing here makes a context.
 */

#include <dlfcn.h>

#include <string>

namespace
{

template <typename Function> Function driver_call(const char *name) noexcept
{
	/* The library is never closed: libtorch may be using it. */
	static void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	return reinterpret_cast<Function>(driver ? dlsym(driver, name) : nullptr);
}

/* "a driver for CUDA 12.4" */
std::string driver_name()
{
	auto *get = driver_call<int (*)(int *)>("cuDriverGetVersion");
	int version = 0;

	if (!get || get(&version) != 0 || version <= 0)
		return "no driver (libcuda.so.1)";
	/* 1000 * major + 10 * minor */
	return "a driver for CUDA " + std::to_string(version / 1000) + "." +
	       std::to_string(version % 1000 / 10);
}

/* True when the host can read the memory of card number @index, so that a libtorch without CUDA
 * can compute over it: on a few machines, and over the driver of the tests. */
bool driver_shows_host(int index) noexcept
{
	/* CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST */
	constexpr int read_by_host = 101;
	auto *init = driver_call<int (*)(unsigned int)>("cuInit");
	auto *device = driver_call<int (*)(int *, int)>("cuDeviceGet");
	auto *attribute = driver_call<int (*)(int *, int, int)>("cuDeviceGetAttribute");
	int card = 0;
	int value = 0;

	return init && device && attribute && init(0) == 0 && device(&card, index) == 0 &&
	       attribute(&value, read_by_host, card) == 0 && value != 0;
}

} /* namespace */
