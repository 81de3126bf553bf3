/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The system calls that a loader is refused, by seccomp(2): those that reach into other processes,
 * that change the machine, or that code which was let in would use to get further. A refused call
 * fails with EPERM.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "shared/err.h"

struct filter {
	pid_t supervisor;      /* which gets no signal */
	bool has_processes;    /* may start others, and end them */
	bool has_network;      /* any address */
	bool has_unix;         /* unix sockets with a path */
	bool has_tcp;          /* TCP, for whose ports landlock has rules */
	bool has_signal_scope; /* landlock keeps signals inside */
};

/* Refuses calls to all threads of the process, for good. 0 or -errno with a sentence. */
int filter_enforce(const struct filter *filter, struct err *err);
