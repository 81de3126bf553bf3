/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/process/programs.h"

#include <stdio.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/file.h"
#include "shared/proto.h"

#define PROGRAMS_LINE_MAX 8192 /* of /proc/PID/maps */

void programs_look(struct programs *ret_programs, const struct config *config,
                   const char *engine, const char *python)
{
	FREE char *path = NULL;

	*ret_programs = (struct programs){ 0 };
	(void)stat(config->loader, &ret_programs->loader);
	if (python)
		(void)stat(python, &ret_programs->python);
	if (asprintf(&path, "%s/" PROTO_ENGINE_PREFIX "%s" PROTO_ENGINE_SUFFIX,
	             config->engine_dir, engine) < 0) {
		path = NULL;
		return;
	}
	(void)stat(path, &ret_programs->engine);
}

const char *programs_replaced(const struct programs *then, const struct programs *now)
{
	if (!file_is_same(&then->loader, &now->loader))
		return "moult-loader was replaced";
	if (!file_is_same(&then->engine, &now->engine))
		return "the engine was replaced";
	if (!file_is_same(&then->python, &now->python))
		return "the interpreter was replaced";
	return NULL;
}

/* True: @line of /proc/PID/maps is of code in a file that is gone from disk. Memory that
 * never was a file reads the same, and engines compile into it: so memfd and /dev/zero do
 * not count. */
static bool programs_is_gone(const char *line)
{
	static const char gone[] = " (deleted)\n";
	const char *access = strchr(line, ' ');
	const char *path = strchr(line, '/');
	size_t bytes = strlen(line);

	return access && path && bytes > sizeof(gone) && access[3] == 'x' &&
	       strncmp(path, "/memfd:", strlen("/memfd:")) != 0 &&
	       strncmp(path, "/dev/zero ", strlen("/dev/zero ")) != 0 &&
	       strcmp(line + bytes - (sizeof(gone) - 1), gone) == 0;
}

bool programs_are_gone(pid_t pid)
{
	char path[64];
	char line[PROGRAMS_LINE_MAX];
	bool is_gone = false;
	FILE *maps;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	if (!maps)
		return false;
	while (!is_gone && fgets(line, sizeof(line), maps))
		is_gone = programs_is_gone(line);
	(void)fclose(maps);
	return is_gone;
}
