/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two layers: landlock for what has a path or a port, seccomp for calls. Each stands alone where
 * the kernel lacks the other. They are laid upon a process whose engine is open and whose model is
 * unread: before that nothing hostile is in it, and opening libraries takes more of the machine
 * than computing does.
 *
 * An engine that starts processes lets them do what programs expect to be able to: read /proc and
 * the usual files of /etc, make semaphores. A computation gets less of each.
 */
#include "loader/walls/walls.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loader/walls/filter.h"
#include "loader/walls/landlock.h"
#include "loader/walls/rights.h"
#include "loader/walls/threads.h"
#include "shared/cleanup.h"
#include "shared/kernel.h"

enum walls_for {
	FOR_ALL,
	FOR_PROCESSES,
	FOR_NET,
	FOR_GPU,
};

struct walls_rule {
	const char *pattern; /* as for glob(3) */
	enum walls_for whom;
	unsigned int rights; /* enum landlock_right */
};

static const struct walls_rule walls_rules[] = {
	/* libraries and programs */
	{ "/usr", FOR_ALL, LANDLOCK_READ | LANDLOCK_EXECUTE },
	{ "/lib*", FOR_ALL, LANDLOCK_READ | LANDLOCK_EXECUTE },
	{ "/bin", FOR_ALL, LANDLOCK_READ | LANDLOCK_EXECUTE },
	{ "/sbin", FOR_ALL, LANDLOCK_READ | LANDLOCK_EXECUTE },
	{ "/nix/store", FOR_ALL, LANDLOCK_READ | LANDLOCK_EXECUTE },
	{ "/etc/ld.so.*", FOR_ALL, LANDLOCK_READ },
	{ "/etc/localtime", FOR_ALL, LANDLOCK_READ },
	{ "/etc/timezone", FOR_ALL, LANDLOCK_READ },
	/* devices */
	{ "/dev/null", FOR_ALL, LANDLOCK_WRITE },
	{ "/dev/zero", FOR_ALL, LANDLOCK_WRITE },
	{ "/dev/full", FOR_ALL, LANDLOCK_WRITE },
	{ "/dev/random", FOR_ALL, LANDLOCK_READ },
	{ "/dev/urandom", FOR_ALL, LANDLOCK_READ },
	/* the machine's size: how many threads, how much memory */
	{ "/sys/devices/system", FOR_ALL, LANDLOCK_READ },
	{ "/sys/fs/cgroup", FOR_ALL, LANDLOCK_READ },
	{ "/sys/kernel/mm", FOR_ALL, LANDLOCK_READ },
	{ "/proc/cpuinfo", FOR_ALL, LANDLOCK_READ },
	{ "/proc/meminfo", FOR_ALL, LANDLOCK_READ },
	{ "/proc/stat", FOR_ALL, LANDLOCK_READ },
	{ "/proc/sys/vm", FOR_ALL, LANDLOCK_READ },
	/* what programs look up */
	{ "/proc", FOR_PROCESSES, LANDLOCK_READ },
	{ "/sys", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/alternatives", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/fonts", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/group", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/host.conf", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/hostname", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/hosts", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/java*", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/locale*", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/mime.types", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/nsswitch.conf", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/os-release", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/passwd", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/protocols", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/python*", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/services", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/ssl/certs", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/ssl/openssl.cnf", FOR_PROCESSES, LANDLOCK_READ },
	{ "/etc/terminfo", FOR_PROCESSES, LANDLOCK_READ },
	/* Semaphores of multiprocessing lie here. Without the right to list nobody finds a file
	 * of another loader whose name cannot be guessed. */
	{ "/dev/shm", FOR_PROCESSES, LANDLOCK_CREATE },
	/* the resolver, and who is trusted */
	{ "/etc/gai.conf", FOR_NET, LANDLOCK_READ },
	{ "/etc/host.conf", FOR_NET, LANDLOCK_READ },
	{ "/etc/hosts", FOR_NET, LANDLOCK_READ },
	{ "/etc/nsswitch.conf", FOR_NET, LANDLOCK_READ },
	{ "/etc/pki", FOR_NET, LANDLOCK_READ },
	{ "/etc/resolv.conf", FOR_NET, LANDLOCK_READ },
	{ "/run/systemd/resolve", FOR_NET, LANDLOCK_READ },
	{ "/run/resolvconf", FOR_NET, LANDLOCK_READ },
	{ "/run/NetworkManager/resolv.conf", FOR_NET, LANDLOCK_READ },
	{ "/etc/services", FOR_NET, LANDLOCK_READ },
	{ "/etc/ssl/certs", FOR_NET, LANDLOCK_READ },
	/* the driver */
	{ "/dev/nvidia*", FOR_GPU, LANDLOCK_WRITE },
	{ "/dev/nvidia-caps", FOR_GPU, LANDLOCK_READ | LANDLOCK_WRITE },
	{ "/proc/driver/nvidia*", FOR_GPU, LANDLOCK_READ },
	{ "/proc/devices", FOR_GPU, LANDLOCK_READ },
	{ "/proc/modules", FOR_GPU, LANDLOCK_READ },
	{ "/sys/bus/pci", FOR_GPU, LANDLOCK_READ },
	{ "/sys/devices", FOR_GPU, LANDLOCK_READ },
	{ "/sys/module", FOR_GPU, LANDLOCK_READ },
};

/* What stands */

static void walls_append(struct err *list, const char *separator, const char *text)
{
	struct err before = *list;

	(void)err_set(list, 0, "%s%s%s", before.text, *before.text ? separator : "",
	              text);
}

static void walls_note(struct walls *walls, const char *layer, bool stands,
                       const char *why)
{
	struct err line;

	if (stands) {
		walls_append(&walls->on, ", ", layer);
		return;
	}
	(void)err_set(&line, 0, "%s: %s", layer, why);
	walls_append(&walls->missing, "; ", line.text);
}

/* Rules */

/* For the engine, which knows but its own part. A folder that has everything is nobody's
 * prefix. */
static void walls_read_for_engine(struct engine_walls *said, const char *path)
{
	const char *home = getenv("HOME");

	if (*path == '/' && path[1] != '\0' && !(home && strcmp(path, home) == 0))
		walls_read((struct walls *)said, path);
}

void walls_begin(struct walls *walls, enum walls_mode mode, int highest_version)
{
	*walls = WALLS_NULL;
	walls->mode = mode;
	walls->said.read = walls_read_for_engine;
	if (mode == WALLS_OFF || mode == WALLS_OPEN)
		return;
	walls->version = kernel_landlock();
	if (highest_version > 0 && walls->version > highest_version)
		walls->version = highest_version;
	if (walls->version == 0)
		return;
	walls->rules = landlock_begin(walls->version,
	                              mode == WALLS_STRICT && walls->version >= 4);
	if (walls->rules < 0)
		walls->version = 0;
}

void walls_expect_user(struct walls *walls, uid_t user)
{
	walls->user = user;
}

void walls_limit(struct walls *walls, enum walls_limit limit, uint64_t user_most,
                 bool is_kept)
{
	walls->limits |= limit;
	walls->kept |= is_kept ? limit : 0;
	if (limit == WALLS_LIMIT_PROCESSES)
		walls->user_processes = user_most;
}

/* What is not there needs no rule. */
static void walls_allow(struct walls *walls, const char *path, unsigned int rights)
{
	if (walls->rules >= 0)
		(void)landlock_allow(walls->rules, walls->version, path, rights);
}

void walls_read(struct walls *walls, const char *path)
{
	walls_allow(walls, path, LANDLOCK_READ | LANDLOCK_EXECUTE);
}

void walls_write(struct walls *walls, const char *path)
{
	walls_allow(walls, path, LANDLOCK_READ | LANDLOCK_CREATE);
}

void walls_own(struct walls *walls, const char *path)
{
	const char *slash = strrchr(path, '/');
	FREE char *parent = slash ? strndup(path, (size_t)(slash - path)) : NULL;

	walls_write(walls, path);
	if (parent)
		walls_allow(walls, parent, LANDLOCK_RMDIR);
}

static void walls_allow_pattern(struct walls *walls, const struct walls_rule *rule)
{
	glob_t found = { 0 };

	if (glob(rule->pattern, GLOB_NOSORT, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			walls_allow(walls, found.gl_pathv[i], rule->rights);
	globfree(&found);
}

static void walls_allow_all(struct walls *walls, enum walls_for whom)
{
	for (size_t i = 0; i < sizeof(walls_rules) / sizeof(walls_rules[0]); i++)
		if (walls_rules[i].whom == whom)
			walls_allow_pattern(walls, &walls_rules[i]);
}

void walls_add_device(struct walls *walls)
{
	walls_allow_all(walls, FOR_GPU);
	/* The driver's own daemons have sockets. */
	walls->has_driver = true;
}

/* A library's folder has those that it opens later; a file in / or in a home does not make all of
 * that its folder. */
static void walls_allow_folder_of(struct walls *walls, const char *library)
{
	const char *home = getenv("HOME");
	const char *slash = strrchr(library, '/');
	FREE char *folder = NULL;

	if (!slash || slash == library)
		return;
	folder = strndup(library, (size_t)(slash - library));
	if (!folder || (home && strcmp(folder, home) == 0))
		walls_read(walls, library);
	else
		walls_read(walls, folder);
}

static int walls_on_object(struct dl_phdr_info *info, size_t size, void *context)
{
	(void)size;
	if (info->dlpi_name && *info->dlpi_name == '/')
		walls_allow_folder_of(context, info->dlpi_name);
	return 0;
}

static void walls_allow_search_path(struct walls *walls)
{
	const char *path = getenv("LD_LIBRARY_PATH");
	FREE char *text = path ? strdup(path) : NULL;
	char *rest = text;
	const char *folder;

	while (rest && (folder = strsep(&rest, ":")))
		if (*folder == '/' && folder[1] != '\0')
			walls_read(walls, folder);
}

/* The files of the own process. A rule of /proc is one of an entry that the kernel may forget: the
 * descriptor, which stays open, keeps it. */
static void walls_allow_self(struct walls *walls)
{
	walls->self_fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	walls_allow(walls, "/proc/self", LANDLOCK_READ);
}

static void walls_allow_common(struct walls *walls)
{
	walls_allow_all(walls, FOR_ALL);
	walls_allow_self(walls);
	(void)dl_iterate_phdr(walls_on_object, walls);
	walls_allow_search_path(walls);
	/* Applications find the GPU by themselves; the driver keeps what is others'. */
	if (walls->said.has_processes) {
		walls_allow_all(walls, FOR_PROCESSES);
		walls_allow_all(walls, FOR_GPU);
	}
	if (walls->mode == WALLS_NET)
		walls_allow_all(walls, FOR_NET);
}

/* Layers */

static int walls_up_landlock(struct walls *walls, struct err *err)
{
	int r = 0;

	if (walls->mode == WALLS_OPEN) {
		walls_note(walls, "landlock", false, "sandbox = open");
		return 0;
	}
	if (walls->version == 0) {
		walls_note(walls, "landlock", false,
		           "the kernel has none, or it is switched off");
		return 0;
	}
	walls_allow_common(walls);
	if (walls->said.port && walls->version >= 4 && walls->mode == WALLS_STRICT)
		r = landlock_allow_port(walls->rules, walls->said.port);
	if (r == 0)
		r = landlock_enforce(walls->rules);
	if (r < 0)
		return err_set(err, r, "landlock: %s", strerror(-r));
	walls_note(walls, "landlock", true, NULL);
	if (walls->said.port && walls->version < 4 && walls->mode == WALLS_STRICT)
		walls_note(walls, "ports", false,
		           "the kernel's landlock has no rules for TCP: a server may "
		           "connect to any");
	if (walls->said.has_processes && walls->version < 6)
		walls_note(walls, "signals", false,
		           "the kernel's landlock has no rules for them: all but "
		           "moultd can be reached");
	return 0;
}

static int walls_up_filter(struct walls *walls, struct err *err)
{
	const struct filter filter = {
		.supervisor = getppid(),
		.has_processes = walls->said.has_processes,
		.has_network = walls->mode == WALLS_NET || walls->mode == WALLS_OPEN,
		.has_unix = walls->said.has_unix || walls->has_driver,
		.has_tcp = walls->said.port != 0,
		.has_signal_scope = walls->version >= 6,
	};

	if (!kernel_has_seccomp()) {
		walls_note(walls, "seccomp", false, "the kernel has none");
		return 0;
	}
	walls_note(walls, "seccomp", true, NULL);
	return filter_enforce(&filter, err);
}

static int walls_keep_rights(const void *unused)
{
	(void)unused;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? errno : 0;
}

/* Without a control group that keeps them. The kernel counts the processes of a user, which says
 * something of a loader where the user is nobody else. */
static void walls_up_limits(struct walls *walls)
{
	const struct rlimit most = { walls->user_processes, walls->user_processes };
	unsigned int missing = walls->limits & ~walls->kept;
	bool is_limited = (missing & WALLS_LIMIT_PROCESSES) && walls->user &&
	                  geteuid() == walls->user && setrlimit(RLIMIT_NPROC, &most) == 0;

	if (walls->limits & WALLS_LIMIT_PROCESSES)
		walls_note(walls, "max_processes",
		           is_limited || !(missing & WALLS_LIMIT_PROCESSES),
		           "no control group with the controller pids (systemd: "
		           "Delegate=pids memory), and no user of its own");
	if (walls->limits & WALLS_LIMIT_MEMORY)
		walls_note(walls, "max_memory", !(missing & WALLS_LIMIT_MEMORY),
		           "no control group with the controller memory (systemd: "
		           "Delegate=pids memory)");
}

/* What needs nothing of the kernel's configuration, and stands with sandbox = off, too. */
static int walls_up_base(struct walls *walls, struct err *err)
{
	static const struct rlimit none = { 0, 0 };
	int r = 0;

	/* moultd has given it to all that it starts. */
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		r = threads_run(walls_keep_rights, NULL);
	if (r == 0 && setrlimit(RLIMIT_CORE, &none) < 0)
		r = -errno;
	if (r < 0)
		return err_set(err, r, "no_new_privs: %s", strerror(-r));
	if (walls->user)
		walls_note(walls, "own_user", geteuid() == walls->user,
		           "moultd lacks the right to change users (CAP_SETUID and "
		           "CAP_KILL)");
	walls_up_limits(walls);
	walls_note(walls, "no_new_privs", true, NULL);
	walls_note(walls, "no_core", true, NULL);
	/* Processes that were started and not executed would have files in /proc that moultd
	 * could not read, when it looks for what a loader has left behind. */
	if (walls->said.has_processes || walls->mode == WALLS_OFF)
		walls_note(walls, "not_dumpable", false, "it may start processes");
	else
		walls_note(walls, "not_dumpable", prctl(PR_SET_DUMPABLE, 0) == 0,
		           strerror(errno));
	return 0;
}

int walls_up(struct walls *walls, struct err *err)
{
	int r = walls_up_base(walls, err);

	if (r < 0)
		return r;
	if (walls->mode == WALLS_OFF) {
		walls_note(walls, "landlock", false, "sandbox = off");
		walls_note(walls, "seccomp", false, "sandbox = off");
		return 0;
	}
	r = rights_drop();
	/* A module that was imported ahead may have threads that take no signal: an application
	 * serves all the same, where nobody asked for more. */
	if (r < 0 && walls->mode != WALLS_OPEN)
		return err_set(err, r,
		               "the capabilities of all threads cannot be dropped (%s): "
		               "a library that blocks signals wants sandbox = off",
		               strerror(-r));
	walls_note(walls, "no_capabilities", r == 0, "a thread takes no signals");
	r = walls_up_landlock(walls, err);
	return r ? r : walls_up_filter(walls, err);
}

void walls_fini(struct walls *walls)
{
	close_fd(&walls->self_fd);
	close_fd(&walls->rules);
}
