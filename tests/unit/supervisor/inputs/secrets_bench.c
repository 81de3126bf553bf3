/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/supervisor/inputs/secrets_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/memfd.h"
#include "shared/proto.h"
#include "tests/unit/scratch.h"

int secrets_bench_enter(void **state)
{
	*state = (void *)(uintptr_t)scratch_fds();
	(void)scratch_enter();
	scratch_mkdir("s");
	return 0;
}

int secrets_bench_leave(void **state)
{
	scratch_leave();
	assert_int_equal(scratch_fds(), (uintptr_t)*state);
	return 0;
}

void secrets_bench_text(const struct secrets *secrets, char *ret_text, size_t size)
{
	struct memfd memory;
	struct proto_secret secret;
	const unsigned char *cursor;
	const unsigned char *end;
	uint32_t n = 0;
	size_t at = 0;
	int r;

	assert_int_equal(memfd_map(&memory, dup(secrets->fd), false), 0);
	cursor = memory.base;
	end = cursor + memory.size_bytes;
	while ((r = proto_secrets_next(&cursor, end, &secret)) > 0) {
		at += (size_t)snprintf(ret_text + at, size - at,
		                       "%.*s=", (int)secret.name.bytes, secret.name.data);
		for (size_t i = 0; i < secret.value.bytes && at < size - 2; i++)
			ret_text[at++] =
				secret.value.data[i] ? secret.value.data[i] : '0';
		ret_text[at++] = ';';
		n++;
	}
	ret_text[at] = '\0';
	assert_int_equal(r, 0);
	assert_int_equal(n, secrets->count);
	memfd_fini(&memory);
}
