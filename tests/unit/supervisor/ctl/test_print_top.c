/* SPDX-License-Identifier: Apache-2.0 */

/* The screen of moultctl top, from two answers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "supervisor/ctl/print.h"

#define SUPERVISOR                                                                       \
	"\"supervisor\":{\"version\":\"9\",\"pid\":%d,\"uptime_s\":60,"                  \
	"\"latency_bounds_ms\":[1,10,100],\"memory\":{\"loaders_bytes\":1048576,"        \
	"\"budget_bytes\":4194304},\"devices\":[]}"
#define MODEL                                                                            \
	"{\"name\":\"%s\",\"state\":\"ready\",\"generation\":3,\"requests\":{"           \
	"\"answered\":%d,\"failed\":%d,\"faults\":%d,\"held\":2,\"leased\":3},"          \
	"\"latency_counts\":[%s],\"memory\":{\"private_bytes\":2097152,"                 \
	"\"shared_bytes\":0,\"gpu\":null}}"

struct figures {
	int pid;
	int answered;
	int failed;
	int faults;
	const char *counts;
};

static json_t *make(const char *name, const struct figures *figures)
{
	char text[1024];
	json_t *json;

	(void)snprintf(text, sizeof(text),
	               "{\"ok\":true,\"models\":[" MODEL "]," SUPERVISOR "}", name,
	               figures->answered, figures->failed, figures->faults,
	               figures->counts, figures->pid);
	json = json_loads(text, 0, NULL);
	assert_non_null(json);
	return json;
}

static char *print(json_t *answer, const json_t *before, int columns)
{
	struct ctl_looks looks = {
		.answer = answer,
		.before = before,
		.seconds = 2,
		.time = "14:03:22",
		.columns = columns,
	};
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	ctl_print_top(out, &looks);
	assert_int_equal(fclose(out), 0);
	return text;
}

/* The last line, which is that of the model. */
static const char *row_of(const char *text)
{
	const char *at = strstr(text, "\nm ");

	assert_non_null(at);
	return at + 1;
}

static void test_rows(void **state)
{
	static const struct {
		struct figures then;
		struct figures now;
		const char *want; /* from STATE on */
	} rows[] = {
		{ { 7, 0, 0, 0, "0,0,0,0" },
		  { 7, 20, 0, 0, "20,0,0,0" },
		  "ready         3     10     5  500us  990us   0.0  2.0M    0B\n" },
		/* 99 of 100 within 10 ms: the last of them sets no quantile. */
		{ { 7, 1000, 0, 0, "1000,0,0,0" },
		  { 7, 1100, 0, 0, "1050,49,0,1" },
		  "ready         3     50     5  1.0ms   10ms   0.0  2.0M    0B\n" },
		/* Beyond the last bound nobody knows how long. */
		{ { 7, 0, 0, 0, "0,0,0,0" },
		  { 7, 1, 3, 1, "0,0,0,4" },
		  "ready         3    2.0     5  100ms  100ms   2.0  2.0M    0B\n" },
		{ { 7, 5, 0, 0, "5,0,0,0" },
		  { 7, 5, 0, 0, "5,0,0,0" },
		  "ready         3    0.0     5      -      -   0.0  2.0M    0B\n" },
		{ { 7, 0, 0, 0, "0,0,0,0" },
		  { 7, 3000000, 0, 0, "3000000,0,0,0" },
		  "ready         3   1.5M     5  500us  990us   0.0  2.0M    0B\n" },
		/* Another moultd, a model that counts anew, and one that tells no times. */
		{ { 6, 5, 0, 0, "5,0,0,0" },
		  { 7, 9, 0, 0, "9,0,0,0" },
		  "ready         3      -     5      -      -     -  2.0M    0B\n" },
		{ { 7, 50, 0, 0, "50,0,0,0" },
		  { 7, 9, 0, 0, "9,0,0,0" },
		  "ready         3      -     5      -      -     -  2.0M    0B\n" },
		{ { 7, 0, 0, 0, "" },
		  { 7, 9, 0, 0, "" },
		  "ready         3    4.5     5      -      -   0.0  2.0M    0B\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *then = make("m", &rows[i].then);
		json_t *now = make("m", &rows[i].now);
		FREE char *text = print(now, then, 80);
		const char *row = row_of(text);

		assert_int_equal(strlen(row), 81);
		assert_string_equal(row + 20, rows[i].want);
		json_decref(then);
		json_decref(now);
	}
}

static void test_a_screen(void **state)
{
	static const struct figures none = { 7, 0, 0, 0, "0,0,0,0" };
	static const struct figures some = { 7, 20, 0, 0, "20,0,0,0" };
	json_t *then = make("m", &none);
	json_t *now = make("m", &some);
	FREE char *text = print(now, then, 60);
	FREE char *first = print(now, NULL, 300);

	(void)state;
	assert_string_equal(
		text,
		"14:03:22 10 requests/s, 5 in queue, 0.0 errors/s; moultd 9, up for "
		"60.00 "
		"s\n"
		"main memory [#####...............] 1.0 MiB of 4.0 MiB (budget)\n"
		"\n"
		"MODEL    STATE       GEN  REQ/S QUEUE    P50    P99 ERR/S  PRIV SHARE\n"
		"m        ready         3     10     5  500us  990us   0.0  2.0M    "
		"0B\n");
	assert_non_null(strstr(first, " - requests/s, 5 in queue, - errors/s; "));
	json_decref(then);
	json_decref(now);
}

/* No name breaks the table, and no escape sequence reaches the terminal. */
static void test_names(void **state)
{
	static const struct figures none = { 7, 0, 0, 0, "0,0,0,0" };
	json_t *answers[] = {
		make("m \\u001b[2J-and-more-than-nineteen", &none),
		make("m \\u00e9\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9",
		     &none),
	};
	static const char *const want[] = { "m ?[2J-and-more-tha ready ",
		                            "m \u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
		                            "\u00e9\u00e9         ready " };

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		FREE char *text = print(answers[i], NULL, 80);
		const char *row = row_of(text);

		if (strncmp(row, want[i], strlen(want[i])) != 0)
			fail_msg("%s", row);
		json_decref(answers[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_a_screen),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
