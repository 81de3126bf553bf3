/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Calls that the kernel takes for the calling thread alone, made by all threads of the process.
 */

/* Has each thread call @call, the calling one last. @call returns 0 or an errno, and does nothing
 * that a handler of a signal must not (signal-safety(7)). 0, or -errno: some have called by then,
 * and the calling thread has not. */
int threads_run(int (*call)(const void *context), const void *context);
