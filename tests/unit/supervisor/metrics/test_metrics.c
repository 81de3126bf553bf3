/* SPDX-License-Identifier: Apache-2.0 */

/* The table of metrics, and its text in both formats. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/metrics/metrics.h"

static const char *const suffixes[] = { "_total", "_bucket",  "_count",  "_sum",
	                                "_info",  "_created", "_gcount", "_gsum" };

static bool ends_in(const char *name, const char *suffix)
{
	size_t bytes = strlen(suffix);

	return strlen(name) > bytes && strcmp(name + strlen(name) - bytes, suffix) == 0;
}

/* The rules of promtool and OpenMetrics for names. */
static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < METRICS_ID_COUNT; i++) {
		const struct metrics_family *family = &metrics_families[i];

		assert_non_null(family->name);
		assert_true(strlen(family->help) > 5);
		assert_int_equal(family->help[strlen(family->help) - 1], '.');
		assert_null(strpbrk(family->help, "\n\\\""));
		assert_true(strspn(family->name, "abcdefghijklmnopqrstuvwxyz_") ==
		            strlen(family->name));
		assert_true(strncmp(family->name, "moult_", 6) == 0 ||
		            strncmp(family->name, "process_", 8) == 0);
		for (size_t j = 0; j < sizeof(suffixes) / sizeof(suffixes[0]); j++)
			assert_false(ends_in(family->name, suffixes[j]));
		/* No two names differ only by such a suffix. */
		for (size_t j = 0; j < METRICS_ID_COUNT; j++) {
			const char *other = metrics_families[j].name;
			size_t bytes = strlen(family->name);

			if (i == j)
				continue;
			assert_string_not_equal(family->name, other);
			for (size_t k = 0; strncmp(other, family->name, bytes) == 0 &&
			                   k < sizeof(suffixes) / sizeof(suffixes[0]);
			     k++)
				assert_string_not_equal(other + bytes, suffixes[k]);
		}
	}
}

static char *take(struct metrics *metrics, size_t *ret_bytes)
{
	char *text = metrics_finish(metrics, ret_bytes);

	assert_non_null(text);
	text = realloc(text, *ret_bytes + 1);
	text[*ret_bytes] = '\0';
	return text;
}

static char *write_some(enum metrics_format format)
{
	const struct metrics_label labels[] = { { "model", "a\"b\\c\nd" } };
	struct histogram histogram = { 0 };
	struct metrics metrics;
	size_t bytes;

	metrics_init(&metrics, format);
	metrics_begin(&metrics, METRICS_BUILD);
	metrics_put(&metrics, NULL, 0, 1);
	metrics_begin(&metrics, METRICS_REQUESTS_ACCEPTED);
	metrics_put(&metrics, labels, 1, UINT64_MAX);
	metrics_put_one(&metrics, METRICS_HTTP_CONNECTIONS, 0);
	metrics_begin(&metrics, METRICS_PROCESS_CPU_SECONDS);
	metrics_put_ns(&metrics, NULL, 0, UINT64_C(1500000000));
	metrics_put_ns(&metrics, NULL, 0, 7);
	metrics_put_ns(&metrics, NULL, 0, UINT64_C(20000000000));
	metrics_begin(&metrics, METRICS_BATCH_ROWS);
	histogram_note(&histogram, HISTOGRAM_ROWS, 2);
	histogram_note(&histogram, HISTOGRAM_ROWS, 5000);
	metrics_put_histogram(&metrics, NULL, 0, HISTOGRAM_ROWS, &histogram);
	return take(&metrics, &bytes);
}

static const char *const in_both[] = {
	"moult_requests_accepted_total{model=\"a\\\"b\\\\c\\nd\"} 18446744073709551615\n",
	"# TYPE moult_http_connections gauge\nmoult_http_connections 0\n",
	"process_cpu_seconds_total 1.5\n",
	"process_cpu_seconds_total 0.000000007\n",
	"process_cpu_seconds_total 20.0\n",
	"# TYPE moult_batch_rows histogram\n",
	"moult_batch_rows_bucket{le=\"1.0\"} 0\nmoult_batch_rows_bucket{le=\"2.0\"} 1\n",
	"moult_batch_rows_bucket{le=\"+Inf\"} 2\nmoult_batch_rows_sum 5002\n"
	"moult_batch_rows_count 2\n",
	"moult_build_info 1\n",
};

static void test_formats(void **state)
{
	char *text = write_some(METRICS_TEXT);
	char *open = write_some(METRICS_OPEN);

	(void)state;
	for (size_t i = 0; i < sizeof(in_both) / sizeof(in_both[0]); i++) {
		assert_non_null(strstr(text, in_both[i]));
		assert_non_null(strstr(open, in_both[i]));
	}
	assert_non_null(strstr(text, "# TYPE moult_requests_accepted_total counter\n"));
	assert_non_null(strstr(open, "# TYPE moult_requests_accepted counter\n"));
	assert_non_null(strstr(text, "# TYPE moult_build_info gauge\n"));
	assert_non_null(strstr(open, "# TYPE moult_build info\n"));
	assert_null(strstr(text, "# EOF"));
	assert_true(ends_in(open, "\n# EOF\n"));
	free(text);
	free(open);
}

/* The text is larger than the first buffer, and has labels longer than any other. */
static void test_growth(void **state)
{
	char value[3000];
	const struct metrics_label label = { "model", value };
	struct metrics metrics;
	size_t bytes;
	char *text;

	(void)state;
	memset(value, '"', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	metrics_init(&metrics, METRICS_TEXT);
	metrics_begin(&metrics, METRICS_READY);
	for (unsigned int i = 0; i < 100; i++)
		metrics_put(&metrics, &label, 1, i);
	text = take(&metrics, &bytes);
	assert_true(bytes > 100 * 2 * (sizeof(value) - 1));
	assert_true(ends_in(text, "\"} 99\n"));
	free(text);
}

static void test_accept(void **state)
{
	static const struct {
		const char *accept;
		enum metrics_format want;
	} rows[] = {
		{ NULL, METRICS_TEXT },
		{ "", METRICS_TEXT },
		{ "*/*", METRICS_TEXT },
		{ "text/plain", METRICS_TEXT },
		{ "application/openmetrics-text", METRICS_OPEN },
		{ "Application/OpenMetrics-Text; version=1.0.0", METRICS_OPEN },
		{ "application/openmetrics-textual", METRICS_TEXT },
		{ "text/html, application/openmetrics-text;q=0.1", METRICS_OPEN },
		{ "application/openmetrics-text;q=0", METRICS_TEXT },
		{ "application/openmetrics-text;q=0.3,text/plain;q=0.5", METRICS_TEXT },
		{ "text/plain;q=0.3 , application/openmetrics-text; q=0.5",
		  METRICS_OPEN },
		{ "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
		  "application/openmetrics-text;version=0.0.1;q=0.5,"
		  "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
		  "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
		  METRICS_OPEN },
		{ ",,;q=,application/openmetrics-text;q=x", METRICS_TEXT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(metrics_format_of(rows[i].accept), rows[i].want);
}

/* The label le is the bound, in seconds where the values are ns. */
static void test_bounds(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < HISTOGRAM_KIND_COUNT; kind++)
		for (unsigned int i = 0; i < histogram_buckets(kind); i++) {
			double bound = strtod(histogram_bound_text(kind, i), NULL);
			double value = (double)histogram_bound(kind, i);

			if (kind == HISTOGRAM_NS)
				bound *= 1e9;
			assert_true(bound > value * 0.999999 && bound < value * 1.000001);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),  cmocka_unit_test(test_formats),
		cmocka_unit_test(test_growth), cmocka_unit_test(test_accept),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
