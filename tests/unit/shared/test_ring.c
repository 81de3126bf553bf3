/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shared/ring.h"

#define RING_TEST_CAPACITY 8u

struct pair {
	void *memory;
	struct ring producer;
	struct ring consumer;
};

static void pair_init(struct pair *pair)
{
	size_t bytes = ring_bytes(RING_TEST_CAPACITY, sizeof(uint64_t));

	pair->memory = aligned_alloc(RING_CACHE_LINE, bytes);
	assert_non_null(pair->memory);
	for (size_t i = 0; i < bytes; i++)
		((unsigned char *)pair->memory)[i] = 0;
	ring_init(&pair->producer, pair->memory, RING_TEST_CAPACITY, sizeof(uint64_t));
	ring_init(&pair->consumer, pair->memory, RING_TEST_CAPACITY, sizeof(uint64_t));
}

static void test_order_full_and_empty(void **state)
{
	struct pair pair;
	uint64_t value = 0;

	(void)state;
	pair_init(&pair);
	assert_int_equal(ring_pop(&pair.consumer, &value), RING_E_EMPTY);
	for (uint64_t lap = 0; lap < 5; lap++) {
		for (uint64_t i = 0; i < RING_TEST_CAPACITY; i++)
			assert_int_equal(ring_push(&pair.producer, &i), 0);
		assert_int_equal(ring_push(&pair.producer, &value), RING_E_FULL);
		for (uint64_t i = 0; i < RING_TEST_CAPACITY; i++) {
			assert_int_equal(ring_pop(&pair.consumer, &value), 0);
			assert_int_equal(value, i);
		}
		assert_int_equal(ring_pop(&pair.consumer, &value), RING_E_EMPTY);
	}
	free(pair.memory);
}

/* Each row is an index that a hostile peer may write. */
static void test_hostile_indexes(void **state)
{
	static const uint32_t bad[] = { RING_TEST_CAPACITY + 1, 1u << 31, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pair pair;
		uint64_t value = 0;

		pair_init(&pair);
		atomic_store(&pair.consumer.shared->produced, bad[i]);
		/* The ring stays corrupt: an impossible index is not taken for entries next
		 * time. */
		assert_int_equal(ring_pop(&pair.consumer, &value), RING_E_CORRUPT);
		assert_int_equal(ring_pop(&pair.consumer, &value), RING_E_CORRUPT);
		free(pair.memory);

		pair_init(&pair);
		for (uint64_t k = 0; k < RING_TEST_CAPACITY; k++)
			assert_int_equal(ring_push(&pair.producer, &k), 0);
		atomic_store(&pair.producer.shared->consumed,
		             RING_TEST_CAPACITY + 1 + bad[i] % 7);
		assert_int_equal(ring_push(&pair.producer, &value), RING_E_CORRUPT);
		assert_int_equal(ring_push(&pair.producer, &value), RING_E_CORRUPT);
		free(pair.memory);
	}
}

static void test_bell_only_for_a_sleeper(void **state)
{
	struct pair pair;
	uint64_t value = 1;

	(void)state;
	pair_init(&pair);
	assert_int_equal(ring_push(&pair.producer, &value), 0);
	assert_false(ring_wants_bell(&pair.producer));
	assert_false(ring_sleep(&pair.consumer)); /* there is something to do */
	assert_int_equal(ring_pop(&pair.consumer, &value), 0);
	assert_true(ring_sleep(&pair.consumer));
	assert_int_equal(ring_push(&pair.producer, &value), 0);
	assert_true(ring_wants_bell(&pair.producer));
	assert_false(ring_wants_bell(&pair.producer)); /* once per sleep */
	ring_wake(&pair.consumer);
	free(pair.memory);
}

/* ThreadSanitizer looks at each access, and finds in few what it finds in many. */
#ifdef __SANITIZE_THREAD__
#define RING_TEST_MESSAGES 50000u
#else
#define RING_TEST_MESSAGES 1000000u
#endif

static void *produce(void *argument)
{
	struct pair *pair = argument;

	for (uint64_t i = 0; i < RING_TEST_MESSAGES;) {
		if (ring_push(&pair->producer, &i) == 0)
			i++;
	}
	return NULL;
}

static void test_two_threads(void **state)
{
	struct pair pair;
	pthread_t thread;

	(void)state;
	pair_init(&pair);
	assert_int_equal(pthread_create(&thread, NULL, produce, &pair), 0);
	for (uint64_t want = 0; want < RING_TEST_MESSAGES;) {
		uint64_t value;

		if (ring_pop(&pair.consumer, &value) == 0)
			assert_int_equal(value, want++);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	free(pair.memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_full_and_empty),
		cmocka_unit_test(test_hostile_indexes),
		cmocka_unit_test(test_bell_only_for_a_sleeper),
		cmocka_unit_test(test_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
