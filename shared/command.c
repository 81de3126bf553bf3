/* SPDX-License-Identifier: Apache-2.0 */

/*
 * command_init() walks over the text once: command_read_word() takes one word, quotes and all,
 * into a buffer as long as the text.
 */
#include "shared/command.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"

#define COMMAND_WORDS_MAX 256
/* Where no PATH is set: confstr(3) has the same on Linux. */
#define COMMAND_PATH   "/bin:/usr/bin"
#define COMMAND_BLANKS " \t"

/* Takes what stands between quotes, from behind the first one. NULL: they do not end. */
static const char *command_read_quoted(const char *at, char quote, char **word)
{
	for (; *at && *at != quote; at++) {
		if (quote == '"' && *at == '\\' && (at[1] == '"' || at[1] == '\\'))
			at++;
		*(*word)++ = *at;
	}
	return *at ? at + 1 : NULL;
}

/* Takes one word. Returns what follows it, or NULL with a sentence. */
static const char *command_read_word(const char *at, char *word, struct err *err)
{
	const char *begin = at;

	while (at && *at && !strchr(COMMAND_BLANKS, *at)) {
		char c = *at++;

		if (c == '\'' || c == '"') {
			at = command_read_quoted(at, c, &word);
			if (!at)
				(void)err_set(err, 0,
				              "a quotation that begins with %c does not "
				              "end: close it, or put \\ before it",
				              c);
			continue;
		}
		if (c == '\\' && *at)
			c = *at++;
		else if (strchr("|&;<>()$`", c) || (c == '~' && at == begin + 1)) {
			(void)err_set(err, 0,
			              "%c is for a shell, and none reads this: "
			              "quote it if it is meant as it stands, or "
			              "write sh -c 'exec ...'",
			              c);
			return NULL;
		}
		*word++ = c;
	}
	*word = '\0';
	return at;
}

static int command_add(struct command *command, const char *word)
{
	char *copy = strdup(word);

	if (!copy)
		return -ENOMEM;
	command->words[command->n_words++] = copy;
	command->has_port = command->has_port || strstr(word, COMMAND_PORT);
	command->has_socket = command->has_socket || strstr(word, COMMAND_SOCKET);
	return 0;
}

int command_init(struct command *command, const char *text, struct err *err)
{
	FREE char *word = malloc(strlen(text) + 1);
	const char *at = text + strspn(text, COMMAND_BLANKS);

	*command = (struct command)COMMAND_NULL;
	command->words = calloc(COMMAND_WORDS_MAX + 1, sizeof(*command->words));
	if (!word || !command->words)
		return err_set(err, -ENOMEM, "out of memory");
	while (*at) {
		if (command->n_words == COMMAND_WORDS_MAX)
			return err_set(err, -EINVAL, "it has more than %d words",
			               COMMAND_WORDS_MAX);
		at = command_read_word(at, word, err);
		if (!at)
			return -EINVAL;
		if (command_add(command, word) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		at += strspn(at, COMMAND_BLANKS);
	}
	if (command->n_words == 0 || *command->words[0] == '\0')
		return err_set(err, -EINVAL,
		               "it names no program: for instance "
		               "gunicorn -b 127.0.0.1:" COMMAND_PORT " app:app");
	return 0;
}

void command_fini(struct command *command)
{
	for (size_t i = 0; i < command->n_words; i++)
		free(command->words[i]);
	free(command->words);
	*command = (struct command)COMMAND_NULL;
}

int command_fill(struct command *command, const char *placeholder, const char *value)
{
	for (size_t i = 0; i < command->n_words; i++) {
		char *at = strstr(command->words[i], placeholder);

		while (at) {
			size_t before = (size_t)(at - command->words[i]);
			char *filled;

			if (asprintf(&filled, "%.*s%s%s", (int)before, command->words[i],
			             value, at + strlen(placeholder)) < 0)
				return -ENOMEM;
			free(command->words[i]);
			command->words[i] = filled;
			at = strstr(filled + before + strlen(value), placeholder);
		}
	}
	return 0;
}

/* 0, or -errno with why @path cannot be executed. */
static int command_check(const char *path, struct err *err)
{
	struct stat status;
	struct err storage;
	int error;

	if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
		return err_set(err, -EACCES, "'%.200s' is no program, but %s", path,
		               S_ISDIR(status.st_mode) ? "a directory"
		                                       : "a special file");
	if (access(path, X_OK) == 0)
		return 0;
	error = errno;
	if (error == ENOENT)
		return err_set(
			err, -error,
			"there is no program '%.200s': mend its path, which starts "
			"from working_directory",
			path);
	if (error == EACCES && stat(path, &status) == 0 && !(status.st_mode & 0111))
		return err_set(err, -error,
		               "'%.200s' is not executable: chmod +x it, or name the "
		               "program that runs it first",
		               path);
	return err_set(err, -error, "'%.200s' cannot be executed: %s", path,
	               access_why(&storage, path, X_OK, error));
}

/* Searches @list as execvp(3) does. 0, or -errno: no entry has it. */
static int command_search(const char *name, const char *list, const char *directory,
                          char **ret_path)
{
	const char *base = directory ? directory : ".";

	for (;;) {
		size_t bytes = strcspn(list, ":");
		FREE char *path = NULL;
		struct stat status;
		int r = *list == '/' ? asprintf(&path, "%.*s/%s", (int)bytes, list, name)
		                     : asprintf(&path, "%s/%.*s/%s", base, (int)bytes,
		                                list, name);

		if (r < 0) {
			path = NULL;
			return -ENOMEM;
		}
		if (stat(path, &status) == 0 && S_ISREG(status.st_mode) &&
		    access(path, X_OK) == 0) {
			*ret_path = take_ptr(&path);
			return 0;
		}
		if (list[bytes] == '\0')
			return -ENOENT;
		list += bytes + 1;
	}
}

int command_find(const struct command *command, const char *list, const char *directory,
                 char **ret_path, struct err *err)
{
	const char *name = command->words[0];
	FREE char *path = NULL;
	int r;

	*ret_path = NULL;
	if (!list || !*list)
		list = COMMAND_PATH;
	if (!strchr(name, '/')) {
		r = command_search(name, list, directory, ret_path);
		return r == 0 ? 0
		              : err_set(err, r,
		                        "there is no program '%.80s' in PATH (%.200s): "
		                        "install it, or give its path, such as "
		                        ".venv/bin/%.80s",
		                        name, list, name);
	}
	if (*name == '/' || !directory)
		path = strdup(name);
	else if (asprintf(&path, "%s/%s", directory, name) < 0)
		path = NULL;
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	r = command_check(path, err);
	if (r == 0)
		*ret_path = take_ptr(&path);
	return r;
}
