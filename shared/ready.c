/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/ready.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/field.h"

#define READY_FORM                                                                       \
	"the form is METHOD PATH STATUS, such as GET /health 200, and METHOD and "       \
	"STATUS "                                                                        \
	"may be missing"

/* Copies the next word of *@text. False: there is none, or it is too long. */
static bool ready_next(const char **text, char *word, size_t size)
{
	const char *at = *text + strspn(*text, " \t");
	size_t bytes = strcspn(at, " \t");

	if (bytes == 0 || bytes >= size)
		return false;
	memcpy(word, at, bytes);
	word[bytes] = '\0';
	*text = at + bytes + strspn(at + bytes, " \t");
	return true;
}

static bool ready_is_method(const char *word)
{
	return word[strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

static bool ready_is_target(const char *word)
{
	for (const char *c = word; *c; c++)
		if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f || *c == '#')
			return false;
	return *word == '/';
}

static int ready_read_status(struct ready *ready, const char *word, struct err *err)
{
	if (strlen(word) != 3 || word[strspn(word, "0123456789")] != '\0' ||
	    word[0] < '1' || word[0] > '5' || word[0] == '1')
		return err_set(err, -EINVAL,
		               "'%.80s' is no status of an answer, which is from 200 to "
		               "599: " READY_FORM,
		               word);
	ready->status_min = ready->status_max = (unsigned int)atoi(word);
	return 0;
}

int ready_read(struct ready *ret_ready, const char *text, struct err *err)
{
	char word[READY_TARGET_MAX] = "";

	*ret_ready = (struct ready){
		.method = "GET", .target = "/", .status_min = 200, .status_max = 499
	};
	if (!text)
		return 0;
	ret_ready->status_max = 299;
	(void)ready_next(&text, word, sizeof(word));
	if (*word && ready_is_method(word) && strlen(word) < READY_METHOD_MAX) {
		(void)snprintf(ret_ready->method, READY_METHOD_MAX, "%s", word);
		*word = '\0';
		(void)ready_next(&text, word, sizeof(word));
	}
	if (!ready_is_target(word))
		return err_set(err, -EINVAL,
		               "'%.80s' is no path, which begins with /: " READY_FORM,
		               word);
	memcpy(ret_ready->target, word, sizeof(word));
	if (*text == '\0')
		return 0;
	if (!ready_next(&text, word, sizeof(word)) || *text)
		return err_set(err, -EINVAL, "'%.80s' is too much: " READY_FORM,
		               *text ? text : word);
	return ready_read_status(ret_ready, word, err);
}
