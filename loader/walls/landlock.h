/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Landlock (landlock(7)): which files a process may reach, as a set of rules that it lays upon
 * itself for good, and upon all that it starts. glibc has no functions for it.
 */

#include <stdbool.h>

enum landlock_right {
	LANDLOCK_READ = 1,
	LANDLOCK_EXECUTE = 2,
	LANDLOCK_WRITE = 4,  /* to files that are there */
	LANDLOCK_CREATE = 8, /* and remove, and read: all but to execute */
	LANDLOCK_LIST = 16,
	LANDLOCK_RMDIR = 32, /* folders that are empty */
};

/* Begins a set of rules of interface @version, and TCP is in it where @has_tcp says so. Returns
 * its descriptor, which the caller closes, or -errno. */
int landlock_begin(int version, bool has_tcp);
/* Allows @rights, of enum landlock_right, at and below @path. 0 or -errno. */
int landlock_allow(int rules, int version, const char *path, unsigned int rights);
/* Allows to listen on TCP port @port, and to connect to it. 0 or -errno. */
int landlock_allow_port(int rules, unsigned int port);
/* Lays the rules upon every thread of the process, which must have no_new_privs. 0 or -errno. */
int landlock_enforce(int rules);
