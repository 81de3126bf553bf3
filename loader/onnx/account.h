/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The main memory that computing takes, counted and limited: an allocator that ONNX Runtime
 * takes in the place of its own arena, which would keep what it once had. begin() and end() come
 * from the thread that computes, all else from any thread.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/onnx/ort.h"

/* Throws std::bad_alloc. An allocator of the runtime's has no other way to say that there is no
 * memory: kernels write to whatever it returns. */
typedef void account_throw(void);

struct account {
	struct ort_allocator allocator; /* first: the runtime knows nothing else */
	const struct ort_memory *memory;
	account_throw *throw;
	_Atomic int64_t held;    /* since begin() */
	_Atomic int64_t peak;    /* of the last computation */
	_Atomic uint64_t wanted; /* 0, or the least that a refused one would have taken */
	_Atomic uint64_t limit;  /* 0: none */
};

/* @memory describes the host's and stays the caller's. */
void account_init(struct account *account, const struct ort_memory *memory,
                  account_throw *throw);
/* Begins a computation: what is held already does not count. @limit 0: no limit. */
void account_begin(struct account *account, uint64_t limit);
/* Ends it: there is no limit from then on. */
void account_end(struct account *account);
/* The most that the last computation held. */
uint64_t account_peak(const struct account *account);
/* The least that a refused computation would have taken; 0: none was refused. */
uint64_t account_wanted(const struct account *account);
