/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads /proc without trusting it to stand still.
 *
 * A process whose first thread has ended still runs in its others, but
 * /proc/PID/environ and ns are empty then: proc_find_thread() picks a living thread.
 * Children are listed per thread, where the kernel can (CONFIG_PROC_CHILDREN), and
 * found by asking everybody for the parent where it cannot. proc_kill() opens the pidfd
 * first and compares the start time after, so the signal reaches the process that was
 * read or none.
 */

#include "supervisor/process/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/memory/memory.h"

/* Start of an environment that is read; the mark that is looked for comes first. */
#define PROC_ENVIRONMENT_MAX 16384
#define PROC_PATH_MAX        64
/* Parents that are gone through. */
#define PROC_DEPTH_MAX 256
/* A loader's server and its workers; further ones are not asked how long they waited. */
#define PROC_BELOW_MAX   64
#define PROC_BELOW_DEPTH 3

bool proc_read(pid_t pid, struct proc *ret_proc)
{
	struct proc proc = { .pid = pid };
	unsigned long long user;
	unsigned long long kernel;
	unsigned long long start;
	char path[64];
	char text[1024];
	const char *name;
	const char *end;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (!memory_read_file(path, text, sizeof(text)))
		return false;
	/* The name may hold blanks and brackets: the last bracket closes it. */
	name = strchr(text, '(');
	end = strrchr(text, ')');
	if (!name || !end ||
	    sscanf(end + 1,
	           " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d "
	           "%u %*d %llu",
	           &proc.state, &proc.parent, &proc.group, &proc.session, &user, &kernel,
	           &proc.threads, &start) != 8)
		return false;
	(void)snprintf(proc.comm, sizeof(proc.comm), "%.*s", (int)(end - name - 1),
	               name + 1);
	proc.cpu_ticks = user + kernel;
	proc.start_ticks = start;
	*ret_proc = proc;
	return true;
}

bool proc_is_dead(const struct proc *proc)
{
	return proc->state == 'Z' && proc->threads <= 1;
}

uid_t proc_user(pid_t pid)
{
	static const char label[] = "\nUid:\t";
	char path[PROC_PATH_MAX];
	char text[1024];
	const char *line;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	line = memory_read_file(path, text, sizeof(text)) ? strstr(text, label) : NULL;
	return line ? (uid_t)strtoul(line + sizeof(label) - 1, NULL, 10) : 0;
}

bool proc_is_below(pid_t pid)
{
	struct proc proc = { .parent = pid };

	/* A chain that changes meanwhile may be gone through once more; none is so long. */
	for (int i = 0; i < PROC_DEPTH_MAX && proc.parent > 1; i++)
		if (!proc_read(proc.parent, &proc))
			return false;
		else if (proc.parent == getpid())
			return true;
	return false;
}

/* Every whole number ends with a blank; one that was cut off does not. */
static size_t proc_add_numbers(const char *text, pid_t *pids, size_t n, size_t max)
{
	char *end;

	for (; n < max; text = end) {
		long number = strtol(text, &end, 10);

		if (end == text || *end != ' ')
			break;
		pids[n++] = (pid_t)number;
	}
	return n;
}

/* Without CONFIG_PROC_CHILDREN every process is asked for its parent. */
static size_t proc_find_children(pid_t pid, pid_t *pids, size_t max)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	struct proc proc;
	size_t n = 0;

	while (dir && n < max && (entry = readdir(dir)) != NULL) {
		pid_t found = (pid_t)strtol(entry->d_name, NULL, 10);

		if (found > 0 && proc_read(found, &proc) && proc.parent == pid)
			pids[n++] = found;
	}
	if (dir)
		(void)closedir(dir);
	return n;
}

size_t proc_children(pid_t pid, pid_t *ret_pids, size_t max)
{
	const struct dirent *entry;
	char path[64];
	char text[4096];
	size_t n = 0;
	DIR *dir;

	if (access("/proc/thread-self/children", F_OK) < 0)
		return proc_find_children(pid, ret_pids, max);
	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && n < max && (entry = readdir(dir)) != NULL) {
		char file[sizeof(path) + sizeof(entry->d_name) + 16];

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(file, sizeof(file), "%s/%s/children", path, entry->d_name);
		if (memory_read_file(file, text, sizeof(text)))
			n = proc_add_numbers(text, ret_pids, n, max);
	}
	if (dir)
		(void)closedir(dir);
	return n;
}

/* "RUN WAITED SLICES" of one thread. */
static uint64_t proc_thread_waited_ns(const char *tasks, const char *thread)
{
	unsigned long long waited = 0;
	char path[PROC_PATH_MAX + 32];
	char text[96];

	(void)snprintf(path, sizeof(path), "%s/%.10s/schedstat", tasks, thread);
	if (!memory_read_file(path, text, sizeof(text)) ||
	    sscanf(text, "%*u %llu", &waited) != 1)
		return 0;
	return waited;
}

static uint64_t proc_waited_below(pid_t pid, unsigned int depth)
{
	pid_t below[PROC_BELOW_MAX];
	char path[PROC_PATH_MAX];
	const struct dirent *entry;
	uint64_t waited_ns = 0;
	size_t n;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			waited_ns += proc_thread_waited_ns(path, entry->d_name);
	if (dir)
		(void)closedir(dir);
	n = depth ? proc_children(pid, below, PROC_BELOW_MAX) : 0;
	for (size_t i = 0; i < n; i++)
		waited_ns += proc_waited_below(below[i], depth - 1);
	return waited_ns;
}

uint64_t proc_waited_ns(pid_t pid)
{
	return proc_waited_below(pid, PROC_BELOW_DEPTH);
}

/* Path of a living thread of @pid: an ended first thread has no environment any more. */
static void proc_find_thread(pid_t pid, char *path, size_t size)
{
	const struct dirent *entry;
	struct proc proc;
	DIR *dir = NULL;

	(void)snprintf(path, size, "/proc/%d", (int)pid);
	if (proc_read(pid, &proc) && proc.state == 'Z' && proc.threads > 1) {
		(void)snprintf(path, size, "/proc/%d/task", (int)pid);
		dir = opendir(path);
	}
	while (dir && (entry = readdir(dir)) != NULL) {
		pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);

		(void)snprintf(path, size, "/proc/%d/task/%d", (int)pid, (int)thread);
		if (thread > 0 && thread != pid)
			break;
	}
	if (dir)
		(void)closedir(dir);
}

/* Reads the start of an environment into @text: strings, one after the other. Returns
 * its length; 0: none that may be read. */
static size_t proc_read_environment(pid_t pid, char *text, size_t size)
{
	char thread[PROC_PATH_MAX];
	char path[PROC_PATH_MAX + 16];
	CLOSE_FD int fd = -1;
	ssize_t n;

	proc_find_thread(pid, thread, sizeof(thread));
	(void)snprintf(path, sizeof(path), "%s/environ", thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return (size_t)n;
}

bool proc_get_variable(pid_t pid, const char *name, char *value, size_t size)
{
	char text[PROC_ENVIRONMENT_MAX];
	size_t n = proc_read_environment(pid, text, sizeof(text));
	size_t bytes = strlen(name);

	for (const char *line = text; line < text + n; line += strlen(line) + 1) {
		if (strncmp(line, name, bytes) != 0 || line[bytes] != '=')
			continue;
		return (size_t)snprintf(value, size, "%s", line + bytes + 1) < size;
	}
	return false;
}

bool proc_has_variable(pid_t pid, const char *variable)
{
	char text[PROC_ENVIRONMENT_MAX];
	size_t n = proc_read_environment(pid, text, sizeof(text));

	for (const char *line = text; line < text + n; line += strlen(line) + 1)
		if (strcmp(line, variable) == 0)
			return true;
	return false;
}

bool proc_has_our_numbers(pid_t pid)
{
	static const char *const names[] = { "pid", "time" };

	char thread[PROC_PATH_MAX];

	proc_find_thread(pid, thread, sizeof(thread));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[PROC_PATH_MAX + 16];
		struct stat ours;
		struct stat its;

		(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
		/* Linux before 5.6 has one time for all. */
		if (stat(path, &ours) < 0 && errno == ENOENT)
			continue;
		(void)snprintf(path, sizeof(path), "%s/ns/%s", thread, names[i]);
		if (stat(path, &its) < 0 || its.st_ino != ours.st_ino)
			return false;
	}
	return true;
}

bool proc_kill(struct proc *proc)
{
	CLOSE_FD int fd = pidfd_open(proc->pid, 0);
	uint64_t start_ticks = proc->start_ticks;

	return fd >= 0 && proc_read(proc->pid, proc) &&
	       proc->start_ticks == start_ticks &&
	       pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0;
}
