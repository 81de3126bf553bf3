/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Processes that loaders of an earlier moultd started and that outlived it. The kernel
 * kills a loader whose moultd is gone, however that went, but not the loader's own
 * children.
 *
 * Each of these processes has its moultd's mark in the environment that it was started
 * with, unless it was given another one: MOULT_RUN=PID-TICKS-NAMESPACE, which
 * identifies that moultd. The mark of a moultd that lives protects, so that several may
 * run beside each other. A mark of another PID or time namespace (namespaces(7)) says
 * nothing here, because numbers and times have another meaning there.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervisor/config/config.h"

struct proc;

#define LEFTOVERS_MARK     "MOULT_RUN"
#define LEFTOVERS_MARK_MAX 64

/* Identity of a moultd. */
struct leftovers_run {
	pid_t pid;
	uint64_t start_ticks;
	uint64_t pid_namespace; /* inode of the namespace */
};

/* The identity of this process. */
struct leftovers_run leftovers_run_self(void);
/* Prints "PID-TICKS-NAMESPACE" into @text, which holds LEFTOVERS_MARK_MAX bytes. */
void leftovers_run_print(const struct leftovers_run *run, char *text);
/* Reads what leftovers_run_print() prints. False: @text is nothing like it. */
bool leftovers_run_parse(const char *text, struct leftovers_run *ret_run);
/* True: @run is of this PID namespace and has ended. */
bool leftovers_run_is_over(const struct leftovers_run *run);

/* Logs that @proc is left over and about to be killed. */
void leftovers_say(const struct proc *proc);
/*
 * Kills the processes of this user whose moultd is over, logs each, and waits for their
 * end, two seconds at most. For the start, before moultd has processes of its own.
 * Returns how many there were.
 */
size_t leftovers_sweep(void);
/* Likewise those of loaders that had users of their own, who alone may look at them. */
void leftovers_sweep_users(const struct config_users *users);
