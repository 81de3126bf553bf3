/* SPDX-License-Identifier: Apache-2.0 */

/* Events for readers of any speed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/page/feed.h"

static void push(struct feed *feed, int number)
{
	json_t *json = json_pack("{s:i}", "n", number);

	assert_int_equal(feed_push(feed, "tick", json), 0);
	json_decref(json);
}

static void open_reader(const struct feed *feed, struct feed_reader *reader)
{
	json_t *json = json_pack("[s]", "a\nb");

	assert_int_equal(feed_open(feed, reader, "first", json), 0);
	json_decref(json);
}

/* Reads all that is there, @size bytes at a time. Returns the last outcome. */
static ssize_t drain(const struct feed *feed, struct feed_reader *reader, size_t size,
                     char *text)
{
	ssize_t n;

	while ((n = feed_read(feed, reader, text, size)) > 0)
		text += n;
	*text = '\0';
	return n;
}

static void test_readers(void **state)
{
	static const size_t sizes[] = { 1, 7, 4096 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct feed feed = { .next = 0 };
		struct feed_reader reader;
		char text[4096];

		push(&feed, 0);
		open_reader(&feed, &reader);
		push(&feed, 1);
		push(&feed, 2);
		assert_int_equal(drain(&feed, &reader, sizes[i], text), 0);
		/* What was there before is no news, and no message has a line too many. */
		assert_string_equal(text, "event: first\ndata: [\"a\\nb\"]\n\n"
		                          "event: tick\ndata: {\"n\":1}\n\n"
		                          "event: tick\ndata: {\"n\":2}\n\n");
		assert_int_equal(drain(&feed, &reader, sizes[i], text), 0);
		assert_string_equal(text, "");
		for (int n = 0; n < FEED_MESSAGES; n++)
			push(&feed, n);
		assert_int_equal(drain(&feed, &reader, sizes[i], text), 0);
		assert_non_null(strstr(text, "{\"n\":0}"));
		feed_close(&reader);
		feed_fini(&feed);
	}
}

/* One message more than there is room for, wherever the reader is. */
static void test_slow_readers(void **state)
{
	static const size_t read_before[] = { 0, 3, 34, 40 };

	(void)state;
	for (size_t i = 0; i < sizeof(read_before) / sizeof(read_before[0]); i++) {
		struct feed feed = { .next = 0 };
		struct feed_reader reader;
		char text[4096];
		size_t left = read_before[i];

		open_reader(&feed, &reader);
		push(&feed, 0);
		while (left > 0)
			left -= (size_t)feed_read(&feed, &reader, text, left);
		for (int n = 0; n < FEED_MESSAGES; n++) {
			assert_false(feed_has_lost(&feed, &reader));
			push(&feed, n);
		}
		assert_true(feed_has_lost(&feed, &reader));
		assert_int_equal(drain(&feed, &reader, 4096, text), -ESTALE);
		assert_string_equal(text, "");
		feed_close(&reader);
		feed_close(&reader);
		feed_fini(&feed);
	}
}

static void test_no_memory(void **state)
{
	struct feed feed = { .next = 0 };
	struct feed_reader reader;

	(void)state;
	assert_int_equal(feed_push(&feed, "tick", NULL), -ENOMEM);
	assert_int_equal(feed.next, 0);
	assert_int_equal(feed_open(&feed, &reader, "first", NULL), -ENOMEM);
	feed_close(&reader);
	feed_fini(&feed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers),
		cmocka_unit_test(test_slow_readers),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
