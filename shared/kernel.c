/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/kernel.h"

#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KERNEL_ASK_VERSION 1U

int kernel_landlock(void)
{
	long r = syscall(SYS_landlock_create_ruleset, NULL, 0, KERNEL_ASK_VERSION);

	return r > 0 ? (int)r : 0;
}

bool kernel_has_seccomp(void)
{
	return prctl(PR_GET_SECCOMP) >= 0;
}
