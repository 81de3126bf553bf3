/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Takes descriptors or memory away from this process for a while. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

/* Limits @resource to @limit until shortage_end(); what is taken already stays. */
static inline struct rlimit shortage_begin(int resource, rlim_t limit)
{
	struct rlimit before;
	struct rlimit now;

	assert_int_equal(getrlimit(resource, &before), 0);
	now = (struct rlimit){ limit, before.rlim_max };
	assert_int_equal(setrlimit(resource, &now), 0);
	return before;
}

static inline void shortage_end(int resource, const struct rlimit *before)
{
	assert_int_equal(setrlimit(resource, before), 0);
}
