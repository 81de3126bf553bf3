/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/engines/torch_account.h"

#include <stdatomic.h>

/* The allocators that report here have no place for a pointer. */
static struct {
	_Atomic int64_t used;
	_Atomic int64_t most;
	_Atomic int64_t wanted;
	int64_t base;  /* of used, when the computation began */
	int64_t limit; /* 0: none */
} account;

void torch_account_begin(uint64_t limit_bytes)
{
	account.base = account.used;
	account.most = account.base;
	account.limit = limit_bytes < INT64_MAX ? (int64_t)limit_bytes : INT64_MAX;
	account.wanted = 0;
}

void torch_account_end(void)
{
	account.limit = 0;
}

static void torch_account_raise(int64_t now)
{
	int64_t seen = account.most;

	while (now > seen && !atomic_compare_exchange_weak(&account.most, &seen, now))
		;
}

bool torch_account_add(int64_t bytes)
{
	int64_t now = atomic_fetch_add(&account.used, bytes) + bytes;

	if (account.limit > 0 && bytes > 0 && now - account.base > account.limit) {
		(void)atomic_fetch_sub(&account.used, bytes);
		torch_account_refuse(bytes);
		return false;
	}
	torch_account_raise(now);
	return true;
}

void torch_account_note(int64_t bytes)
{
	torch_account_raise(atomic_fetch_add(&account.used, bytes) + bytes);
}

void torch_account_refuse(int64_t bytes)
{
	account.wanted = account.used - account.base + bytes;
}

uint64_t torch_account_peak_bytes(void)
{
	int64_t bytes = account.most - account.base;

	return bytes > 0 ? (uint64_t)bytes : 0;
}

uint64_t torch_account_wanted_bytes(void)
{
	int64_t bytes = account.wanted;

	return bytes > 0 ? (uint64_t)bytes : 0;
}
