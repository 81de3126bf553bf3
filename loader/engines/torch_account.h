/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The device memory that computing takes, counted and limited, for engine torch: one account for
 * the process. begin() and end() come from the thread that computes, all else from any thread.
 */

#include <stdbool.h>
#include <stdint.h>

/* Begins a computation: memory that is held already does not count. @limit_bytes 0: no limit. */
void torch_account_begin(uint64_t limit_bytes);
/* Ends it: there is no limit from then on. */
void torch_account_end(void);

/* Adds @bytes, which may be less than 0. False: they would exceed the limit, and are not added. */
bool torch_account_add(int64_t bytes);
/* Adds @bytes that were taken already, so that nothing can be refused. */
void torch_account_note(int64_t bytes);
/* Notes that there was no memory for @bytes more. */
void torch_account_refuse(int64_t bytes);

/* The most that the last computation held. */
uint64_t torch_account_peak_bytes(void);
/* The least that a refused computation would have taken; 0: none was refused. */
uint64_t torch_account_wanted_bytes(void);
