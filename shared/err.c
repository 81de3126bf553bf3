/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/err.h"

#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return code;
}

int err_prefix(struct err *err, int code, const char *format, ...)
{
	char rest[ERR_TEXT_MAX];
	size_t used;
	size_t room;
	va_list args;
	int n;

	if (!err)
		return code;
	memcpy(rest, err->text, sizeof(rest));
	va_start(args, format);
	n = vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(err->text))
		return code;
	used = (size_t)n;
	room = sizeof(err->text) - used;
	/* Cutting the end of a long sentence is what is wanted. */
	if (room > 3) {
		memcpy(err->text + used, ": ", 2);
		used += 2;
		room -= 2;
		n = (int)strnlen(rest, room - 1);
		memcpy(err->text + used, rest, (size_t)n);
		err->text[used + (size_t)n] = '\0';
	}
	return code;
}
