/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A program lies in PREFIX/bin and has the rest of PREFIX for its modules. It may be a link, as in
 * a virtual environment, whose interpreter then has a prefix of its own; or a script, whose first
 * line names what runs it.
 */
#include "loader/server/need.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/file.h"

#define NEED_LINE_MAX 256
/* Links and first lines that lead from a program to another. */
#define NEED_DEPTH 8

static void need_folder_of(const char *path, struct engine_walls *walls)
{
	char folder[PATH_MAX];
	char *slash;

	(void)snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (!slash)
		return;
	*slash = '\0';
	slash = strrchr(folder, '/');
	if (slash && slash != folder &&
	    (strcmp(slash, "/bin") == 0 || strcmp(slash, "/sbin") == 0))
		*slash = '\0';
	walls->read(walls, path);
	walls->read(walls, folder);
}

/* Reads the first line of a script: "#!/path/to/python -u". False: it is none. */
static bool need_first_line(const char *path, char line[NEED_LINE_MAX])
{
	CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? 0 : file_read_at(fd, line, NEED_LINE_MAX - 1, 0);

	if (n < 2 || memcmp(line, "#!", 2) != 0)
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return true;
}

/* Writes what @path leads to next, which may be @path's own place. False: nothing. */
static bool need_next(const char *path, char next[PATH_MAX])
{
	char line[NEED_LINE_MAX];
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	const char *slash = strrchr(path, '/');

	if (n > 0) {
		target[n] = '\0';
		return snprintf(next, PATH_MAX, "%.*s%s",
		                *target == '/' ? 0 : (int)(slash - path + 1), path,
		                target) < PATH_MAX;
	}
	if (!need_first_line(path, line))
		return false;
	(void)sscanf(line + 2, " %4095s", next);
	/* env(1) looks in PATH, as command_find() does. */
	if (strcmp(next, "/usr/bin/env") == 0 || strcmp(next, "/bin/env") == 0) {
		char name[NEED_LINE_MAX] = "";
		char *words[] = { name, NULL };
		const struct command command = { .words = words, .n_words = 1 };
		FREE char *found = NULL;

		if (sscanf(line + 2, " %*s %255s", name) != 1 ||
		    command_find(&command, getenv("PATH"), NULL, &found, NULL) < 0)
			return false;
		(void)snprintf(next, PATH_MAX, "%s", found);
	}
	return *next == '/';
}

void server_need_program(const struct command *command, struct engine_walls *walls)
{
	FREE char *path = NULL;
	char at[PATH_MAX];
	char next[PATH_MAX];
	struct stat st;

	if (command_find(command, getenv("PATH"), NULL, &path, NULL) < 0)
		return;
	if (realpath(path, at))
		need_folder_of(at, walls);
	(void)snprintf(at, sizeof(at), "%s", path);
	for (int i = 0; i < NEED_DEPTH; i++) {
		need_folder_of(at, walls);
		if (!need_next(at, next))
			break;
		(void)snprintf(at, sizeof(at), "%s", next);
	}
	if (realpath(at, next))
		need_folder_of(next, walls);
	for (size_t i = 1; i < command->n_words; i++) {
		const char *word = command->words[i];

		if (stat(word, &st) < 0)
			continue;
		walls->read(walls, word);
		/* A script that an interpreter is given has its modules beside it. */
		if (i == 1 && S_ISREG(st.st_mode))
			need_folder_of(word, walls);
	}
}
