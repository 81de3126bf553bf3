/* SPDX-License-Identifier: Apache-2.0 */

/* LOAD's payload: what it becomes, and that each key which is not as it must be is named. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/load/model_config.h"

static const char payload[] =
	"{\"model\": \"m\", \"version\": \"2\", \"engine\": \"e\", \"engine_dir\": "
	"\"/d\","
	" \"device\": \"cpu\", \"threads\": 3, \"max_batch\": 4, \"max_delay_us\": 5,"
	" \"warmup_runs\": 6, \"leases\": 8, \"max_body_bytes\": 9, \"working_bytes\": 0,"
	" \"prefill_bytes\": 0, \"user\": 7, \"max_processes\": 8, "
	"\"max_processes_together\": 24,"
	" \"max_memory\": 9, \"group_limits\": 1, \"new\": {\"key\": 1},"
	" \"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 4]}],"
	" \"outputs\": [{\"name\": \"y\", \"datatype\": \"BYTES\", \"shape\": []}]}";

/* Reads the payload with @value (JSON; NULL: nothing) at @key. */
static int read_with(struct model_config *config, const char *key, const char *value,
                     struct err *err)
{
	json_t *object = json_loads(payload, 0, NULL);
	char *text;
	int r;

	assert_non_null(object);
	if (value)
		assert_int_equal(json_object_set_new(object, key,
		                                     json_loads(value, JSON_DECODE_ANY,
		                                                NULL)),
		                 0);
	else
		(void)json_object_del(object, key);
	text = json_dumps(object, 0);
	assert_non_null(text);
	err->text[0] = '\0';
	r = model_config_init(config, text, err);
	free(text);
	json_decref(object);
	return r;
}

static void test_all_there_is(void **state)
{
	struct model_config config;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(model_config_init(&config, payload, &err), 0);
	assert_string_equal(config.model, "m");
	assert_string_equal(config.version, "2");
	assert_string_equal(config.engine, "e");
	assert_string_equal(config.engine_dir, "/d");
	assert_string_equal(config.device, "cpu");
	assert_null(config.path);
	assert_int_equal(config.threads, 3);
	assert_int_equal(config.max_batch, 4);
	assert_int_equal(config.max_delay_ns, 5000);
	assert_int_equal(config.warmup_runs, 6);
	assert_int_equal(config.leases, 8);
	assert_int_equal(config.user, 7);
	assert_int_equal(config.max_body_bytes, 9);
	assert_int_equal(config.share, WEIGHTS_PRIVATE);
	assert_int_equal(config.placed, PLACED_NOT);
	assert_false(config.is_lean || config.is_urgent || config.is_proven);
	assert_int_equal(config.n_inputs, 1);
	assert_string_equal(config.inputs[0].name, "x");
	assert_int_equal(config.inputs[0].dtype, TENSOR_DTYPE_FP32);
	assert_int_equal(config.inputs[0].shape.rank, 2);
	assert_int_equal(config.inputs[0].shape.dims[0], TENSOR_DIM_ANY);
	assert_int_equal(config.inputs[0].shape.dims[1], 4);
	assert_int_equal(config.outputs[0].dtype, TENSOR_DTYPE_BYTES);
	assert_int_equal(config.outputs[0].shape.rank, 0);
	model_config_fini(&config);
}

static void test_options_and_secrets(void **state)
{
	struct model_config config;
	struct err err;

	(void)state;
	assert_int_equal(read_with(&config, "options",
	                           "{\"a\": \"1\", \"secrets_env\": \"K\", \"b\": \"\"}",
	                           &err),
	                 0);
	/* No engine sees the loader's own option. */
	assert_string_equal(config.secrets_env, "K");
	assert_int_equal(config.n_options, 2);
	assert_string_equal(config.options[0].name, "a");
	assert_string_equal(config.options[1].name, "b");
	assert_string_equal(config.options[1].value, "");
	model_config_fini(&config);
	assert_int_equal(read_with(&config, "required_secrets", "[\"k\", \"l\"]", &err),
	                 0);
	assert_int_equal(config.n_required_secrets, 2);
	assert_string_equal(config.required_secrets[1], "l");
	model_config_fini(&config);
}

static void test_weights(void **state)
{
	static const struct {
		const char *key;
		const char *value;
		enum weights_share share;
		enum placed_mode placed;
	} rows[] = {
		{ "weights", "\"private\"", WEIGHTS_PRIVATE, PLACED_NOT },
		{ "weights", "\"fill\"", WEIGHTS_FILL, PLACED_NOT },
		{ "weights", "\"map\"", WEIGHTS_MAP, PLACED_NOT },
		{ "placed", "\"private\"", WEIGHTS_PRIVATE, PLACED_PRIVATE },
		{ "placed", "\"fill\"", WEIGHTS_PRIVATE, PLACED_FILL },
	};
	struct model_config config;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(read_with(&config, rows[i].key, rows[i].value, &err), 0);
		assert_int_equal(config.share, rows[i].share);
		assert_int_equal(config.placed, rows[i].placed);
		model_config_fini(&config);
	}
}

/* Chunks that another loader placed come with their shape and their hash. */
static void test_chunks(void **state)
{
	static const struct {
		const char *chunks;
		const char *why; /* NULL: they are read */
	} rows[] = {
		{ "{\"chunk_bytes\": 7, \"mapped_bytes\": 9, \"canary\": \"c\"}", NULL },
		{ "{\"chunk_bytes\": 0, \"mapped_bytes\": 9, \"canary\": \"c\"}",
		  "'chunk_bytes'" },
		{ "{\"chunk_bytes\": 7, \"canary\": \"c\"}", "'mapped_bytes'" },
		{ "{\"chunk_bytes\": 7, \"mapped_bytes\": 9}", "'canary'" },
		{ "null", "'chunk_bytes'" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[1024];
		struct model_config config;
		struct err err = ERR_NULL;

		(void)snprintf(text, sizeof(text),
		               "%.*s, \"placed\": \"map\", \"chunks\": %s}",
		               (int)sizeof(payload) - 2, payload, rows[i].chunks);
		if (!rows[i].why) {
			assert_int_equal(model_config_init(&config, text, &err), 0);
			assert_int_equal(config.placed, PLACED_MAP);
			assert_int_equal(config.chunks.chunk_bytes, 7);
			assert_int_equal(config.chunks.mapped_bytes, 9);
			assert_string_equal(config.canary, "c");
		} else {
			assert_int_equal(model_config_init(&config, text, &err), -EINVAL);
			assert_non_null(strstr(err.text, rows[i].why));
		}
		model_config_fini(&config);
	}
}

static void test_refusals(void **state)
{
	static const struct {
		const char *key;
		const char *value; /* NULL: it is missing */
		const char *why;
	} rows[] = {
		{ "model", NULL, "'model'" },
		{ "version", "7", "'version'" },
		{ "engine", NULL, "'engine'" },
		{ "engine_dir", "null", "'engine_dir'" },
		{ "device", NULL, "'device'" },
		{ "path", "[]", "'path'" },
		{ "golden", "true", "'golden'" },
		{ "threads", NULL, "'threads' must be a number from 1 to" },
		{ "threads", "0", "'threads'" },
		{ "threads", "1025", "'threads'" },
		{ "max_batch", "-1", "'max_batch'" },
		{ "max_batch", "65537", "'max_batch'" },
		{ "max_batch", "1.5", "'max_batch'" },
		{ "max_delay_us", "4294967296", "'max_delay_us'" },
		{ "warmup_runs", "\"1\"", "'warmup_runs'" },
		{ "leases", "0", "'leases'" },
		{ "max_body_bytes", "0", "'max_body_bytes'" },
		{ "working_bytes", "-1", "'working_bytes'" },
		{ "prefill_bytes", NULL, "'prefill_bytes'" },
		{ "user", NULL, "'user'" },
		{ "weights", "\"half\"", "'half'" },
		{ "weights", "1", "'weights'" },
		{ "placed", "\"there\"", "'there'" },
		{ "inputs", NULL, "'inputs' must be 0 to" },
		{ "inputs", "[[]]", "'inputs'" },
		{ "outputs", "{}", "'outputs'" },
		{ "inputs", "[{\"datatype\": \"FP32\", \"shape\": []}]", "a name" },
		{ "inputs", "[{\"name\": \"x\", \"datatype\": \"FP31\", \"shape\": []}]",
		  "a datatype" },
		{ "inputs", "[{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": 4}]",
		  "a shape" },
		{ "inputs",
		  "[{\"name\": \"x\", \"datatype\": \"FP32\","
		  " \"shape\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}]",
		  "at most" },
		{ "inputs",
		  "[{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-2]}]",
		  "a dim of 'x'" },
		{ "outputs",
		  "[{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [1.5]}]",
		  "a dim of 'y'" },
		{ "required_secrets", "[1]", "the name of a secret" },
		{ "options", "{\"a\": 1}", "options" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct model_config config;
		struct err err;

		if (read_with(&config, rows[i].key, rows[i].value, &err) != -EINVAL ||
		    !strstr(err.text, rows[i].why))
			fail_msg("%s = %s: %s", rows[i].key, rows[i].value, err.text);
		model_config_fini(&config);
	}
}

/* Tables have an end. */
static void test_too_many(void **state)
{
	json_t *options = json_object();
	json_t *names = json_array();
	struct model_config config;
	struct err err;
	char *text;

	(void)state;
	for (int i = 0; i <= MODEL_CONFIG_OPTIONS_MAX; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "o%d", i);
		(void)json_object_set_new(options, name, json_string("v"));
	}
	for (int i = 0; i <= MODEL_CONFIG_NAMES_MAX; i++)
		(void)json_array_append_new(names, json_string("n"));
	text = json_dumps(options, 0);
	assert_int_equal(read_with(&config, "options", text, &err), -EINVAL);
	model_config_fini(&config);
	free(text);
	(void)json_object_del(options, "o0");
	text = json_dumps(options, 0);
	assert_int_equal(read_with(&config, "options", text, &err), 0);
	assert_int_equal(config.n_options, MODEL_CONFIG_OPTIONS_MAX);
	model_config_fini(&config);
	free(text);
	text = json_dumps(names, 0);
	assert_int_equal(read_with(&config, "required_secrets", text, &err), -EINVAL);
	model_config_fini(&config);
	free(text);
	json_decref(options);
	json_decref(names);
}

static void test_no_object(void **state)
{
	static const char *const texts[] = { "", "[]", "{", "1" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct model_config config;
		struct err err = ERR_NULL;

		assert_int_equal(model_config_init(&config, texts[i], &err), -EINVAL);
		assert_non_null(strstr(err.text, "no JSON object"));
		model_config_fini(&config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_there_is),
		cmocka_unit_test(test_options_and_secrets),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_no_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
