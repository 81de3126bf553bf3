/* SPDX-License-Identifier: Apache-2.0 */

/* A config.pbtxt as lines of a section: what is taken, what is doubted, what is refused and why. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/repository/model_config.h"
#include "supervisor/repository/pbtxt.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define X           "input { name: \"x\" data_type: TYPE_FP32 dims: 4 }\n"

static const struct {
	const char *text;
	const char *engine;
	const char *keys;
	const char *doubts; /* a part of them, or NULL: there are none */
} taken[] = {
	{ "", NULL, "", NULL },
	{ "# nothing\n", NULL, "", NULL },
	{ "platform: \"pytorch_libtorch\"", "torch", "platform = pytorch_libtorch\n",
	  NULL },
	{ "backend: 'onnxruntime'", "onnx", "", NULL },
	{ "backend: \"py\" \"thon\";", "python", "", NULL },
	{ X, NULL, "input = x FP32 [4]\n", NULL },
	{ "max_batch_size: 8\n" X, NULL, "max_batch = 8\ninput = x FP32 [-1,4]\n", NULL },
	{ X "max_batch_size: 8", NULL, "input = x FP32 [-1,4]\nmax_batch = 8\n", NULL },
	{ "max_batch_size: 0 " X, NULL, "input = x FP32 [4]\n", NULL },
	{ "input [ { name: \"a\", data_type: TYPE_STRING, dims: [ -1, 2 ] },\n"
	  "{ name: \"b\" data_type: TYPE_BOOL dims: [ 1 ] } ]",
	  NULL, "input = a BYTES [-1,2]\ninput = b BOOL [1]\n", NULL },
	{ "output < name: \"y\" data_type: TYPE_INT64 dims: [3] label_filename: \"l\" >",
	  NULL, "output = y INT64 [3]\n", "label_filename: there is no classification" },
	{ "dynamic_batching { }", NULL, "", NULL },
	{ "dynamic_batching { max_queue_delay_microseconds: 100 }", NULL,
	  "max_delay = 100us\n", NULL },
	{ "dynamic_batching { preferred_batch_size: [ 4, 8 ] }", NULL, "",
	  "config.pbtxt:1: preferred_batch_size: a batch has what waits" },
	{ "instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 } ]", NULL,
	  "replicas = 3\n", NULL },
	{ "instance_group { kind: KIND_GPU gpus: [ 1 ] }", NULL, "device = cuda:1\n",
	  NULL },
	{ "version_policy: { latest { num_versions: 2 } }", NULL, "",
	  "num_versions: one version serves" },
	{ "version_policy { specific { versions: [ 3, 5 ] } }", NULL, "",
	  "one version serves: the highest of these" },
	{ "backend: \"python\" parameters { key: \"k\" value { string_value: \"v\" } }",
	  "python", "option.parameters = {\"k\":\"v\"}\n", NULL },
	{ "optimization { cuda { graphs: true } }", NULL, "", "optimization: engines" },
	{ "model_transaction_policy { decoupled: false }", NULL, "", NULL },
};

static const struct {
	const char *text;
	const char *why;
} refused[] = {
	{ "name", "1: name: a colon is missing" },
	{ "name: ", "1: ends where a value is expected" },
	{ "name: \"x", "1: ends within a text" },
	{ "name: \"x\n\"", "1: has a text that does not end on its line" },
	{ "name: \"\\q\"", "an escape in a text that is not known" },
	{ "name: \"\\0\"", "that stands for no byte" },
	{ "\n\ninput {", "3: ends where the end of a message is expected" },
	{ "}", "1: has '}' where the name of a field is expected" },
	{ "7: 1", "where the name of a field is expected" },
	{ "input [ { } ", "',' or ']'" },
	{ "\001", "has the byte 0x01" },
	{ "a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{", "is nested more than" },
	{ "colour: 1", "1: colour: is no field of a model's configuration" },
	{ "input { colour: 1 }", "1: colour: is no field of input" },
	{ "name: \"two words\"", "name: must be a text of 1 to" },
	{ "platform: \"tensorrt_plan\"", "platform: 'tensorrt_plan' has no engine here" },
	{ "backend: \"vllm\"", "'vllm' has no engine here" },
	{ "platform: \"pytorch_libtorch\"\nbackend: \"python\"",
	  "2: backend: platform and backend name different engines" },
	{ "max_batch_size: -1", "max_batch_size: must be a whole number" },
	{ "max_batch_size: 1.5", "max_batch_size: must be a whole number" },
	{ "max_batch_size: 99999999999", "max_batch_size: must be a whole number" },
	{ "input: 3", "input: must be a message" },
	{ "input { data_type: TYPE_FP32 dims: 1 }", "input: has no name" },
	{ "input { name: \"x\" dims: 1 }", "'x' has no data_type" },
	{ "input { name: \"x\" data_type: FP32 dims: 1 }", "'x' has no data_type" },
	{ "input { name: \"x\" data_type: TYPE_FP32 }", "input: has no dims" },
	{ "input { name: \"x\" data_type: TYPE_FP32 dims: 1 optional: true }",
	  "optional: every input is required" },
	{ "input { name: \"x\" data_type: TYPE_FP32 dims: 1 reshape { shape: [ ] } }",
	  "reshape: shapes are not changed" },
	{ "ensemble_scheduling { }", "ensemble_scheduling: ensembles are not served" },
	{ "sequence_batching { }", "sequence_batching: sequences are not served" },
	{ "model_transaction_policy { decoupled: true }", "decoupled models" },
	{ "model_warmup [ { name: \"w\" } ]", "model_warmup: not read from here" },
	{ "instance_group { kind: KIND_TPU }", "kind: must be KIND_CPU" },
	{ "instance_group { gpus: [ 0, 1 ] }", "gpus: a model is on one GPU here" },
	{ "instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]",
	  "all loaders of a model are on one device" },
	{ "default_model_filename: \"../x.pt\"", "must be the name of a file" },
	{ "parameters { key: \"EXECUTION_ENV_PATH\" value { string_value: \"/e\" } }",
	  "EXECUTION_ENV_PATH" },
	{ "parameters { key: \"k\" }", "parameters: must be {" },
};

static int read_text(const char *text, struct model_config *config, struct err *err)
{
	struct pbtxt *pbtxt = NULL;
	int r = pbtxt_read(&pbtxt, text, strlen(text), err);

	if (r == 0)
		r = model_config_read(config, pbtxt_root(pbtxt), err);
	pbtxt_free(pbtxt);
	return r;
}

static void test_taken(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(taken); i++) {
		struct model_config config = { .engine = NULL };
		struct err err = ERR_NULL;

		if (read_text(taken[i].text, &config, &err) != 0)
			fail_msg("%s: %s", taken[i].text, err.text);
		if (strcmp(config.keys ? config.keys : "", taken[i].keys) != 0)
			fail_msg("%s: '%s'", taken[i].text, config.keys);
		if (taken[i].engine ? strcmp(config.engine, taken[i].engine) != 0
		                    : config.engine != NULL)
			fail_msg("%s: engine %s", taken[i].text, config.engine);
		if (taken[i].doubts ? !strstr(config.doubts, taken[i].doubts)
		                    : config.doubts && *config.doubts)
			fail_msg("%s: doubts '%s'", taken[i].text, config.doubts);
		model_config_fini(&config);
	}
}

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		struct model_config config = { .engine = NULL };
		struct err err = ERR_NULL;
		int r = read_text(refused[i].text, &config, &err);

		if (r == 0 || !strstr(err.text, refused[i].why))
			fail_msg("%s: %d '%s'", refused[i].text, r, err.text);
	}
}

static void test_names_and_versions(void **state)
{
	static const char text[] = "name: \"m\" default_model_filename: \"a.pt\"\n"
				   "version_policy { specific { versions: 7 } }";
	struct model_config config = { .engine = NULL };
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(read_text(text, &config, &err), 0);
	assert_string_equal(config.name, "m");
	assert_string_equal(config.filename, "a.pt");
	assert_int_equal(config.version, 7);
	model_config_fini(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_names_and_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
