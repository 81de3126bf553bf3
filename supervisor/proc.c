/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/memory.h"

/* Of an environment. The mark that is looked for comes first. */
#define PROC_ENVIRONMENT_MAX 16384

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
	/* A name may hold blanks and brackets: the last one closes it. */
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

/* Each ends with a blank: one that was cut off does not. */
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

/* A kernel without CONFIG_PROC_CHILDREN: everybody is asked for the parent. */
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

bool proc_has_variable(pid_t pid, const char *variable)
{
	char path[64];
	char text[PROC_ENVIRONMENT_MAX];
	size_t bytes = strlen(variable);
	CLOSE_FD int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	for (const char *line = text; line < text + n; line += strlen(line) + 1)
		if (strncmp(line, variable, bytes) == 0 && line[bytes] == '\0')
			return true;
	return false;
}
