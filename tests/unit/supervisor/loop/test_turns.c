/* SPDX-License-Identifier: Apache-2.0 */

/* The loop's time for answers that no model gives, and their order. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "shared/clock.h"
#include "supervisor/loop/turns.h"

#define S    CLOCK_NS_PER_SEC
#define MS   CLOCK_NS_PER_MS
#define MANY 40

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static union address address_of(const char *text)
{
	union address address = { .in6.sin6_family = AF_INET6 };

	if (strchr(text, ':')) {
		assert_int_equal(inet_pton(AF_INET6, text, &address.in6.sin6_addr), 1);
		return address;
	}
	address.in.sin_family = AF_INET;
	assert_int_equal(inet_pton(AF_INET, text, &address.in.sin_addr), 1);
	return address;
}

static void add(struct turns *turns, struct turn *turn, const char *text)
{
	union address address = address_of(text);

	turns_add(turns, turn, NULL, &address.any);
}

/* Returns the time taken in ten seconds by turns of @cost_ns, with a look each @gap_ns and
 * always somebody waiting. */
static uint64_t taken_in_ten_seconds(uint64_t cost_ns, uint64_t gap_ns)
{
	struct turns turns;
	uint64_t taken_ns = 0;

	turns_init(&turns, 1);
	for (uint64_t now_ns = 100 * S; now_ns < 110 * S; now_ns += gap_ns)
		if (turns_is_free(&turns, now_ns)) {
			turns_charge(&turns, cost_ns, now_ns);
			taken_ns += cost_ns;
		}
	return taken_ns;
}

static void test_all_get_a_part(void **state)
{
	static const uint64_t costs_ns[] = { 30000, MS / 2, MS, 7 * MS, 50 * MS };
	static const uint64_t gaps_ns[] = { 10000, MS / 10, MS };

	(void)state;
	for (size_t i = 0; i < sizeof(costs_ns) / sizeof(costs_ns[0]); i++)
		for (size_t j = 0; j < sizeof(gaps_ns) / sizeof(gaps_ns[0]); j++) {
			uint64_t most_ns = 10 * S / TURNS_PART + TURNS_KEPT_NS;
			uint64_t taken_ns = taken_in_ten_seconds(costs_ns[i], gaps_ns[j]);

			assert_in_range(taken_ns, 1, most_ns + costs_ns[i]);
			/* Only where the looks are frequent enough. */
			if (gaps_ns[j] * 2 < costs_ns[i] * TURNS_PART)
				assert_true(taken_ns > most_ns / 2);
		}
}

/* A client that asks each 15 seconds goes at once, even for half a second of work. */
static void test_now_and_then_is_at_once(void **state)
{
	struct turns turns;

	(void)state;
	turns_init(&turns, 1);
	for (uint64_t now_ns = 0; now_ns < 600 * S; now_ns += 15 * S) {
		assert_true(turns_is_free(&turns, now_ns));
		turns_charge(&turns, S / 2, now_ns);
	}
}

static void test_what_was_not_taken_is_kept_for_a_while(void **state)
{
	struct turns turns;
	uint64_t n = 0;

	(void)state;
	turns_init(&turns, 1);
	turns_charge(&turns, MS, S);
	for (; turns_is_free(&turns, 3600 * S); n++)
		turns_charge(&turns, MS, 3600 * S);
	assert_int_equal(n, TURNS_KEPT_NS / MS + 1);
	assert_true(turns_is_free(&turns, turns_due_ns(&turns)));
}

/* Nobody overtakes those who wait. */
static void test_in_order_of_arrival(void **state)
{
	struct turn all[MANY] = { 0 };
	struct turns turns;

	(void)state;
	turns_init(&turns, 1);
	for (size_t i = 0; i < MANY; i++) {
		add(&turns, &all[i], "10.0.0.1");
		assert_false(turns_is_free(&turns, S));
	}
	for (size_t i = 0; i < MANY; i++)
		assert_ptr_equal(turns_next(&turns, S), &all[i]);
	assert_null(turns_next(&turns, S));
	assert_true(turns_is_free(&turns, S));
}

static void test_not_before_it_is_time(void **state)
{
	struct turn turn = { 0 };
	struct turns turns;

	(void)state;
	turns_init(&turns, 1);
	turns_charge(&turns, S, 100 * S);
	add(&turns, &turn, "10.0.0.1");
	assert_null(turns_next(&turns, turns_due_ns(&turns) - 1));
	assert_ptr_equal(turns_next(&turns, turns_due_ns(&turns)), &turn);
}

/* Finds an address that shares a queue with @text, or one that does not. */
static void find_address(const struct turns *turns, const char *text, bool is_shared,
                         char *ret_text)
{
	struct turns scratch = *turns;
	struct turn one = { 0 };
	struct turn other = { 0 };

	for (unsigned int i = 1; i < 100000; i++) {
		struct in_addr address = { .s_addr = htonl(0x0a000000 + i) };

		turns_init(&scratch, turns->seed);
		assert_non_null(inet_ntop(AF_INET, &address, ret_text, INET_ADDRSTRLEN));
		add(&scratch, &one, text);
		add(&scratch, &other, ret_text);
		if (strcmp(text, ret_text) != 0 &&
		    (one.queue == other.queue) == is_shared)
			return;
	}
	fail();
}

static void test_many_at_one_address_delay_another_by_one(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct turn all[MANY] = { 0 };
		struct turn other = { 0 };
		char text[INET_ADDRSTRLEN];
		struct turns turns;

		turns_init(&turns, seed);
		find_address(&turns, "10.0.0.1", false, text);
		for (size_t i = 0; i < MANY; i++)
			add(&turns, &all[i], "10.0.0.1");
		add(&turns, &other, text);
		if (turns_next(&turns, S) != &other)
			assert_ptr_equal(turns_next(&turns, S), &other);
	}
}

/* Each seed has other addresses sharing a queue. */
static void test_nobody_knows_who_shares_a_queue(void **state)
{
	char text[INET_ADDRSTRLEN];
	unsigned int n_shared = 0;
	struct turns turns;

	(void)state;
	turns_init(&turns, 0);
	find_address(&turns, "10.0.0.1", true, text);
	for (uint64_t seed = 1; seed <= 2560; seed++) {
		struct turn one = { 0 };
		struct turn other = { 0 };

		turns_init(&turns, seed * UINT64_C(0x9e3779b97f4a7c15));
		add(&turns, &one, "10.0.0.1");
		add(&turns, &other, text);
		n_shared += one.queue == other.queue;
	}
	assert_in_range(n_shared, 0, 64);
}

/* A client counts as one, with all of its addresses and sockets. */
static void test_what_one_client_is(void **state)
{
	static const struct {
		const char *one;
		const char *other;
	} same[] = {
		{ "192.0.2.7", "::ffff:192.0.2.7" },
		{ "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		for (uint64_t seed = 0; seed < 100; seed++) {
			struct turn one = { 0 };
			struct turn other = { 0 };
			struct turns turns;

			turns_init(&turns, seed);
			add(&turns, &one, same[i].one);
			add(&turns, &other, same[i].other);
			assert_int_equal(one.queue, other.queue);
		}
}

static void test_those_who_leave(void **state)
{
	struct turn all[3] = { 0 };
	struct turns turns;

	(void)state;
	turns_init(&turns, 1);
	turns_remove(&turns, &all[0]);
	assert_null(turns_most_crowded(&turns));
	for (size_t i = 0; i < 3; i++)
		add(&turns, &all[i], "10.0.0.1");
	turns_remove(&turns, &all[1]);
	turns_remove(&turns, &all[1]);
	assert_int_equal(turns.n_waiting, 2);
	assert_ptr_equal(turns_most_crowded(&turns), &all[2]);
	assert_ptr_equal(turns_next(&turns, S), &all[0]);
	assert_ptr_equal(turns_next(&turns, S), &all[2]);
	assert_int_equal(turns.n_waiting, 0);
}

/* A unix socket has no address. */
static void test_without_an_address(void **state)
{
	const struct sockaddr nobody = { .sa_family = AF_UNIX };
	struct turn all[2] = { 0 };
	struct turns turns;

	(void)state;
	turns_init(&turns, 1);
	turns_add(&turns, &all[0], NULL, NULL);
	turns_add(&turns, &all[1], NULL, &nobody);
	assert_ptr_equal(turns_next(&turns, S), &all[0]);
	assert_ptr_equal(turns_next(&turns, S), &all[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_get_a_part),
		cmocka_unit_test(test_now_and_then_is_at_once),
		cmocka_unit_test(test_what_was_not_taken_is_kept_for_a_while),
		cmocka_unit_test(test_in_order_of_arrival),
		cmocka_unit_test(test_not_before_it_is_time),
		cmocka_unit_test(test_many_at_one_address_delay_another_by_one),
		cmocka_unit_test(test_nobody_knows_who_shares_a_queue),
		cmocka_unit_test(test_what_one_client_is),
		cmocka_unit_test(test_those_who_leave),
		cmocka_unit_test(test_without_an_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
