/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime's allocators throw std::bad_alloc, and so does this one, by a function of
 * libstdc++'s: the exception passes account_alloc(), which is built with -fexceptions, on its
 * way to the runtime's own handler.
 */
#include "loader/onnx/account.h"

#include <malloc.h>
#include <stdlib.h>

/* What the runtime's own allocator keeps to, whose kernels load whole vectors. */
#define ACCOUNT_ALIGNMENT 64

static void account_note(struct account *account, int64_t held)
{
	int64_t peak = atomic_load(&account->peak);

	while (held > peak && !atomic_compare_exchange_weak(&account->peak, &peak, held))
		;
}

/* Adds @bytes. False: they would exceed the limit, and are not added. */
static bool account_add(struct account *account, int64_t bytes)
{
	int64_t held = atomic_fetch_add(&account->held, bytes) + bytes;
	uint64_t limit = atomic_load(&account->limit);

	if (limit == 0 || held <= 0 || (uint64_t)held <= limit) {
		account_note(account, held);
		return true;
	}
	(void)atomic_fetch_sub(&account->held, bytes);
	atomic_store(&account->wanted, (uint64_t)held);
	return false;
}

static void *account_alloc(struct ort_allocator *allocator, size_t bytes)
{
	struct account *account = (struct account *)allocator;
	void *data = NULL;

	/* The runtime takes NULL for no bytes, and has no larger tensors. */
	if (bytes == 0)
		return NULL;
	if (bytes > INT64_MAX || !account_add(account, (int64_t)bytes)) {
		account->throw();
		return NULL;
	}
	if (posix_memalign(&data, ACCOUNT_ALIGNMENT, bytes) != 0) {
		int64_t held = atomic_fetch_sub(&account->held, (int64_t)bytes);

		atomic_store(&account->wanted, held > 0 ? (uint64_t)held : bytes);
		account->throw();
		return NULL;
	}
	/* malloc's rounding is taken already, and no reason to refuse anything. */
	(void)atomic_fetch_add(&account->held,
	                       (int64_t)(malloc_usable_size(data) - bytes));
	return data;
}

static void account_free(struct ort_allocator *allocator, void *data)
{
	struct account *account = (struct account *)allocator;

	(void)atomic_fetch_sub(&account->held, (int64_t)malloc_usable_size(data));
	free(data);
}

static const struct ort_memory *account_info(const struct ort_allocator *allocator)
{
	return ((const struct account *)allocator)->memory;
}

void account_init(struct account *account, const struct ort_memory *memory,
                  account_throw *throw)
{
	*account = (struct account){
		.allocator = {
			.version = ORT_API,
			.alloc = account_alloc,
			.free = account_free,
			.info = account_info,
		},
		.memory = memory,
		.throw = throw,
	};
}

void account_begin(struct account *account, uint64_t limit)
{
	atomic_store(&account->held, 0);
	atomic_store(&account->peak, 0);
	atomic_store(&account->wanted, 0);
	atomic_store(&account->limit, limit);
}

void account_end(struct account *account)
{
	atomic_store(&account->limit, 0);
}

uint64_t account_peak(const struct account *account)
{
	return (uint64_t)atomic_load(&account->peak);
}

uint64_t account_wanted(const struct account *account)
{
	return atomic_load(&account->wanted);
}
