/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the UTF-8 character at @c; 0: no character starts there. The terminating NUL is no
 * continuation byte, so nothing behind the text is read. */
static size_t err_char_bytes(const unsigned char *c)
{
	size_t bytes = *c < 0x80 ? 1 : *c < 0xc2 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : 4;

	for (size_t i = 1; i < bytes; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, beyond U+10FFFF (RFC 3629). */
	if ((*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] > 0x9f) ||
	    (*c == 0xf0 && c[1] < 0x90) || (*c == 0xf4 && c[1] > 0x8f) || *c > 0xf4)
		return 0;
	return bytes;
}

void err_clean(char *text)
{
	unsigned char *c = (unsigned char *)text;

	while (*c) {
		size_t bytes = err_char_bytes(c);

		if (bytes == 0)
			*c = '?';
		c += bytes ? bytes : 1;
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
