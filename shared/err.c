/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "shared/utf8.h"

void err_clean(char *text)
{
	unsigned char *at = (unsigned char *)text;
	const unsigned char *end = at + strlen(text);

	while (at < end) {
		size_t bytes = utf8_bytes(at, end);

		if (bytes == 0)
			*at = '?';
		at += bytes ? bytes : 1;
	}
}

int err_set(struct err *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	err_clean(err->text);
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
	err_clean(err->text);
	if (n < 0 || (size_t)n >= sizeof(err->text))
		return code;
	used = (size_t)n;
	room = sizeof(err->text) - used;
	/* A sentence that is too long loses its end. */
	if (room > 3) {
		memcpy(err->text + used, ": ", 2);
		used += 2;
		room -= 2;
		n = (int)strnlen(rest, room - 1);
		memcpy(err->text + used, rest, (size_t)n);
		err->text[used + (size_t)n] = '\0';
	}
	err_clean(err->text);
	return code;
}

bool err_is_shortage(int error)
{
	static const int rows[] = { EAGAIN, EINTR, EIO, EMFILE, ENFILE, ENOMEM, ESTALE };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i] == error)
			return true;
	return false;
}
