/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/wire/route.h"

struct route_case {
	const char *target;
	enum http_route_kind kind;
	const char *model;
	const char *version;
};

static const struct route_case good[] = {
	{ "/", HTTP_ROUTE_FRONT, "", "" },
	{ "/?a=b", HTTP_ROUTE_FRONT, "", "" },
	{ "/events", HTTP_ROUTE_EVENTS, "", "" },
	{ "/events/", HTTP_ROUTE_EVENTS, "", "" },
	{ "/v2", HTTP_ROUTE_SERVER, "", "" },
	{ "/v2/", HTTP_ROUTE_SERVER, "", "" },
	{ "/v2?a=b/c", HTTP_ROUTE_SERVER, "", "" },
	{ "/v2/?a=b", HTTP_ROUTE_SERVER, "", "" },
	{ "/healthz", HTTP_ROUTE_LIVE, "", "" },
	{ "/metrics", HTTP_ROUTE_METRICS, "", "" },
	{ "/v2/health/live", HTTP_ROUTE_LIVE, "", "" },
	{ "/v2/health/ready", HTTP_ROUTE_READY, "", "" },
	{ "/v2/models/m", HTTP_ROUTE_MODEL, "m", "" },
	{ "/v2/models/m/", HTTP_ROUTE_MODEL, "m", "" },
	{ "/v2/models/m/ready", HTTP_ROUTE_MODEL_READY, "m", "" },
	{ "/v2/models/m/config", HTTP_ROUTE_MODEL_CONFIG, "m", "" },
	{ "/v2/models/m/stats", HTTP_ROUTE_STATS, "m", "" },
	{ "/v2/models/m/infer", HTTP_ROUTE_INFER, "m", "" },
	{ "/v2/models/m/infer?x=%2F", HTTP_ROUTE_INFER, "m", "" },
	{ "/v2/models/m/versions/1", HTTP_ROUTE_MODEL, "m", "1" },
	{ "/v2/models/m/versions/12/infer", HTTP_ROUTE_INFER, "m", "12" },
	{ "/v2/models/m/versions/1/ready", HTTP_ROUTE_MODEL_READY, "m", "1" },
	{ "/v2/models/m/versions/1/stats", HTTP_ROUTE_STATS, "m", "1" },
	{ "/v2/models/stats", HTTP_ROUTE_STATS, "", "" },
	/* Any name that a configuration may give a version. */
	{ "/v2/models/m/versions/v2/infer", HTTP_ROUTE_INFER, "m", "v2" },
	{ "/v2/models/m/versions/1.0", HTTP_ROUTE_MODEL, "m", "1.0" },
	{ "/v2/models/m/versions/latest/config", HTTP_ROUTE_MODEL_CONFIG, "m", "latest" },
	{ "/v2/models/m/versions/2024-05_x/ready", HTTP_ROUTE_MODEL_READY, "m",
	  "2024-05_x" },
	{ "/v2/models/m/versions/infer", HTTP_ROUTE_MODEL, "m", "infer" },
	{ "/v2/models/m/versions/versions/infer", HTTP_ROUTE_INFER, "m", "versions" },
	{ "/v2/models/m/versions/%76%32", HTTP_ROUTE_MODEL, "m", "v2" },
	{ "/v2/models/m/versions/123456789012345678901234567890", HTTP_ROUTE_MODEL, "m",
	  "123456789012345678901234567890" },
	/* A model may have the name of a part of a path. */
	{ "/v2/models/versions/infer", HTTP_ROUTE_INFER, "versions", "" },
	{ "/v2/models/ready/ready", HTTP_ROUTE_MODEL_READY, "ready", "" },
	/* Clients send names percent-encoded; a slash in one is no separator. */
	{ "/v2/models/a%20b%2Fc/infer", HTTP_ROUTE_INFER, "a b/c", "" },
	{ "/v2/models/a%2fb", HTTP_ROUTE_MODEL, "a/b", "" },
	{ "/v2/models/%C3%A9%25", HTTP_ROUTE_MODEL, "\xc3\xa9%", "" },
	{ "/v2/models/a+b", HTTP_ROUTE_MODEL, "a+b", "" },
	{ "/v2/repository/index", HTTP_ROUTE_INDEX, "", "" },
	{ "/v2/repository/models/m/load", HTTP_ROUTE_LOAD, "m", "" },
	{ "/v2/repository/models/m/unload", HTTP_ROUTE_UNLOAD, "m", "" },
	{ "/v2/repository/r/index", HTTP_ROUTE_REPOSITORY, "", "" },
	{ "/v2/repository/r/models/m/load", HTTP_ROUTE_REPOSITORY, "m", "" },
	{ "/v2/repository/r/models/m/unload", HTTP_ROUTE_REPOSITORY, "m", "" },
};

static const char *const bad[] = {
	"",
	"*",
	"//",
	"/events/x",
	"v2",
	"http://host/v2",
	"/v1",
	"/v2x",
	"/v2//",
	"/v2/health",
	"/v2/health/",
	"/v2/health/live/x",
	"/v2/models",
	"/v2/models/",
	"/v2/models//infer",
	"/v2/models/m/nothing",
	"/v2/models/m/infer/x",
	"/v2/models/m//infer",
	"/v2/models/m/versions",
	"/v2/models/m/versions/",
	"/v2/models/m/versions/x/y",
	"/v2/models/m/versions/a%00b",
	"/v2/models/m/versions/%zz",
	"/v2/models/m/versions//infer",
	"/v2/models/%",
	"/v2/models/%4",
	"/v2/models/%zz",
	"/v2/models/a%00b",
	"/v2/models/%00",
	"/v2/repository",
	"/v2/repository/models/m",
	"/v2/repository/models//load",
	"/v2/repository/models/m/drop",
	"/metrics/x",
	"/healthz/x",
	"/a/b/c/d/e/f/g/h/i/j/k",
};

static void test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct http_route route = http_route_parse(good[i].target);

		if (route.kind != good[i].kind)
			fail_msg("%s: kind %d, not %d", good[i].target, (int)route.kind,
			         (int)good[i].kind);
		assert_string_equal(route.model, good[i].model);
		assert_string_equal(route.version, good[i].version);
	}
}

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (http_route_parse(bad[i]).kind != HTTP_ROUTE_NONE)
			fail_msg("%s: has a route", bad[i]);
}

static void test_methods(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		bool is_post = good[i].kind == HTTP_ROUTE_INFER ||
		               good[i].kind == HTTP_ROUTE_INDEX ||
		               good[i].kind == HTTP_ROUTE_LOAD ||
		               good[i].kind == HTTP_ROUTE_UNLOAD ||
		               good[i].kind == HTTP_ROUTE_REPOSITORY;

		assert_int_equal(http_route_parse(good[i].target).is_post, is_post);
	}
}

static void test_long_names(void **state)
{
	char target[256] = "/v2/models/";
	size_t start = strlen(target);

	(void)state;
	memset(target + start, 'a', CONFIG_NAME_MAX - 1);
	assert_int_equal(http_route_parse(target).kind, HTTP_ROUTE_MODEL);
	assert_int_equal(strlen(http_route_parse(target).model), CONFIG_NAME_MAX - 1);
	target[start + CONFIG_NAME_MAX - 1] = 'a';
	assert_int_equal(http_route_parse(target).kind, HTTP_ROUTE_NONE);
}

struct host {
	const char *model;
	const char *prefixes;
};

static const char *host_of(const void *context, size_t index, const char **ret_prefixes)
{
	const struct host *host = &((const struct host *)context)[index];

	*ret_prefixes = host->prefixes;
	return host->model;
}

/* The longest prefix wins, as bytes; what is moult's own is nobody's. */
static void test_hosted(void **state)
{
	static const struct host with_root[] = {
		{ "computes", "" }, { "a", "/a/, /b/c/" }, { "deep", "/a/deep/" },
		{ "root", "/" },    { NULL, "" },
	};
	static const struct host without[] = {
		{ "a", "/a/, /b/c/" },
		{ "deep", "/a/deep/" },
		{ "health", "/healthz/" },
		{ NULL, "" },
	};
	static const struct {
		const char *target;
		const char *model;
		const char *rootless;
	} rows[] = {
		{ "/", "root", "" },
		{ "/events", "root", "" },
		{ "/a", "a", "a" },
		{ "/a?x", "a", "a" },
		{ "/a/", "a", "a" },
		{ "/a/x?/a/deep/", "a", "a" },
		{ "/ab", "root", "" },
		{ "/b", "root", "" },
		{ "/b/c", "a", "a" },
		{ "/b/cd", "root", "" },
		{ "/a/deep", "deep", "deep" },
		{ "/a/deeper", "a", "a" },
		{ "/a/deep/x/y", "deep", "deep" },
		{ "/%61/", "root", "" },
		{ "//a/", "root", "" },
		{ "/v2", "", "" },
		{ "/v2/", "", "" },
		{ "/v2?x", "", "" },
		{ "/v2/a/", "", "" },
		{ "/v2x", "root", "" },
		{ "/?/a/", "root", "" },
		{ "/healthz", "", "health" },
		{ "/healthz/", "", "health" },
		{ "/healthz/x", "root", "health" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct http_hosting all = { host_of, with_root, false };
		const struct http_hosting some = { host_of, without, false };
		const struct http_hosting admin = { host_of, with_root, true };
		enum http_route_kind own = http_route_parse(rows[i].target).kind;
		struct http_route route = http_route_find(&all, rows[i].target);

		if (strcmp(route.model, rows[i].model) != 0)
			fail_msg("%s: '%s', not '%s'", rows[i].target, route.model,
			         rows[i].model);
		assert_int_equal(route.kind == HTTP_ROUTE_HOSTED, *rows[i].model != '\0');
		route = http_route_find(&some, rows[i].target);
		assert_string_equal(route.model, rows[i].rootless);
		assert_true(route.kind != HTTP_ROUTE_FRONT &&
		            route.kind != HTTP_ROUTE_EVENTS);
		/* An operator's page is nobody's to host. */
		if (own == HTTP_ROUTE_FRONT || own == HTTP_ROUTE_EVENTS)
			assert_int_equal(http_route_find(&admin, rows[i].target).kind,
			                 own);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),    cmocka_unit_test(test_bad),
		cmocka_unit_test(test_methods), cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_hosted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
