/* SPDX-License-Identifier: Apache-2.0 */

/* The parameters that the supervisor reads from a request's JSON. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/traffic/parameters.h"

#define MS CLOCK_NS_PER_MS

static void test_table(void **state)
{
	static const struct {
		const char *json;
		uint64_t timeout_ns;
		uint64_t priority;
	} rows[] = {
		{ "", 0, 0 },
		{ "{}", 0, 0 },
		{ "no json, but \"timeout\"", 0, 0 },
		{ "{\"parameters\":{\"timeout\":1500,\"priority\":3}}", 3 * MS / 2, 3 },
		{ "{\"parameters\":{\"timeout\":1000}}", MS, 0 },
		{ "{\"parameters\":{\"priority\":1}}", 0, 1 },
		{ "{\"parameters\":{\"priority\":0,\"timeout\":0}}", 0, 0 },
		/* the loader refuses these */
		{ "{\"parameters\":{\"timeout\":-5,\"priority\":-1}}", 0, 0 },
		{ "{\"parameters\":{\"timeout\":\"5\",\"priority\":1.5}}", 0, 0 },
		{ "{\"parameters\":{\"timeout\":5,\"timeout\":6}}", 0, 0 },
		{ "{\"parameters\":[\"timeout\",5]}", 0, 0 },
		{ "[\"timeout\"]", 0, 0 },
		/* not the request's own parameters */
		{ "{\"timeout\":5,\"inputs\":[{\"parameters\":{\"priority\":2}}]}", 0,
		  0 },
		/* beyond what a clock holds: none */
		{ "{\"parameters\":{\"timeout\":9223372036854775807}}", 0, 0 },
		{ "{\"parameters\":{\"priority\":9223372036854775807}}", 0, INT64_MAX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct parameters parameters;

		parameters_read(&parameters, rows[i].json, strlen(rows[i].json));
		assert_int_equal(parameters.timeout_ns, rows[i].timeout_ns);
		assert_int_equal(parameters.priority, rows[i].priority);
	}
}

/* The text has one byte more than is looked at. */
static void test_bound(void **state)
{
	static const char start[] = "{\"parameters\":{\"priority\":4}}";
	char *json = malloc(PARAMETERS_JSON_MAX + 1);
	struct parameters parameters;

	(void)state;
	assert_non_null(json);
	memset(json, ' ', PARAMETERS_JSON_MAX + 1);
	memcpy(json, start, strlen(start));
	parameters_read(&parameters, json, PARAMETERS_JSON_MAX);
	assert_int_equal(parameters.priority, 4);
	parameters_read(&parameters, json, PARAMETERS_JSON_MAX + 1);
	assert_int_equal(parameters.priority, 0);
	free(json);
}

static void test_shape(void **state)
{
#define INPUTS(text) "{\"inputs\":[" text "]}"
#define INPUT(type, shape)                                                               \
	"{\"name\":\"secret\",\"datatype\":\"" type "\",\"shape\":" shape                \
	",\"data\":[42]}"
	static const struct {
		const char *json;
		const char *shape;
	} rows[] = {
		{ "", "before" },
		{ "{}", "before" },
		{ INPUTS(""), "before" },
		{ INPUTS(INPUT("FP32", "[1,64]")), "FP32[1,64]" },
		{ INPUTS(INPUT("FP32", "[]")), "FP32[]" },
		{ INPUTS(INPUT("BYTES", "[-1]") "," INPUT("INT64", "[2,0,3]")),
		  "BYTES[-1],INT64[2,0,3]" },
		/* the protocol's own words only */
		{ INPUTS(INPUT("a secret", "[1]")), "before" },
		{ INPUTS(INPUT("FP32", "[1]") "," INPUT("", "[1]")), "before" },
		{ INPUTS(INPUT("FP32", "[\"a secret\"]")), "FP32[0]" },
		{ INPUTS(INPUT("FP32", "[1,1,1,1,1,1,1,1,1]")), "before" },
		{ "{\"inputs\":{\"datatype\":\"FP32\"}}", "before" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char shape[64] = "before";

		parameters_read_shape(shape, sizeof(shape), rows[i].json,
		                      strlen(rows[i].json));
		assert_string_equal(shape, rows[i].shape);
	}
}

static void test_shape_is_cut_off(void **state)
{
	static const char json[] = INPUTS(INPUT("FP32", "[1,64]"));
	char shape[6] = "?";

	(void)state;
	parameters_read_shape(shape, sizeof(shape), json, strlen(json));
	assert_string_equal(shape, "FP32[");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_shape_is_cut_off),
	};

	return cmocka_run_group_tests_name("parameters", tests, NULL, NULL);
}
