/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stays are the rights over files and over the own identity: root in a container has files of
 * other users to read, and servers that it starts become somebody else.
 */
#include "loader/walls/rights.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader/walls/threads.h"

#define RIGHT(number) (UINT64_C(1) << (number))

static const uint64_t rights_kept =
	RIGHT(CAP_CHOWN) | RIGHT(CAP_DAC_OVERRIDE) | RIGHT(CAP_DAC_READ_SEARCH) |
	RIGHT(CAP_FOWNER) | RIGHT(CAP_FSETID) | RIGHT(CAP_KILL) | RIGHT(CAP_SETGID) |
	RIGHT(CAP_SETUID) | RIGHT(CAP_NET_BIND_SERVICE) | RIGHT(CAP_IPC_LOCK) |
	RIGHT(CAP_SYS_NICE) | RIGHT(CAP_SETFCAP);

static int rights_call(const void *unused)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	uint32_t dropped = 0;

	(void)unused;
	if (syscall(SYS_capget, &head, data) < 0)
		return errno;
	for (unsigned int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		uint32_t kept = (uint32_t)(rights_kept >> (32 * i));

		dropped |= (data[i].effective | data[i].permitted | data[i].inheritable) &
		           ~kept;
		data[i].effective &= kept;
		data[i].permitted &= kept;
		data[i].inheritable &= kept;
	}
	/* Who has none is not asked for the call, which a unit may refuse (@privileged). */
	return dropped && syscall(SYS_capset, &head, data) < 0 ? errno : 0;
}

int rights_drop(void)
{
	return threads_run(rights_call, NULL);
}
