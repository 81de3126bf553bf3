/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Counts, and limits, the device memory that computing takes.
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

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

namespace
{

class memory_account
{
      public:
	/* Begins a computation: memory that is held already does not count. */
	void begin(uint64_t limit_bytes) noexcept
	{
		base = used.load();
		most = base;
		limit = static_cast<int64_t>(std::min(limit_bytes,
		                                      static_cast<uint64_t>(INT64_MAX)));
		wanted = 0;
	}

	void end() noexcept
	{
		limit = 0;
	}

	/* Adds @bytes. False: they would exceed the limit, and are not added. */
	bool add(int64_t bytes) noexcept
	{
		int64_t now = used.fetch_add(bytes) + bytes;

		if (limit > 0 && bytes > 0 && now - base > limit) {
			used.fetch_sub(bytes);
			refuse(bytes);
			return false;
		}
		raise(now);
		return true;
	}

	/* Adds @bytes that were taken already, so that nothing can be refused. */
	void note(int64_t bytes) noexcept
	{
		raise(used.fetch_add(bytes) + bytes);
	}

	/* Notes that there was no memory for @bytes more. */
	void refuse(int64_t bytes) noexcept
	{
		wanted = used.load() - base + bytes;
	}

	uint64_t peak_bytes() const noexcept
	{
		return static_cast<uint64_t>(std::max<int64_t>(most - base, 0));
	}

	/* The least that a refused computation would have taken; 0: none was refused. */
	uint64_t wanted_bytes() const noexcept
	{
		return static_cast<uint64_t>(std::max<int64_t>(wanted, 0));
	}

      private:
	void raise(int64_t now) noexcept
	{
		int64_t seen = most.load();

		while (now > seen && !most.compare_exchange_weak(seen, now))
			;
	}

	std::atomic<int64_t> used{ 0 };
	std::atomic<int64_t> most{ 0 };
	std::atomic<int64_t> wanted{ 0 };
	int64_t base = 0;
	int64_t limit = 0; /* 0: none */
};

memory_account account;

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
		if (!account.add(static_cast<int64_t>(bytes)))
			TORCH_CHECK(false, "out of memory: more than working_memory");
		if (posix_memalign(&data, alignment, bytes) != 0) {
			account.note(-static_cast<int64_t>(bytes));
			account.refuse(static_cast<int64_t>(bytes));
			TORCH_CHECK(false, "out of memory: can't allocate memory");
		}
		/* malloc's rounding is taken already, and no reason to refuse anything. */
		account.note(static_cast<int64_t>(malloc_usable_size(data) - bytes));
		return { data, data, &put, c10::Device(c10::kCPU) };
	}

	static void put(void *data)
	{
		if (data)
			account.note(-static_cast<int64_t>(malloc_usable_size(data)));
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
		(void)account.add(bytes);
	}
	void reportMemoryUsage(void *, int64_t bytes, size_t, size_t, c10::Device)
	{
		(void)account.add(bytes);
	}
	void reportOutOfMemory(int64_t bytes, int64_t, int64_t, c10::Device)
	{
		account.refuse(bytes);
	}
	void reportOutOfMemory(int64_t bytes, size_t, size_t, c10::Device)
	{
		account.refuse(bytes);
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
		account.begin(limit_bytes);
		if (!device.is_cpu())
			reports.emplace(c10::DebugInfoKind::PROFILER_STATE,
			                std::make_shared<memory_reporter>());
	}
	~memory_watch()
	{
		account.end();
	}
	memory_watch(const memory_watch &) = delete;
	memory_watch &operator=(const memory_watch &) = delete;

      private:
	std::optional<c10::DebugInfoGuard> reports;
};

} /* namespace */
