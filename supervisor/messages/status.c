/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/messages/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
/* Digits of grpc-timeout. */
#define TIMEOUT_DIGITS 8

enum grpc_code grpc_code_of(unsigned int status)
{
	static const struct {
		unsigned int status;
		enum grpc_code code;
	} rows[] = {
		{ 200, GRPC_OK },
		{ 401, GRPC_UNAUTHENTICATED },
		{ 403, GRPC_PERMISSION_DENIED },
		{ 404, GRPC_NOT_FOUND },
		{ 408, GRPC_DEADLINE_EXCEEDED },
		{ 413, GRPC_RESOURCE_EXHAUSTED },
		{ 415, GRPC_UNIMPLEMENTED },
		{ 421, GRPC_PERMISSION_DENIED },
		{ 429, GRPC_RESOURCE_EXHAUSTED },
		{ 431, GRPC_RESOURCE_EXHAUSTED },
		{ 501, GRPC_UNIMPLEMENTED },
		{ 503, GRPC_UNAVAILABLE },
		{ 504, GRPC_DEADLINE_EXCEEDED },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		if (rows[i].status == status)
			return rows[i].code;
	return status >= 400 && status < 500 ? GRPC_INVALID_ARGUMENT : GRPC_INTERNAL;
}

const char *grpc_code_name(enum grpc_code code)
{
	static const char *const names[GRPC_CODE_COUNT] = {
		[GRPC_OK] = "OK",
		[GRPC_CANCELLED] = "CANCELLED",
		[GRPC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
		[GRPC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
		[GRPC_NOT_FOUND] = "NOT_FOUND",
		[GRPC_PERMISSION_DENIED] = "PERMISSION_DENIED",
		[GRPC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
		[GRPC_UNIMPLEMENTED] = "UNIMPLEMENTED",
		[GRPC_INTERNAL] = "INTERNAL",
		[GRPC_UNAVAILABLE] = "UNAVAILABLE",
		[GRPC_UNAUTHENTICATED] = "UNAUTHENTICATED",
	};

	return names[code] ? names[code] : "UNKNOWN";
}

size_t grpc_encode_message(char *to, size_t size, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (; *text && n + 3 < size; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte >= ' ' && byte <= '~' && byte != '%') {
			to[n++] = *text;
			continue;
		}
		to[n++] = '%';
		to[n++] = digits[byte >> 4];
		to[n++] = digits[byte & 15];
	}
	to[n] = '\0';
	return n;
}

int grpc_read_timeout(const char *text, uint64_t *ret_ns)
{
	static const struct {
		char unit;
		uint64_t ns;
	} rows[] = {
		{ 'n', 1 },
		{ 'u', 1000 },
		{ 'm', CLOCK_NS_PER_MS },
		{ 'S', CLOCK_NS_PER_SEC },
		{ 'M', 60 * CLOCK_NS_PER_SEC },
		{ 'H', 3600 * CLOCK_NS_PER_SEC },
	};
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > TIMEOUT_DIGITS || strlen(text) != digits + 1)
		return -EINVAL;
	for (size_t i = 0; i < COUNT(rows); i++) {
		uint64_t number = strtoull(text, NULL, 10);

		if (rows[i].unit != text[digits])
			continue;
		if (__builtin_mul_overflow(number, rows[i].ns, ret_ns))
			*ret_ns = CLOCK_NEVER;
		return 0;
	}
	return -EINVAL;
}
