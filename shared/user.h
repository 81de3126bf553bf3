/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Users, and the rights to change them (capabilities(7)): moultd may give each model's loaders a
 * user of their own.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define USER_RIGHT(number) (UINT64_C(1) << (number))

/* What a thread has, a bit each. */
struct user_rights {
	uint64_t effective;
	uint64_t permitted;
	uint64_t inheritable;
};

/* Both are of the calling thread, and may stand in a handler of a signal. 0 or an errno. */
int user_rights_get(struct user_rights *ret_rights);
int user_rights_set(const struct user_rights *rights);

/* Whether the process may make others of its children, and signal them then: it has CAP_SETUID and
 * CAP_KILL, in use or in reserve. */
bool user_may_change(void);
/* Becomes @uid for good and gives all rights away. Root gives its groups away as well, for the one
 * of that number; whoever else keeps theirs. 0 or -errno. */
int user_become(uid_t uid);
