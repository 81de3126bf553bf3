/* SPDX-License-Identifier: Apache-2.0 */

/* Statistics of requests: who answered, and how long each part took. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/figures/stats.h"

#define MS UINT64_C(1000000)

static struct stats stats;

static int reset(void **state)
{
	(void)state;
	stats = (struct stats){ 0 };
	return 0;
}

/* Notes an answer in which each part takes a millisecond, but for the computing. */
static void note(unsigned int status, uint16_t flags, uint32_t rows, uint32_t batch_rows)
{
	const struct proto_answer answer = {
		.flags = PROTO_ANSWER_LAST | flags,
		.rows = rows,
		.batch_rows = batch_rows,
		.queue_ns = MS,
		.decode_ns = MS,
		.gather_ns = MS,
		.compute_ns = 10 * MS,
		.encode_ns = MS,
	};
	const struct stats_end end = { .status = status,
		                       .took_ns = 20 * MS,
		                       .now_ms = 7 };

	stats_note_execution(&stats, &answer, end.took_ns);
	stats_note_answer(&stats, &answer, &end);
}

static void assert_part(enum stats_part part, uint64_t count, uint64_t ns)
{
	assert_int_equal(stats.parts[part].count, count);
	assert_int_equal(stats.parts[part].ns, ns);
}

/* Returns the sum for batches of @rows; empty without executions. */
static struct stats_batch batch_of(uint32_t rows)
{
	for (size_t i = 0; i < STATS_BATCHES; i++)
		if (stats.batches[i].executions > 0 && stats.batches[i].rows == rows)
			return stats.batches[i];
	return (struct stats_batch){ 0 };
}

static void test_success_is_success(void **state)
{
	static const unsigned int statuses[] = { 200, 500, 500, 299, 400, 503, 302, 200 };

	(void)state;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		note(statuses[i], PROTO_ANSWER_EXECUTION, 1, 1);
	assert_part(STATS_SUCCESS, 3, 60 * MS);
	assert_part(STATS_FAIL, 5, 100 * MS);
	assert_part(STATS_QUEUE, 3, 3 * MS);
	assert_part(STATS_INPUT, 3, 6 * MS);
	assert_part(STATS_INFER, 3, 30 * MS);
	assert_part(STATS_OUTPUT, 3, 3 * MS);
	assert_int_equal(stats.inferences, 3);
	assert_int_equal(stats.request.count, 8);
	assert_int_equal(stats.queue.count, 3);
	assert_int_equal(stats.last_ms, 7);
}

static void test_a_batch_is_one_execution(void **state)
{
	struct stats_batch batch;

	(void)state;
	note(200, PROTO_ANSWER_EXECUTION, 1, 6);
	note(200, 0, 3, 6);
	note(200, 0, 2, 6);
	note(200, PROTO_ANSWER_EXECUTION, 1, 1);
	assert_int_equal(stats.inferences, 7);
	assert_int_equal(stats.executions, 2);
	assert_int_equal(stats.compute.count, 2);
	assert_int_equal(stats.rows.sum, 7);
	batch = batch_of(6);
	assert_int_equal(batch.executions, 1);
	/* Three requests were read one after the other, and laid together once. */
	assert_int_equal(batch.input_ns, 4 * MS);
	assert_int_equal(batch.infer_ns, 10 * MS);
	assert_int_equal(batch.output_ns, 3 * MS);
	assert_int_equal(batch_of(1).executions, 1);
}

/* Batches larger than the table count in the sum, and cost nothing else. */
static void test_many_sizes(void **state)
{
	(void)state;
	for (uint32_t rows = 1; rows <= STATS_BATCHES + 10; rows++)
		note(200, PROTO_ANSWER_EXECUTION, rows, rows);
	for (uint32_t rows = 1; rows <= STATS_BATCHES; rows++) {
		assert_int_equal(batch_of(rows).executions, 1);
	}
	assert_int_equal(batch_of(STATS_BATCHES + 1).executions, 0);
	assert_int_equal(stats.executions, STATS_BATCHES + 10);
}

/* A loader may lie: no part is longer than the whole. */
static void test_lies(void **state)
{
	const struct proto_answer answer = {
		.flags = PROTO_ANSWER_LAST | PROTO_ANSWER_EXECUTION,
		.rows = 1,
		.batch_rows = 1,
		.queue_ns = UINT64_MAX,
		.decode_ns = UINT64_MAX,
		.gather_ns = UINT64_MAX,
		.compute_ns = UINT64_MAX,
		.encode_ns = UINT64_MAX,
	};
	const struct stats_end end = { .status = 200, .took_ns = MS };

	(void)state;
	stats_note_execution(&stats, &answer, end.took_ns);
	stats_note_answer(&stats, &answer, &end);
	for (unsigned int i = 0; i < STATS_PART_COUNT; i++)
		assert_true(stats.parts[i].ns <= MS);
	assert_true(stats.compute.sum <= MS && stats.queue.sum <= MS);
	assert_true(batch_of(1).input_ns <= 2 * MS);
}

static void test_failures(void **state)
{
	const struct stats_end end = { .took_ns = 5 * MS, .now_ms = 9 };

	(void)state;
	stats_note_failure(&stats, &end, false);
	stats_note_failure(&stats, &end, true);
	assert_part(STATS_FAIL, 2, 10 * MS);
	/* A client that left was not answered: its time is no latency. */
	assert_int_equal(stats.request.count, 1);
	assert_int_equal(stats.last_ms, 9);
}

static void test_responses(void **state)
{
	(void)state;
	stats_note_response(&stats, 200);
	stats_note_response(&stats, 599);
	stats_note_response(&stats, 199);
	stats_note_response(&stats, 600);
	stats_note_response(&stats, 0);
	assert_int_equal(stats.responses[200 - STATS_STATUS_MIN], 1);
	assert_int_equal(stats.responses[599 - STATS_STATUS_MIN], 1);
}

static void test_buckets(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < HISTOGRAM_KIND_COUNT; kind++) {
		struct histogram histogram = { 0 };
		unsigned int n = histogram_buckets(kind);
		uint64_t sum = 0;

		for (unsigned int i = 0; i < n; i++) {
			uint64_t bound = histogram_bound(kind, i);

			assert_true(i == 0 || bound > histogram_bound(kind, i - 1));
			histogram_note(&histogram, kind, bound);
			assert_int_equal(histogram.counts[i], 1);
			histogram_note(&histogram, kind, bound + 1);
			sum += 2 * bound + 1;
			if (i + 1 < n)
				histogram.counts[i + 1]--;
		}
		assert_int_equal(histogram.count, 2 * n);
		assert_int_equal(histogram.sum, sum);
	}
}

#define TEST(function) cmocka_unit_test_setup(function, reset)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_success_is_success),
		TEST(test_a_batch_is_one_execution),
		TEST(test_many_sizes),
		TEST(test_lies),
		TEST(test_failures),
		TEST(test_responses),
		TEST(test_buckets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
