/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Processes that the fault engine leaves behind. Each ends by itself after a minute or two,
 * however the test ends, and has the supervisor's pid in its command line.
 *
 *	child    sleep(1)
 *	daemon   forked twice, in a session of its own, with @bytes of memory
 *	bare     the same, executing sleep(1) with an empty environment
 *	deaf     ignores all signals that can be ignored
 *	chain    forks and ends, over and over, each in the group of the one before
 *	tree     three of them, each below the one before, each in a session of its own
 *	headless its first thread has ended, another one goes on
 *	crowd    LEAVE_CROWD that have ended, two forks away
 */

#include "loader/engine.h"

#define LEAVE_CROWD 300

/* 0; -1: @kind is unknown. */
int fault_leave(const char *kind, unsigned long bytes);

/* Hosts routes: engine_fault_host.c. */
struct fault_host;

/* 0 or an outcome of enum engine_outcome; fault_host_end() in any case. */
int fault_host(struct fault_host **ret_host, const struct engine_config *config,
               const struct engine_host *lent, struct err *err);
/* Due when take says END. Accepts NULL. */
void fault_host_end(struct fault_host *host);
