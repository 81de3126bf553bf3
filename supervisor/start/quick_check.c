/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/start/quick_check.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "supervisor/config/config.h"
#include "supervisor/inputs/config_exists.h"

/* Keys and what stands for each on a command line. */
static const struct {
	const char *key;
	const char *words;
} quick_words[] = {
	{ "wsgi", "--wsgi" },
	{ "asgi", "--asgi" },
	{ "model", "--model" },
	{ "command", "--command" },
	{ "python", "--python" },
	{ "ready", "--ready" },
	{ "listen", "--listen" },
	{ "secrets", "--secrets" },
	{ "route", "--route" },
	{ "threads", "--threads" },
	{ "replicas", "--replicas" },
	{ "sandbox_read", "--sandbox-read" },
	{ "sandbox", "--sandbox" },
	{ "watch_code", "--watch-code" },
	{ "working_directory", "the working directory" },
};

/* Returns @text behind @prefix, or as it is. */
static const char *quick_skip(const char *text, const char *prefix)
{
	size_t bytes = strlen(prefix);

	return strncmp(text, prefix, bytes) == 0 ? text + bytes : text;
}

/* Returns the words for a key of @bytes, or NULL. */
static const char *quick_find(const char *key, size_t bytes)
{
	for (size_t i = 0; i < sizeof(quick_words) / sizeof(quick_words[0]); i++)
		if (strlen(quick_words[i].key) == bytes &&
		    strncmp(quick_words[i].key, key, bytes) == 0)
			return quick_words[i].words;
	return NULL;
}

/* Returns @text behind "FILE:9: [model app]: ". */
static const char *quick_skip_place(const char *file, const char *text)
{
	const char *rest = quick_skip(text, file);

	if (rest == text)
		return quick_skip(text, "[supervisor]: ");
	if (*rest == ':')
		rest++;
	rest += strspn(rest, "0123456789");
	rest = quick_skip(rest, ":");
	rest += strspn(rest, " ");
	return quick_skip(quick_skip(rest, "[model app]: "), "[supervisor]: ");
}

void quick_reword(const char *file, const char *text, struct err *ret_text)
{
	static const char mention[] = " the key ";
	const char *rest = quick_skip_place(file, text);
	size_t bytes = strcspn(rest, ":");
	const char *words = quick_find(rest, bytes);
	const char *key;

	if (words)
		rest += bytes;
	key = strstr(rest, mention);
	if (key && quick_find(key + strlen(mention), strlen(key + strlen(mention))))
		(void)err_set(ret_text, 0, "%s%.*s %s", words ? words : "",
		              (int)(key - rest), rest,
		              quick_find(key + strlen(mention),
		                         strlen(key + strlen(mention))));
	else
		(void)err_set(ret_text, 0, "%s%s", words ? words : "", rest);
}

struct quick_wrong {
	const char *file;
	struct err *err;
	size_t n;
};

/* The first sentence is enough: each names its remedy. */
static void quick_on_wrong(void *context, const char *why)
{
	struct quick_wrong *wrong = context;

	if (wrong->n++ == 0)
		quick_reword(wrong->file, why, wrong->err);
}

int quick_check(const char *file, struct err *err)
{
	struct quick_wrong wrong = { .file = file, .err = err };
	struct config *config = NULL;
	struct err why = ERR_NULL;

	if (config_load(&config, file, &why) < 0)
		quick_on_wrong(&wrong, why.text);
	else
		(void)config_check_exists(config, quick_on_wrong, &wrong);
	config_unref(config);
	return wrong.n > 0 ? -EINVAL : 0;
}
