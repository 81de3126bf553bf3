/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/user.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t user_join(uint32_t low, uint32_t high)
{
	return (uint64_t)high << 32 | low;
}

int user_rights_get(struct user_rights *ret_rights)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, data) < 0)
		return errno;
	ret_rights->effective = user_join(data[0].effective, data[1].effective);
	ret_rights->permitted = user_join(data[0].permitted, data[1].permitted);
	ret_rights->inheritable = user_join(data[0].inheritable, data[1].inheritable);
	return 0;
}

int user_rights_set(const struct user_rights *rights)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
		{ (uint32_t)rights->effective, (uint32_t)rights->permitted,
		  (uint32_t)rights->inheritable },
		{ (uint32_t)(rights->effective >> 32),
		  (uint32_t)(rights->permitted >> 32),
		  (uint32_t)(rights->inheritable >> 32) },
	};

	return syscall(SYS_capset, &head, data) < 0 ? errno : 0;
}

bool user_may_change(void)
{
	const uint64_t wanted = USER_RIGHT(CAP_SETUID) | USER_RIGHT(CAP_KILL);
	struct user_rights rights;

	return user_rights_get(&rights) == 0 && (rights.permitted & wanted) == wanted;
}

int user_become(uid_t uid)
{
	const struct user_rights none = { 0 };
	struct user_rights rights;
	int r = user_rights_get(&rights);

	rights.effective = rights.permitted;
	if (r == 0)
		r = user_rights_set(&rights);
	if (r == 0 && geteuid() == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0))
		r = errno;
	if (r == 0 && setresuid(uid, uid, uid) < 0)
		r = errno;
	if (r == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		r = errno;
	return r ? -r : -user_rights_set(&none);
}
