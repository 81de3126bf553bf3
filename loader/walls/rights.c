/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stays are the rights over files and over the own identity: root in a container has files of
 * other users to read, and servers that it starts become somebody else.
 */
#include "loader/walls/rights.h"

#include <linux/capability.h>
#include <stddef.h>

#include "loader/walls/threads.h"
#include "shared/user.h"

static const uint64_t rights_kept =
	USER_RIGHT(CAP_CHOWN) | USER_RIGHT(CAP_DAC_OVERRIDE) |
	USER_RIGHT(CAP_DAC_READ_SEARCH) | USER_RIGHT(CAP_FOWNER) |
	USER_RIGHT(CAP_FSETID) | USER_RIGHT(CAP_KILL) | USER_RIGHT(CAP_SETGID) |
	USER_RIGHT(CAP_SETUID) | USER_RIGHT(CAP_NET_BIND_SERVICE) |
	USER_RIGHT(CAP_IPC_LOCK) | USER_RIGHT(CAP_SYS_NICE) | USER_RIGHT(CAP_SETFCAP);

static int rights_call(const void *unused)
{
	struct user_rights rights;
	uint64_t dropped;
	int r = user_rights_get(&rights);

	(void)unused;
	if (r)
		return r;
	dropped =
		(rights.effective | rights.permitted | rights.inheritable) & ~rights_kept;
	rights.effective &= rights_kept;
	rights.permitted &= rights_kept;
	rights.inheritable &= rights_kept;
	/* Who has none is not asked for the call, which a unit may refuse (@privileged). */
	return dropped ? user_rights_set(&rights) : 0;
}

int rights_drop(void)
{
	return threads_run(rights_call, NULL);
}
