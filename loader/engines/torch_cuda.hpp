/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A limit to what libtorch's CUDA allocator takes of a card. The engine links nothing of CUDA,
 * so the allocator's symbols are looked up in the libtorch that was opened for the device. Their
 * types come from libtorch's header, which needs a CUDA toolkit's headers. Without a toolkit
 * (MOULT_TORCH_CUDA is not defined) a limit is refused with a sentence.
 */

#include <c10/core/Device.h>
#include <torch/version.h>

#include <cstdint>

#include "loader/engine.h"

extern "C" {
#include "loader/engines/torch_driver.h"
}

#ifdef MOULT_TORCH_CUDA

#include <c10/cuda/CUDACachingAllocator.h>

#include <dlfcn.h>

#include <atomic>

namespace
{

namespace cuda_allocator = c10::cuda::CUDACachingAllocator;

double cuda_fraction(int64_t reserved_bytes, uint64_t more_bytes, size_t total_bytes)
{
	double fraction =
		(static_cast<double>(reserved_bytes) + static_cast<double>(more_bytes)) /
		static_cast<double>(total_bytes);

	return fraction < 1 ? fraction : 1;
}

#if TORCH_VERSION_MAJOR >= 2

bool cuda_set_limit(void *library, c10::DeviceIndex device, uint64_t more_bytes,
                    size_t total_bytes)
{
	auto *slot = static_cast<std::atomic<cuda_allocator::CUDAAllocator *> *>(
		dlsym(library, "_ZN3c104cuda20CUDACachingAllocator9allocatorE"));
	cuda_allocator::CUDAAllocator *allocator = slot ? slot->load() : nullptr;

	if (!allocator)
		return false;
	allocator->setMemoryFraction(
		cuda_fraction(allocator->getDeviceStats(device).reserved_bytes[0].current,
	                      more_bytes, total_bytes),
		device);
	return true;
}

#else

bool cuda_set_limit(void *library, c10::DeviceIndex device, uint64_t more_bytes,
                    size_t total_bytes)
{
	auto *stats = reinterpret_cast<decltype(&cuda_allocator::getDeviceStats)>(
		dlsym(library, "_ZN3c104cuda20CUDACachingAllocator14getDeviceStatsEi"));
	auto *set = reinterpret_cast<decltype(&cuda_allocator::setMemoryFraction)>(dlsym(
		library, "_ZN3c104cuda20CUDACachingAllocator17setMemoryFractionEdi"));

	if (!stats || !set)
		return false;
	set(cuda_fraction(stats(device).reserved_bytes[0].current, more_bytes,
	                  total_bytes),
	    device);
	return true;
}

#endif

/* Limits libtorch in @library to @more_bytes beyond what it holds on @device now. This thread must
 * have computed on @device before. 0 or ENGINE_E_CONFIG with a sentence; may throw. */
int limit_cuda_memory(void *library, const c10::Device &device, uint64_t more_bytes,
                      struct err *err)
{
	size_t total_bytes = torch_driver_total_bytes();

	if (total_bytes > 0 &&
	    cuda_set_limit(library, device.index(), more_bytes, total_bytes))
		return 0;
	return err_set(err, ENGINE_E_CONFIG,
	               "the CUDA allocator of libtorch " TORCH_VERSION
	               " takes no limit: leave working_memory out");
}

} /* namespace */

#else

namespace
{

int limit_cuda_memory(void *, const c10::Device &, uint64_t, struct err *err)
{
	return err_set(
		err, ENGINE_E_CONFIG,
		"engine torch was built without a CUDA toolkit's headers, and cannot "
		"limit a GPU's memory: leave working_memory out");
}

} /* namespace */

#endif
