/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/gate/clients.h"

#define LIST "10.0.0.0/8, 192.0.2.1, 2001:db8::/33"

static const struct {
	const char *address;
	bool want;
} listed[] = {
	{ "10.1.2.3", true },          { "10.1.2.3:80", true },
	{ "::ffff:10.1.2.3", true },   { "11.0.0.1", false },
	{ "192.0.2.1", true },         { "192.0.2.2", false },
	{ "2001:db8::1", true },       { "[2001:db8:7fff::1]:80", true },
	{ "2001:db8:8000::1", false }, { "::1", false },
};

static const struct {
	const char *text;
	bool want;
} ranges[] = {
	{ "10.0.0.0/8", true }, { "10.0.0.1", true },   { "0.0.0.0/0", true },
	{ "::/0", true },       { "::1/128", true },    { "10.0.0.0/33", false },
	{ "::/129", false },    { "10.0.0.0/", false }, { "10.0.0.0/8x", false },
	{ "10.0.0", false },    { "proxy", false },     { "/8", false },
	{ "", false },
};

static const struct {
	const char *peer;
	const char *forwarded;
	const char *want;
} followed[] = {
	{ "10.0.0.1", "203.0.113.9", "203.0.113.9" },
	{ "10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9" },
	{ "10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9" },
	{ "10.0.0.1", "203.0.113.9,\t192.0.2.1 , 10.0.0.2", "203.0.113.9" },
	{ "10.0.0.1", "[2001:db8:8000::9]:443", "2001:db8:8000::9" },
	{ "10.0.0.1", "203.0.113.9, unknown", "10.0.0.1" },
	{ "10.0.0.1", "", "10.0.0.1" },
	{ "10.0.0.1", ",", "10.0.0.1" },
	{ "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3" },
	{ "203.0.113.7", "198.51.100.1", "203.0.113.7" },
};

static struct client_address address_of(const char *text)
{
	struct client_address address;

	if (!client_address_read(&address, proto_text_of(text)))
		fail_msg("%s", text);
	return address;
}

static void test_lists(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
		struct client_address address = address_of(listed[i].address);

		if (client_is_listed(&address, LIST) != listed[i].want)
			fail_msg("%s", listed[i].address);
	}
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if (client_is_range(proto_text_of(ranges[i].text)) != ranges[i].want)
			fail_msg("%s", ranges[i].text);
}

static void test_forwarded(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(followed) / sizeof(followed[0]); i++) {
		struct client_address address = address_of(followed[i].peer);
		struct client_address want = address_of(followed[i].want);

		client_follow(&address, proto_text_of(followed[i].forwarded), LIST);
		if (memcmp(&address, &want, sizeof(want)) != 0)
			fail_msg("%s from %s", followed[i].forwarded, followed[i].peer);
	}
}

static void test_requests(void **state)
{
	const struct clients_rates rates = { .requests_per_s = 10 };
	struct client_address one = address_of("203.0.113.1");
	struct client_address other = address_of("203.0.113.2");
	struct clients *clients = clients_new();
	uint64_t now_ns = CLOCK_NS_PER_SEC;
	uint64_t wait_ns;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(clients_take(clients, &one, &rates, now_ns), 0);
	wait_ns = clients_take(clients, &one, &rates, now_ns);
	assert_in_range(wait_ns, CLOCK_NS_PER_SEC / 10 - 1000, CLOCK_NS_PER_SEC / 10);
	assert_int_equal(clients_limited(clients), 1);
	assert_int_equal(clients_take(clients, &other, &rates, now_ns), 0);
	now_ns += wait_ns + 1000;
	assert_int_equal(clients_take(clients, &one, &rates, now_ns), 0);
	assert_int_not_equal(clients_take(clients, &one, &rates, now_ns), 0);
	/* An hour's rest is worth a second. */
	now_ns += 3600 * CLOCK_NS_PER_SEC;
	for (int i = 0; i < 10; i++)
		assert_int_equal(clients_take(clients, &one, &rates, now_ns), 0);
	assert_int_not_equal(clients_take(clients, &one, &rates, now_ns), 0);
	clients_free(clients);
}

static void test_bytes(void **state)
{
	const struct clients_rates rates = { .bytes_per_s = 1000 };
	struct client_address one = address_of("203.0.113.1");
	struct clients *clients = clients_new();
	uint64_t now_ns = CLOCK_NS_PER_SEC;
	uint64_t wait_ns;

	(void)state;
	assert_int_equal(clients_take(clients, &one, &rates, now_ns), 0);
	clients_charge(clients, &one, &rates, 900, now_ns);
	assert_int_equal(clients_take(clients, &one, &rates, now_ns), 0);
	/* A body is taken whole, and owed. */
	clients_charge(clients, &one, &rates, 2100, now_ns);
	wait_ns = clients_take(clients, &one, &rates, now_ns);
	assert_in_range(wait_ns, 2 * CLOCK_NS_PER_SEC - 1000,
	                2 * CLOCK_NS_PER_SEC + 1000);
	assert_int_equal(clients_take(clients, &one, &rates, now_ns + wait_ns + 1000), 0);
	clients_free(clients);
}

/* More addresses than there is room for: nobody is turned away for that. */
static void test_crowd(void **state)
{
	const struct clients_rates rates = { .requests_per_s = 1 };
	struct clients *clients = clients_new();
	char text[32];

	(void)state;
	for (unsigned int i = 0; i < 100000; i++) {
		struct client_address address;

		(void)snprintf(text, sizeof(text), "10.%u.%u.%u", i >> 16, i >> 8 & 255,
		               i & 255);
		address = address_of(text);
		assert_int_equal(clients_take(clients, &address, &rates,
		                              CLOCK_NS_PER_SEC + i),
		                 0);
	}
	clients_free(clients);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),    cmocka_unit_test(test_forwarded),
		cmocka_unit_test(test_requests), cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
