/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/gate/hosts.h"

#define LIST "moult.example, *.ui.example"

static const struct {
	const char *list;
	const char *host;
	bool want;
} names[] = {
	{ NULL, "localhost", true },
	{ NULL, "LOCALHOST:8080", true },
	{ NULL, "a.localhost", true },
	{ NULL, "localhost.", true },
	{ NULL, "127.0.0.1", true },
	{ NULL, "127.0.0.1:8080", true },
	{ NULL, "10.1.2.3:8080", true },
	{ NULL, "[::1]:8080", true },
	{ NULL, "[2001:db8::1]", true },
	{ NULL, "moult", true },
	{ NULL, "moult:80", true },
	{ NULL, "[evil.example", false },
	{ NULL, "[evil.example]:8080", false },
	{ NULL, "evil.example", false },
	{ NULL, "evil.example.", false },
	{ NULL, "evil.example:8080", false },
	{ NULL, "127.0.0.1.evil.example", false },
	{ NULL, "localhost.evil.example", false },
	{ NULL, "evillocalhost.example", false },
	{ NULL, "1.2.3", false },
	{ NULL, "127.1", false },
	{ NULL, "256.1.1.1", false },
	{ LIST, "moult.example", true },
	{ LIST, "MOULT.example:443", true },
	{ LIST, "moult.example.", true },
	{ LIST, "a.ui.example", true },
	{ LIST, "a.b.ui.example", true },
	{ LIST, "ui.example", false },
	{ LIST, ".ui.example", false },
	{ LIST, "aui.example", false },
	{ LIST, "moult.example.evil.example", false },
	{ LIST, "xmoult.example", false },
	{ LIST, "moult", false },
	{ LIST, "localhost:1", true },
	{ LIST, "10.1.2.3", true },
	{ "any", "evil.example", true },
	{ "anyway.example", "evil.example", false },
	{ "a.example, any", "evil.example", true },
};

static const struct {
	const char *list;
	const char *origin;
	const char *host;
	bool want;
} origins[] = {
	{ NULL, "http://moult.example", "moult.example", true },
	{ NULL, "https://moult.example:444", "MOULT.example:8080", true },
	{ NULL, "http://localhost:3000", "127.0.0.1:8080", true },
	{ NULL, "http://[::1]", "localhost", true },
	{ NULL, "http://10.0.0.1", "10.0.0.1:8080", true },
	{ NULL, "http://10.0.0.1", "127.0.0.1", false },
	{ NULL, "http://evil.example", "moult.example", false },
	{ NULL, "http://moult.example.evil.example", "moult.example", false },
	{ NULL, "http://example", "moult.example", false },
	{ NULL, "null", "null.example", false },
	{ NULL, "null", "moult.example", false },
	{ NULL, "moult.example", "moult.example", false },
	{ NULL, "", "moult.example", false },
	{ NULL, "://", "moult.example", false },
	{ LIST, "https://a.ui.example", "127.0.0.1", true },
	{ LIST, "https://evil.example", "127.0.0.1", false },
	{ LIST, "null", "127.0.0.1", false },
	{ "any", "https://evil.example", "127.0.0.1", true },
	{ "any", "null", "127.0.0.1", true },
};

static void test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (hosts_allow(names[i].list, proto_text_of(names[i].host)) !=
		    names[i].want)
			fail_msg("%s", names[i].host);
}

static void test_origins(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++)
		if (hosts_allow_origin(origins[i].list, proto_text_of(origins[i].origin),
		                       proto_text_of(origins[i].host)) != origins[i].want)
			fail_msg("%s at %s", origins[i].origin, origins[i].host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_origins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
