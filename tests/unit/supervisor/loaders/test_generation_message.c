/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/loaders/generation.h"

#define NUMBER 7

static struct chan_message message;
static struct generation_report report;
static struct err err;

static enum generation_event say(enum generation_state state, unsigned int type,
                                 uint64_t number, const char *payload)
{
	memset(&message, 0, sizeof(message));
	memset(&report, 0, sizeof(report));
	err.text[0] = '\0';
	message.header.type = (uint16_t)type;
	message.header.generation = number;
	(void)snprintf(message.payload, sizeof(message.payload), "%s", payload);
	return generation_read_message(&message, NUMBER, state, &report, &err);
}

/* Each row is a message that costs the loader its life, with a sentence. */
static void test_violations(void **state)
{
	static const struct {
		enum generation_state state;
		unsigned int type;
		uint64_t number;
		const char *payload;
	} rows[] = {
		{ GENERATION_SPAWNED, PROTO_HELLO, NUMBER + 1, "{}" },
		{ GENERATION_SPAWNED, PROTO_STAGED, NUMBER, "{}" },
		{ GENERATION_SPAWNED, PROTO_LOAD, NUMBER, "{}" },
		{ GENERATION_SPAWNED, 0xffff, NUMBER, "{}" },
		{ GENERATION_SPAWNED, PROTO_HELLO, NUMBER, "" },
		{ GENERATION_SPAWNED, PROTO_HELLO, NUMBER, "[]" },
		{ GENERATION_SPAWNED, PROTO_HELLO, NUMBER, "{\"build\":" },
		{ GENERATION_ACTIVE, PROTO_READY, NUMBER, "{}" },
		{ GENERATION_WARMING, PROTO_READY, NUMBER, "{\"inputs\":7}" },
		{ GENERATION_WARMING, PROTO_READY, NUMBER, "{\"inputs\":[{}]}" },
		{ GENERATION_WARMING, PROTO_READY, NUMBER,
		  "{\"inputs\":[],\"outputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
		  "\"shape\":[-2]}]}" },
		{ GENERATION_ACTIVE, PROTO_REFUSED, NUMBER, "{}" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(say(rows[i].state, rows[i].type, rows[i].number,
		                     rows[i].payload),
		                 GENERATION_EV_VIOLATION);
		assert_true(err.text[0] != '\0');
	}
}

static void test_report(void **state)
{
	(void)state;
	assert_int_equal(say(GENERATION_STAGING, PROTO_STAGED, NUMBER,
	                     "{\"weights_sha256\":\"ab\",\"weights_bytes\":12,"
	                     "\"engine_anon_bytes\":34}"),
	                 GENERATION_EV_STAGED);
	assert_string_equal(report.weights_sha256, "ab");
	assert_int_equal(report.weights_bytes, 12);
	assert_int_equal(report.engine_bytes, 34);
	/* Impossible values are left out: sizes below zero, texts for numbers. */
	assert_int_equal(say(GENERATION_WARMING, PROTO_READY, NUMBER,
	                     "{\"rss_anon_bytes\":-1,\"rss_bytes\":\"much\"}"),
	                 GENERATION_EV_READY);
	assert_int_equal(report.anon_bytes, 0);
	assert_int_equal(report.rss_bytes, 0);
}

/* READY's tensors are told where the section leaves them out. */
static void test_tensors(void **state)
{
	struct config_model section = { .n_outputs = 1 };
	char route[] = "/";
	struct declared_view view;

	(void)state;
	assert_int_equal(say(GENERATION_WARMING, PROTO_READY, NUMBER,
	                     "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
	                     "\"shape\":[-1,4]}],\"outputs\":[]}"),
	                 GENERATION_EV_READY);
	assert_int_equal(report.told.n_inputs, 1);
	assert_int_equal(report.told.inputs[0].shape.dims[1], 4);
	assert_int_equal(report.told.n_outputs, 0);
	assert_true(declared_look(&section, &report.told, &view));
	assert_ptr_equal(view.inputs, report.told.inputs);
	assert_ptr_equal(view.outputs, section.outputs);
	section.n_outputs = 0;
	assert_false(declared_look(&section, &report.told, &view));
	section.route = route;
	assert_true(declared_look(&section, &report.told, &view));
}

/* A refusal tells whether the same input would be refused again, and always has a reason. */
static void test_refusals(void **state)
{
	static const struct {
		const char *payload;
		bool refuses_input;
		const char *reason;
	} rows[] = {
		{ "{\"code\":\"model\",\"reason\":\"torn\"}", true, "torn" },
		{ "{\"code\":\"config\",\"reason\":\"odd\"}", true, "odd" },
		{ "{\"code\":\"internal\",\"reason\":\"full\"}", false, "full" },
		{ "{\"code\":7}", false, "the loader refused and gave no reason" },
		{ "{\"reason\":\"\"}", false, "the loader refused and gave no reason" },
		{ "{}", false, "the loader refused and gave no reason" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(say(GENERATION_STAGING, PROTO_REFUSED, NUMBER,
		                     rows[i].payload),
		                 GENERATION_EV_REFUSED);
		assert_int_equal(report.refuses_input, rows[i].refuses_input);
		assert_string_equal(err.text, rows[i].reason);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_violations),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_tensors),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
