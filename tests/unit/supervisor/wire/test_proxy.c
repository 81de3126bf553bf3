/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "supervisor/wire/proxy.h"

#define SIGNATURE    "\r\n\r\n\0\r\nQUIT\n"
#define FOUR         "\xc0\x00\x02\x01\x0a\x00\x00\x01\xd9\x04\x1f\x90" /* 192.0.2.1:55556 */
#define SIX          "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"         /* 2001:db8::1 */
#define CASE(text)   text, sizeof(text) - 1
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct good_case {
	const char *data;
	size_t bytes;
	const char *client; /* NULL: the proxy says none */
	unsigned int port;
	bool is_own;
};

static const struct good_case good[] = {
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 55556 8080\r\n"), "192.0.2.1", 55556,
	  false },
	{ CASE("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
	  "255.255.255.255", 65535, false },
	{ CASE("PROXY TCP6 2001:db8::1 ::1 0 8080\r\n"), "2001:db8::1", 0, false },
	{ CASE("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, false },
	{ CASE("PROXY UNKNOWN\r\n"), NULL, 0, false },
	{ CASE("PROXY UNKNOWN whatever 1 2 3 4\r\n"), NULL, 0, false },
	{ CASE("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
	  NULL, 0, false },
	{ CASE(SIGNATURE "\x21\x11\0\x0c" FOUR), "192.0.2.1", 55556, false },
	/* Vectors follow the addresses. */
	{ CASE(SIGNATURE "\x21\x11\0\x13" FOUR "\x04\0\x04"
	                 "GET "),
	  "192.0.2.1", 55556, false },
	{ CASE(SIGNATURE "\x21\x21\0\x24" SIX SIX "\x01\x02\x1f\x90"), "2001:db8::1", 258,
	  false },
	{ CASE(SIGNATURE "\x21\x00\0\0"), NULL, 0, false },
	{ CASE(SIGNATURE "\x21\x00\0\x02"
	                 "xx"),
	  NULL, 0, false },
	/* LOCAL: whatever family it says. */
	{ CASE(SIGNATURE "\x20\x00\0\0"), NULL, 0, true },
	{ CASE(SIGNATURE "\x20\x11\0\x0c" FOUR), NULL, 0, true },
	{ CASE(SIGNATURE "\x20\x7f\0\x01"
	                 "x"),
	  NULL, 0, true },
};

struct bad_case {
	const char *data;
	size_t bytes;
	const char *fault;
};

static const struct bad_case bad[] = {
	{ CASE("GET / HTTP/1.1\r\n"), "there is none" },
	{ CASE("POST"), "there is none" },
	{ CASE("proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n"), "there is none" },
	{ CASE("\r\nGET"), "there is none" },
	{ CASE("\r\n\r\n\0\r\nQUIT\r"), "there is none" },
	{ CASE("\x16\x03\x01"), "there is none" },
	{ CASE("PROXY \r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4\r\n"), "its line is malformed" },
	{ CASE("PROXY UNKNOWNX\r\n"), "its line is malformed" },
	{ CASE("PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP5 192.0.2.1 10.0.0.1 1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.256 1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 ::1 ::1 1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 -1 2\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 1 2\0\r\n"), "its line is malformed" },
	{ CASE("PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n"),
	  "its line does not end with CR LF" },
	{ CASE("PROXY UNKNOWN "
	       "0123456789012345678901234567890123456789012345678901234567890"
	       "12345678901234567890123456789012\r\n"),
	  "its line has no end" },
	{ CASE(SIGNATURE "\x11\x11\0\x0c" FOUR), "its version is unknown" },
	{ CASE(SIGNATURE "\x22\x11\0\x0c" FOUR), "its command is unknown" },
	{ CASE(SIGNATURE "\x21\x12\0\x0c" FOUR), "its family is unknown, or not of TCP" },
	{ CASE(SIGNATURE "\x21\x10\0\x0c" FOUR), "its family is unknown, or not of TCP" },
	{ CASE(SIGNATURE "\x21\x41\0\x0c" FOUR), "its family is unknown, or not of TCP" },
	{ CASE(SIGNATURE "\x21\x11\0\x0b" FOUR), "it is too short for its addresses" },
	{ CASE(SIGNATURE "\x21\x21\0\x23" SIX SIX), "it is too short for its addresses" },
	{ CASE(SIGNATURE "\x21\x31\0\xd7"), "it is too short for its addresses" },
};

/* Gives @bytes of @data in pieces of @step; returns how many of them were taken. */
static size_t give(struct proxy *proxy, const char *data, size_t bytes, size_t step)
{
	size_t used = 0;

	*proxy = (struct proxy){ .state = PROXY_MORE };
	while (used < bytes && proxy->state == PROXY_MORE) {
		size_t n = step < bytes - used ? step : bytes - used;

		used += proxy_read(proxy, data + used, n);
	}
	return used;
}

static void print_client(const struct proxy *proxy, char *text, unsigned int *ret_port)
{
	const union proxy_address *client = &proxy->client;
	bool is_four = client->any.sa_family == AF_INET;

	*text = '\0';
	*ret_port = 0;
	if (client->any.sa_family == AF_UNSPEC)
		return;
	assert_non_null(inet_ntop(client->any.sa_family,
	                          is_four ? (const void *)&client->four.sin_addr
	                                  : (const void *)&client->six.sin6_addr,
	                          text, INET6_ADDRSTRLEN));
	*ret_port = ntohs(is_four ? client->four.sin_port : client->six.sin6_port);
}

/* However it comes, and whatever follows at once: no byte behind the head is taken. */
static void test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		char data[256];

		memcpy(data, good[i].data, good[i].bytes);
		memset(data + good[i].bytes, '\n', 8);
		for (size_t step = 1; step <= good[i].bytes + 8; step++) {
			char client[INET6_ADDRSTRLEN];
			struct proxy proxy;
			unsigned int port;

			if (give(&proxy, data, good[i].bytes + 8, step) !=
			            good[i].bytes ||
			    proxy.state != PROXY_DONE)
				fail_msg("good %zu, by %zu: %s", i, step,
				         proxy.fault ? proxy.fault : "not done");
			print_client(&proxy, client, &port);
			assert_string_equal(client, good[i].client ? good[i].client : "");
			assert_int_equal(port, good[i].port);
			assert_int_equal(proxy.is_own, good[i].is_own);
		}
	}
}

static void test_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		for (size_t bytes = 0; bytes < good[i].bytes; bytes++) {
			struct proxy proxy;

			assert_int_equal(give(&proxy, good[i].data, bytes, 64), bytes);
			assert_int_equal(proxy.state, PROXY_MORE);
		}
}

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		for (size_t step = 1; step <= bad[i].bytes; step++) {
			struct proxy proxy;

			(void)give(&proxy, bad[i].data, bad[i].bytes, step);
			if (proxy.state != PROXY_BAD)
				fail_msg("bad %zu, by %zu: is taken", i, step);
			assert_string_equal(proxy.fault, bad[i].fault);
		}
}

/* All of a block that is as long as it can be. */
static void test_longest(void **state)
{
	static const char head[] = SIGNATURE "\x21\x11\xff\xff" FOUR;
	static char data[16 + 65535 + 1];
	struct proxy proxy;

	(void)state;
	memcpy(data, head, sizeof(head) - 1);
	assert_int_equal(give(&proxy, data, sizeof(data), 1000), sizeof(data) - 1);
	assert_int_equal(proxy.state, PROXY_DONE);
	assert_int_equal(give(&proxy, data, sizeof(data) - 2, 1000), sizeof(data) - 2);
	assert_int_equal(proxy.state, PROXY_MORE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
