/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What computing takes of the device's memory, and an end to it.
 *
 * Main memory: libtorch's allocator is replaced by one that counts and keeps to a limit; what
 * a math library takes for itself is not seen. CUDA: libtorch's own allocator reports to
 * whoever profiles in this thread.
 *
 * libtorch 1.13 and 2.x differ in what is const and in types of byte counts: a function that
 * is there in both forms overrides the right one, which is why none says `override`.
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
	/* One computation begins: what is held now does not count. */
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

	/* False: that is more than there may be. */
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

	/* What was taken already: nothing is left to refuse. */
	void note(int64_t bytes) noexcept
	{
		raise(used.fetch_add(bytes) + bytes);
	}

	/* There is no memory for @bytes more. */
	void refuse(int64_t bytes) noexcept
	{
		wanted = used.load() - base + bytes;
	}

	uint64_t peak_bytes() const noexcept
	{
		return static_cast<uint64_t>(std::max<int64_t>(most - base, 0));
	}

	/* Of a computation that was refused memory; else 0. */
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
		/* Rounding: it is there, and no reason to refuse anything. */
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

/* CUDA's. What stands where a profiler does is taken for a whole one: for one that is off, and
 * that memory is told to. */
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

/* Before anything that counts is allocated; never taken back. */
void count_main_memory()
{
	static counting_allocator allocator;

	c10::SetCPUAllocator(&allocator, UINT8_MAX);
}

/* While it lives a computation counts. */
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
