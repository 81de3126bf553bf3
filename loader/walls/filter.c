/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A list of what is refused, and not of what is allowed: frameworks, interpreters and the C library
 * of the next release make calls that nobody can list today, and a loader that dies of a harmless
 * one helps nobody. What the list cannot know, files, landlock answers by path.
 *
 * Numbers of processes are compared where the argument is one: an engine that starts none signals
 * itself alone (abort() does).
 */
#include "loader/walls/filter.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILTER_DENY    SCMP_ACT_ERRNO(EPERM)
#define FILTER_UNKNOWN SCMP_ACT_ERRNO(ENOSYS)
/* One more than the last family that Linux has. */
#define FILTER_FAMILIES 48

/* Refused to every loader. */
static const char *const filter_all[] = {
	/* other processes */
	"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
	"process_mrelease", "kcmp", "pidfd_getfd", "move_pages", "migrate_pages",
	/* namespaces and mounts, which would undo the rules for files */
	"unshare", "setns", "mount", "umount", "umount2", "pivot_root", "chroot",
	"move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
	"mount_setattr", "open_by_handle_at", "name_to_handle_at",
	/* ways around a filter, and attack surface of the kernel */
	"io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "bpf",
	"perf_event_open", "add_key", "request_key", "keyctl", "fanotify_init",
	"lookup_dcookie", "modify_ldt", "vm86", "vm86old", "uselib",
	/* the machine */
	"kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
	"reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "nfsservctl",
	"sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime",
	"adjtimex", "stime", "iopl", "ioperm", "syslog", "vhangup", "_sysctl"
};

/* Refused to a loader that starts no processes: what a computation has no use for. */
static const char *const filter_alone[] = {
	"fork", "vfork", "execve", "execveat", "setsid", "setpgid", "tkill", "pidfd_open",
	"pidfd_send_signal",
	/* landlock has no rules for them */
	"chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat",
	"setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr",
	"fremovexattr", "utime", "utimes", "futimesat", "utimensat", "truncate",
	/* objects of the machine that have a name */
	"shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl", "semget",
	"semop", "semctl", "semtimedop", "mq_open", "mq_unlink"
};

static const char *const filter_sockets[] = { "socket", "connect", "bind",
	                                      "listen", "accept",  "accept4" };

static int filter_deny_list(scmp_filter_ctx context, const char *const *names, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		int number = seccomp_syscall_resolve_name(names[i]);

		if (number != __NR_SCMP_ERROR)
			r = seccomp_rule_add(context, FILTER_DENY, number, 0);
	}
	return r;
}

/* Processes */

static int filter_clone(scmp_filter_ctx context, bool has_processes)
{
	static const scmp_datum_t namespaces[] = {
		CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,  CLONE_NEWIPC,
		CLONE_NEWPID, CLONE_NEWNET,    CLONE_NEWUSER,
	};
	int r;

	/* Its flags lie in memory, where a filter cannot look: C libraries fall back to
	 * clone(). */
	r = seccomp_rule_add(context, FILTER_UNKNOWN, SCMP_SYS(clone3), 0);
	if (r == 0 && !has_processes)
		r = seccomp_rule_add(context, FILTER_DENY, SCMP_SYS(clone), 1,
		                     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]) && r == 0; i++)
		r = seccomp_rule_add(context, FILTER_DENY, SCMP_SYS(clone), 1,
		                     SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i],
		                             namespaces[i]));
	/* Limits of others of the same user. */
	return r ? r
	         : seccomp_rule_add(context, FILTER_DENY, SCMP_SYS(prlimit64), 1,
	                            SCMP_A0(SCMP_CMP_NE, 0));
}

/* Signals whose first argument is a process: to @own alone, or to all but @others. */
static int filter_signals(scmp_filter_ctx context, const struct filter *filter)
{
	static const int calls[] = { SCMP_SYS(kill), SCMP_SYS(tgkill),
		                     SCMP_SYS(rt_sigqueueinfo),
		                     SCMP_SYS(rt_tgsigqueueinfo) };
	const uint32_t others[] = { (uint32_t)filter->supervisor, 1, UINT32_MAX };
	int r = 0;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && r == 0; i++) {
		if (!filter->has_processes)
			r = seccomp_rule_add(context, FILTER_DENY, calls[i], 1,
			                     SCMP_A0(SCMP_CMP_NE,
			                             (scmp_datum_t)getpid()));
		for (size_t j = 0; j < sizeof(others) / sizeof(others[0]) && r == 0 &&
		                   filter->has_processes && !filter->has_signal_scope;
		     j++)
			r = seccomp_rule_add(context, FILTER_DENY, calls[i], 1,
			                     SCMP_A0_32(SCMP_CMP_EQ, others[j]));
	}
	return r;
}

/* Sockets */

static bool filter_has_family(const struct filter *filter, int family)
{
	switch (family) {
	case AF_UNIX:
		return filter->has_unix || filter->has_network;
	case AF_INET:
	case AF_INET6:
		return filter->has_tcp || filter->has_network;
	case AF_NETLINK: /* the resolver asks there which addresses the machine has */
		return filter->has_network;
	default:
		return false;
	}
}

static int filter_families(scmp_filter_ctx context, const struct filter *filter)
{
	static const scmp_datum_t without_tcp[] = { SOCK_DGRAM, SOCK_RAW };
	int r = seccomp_rule_add(context, FILTER_DENY, SCMP_SYS(socket), 1,
	                         SCMP_A0_32(SCMP_CMP_GE, FILTER_FAMILIES));

	for (int family = 0; family < FILTER_FAMILIES && r == 0; family++)
		if (!filter_has_family(filter, family))
			r = seccomp_rule_add(context, FILTER_DENY, SCMP_SYS(socket), 1,
			                     SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)family));
	for (size_t i = 0; i < 2 && r == 0 && !filter->has_network; i++)
		for (int j = 0; j < 2 && r == 0 && filter->has_tcp; j++)
			r = seccomp_rule_add(context, FILTER_DENY, SCMP_SYS(socket), 2,
			                     SCMP_A0_32(SCMP_CMP_EQ,
			                                j ? AF_INET6 : AF_INET),
			                     SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xf,
			                                without_tcp[i]));
	return r;
}

/* A pair of sockets that are connected with each other reaches nobody, but for one of datagrams:
 * each of these may have an address of its own. */
static int filter_network(scmp_filter_ctx context, const struct filter *filter)
{
	int r = 0;

	if (!filter->has_network && !filter->has_unix)
		r = seccomp_rule_add(context, FILTER_DENY, SCMP_SYS(socketpair), 1,
		                     SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xf, SOCK_DGRAM));
	if (r)
		return r;
	if (filter->has_network || filter->has_unix || filter->has_tcp)
		return filter_families(context, filter);
	return filter_deny_list(context, filter_sockets,
	                        sizeof(filter_sockets) / sizeof(filter_sockets[0]));
}

static int filter_fill(scmp_filter_ctx context, const struct filter *filter)
{
	int r;

	/* One refusal for all threads, those that libraries have started too. */
	r = seccomp_attr_set(context, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0)
		r = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, FILTER_UNKNOWN);
	if (r == 0)
		r = filter_deny_list(context, filter_all,
		                     sizeof(filter_all) / sizeof(filter_all[0]));
	if (r == 0 && !filter->has_processes)
		r = filter_deny_list(context, filter_alone,
		                     sizeof(filter_alone) / sizeof(filter_alone[0]));
	if (r == 0)
		r = filter_clone(context, filter->has_processes);
	if (r == 0)
		r = filter_signals(context, filter);
	return r ? r : filter_network(context, filter);
}

int filter_enforce(const struct filter *filter, struct err *err)
{
	scmp_filter_ctx context = seccomp_init(SCMP_ACT_ALLOW);
	int r;

	if (!context)
		return err_set(err, -ENOMEM, "seccomp: out of memory");
	r = filter_fill(context, filter);
	if (r == 0)
		r = seccomp_load(context);
	seccomp_release(context);
	return r ? err_set(err, r, "seccomp: %s", strerror(-r)) : 0;
}
