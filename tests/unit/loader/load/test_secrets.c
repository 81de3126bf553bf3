/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/load/secrets.h"
#include "shared/proto.h"

static void make_secrets(struct secrets *secrets)
{
	unsigned char memory[256];
	unsigned char *end = memory;
	struct err err = ERR_NULL;
	int fd;

	end = proto_secret_write(end, proto_text_of("TOKEN"), proto_text_of("abc"));
	end = proto_secret_write(end, proto_text_of("EMPTY"), proto_text_of(""));
	end = proto_secret_write(end, proto_text_of("ZERO"),
	                         (struct proto_text){ "a\0b", 3 });
	fd = memfd_create_constant("test", memory, (size_t)(end - memory));
	assert_true(fd >= 0);
	assert_int_equal(secrets_init(secrets, fd, &err), 0);
}

static void test_find(void **state)
{
	const struct engine_secret *secret;
	struct secrets secrets;

	(void)state;
	make_secrets(&secrets);
	secret = secrets_find(&secrets, "TOKEN");
	assert_non_null(secret);
	assert_int_equal(secret->value_bytes, 3);
	assert_memory_equal(secret->value, "abc", 3);
	assert_int_equal(secrets_find(&secrets, "ZERO")->value_bytes, 3);
	assert_int_equal(secrets_find(&secrets, "EMPTY")->value_bytes, 0);
	assert_null(secrets_find(&secrets, "TOKE"));
	secrets_fini(&secrets);
}

static void test_export(void **state)
{
	struct err err = ERR_NULL;
	struct secrets secrets;

	(void)state;
	make_secrets(&secrets);
	assert_int_equal(secrets_export(&secrets, "TOKEN, EMPTY", &err), 0);
	assert_string_equal(getenv("TOKEN"), "abc");
	assert_string_equal(getenv("EMPTY"), "");
	assert_true(secrets_export(&secrets, "TOKEN,absent", &err) < 0);
	assert_non_null(strstr(err.text, "absent"));
	assert_true(secrets_export(&secrets, "ZERO", &err) < 0);
	assert_non_null(strstr(err.text, "ZERO"));
	assert_null(getenv("ZERO"));
	secrets_fini(&secrets);
}

static void test_none(void **state)
{
	struct err err = ERR_NULL;
	struct secrets secrets;

	(void)state;
	assert_int_equal(secrets_init(&secrets, memfd_create_constant("test", "", 0),
	                              &err),
	                 0);
	assert_int_equal(secrets.n_rows, 0);
	secrets_fini(&secrets);
}

static void test_malformed(void **state)
{
	static const char *const rows[] = { "abc", "\1\0\0\0\377\377\377\377A" };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t bytes = i == 0 ? 3 : 9;
		struct err err = ERR_NULL;
		struct secrets secrets;

		assert_true(secrets_init(&secrets,
		                         memfd_create_constant("test", rows[i], bytes),
		                         &err) < 0);
		assert_true(err.text[0] != '\0');
		secrets_fini(&secrets);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_export),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
