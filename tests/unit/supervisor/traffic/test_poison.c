/* SPDX-License-Identifier: Apache-2.0 */

/* Bodies that are remembered, and for how long. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/traffic/poison.h"

#define S   CLOCK_NS_PER_SEC
#define TTL (60 * S)

static void remember(struct poison *poison, const void *body, size_t bytes,
                     uint64_t now_ns)
{
	struct poison_print print;

	poison_print_of(&print, body, bytes);
	poison_add(poison, &print, now_ns);
}

static void test_digest_is_sha256(void **state)
{
	static const struct {
		const char *body;
		const char *hex;
	} rows[] = {
		{ "",
		  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc",
		  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char hex[2 * POISON_DIGEST_BYTES + 1];
		struct poison_print print;

		poison_print_of(&print, rows[i].body, strlen(rows[i].body));
		poison_print_hex(&print, hex);
		assert_string_equal(hex, rows[i].hex);
		assert_int_equal(print.bytes, strlen(rows[i].body));
		assert_string_equal(print.shape, "unknown");
	}
}

/* A body with one other byte is another body, also where the sketch does not look. */
static void test_one_byte_is_another_body(void **state)
{
	static const size_t sizes[] = { 1, 63, 64, 2048, 2049, 65536, 1000003 };
	struct poison poison = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned char *body = calloc(1, sizes[i]);

		assert_non_null(body);
		poison_clear(&poison);
		remember(&poison, body, sizes[i], S);
		for (size_t k = 0; k < 17; k++) {
			size_t at = k * (sizes[i] - 1) / 16;

			body[at] ^= 1;
			assert_null(poison_find(&poison, body, sizes[i], S, TTL));
			body[at] ^= 1;
		}
		assert_null(poison_find(&poison, body, sizes[i] - 1, S, TTL));
		assert_non_null(poison_find(&poison, body, sizes[i], S, TTL));
		free(body);
	}
}

static void test_memory_ends(void **state)
{
	struct poison poison = { 0 };

	(void)state;
	remember(&poison, "a", 1, 10 * S);
	remember(&poison, "b", 1, 20 * S);
	assert_int_equal(poison_count(&poison, 20 * S, TTL), 2);
	assert_non_null(poison_find(&poison, "a", 1, 70 * S - 1, TTL));
	assert_null(poison_find(&poison, "a", 1, 70 * S, TTL));
	assert_non_null(poison_find(&poison, "b", 1, 70 * S, TTL));
	/* remembered again: counts from then on, and once only */
	remember(&poison, "b", 1, 75 * S);
	assert_int_equal(poison_count(&poison, 75 * S, TTL), 1);
	assert_non_null(poison_find(&poison, "b", 1, 134 * S, TTL));
	assert_null(poison_find(&poison, "b", 1, 135 * S, TTL));
	/* a shorter time counts at once: it is configuration */
	remember(&poison, "c", 1, 200 * S);
	assert_null(poison_find(&poison, "c", 1, 201 * S, S));
	assert_int_equal(poison_count(&poison, 201 * S, TTL), 0);
}

static void test_forgetting_keeps_the_order(void **state)
{
	struct poison poison = { 0 };

	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		remember(&poison, &"abcde"[i], 1, i * S);
	poison_forget(&poison, "c", 1);
	poison_forget(&poison, "x", 1);
	assert_int_equal(poison_count(&poison, 4 * S, TTL), 4);
	assert_null(poison_find(&poison, "c", 1, 4 * S, TTL));
	assert_null(poison_find(&poison, "b", 1, 61 * S, TTL));
	assert_int_equal(poison_count(&poison, 61 * S, TTL), 2);
	assert_non_null(poison_find(&poison, "e", 1, 61 * S, TTL));
	poison_clear(&poison);
	assert_null(poison_find(&poison, "e", 1, 61 * S, TTL));
}

/* Three times as many bodies as there is room for: the newest stay. */
static void test_the_table_is_bounded(void **state)
{
	struct poison poison = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 3 * POISON_MAX; i++)
		remember(&poison, &i, sizeof(i), S + i);
	assert_int_equal(poison_count(&poison, 2 * S, TTL), POISON_MAX);
	for (uint32_t i = 0; i < 3 * POISON_MAX; i++)
		assert_int_equal(poison_find(&poison, &i, sizeof(i), 2 * S, TTL) != NULL,
		                 i >= 2 * POISON_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digest_is_sha256),
		cmocka_unit_test(test_one_byte_is_another_body),
		cmocka_unit_test(test_memory_ends),
		cmocka_unit_test(test_forgetting_keeps_the_order),
		cmocka_unit_test(test_the_table_is_bounded),
	};

	return cmocka_run_group_tests_name("poison", tests, NULL, NULL);
}
