/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reports to torch_account.h what memory of the device computing takes.
 *
 * Main memory: libtorch's allocator is replaced by one that counts and keeps to a limit; a math
 * library's own allocations are not seen. CUDA: libtorch's allocator reports to the profiler of
 * the thread.
 *
 * libtorch 1.13 and 2.x differ in const and in the types of byte counts. Each function is there
 * in both forms, one of which overrides; hence none says `override`.
 */

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/profiler/orchestration/observer.h>

#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

extern "C" {
#include "loader/engines/torch_account.h"
}

namespace
{

class counting_allocator final : public c10::Allocator
{
      public:
	c10::DataPtr allocate(size_t bytes)
	{
		return get(bytes);
	}
	c10::DataPtr allocate(size_t bytes) const
	{
		return get(bytes);
	}
	c10::DeleterFnPtr raw_deleter() const
	{
		return &put;
	}
	void copy_data(void *to, const void *from, size_t bytes) const
	{
		std::memcpy(to, from, bytes);
	}

      private:
	static constexpr size_t alignment = 64; /* as libtorch's own */

	static c10::DataPtr get(size_t bytes)
	{
		void *data = nullptr;

		if (bytes == 0)
			return { nullptr, nullptr, &put, c10::Device(c10::kCPU) };
		if (!torch_account_add(static_cast<int64_t>(bytes)))
			TORCH_CHECK(false, "out of memory: more than working_memory");
		if (posix_memalign(&data, alignment, bytes) != 0) {
			torch_account_note(-static_cast<int64_t>(bytes));
			torch_account_refuse(static_cast<int64_t>(bytes));
			TORCH_CHECK(false, "out of memory: can't allocate memory");
		}
		/* malloc's rounding is taken already, and no reason to refuse anything. */
		torch_account_note(static_cast<int64_t>(malloc_usable_size(data) -
		                                        bytes));
		return { data, data, &put, c10::Device(c10::kCPU) };
	}

	static void put(void *data)
	{
		if (data)
			torch_account_note(
				-static_cast<int64_t>(malloc_usable_size(data)));
		std::free(data);
	}
};

/* Hears of CUDA's allocations. libtorch takes any object in the profiler's place for a whole
 * profiler, so this one is switched off, but wants to hear of memory. */
class memory_reporter final : public torch::profiler::impl::ProfilerStateBase
{
      public:
	memory_reporter()
	    : ProfilerStateBase(torch::profiler::impl::ProfilerConfig(
		      torch::profiler::impl::ProfilerState::Disabled))
	{
	}

	torch::profiler::impl::ActiveProfilerType profilerType()
	{
		return torch::profiler::impl::ActiveProfilerType::NONE;
	}
	bool memoryProfilingEnabled() const
	{
		return true;
	}

	void reportMemoryUsage(void *, int64_t bytes, int64_t, int64_t, c10::Device)
	{
		(void)torch_account_add(bytes);
	}
	void reportMemoryUsage(void *, int64_t bytes, size_t, size_t, c10::Device)
	{
		(void)torch_account_add(bytes);
	}
	void reportOutOfMemory(int64_t bytes, int64_t, int64_t, c10::Device)
	{
		torch_account_refuse(bytes);
	}
	void reportOutOfMemory(int64_t bytes, size_t, size_t, c10::Device)
	{
		torch_account_refuse(bytes);
	}
};

/* Replaces the allocator, for good. Called before anything that counts is allocated. */
void count_main_memory()
{
	static counting_allocator allocator;

	c10::SetCPUAllocator(&allocator, UINT8_MAX);
}

/* Counts one computation while it lives. */
class memory_watch
{
      public:
	memory_watch(const c10::Device &device, uint64_t limit_bytes)
	{
		torch_account_begin(limit_bytes);
		if (!device.is_cpu())
			reports.emplace(c10::DebugInfoKind::PROFILER_STATE,
			                std::make_shared<memory_reporter>());
	}
	~memory_watch()
	{
		torch_account_end();
	}
	memory_watch(const memory_watch &) = delete;
	memory_watch &operator=(const memory_watch &) = delete;

      private:
	std::optional<c10::DebugInfoGuard> reports;
};

} /* namespace */
