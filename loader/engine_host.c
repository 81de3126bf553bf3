/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/engine_host.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/proto.h"

#define ENGINE_HOST_LIST_MAX 256

static bool engine_host_is_name(const char *name)
{
	return *name != '\0' && name[strspn(name, "abcdefghijklmnopqrstuvwxyz"
	                                          "0123456789_-")] == '\0';
}

/* "identity, torch": the engines in @dir, for the person who asked for another one. */
static void engine_host_list(const char *dir, char *text, size_t size)
{
	DIR *stream = opendir(dir);
	const struct dirent *entry;
	size_t used = 0;

	(void)snprintf(text, size, "none");
	while (stream && (entry = readdir(stream))) {
		const char *name = entry->d_name + strlen(PROTO_ENGINE_PREFIX);
		const char *suffix = strstr(entry->d_name, PROTO_ENGINE_SUFFIX);
		int n;

		if (strncmp(entry->d_name, PROTO_ENGINE_PREFIX,
		            strlen(PROTO_ENGINE_PREFIX)) != 0 ||
		    !suffix || suffix < name || strcmp(suffix, PROTO_ENGINE_SUFFIX) != 0)
			continue;
		n = snprintf(text + used, size - used, "%s%.*s", used ? ", " : "",
		             (int)(suffix - name), name);
		if (n < 0 || (size_t)n >= size - used)
			break;
		used += (size_t)n;
	}
	if (stream)
		(void)closedir(stream);
}

/* dlopen() tells its failure in a sentence alone: glibc ends it with the text of the errno,
 * but has none for a segment that it cannot map or an object that it cannot create. */
static int engine_host_outcome(const char *text)
{
	static const int errors[] = { EMFILE, ENFILE, ENOMEM, EIO };
	size_t bytes = strlen(text);

	if (strstr(text, "failed to map segment") || strstr(text, "cannot create "))
		return ENGINE_E_FAILED;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		const char *end = strerror(errors[i]);
		size_t end_bytes = strlen(end);

		if (bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0)
			return ENGINE_E_FAILED;
	}
	return ENGINE_E_CONFIG;
}

int engine_host_open(const struct engine_api **ret_api, const char *dir, const char *name,
                     struct err *err)
{
	const struct engine_api *(*entry)(void) = NULL;
	const struct engine_api *api;
	char list[ENGINE_HOST_LIST_MAX];
	FREE char *path = NULL;
	const char *why;
	void *library;
	void *symbol;

	engine_host_list(dir, list, sizeof(list));
	if (!engine_host_is_name(name))
		return err_set(
			err, ENGINE_E_CONFIG,
			"engine '%s' must be made of a-z, 0-9, _ and -; there are: %s",
			name, list);
	if (asprintf(&path, "%s/" PROTO_ENGINE_PREFIX "%s" PROTO_ENGINE_SUFFIX, dir,
	             name) < 0) {
		path = NULL;
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	}
	if (access(path, F_OK) < 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "there is no engine '%s' in '%s'; there are: %s", name,
		               dir, list);
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		why = dlerror();
		if (strstr(why, "undefined symbol: Py"))
			return err_set(
				err, ENGINE_E_CONFIG,
				"engine '%s' lives inside an interpreter of Python, "
				"and this loader was started without one: use "
				"engine = python with python = INTERPRETER",
				name);
		return err_set(err, engine_host_outcome(why),
		               "engine '%s' cannot be opened: %s", name, why);
	}
	symbol = dlsym(library, "moult_engine");
	if (!symbol)
		return err_set(err, ENGINE_E_CONFIG,
		               "'%s' is no engine: it exports no moult_engine()", path);
	/* POSIX promises this for dlsym(); ISO C has no cast for it. */
	memcpy(&entry, &symbol, sizeof(entry));
	api = entry();
	if (api->abi != ENGINE_ABI)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine '%s' was built for interface %u, and this loader "
		               "speaks %d: install both from one build",
		               name, api->abi, ENGINE_ABI);
	*ret_api = api;
	return 0;
}
