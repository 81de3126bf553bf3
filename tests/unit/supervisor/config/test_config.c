/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "shared/cleanup.h"
#include "supervisor/config/file.h"
#include "tests/unit/config_bench.h"

#define SEC UINT64_C(1000000000)

static const struct {
	const char *name;
	const char *text;
	const char *want;
} broken[] = {
	{ "word without sign", "[supervisor]\nlisten\n", "moult.conf:2: is neither" },
	{ "open bracket", "[supervisor\n", ":1: [supervisor: must end with ]" },
	{ "text after bracket", "[supervisor] x = 1\n", "nothing after it" },
	{ "empty file", "", ":1: the file is empty" },
	{ "empty section", "[]\n", "[]: is no section" },
	{ "unknown section", "\n[foo]\n", ":2: [foo]: is no section: allowed are [sup" },
	{ "unknown empty section", MODEL "[foo]\n", ":5: [foo]: is no section" },
	{ "misspelt section", "[Supervisor]\n",
	  "allowed are [supervisor], [device NAME] and [model NAME]" },
	{ "nameless model", "[model]\n", "[model]: is no section" },
	{ "blank model", "[model ]\n", "[model ]: '' is no name" },
	{ "model name with slash", "[model a/b]\n",
	  "'a/b' is no name: allowed are 1 to 63" },
	{ "model name with blank", "[model a b]\n", "'a b' is no name" },
	{ "model name with dots", "[model ..]\n", "no dot or dash in front" },
	{ "model name too long",
	  "[model aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n",
	  "is no name" },
	{ "second supervisor", "[supervisor]\n[supervisor]\n",
	  ":2: [supervisor]: stands on "
	  "line 1 already" },
	{ "second model", MODEL MODEL, "moult.conf:5: [model m]: stands in " },
	{ "key before sections", "listen = systemd\n",
	  "listen: stands before any section" },
	{ "control character", "[supervisor]\nlisten = \001\n",
	  ":2: the line holds a control" },
	{ "not UTF-8", "[supervisor]\nstate_dir = \xff\n",
	  ":2: the line is no UTF-8 text" },

	{ "unknown key", "[supervisor]\nlisteen = x\n",
	  "listeen: is no key of [supervisor]: "
	  "did you mean listen?" },
	{ "unknown key, nothing near", "[supervisor]\nzzzzzzzz = x\n",
	  "moult.conf(5) lists" },
	{ "unknown model key", MODEL "thread = 2\n",
	  "thread: is no key of [model m]: did "
	  "you mean threads?" },
	{ "key without name", "[supervisor]\n= x\n", ":2: : is no key of" },
	{ "key of the other", "[supervisor]\nengine = torch\n",
	  "engine: belongs into a [mod" },
	{ "key of the supervisor", MODEL "listen = systemd\n",
	  "listen: belongs into [super" },
	{ "key twice", "[supervisor]\npoll = 1s\n\npoll = 2s\n",
	  ":4: poll: is set on line 2" },
	{ "key without value", "[supervisor]\npoll =\n",
	  "poll: has no value: allowed is 100ms" },
	{ "inline comment", "[supervisor]\npoll = 1s ; often\n",
	  "'1s ; often' is no duration" },
	{ "inline comment with #", "[supervisor]\npoll = 1s # often\n",
	  "'1s # often' is no duration" },
	{ "colon", "[supervisor]\nlisten: 127.0.0.1:80\n",
	  ":2: listen: has a colon where '=' belongs: write listen = 127.0.0.1:80" },
	{ "colon without a blank", "[supervisor]\n\tlisten\t:127.0.0.1:80\n",
	  ":2: listen: has a colon where '=' belongs: write listen = 127.0.0.1:80" },
	{ "colon before =", MODEL "option.a:b = c\n",
	  ":5: option.a: has a colon where '=' belongs: write option.a = b = c" },
	{ "colon of the first line", "\xef\xbb\xbflisten: systemd\n", ":1: " },
	{ "section and comment", "[supervisor] # main\n", "must end with ] and nothing" },
	{ "continued line", MODEL "input = x\n  FP32 [1]\n", ":5: input: " },
	{ "continued value", "[supervisor]\npoll =\n  1s\n", "poll: has no value" },
	{ "continued with a backslash", "[supervisor]\npoll = \\\n1s\n",
	  "'\\' is no duration" },
	{ "BOM behind the first line", "[supervisor]\n\xef\xbb\xbfpoll = 1s\n",
	  "is no key of [supervisor]" },
	{ "UTF-16", "\xff\xfe[\n", "is no UTF-8 text" },

	{ "port missing", "[supervisor]\nlisten = 127.0.0.1\n",
	  "'127.0.0.1' is no address" },
	{ "port too large", "[supervisor]\nlisten = 127.0.0.1:65536\n", "is no address" },
	{ "port empty", "[supervisor]\nlisten = 127.0.0.1:\n", "is no address" },
	{ "host name", "[supervisor]\nlisten = localhost:80\n",
	  "in numbers, for instance" },
	{ "bare IPv6", "[supervisor]\nlisten = ::1:80\n", "is no address" },
	{ "bad IPv6", "[supervisor]\nlisten = [::g]:80\n", "'[::g]:80' is no address" },
	{ "long socket",
	  "[supervisor]\ncontrol = "
	  "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
	  "control: the path has 118 bytes, but a unix socket's at most 107" },
	{ "number too small", "[supervisor]\nmax_connections = 0\n",
	  "max_connections: '0' is out of range: allowed is 1 to 65536 connections" },
	{ "number too large", "[supervisor]\nmax_connections = 65537\n",
	  "is out of range" },
	{ "number beyond 64 bits",
	  "[supervisor]\nmax_connections = 99999999999999999999\n", "is out of range" },
	{ "number beyond 32 bits", "[supervisor]\nmax_connections = 4294967297\n",
	  "of range" },
	{ "negative number", "[supervisor]\nmax_connections = -1\n",
	  "'-1' is no whole number" },
	{ "fraction", "[supervisor]\nmax_connections = 1.5\n",
	  "'1.5' is no whole number" },
	{ "number with unit", "[supervisor]\nmax_connections = 1K\n",
	  "'1K' is no whole number" },
	{ "size with wrong unit", MODEL "max_body = 1T\n", "'1T' is no size" },
	{ "size in lower case", MODEL "max_body = 1m\n",
	  "no size (a whole number, with K, M" },
	{ "size overflow", MODEL "max_body = 18446744073709551615G\n",
	  "is out of range" },
	{ "size too small", "[supervisor]\nconnection_memory = 1\n", "8K to 1M" },
	{ "duration without unit", "[supervisor]\npoll = 10\n",
	  "'10' is no duration (a whole" },
	{ "duration with space", "[supervisor]\npoll = 10 s\n", "'10 s' is no duration" },
	{ "duration too long", "[supervisor]\npoll = 2h\n", "allowed is 100ms to 1h" },
	{ "duration zero", "[supervisor]\npoll = 0\n", "'0' is out of range" },
	{ "duration overflow", "[supervisor]\npoll = 99999999999999h\n",
	  "is out of range" },
	{ "unknown level", "[supervisor]\nlog_level = loud\n",
	  "'loud' is not known: allowed are err, warning, notice, info or debug" },
	{ "settle over its cap", "[supervisor]\nsettle_cap = 1s\nsettle = 2s\n",
	  ":3: settle: is longer than settle_cap" },

	{ "no engine", "[model m]\ninput = a FP32 [1]\n",
	  ":1: engine: [model m] names none" },
	{ "empty model", "[model m]\n", ":1: engine: [model m] names none" },
	{ "engine with slash", "[model m]\nengine = ../x\n",
	  "engine: '../x' is no name" },
	{ "unknown datatype", MODEL "input = x FLOAT [1]\n",
	  "input: 'FLOAT' is no datatype" },
	{ "tensor without shape", MODEL "input = x FP32\n", "input: " },
	{ "bad shape", MODEL "input = x FP32 [-2]\n", "must be a shape of at most" },
	{ "rank too high", MODEL "input = x FP32 [1,1,1,1,1,1,1,1,1]\n",
	  "must be a shape" },
	{ "input twice", MODEL "input = a INT8 [1]\n",
	  ":5: input: 'a' is declared twice" },
	{ "output twice", MODEL "output = b INT8 [1]\n",
	  "output: 'b' is declared twice" },
	{ "device", MODEL "device = gpu\n",
	  "device: 'gpu' is no device: allowed are cpu, cuda" },
	{ "device index", MODEL "device = cuda:64\n", "'cuda:64' is no device" },
	{ "leases", MODEL "leases = 100\n", ":5: leases: 100 is no power of two" },
	{ "leases too many", MODEL "leases = 8192\n", "allowed is 1 to 4096 requests" },
	{ "body over arena", MODEL "request_arena = 100M\nmax_body = 33M\n",
	  ":6: max_body: 34603008 bytes are more than half of request_arena, which "
	  "allows "
	  "33554432" },
	{ "default body over arena", MODEL "request_arena = 64M\n", ":1: max_body: " },
	{ "batch of a fixed dim", MODEL "max_batch = 8\ninput = c FP32 [1]\n",
	  ":5: max_batch: above 1 every input and output must have -1 as its first dim, "
	  "and "
	  "'c' has not" },
	{ "boolean", MODEL "watch_model_file = maybe\n",
	  "'maybe' is neither yes nor no" },
	{ "strategy", MODEL "strategy = fast\n",
	  "allowed are auto, overlap, staged or stop-first" },
	{ "required secrets of nowhere", MODEL "required_secrets = a\n",
	  ":5: required_secrets: need a directory to come from: add secrets = "
	  "DIRECTORY" },
	{ "secret twice", MODEL "secrets = s\nrequired_secrets = a, b, a\n",
	  "'a' is named twi" },
	{ "secret of odd name", MODEL "secrets = s\nrequired_secrets = a/b\n",
	  "'a/b' is no na" },
	{ "secret of no name", MODEL "secrets = s\nrequired_secrets = a,,b\n",
	  "'' is no name" },
	{ "option twice", MODEL "option.x = 1\noption.x = 2\n",
	  ":6: option.x: is set twice" },
	{ "option without name", MODEL "option. = 1\n", ":5: option.: '' is no name" },
	{ "option of odd name", MODEL "option.a b = 1\n", "'a b' is no name" },
	{ "golden requests of an application",
	  "[model m]\nengine = python\nwsgi = a:b\nroute = /\ngolden = .\n",
	  ":5: golden: golden requests are of tensors" },
	{ "batches of an application",
	  "[model m]\nengine = python\nasgi = a:b\nroute = /\nmax_batch = 8\n",
	  ":5: max_batch: an application gets its requests one by one" },
	{ "models_dir missing", "[supervisor]\nmodels_dir = nowhere\n",
	  "nowhere: No such file or directory: create it, or take the key out" },
};

static void test_broken(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(broken); i++)
		config_bench_refuses(broken[i].name, broken[i].text, broken[i].want);
}

static void test_nul_byte(void **state)
{
	static const char text[] = "[supervisor]\npoll = 1\0s\n";
	FREE char *path = config_bench_path("moult.conf");
	struct config *config = NULL;
	struct err err = ERR_NULL;

	(void)state;
	config_bench_write_bytes("moult.conf", text, sizeof(text) - 1);
	assert_int_equal(config_load(&config, path, &err), -EINVAL);
	assert_non_null(strstr(err.text,
	                       ":2: the line holds a control character (0x00)"));
}

static void test_long_line(void **state)
{
	char text[6000] = "[supervisor]\nstate_dir = /";
	size_t used = strlen(text);
	size_t longest = strlen("[supervisor]\n") + CONFIG_LINE_BYTES_MAX;
	struct config *config;

	(void)state;
	memset(text + used, 'x', sizeof(text) - used - 1);
	config_bench_refuses("long line", text, ":2: the line is longer than 4096 bytes");
	/* The path is checked apart, one byte earlier. */
	text[longest - 8] = '\0';
	config = config_bench_load_good(text);
	assert_int_equal(strlen(config->state_dir), longest - 8 - used + 1);
	config_unref(config);
}

static void test_too_many(void **state)
{
	char text[16384] = MODEL;
	size_t used = strlen(text);

	(void)state;
	for (int i = 0; i < CONFIG_TENSORS_MAX; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
		                         "input = t%d FP32 [1]\n", i);
	config_bench_refuses("inputs", text, "input: more than 32 of them");

	used = (size_t)snprintf(text, sizeof(text), "%s", MODEL);
	for (int i = 0; i <= CONFIG_OPTIONS_MAX; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
		                         "option.o%d = 1\n", i);
	config_bench_refuses("options", text, "option.o32: more than 32 options");

	used = (size_t)snprintf(text, sizeof(text), "%ssecrets=s\nrequired_secrets=a",
	                        MODEL);
	for (int i = 0; i < CONFIG_NAMES_MAX; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, ",s%d", i);
	config_bench_refuses("secrets", text, "required_secrets: more than 32 names");

	used = 0;
	for (int i = 0; i <= CONFIG_MODELS_MAX; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
		                         "[model m%d]\nengine=e\ninput=a FP32 [1]\n"
		                         "output=b FP32 [1]\n",
		                         i);
	config_bench_refuses("models", text,
	                     "[model m64]: is one more than the 64 models");
}

/* 32 options of 3 KB fit the file, but not the LOAD message. */
static void test_payload(void **state)
{
	size_t size = (size_t)1 << 18;
	FREE char *text = malloc(size);
	char value[3001];
	size_t used;

	(void)state;
	assert_non_null(text);
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	used = (size_t)snprintf(text, size, "%s", MODEL);
	for (int i = 0; i < CONFIG_OPTIONS_MAX; i++)
		used += (size_t)snprintf(text + used, size - used, "option.o%d = %s\n", i,
		                         value);
	config_bench_refuses("payload", text, ":1: [model m]: its settings take ");
}

static void test_no_file(void **state)
{
	struct config *config = NULL;
	struct err err = ERR_NULL;
	FREE char *path = config_bench_path("none.conf");

	(void)state;
	assert_int_equal(config_load(&config, path, &err), -ENOENT);
	assert_non_null(strstr(err.text, "none.conf: No such file or directory"));
	assert_int_equal(config_load(&config, config_bench_folder(), &err), -EINVAL);
	assert_non_null(strstr(err.text, "is no regular file"));
	/* A FIFO that nobody writes to must not be waited for. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(config_load(&config, path, &err), -EINVAL);
	config_bench_remove("none.conf");
}

static void test_too_large(void **state)
{
	FREE char *path = config_bench_path("large.conf");
	struct config *config = NULL;
	struct err err = ERR_NULL;

	(void)state;
	config_bench_write("large.conf", "");
	assert_int_equal(truncate(path, CONFIG_FILE_BYTES_MAX + 1), 0);
	assert_int_equal(config_load(&config, path, &err), -EFBIG);
	assert_non_null(strstr(err.text, "at most 1048576 are allowed"));
	config_bench_remove("large.conf");
}

static void test_defaults(void **state)
{
	struct config *config = config_bench_load_good(MODEL);
	const struct config_model *model = config->models[0];

	(void)state;
	assert_string_equal(config->listen, "127.0.0.1:8080");
	assert_string_equal(config->control, "/run/moult/moultd.sock");
	assert_string_equal(config->state_dir, "/var/lib/moult");
	assert_non_null(config->loader);
	assert_int_equal(config->loader[0], '/');
	assert_int_equal(config->engine_dir[0], '/');
	assert_int_equal(config->max_connections, 1024);
	assert_int_equal(config->connection_memory_bytes, 8192);
	assert_null(config->models_dir);
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	assert_int_equal(config->idle_timeout_ns, 75 * SEC);
	assert_int_equal(config->settle_ns, 150 * SEC / 1000);
	assert_int_equal(config->settle_cap_ns, 2 * SEC);
	assert_int_equal(config->poll_ns, 10 * SEC);
	assert_int_equal(config->shutdown_timeout_ns, 30 * SEC);

	assert_int_equal(config->n_models, 1);
	assert_ptr_equal(config_find(config, "m"), model);
	assert_null(config_find(config, "n"));
	assert_string_equal(model->name, "m");
	assert_int_equal(model->line, 1);
	assert_string_equal(model->version, "1");
	assert_string_equal(model->platform, "identity");
	assert_string_equal(model->device, "cpu");
	assert_null(model->path);
	assert_null(model->secrets);
	assert_int_equal(model->max_batch, 1);
	assert_int_equal(model->max_delay_ns, 0);
	assert_int_equal(model->leases, 256);
	assert_int_equal(model->max_held, 1024);
	assert_int_equal(model->request_arena_bytes, 256 << 20);
	assert_int_equal(model->response_arena_bytes, 64 << 20);
	assert_int_equal(model->max_body_bytes, 64 << 20);
	assert_int_equal(model->request_timeout_ns, 60 * SEC);
	assert_int_equal(model->stage_timeout_ns, 300 * SEC);
	assert_false(model->disable_secrets_reload);
	assert_true(model->watch_model_file);
	config_unref(config);
}

static void test_empty_is_good(void **state)
{
	struct config *config = config_bench_load_good("# nothing\n\n; at all\n");

	(void)state;
	assert_int_equal(config->n_models, 0);
	config_unref(config);
}

static void test_all_keys(void **state)
{
	struct config *config =
		config_bench_load_good("\xef\xbb\xbf[supervisor]\r\n"
	                               "listen = [::1]:0\r\n"
	                               "  control = run/ctl.sock  \r\n"
	                               "max_connections=7\r\n"
	                               "log_level = debug\r\n"
	                               "\t[model a.b-c_1]\r\n"
	                               "engine = torch\r\n"
	                               "path = ../m/digits.pt\r\n"
	                               "input = x FP32 [-1,64]\r\n"
	                               "input = y BYTES [-1]\r\n"
	                               "output = z INT64 [-1, 3]\r\n"
	                               "secrets = /etc/s\r\n"
	                               "required_secrets = token , other\r\n"
	                               "option.k = a = b # c\r\n"
	                               "option.empty =\r\n"
	                               "device = cuda:3\r\n"
	                               "max_batch = 64\r\n"
	                               "max_delay = 500us\r\n"
	                               "strategy = overlap\r\n"
	                               "disable_secrets_reload = on\r\n"
	                               "watch_model_file = false");
	const struct config_model *model = config->models[0];
	FREE char *control = config_bench_path("run/ctl.sock");
	FREE char *path = config_bench_path("../m/digits.pt");

	(void)state;
	assert_string_equal(config->listen, "[::1]:0");
	assert_string_equal(config->control, control);
	assert_int_equal(config->max_connections, 7);
	assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(model->name, "a.b-c_1");
	assert_int_equal(model->line, 6);
	assert_string_equal(model->path, path);
	assert_int_equal(model->n_inputs, 2);
	assert_string_equal(model->inputs[1].name, "y");
	assert_int_equal(model->inputs[1].dtype, TENSOR_DTYPE_BYTES);
	assert_int_equal(model->n_outputs, 1);
	assert_int_equal(model->outputs[0].shape.dims[1], 3);
	assert_string_equal(model->secrets, "/etc/s");
	assert_int_equal(model->n_required_secrets, 2);
	assert_string_equal(model->required_secrets[0], "token");
	assert_string_equal(model->required_secrets[1], "other");
	assert_int_equal(model->n_options, 2);
	assert_string_equal(model->options[0].name, "k");
	assert_string_equal(model->options[0].value, "a = b # c");
	assert_string_equal(model->options[1].value, "");
	assert_string_equal(model->device, "cuda:3");
	assert_int_equal(model->max_delay_ns, 500000);
	assert_int_equal(model->strategy, CONFIG_STRATEGY_OVERLAP);
	assert_true(model->disable_secrets_reload);
	assert_false(model->watch_model_file);
	config_unref(config);
}

static void test_environment(void **state)
{
	static const struct {
		const char *value;
		bool want;
	} cases[] = { { "1", true },  { "true", true }, { "YES", true },
		      { "0", false }, { "", false },    { "no", false } };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		struct config *config;

		assert_int_equal(setenv("MOULT_DISABLE_SECRETS_RELOAD", cases[i].value,
		                        1),
		                 0);
		config = config_bench_load_good(MODEL);
		assert_int_equal(config->models[0]->disable_secrets_reload,
		                 cases[i].want);
		config_unref(config);
	}
	assert_int_equal(unsetenv("MOULT_DISABLE_SECRETS_RELOAD"), 0);
}

static void test_relative_file(void **state)
{
	FREE char *before = getcwd(NULL, 0);
	FREE char *want = config_bench_path("moult.conf");
	struct config *config;
	struct err err = ERR_NULL;

	(void)state;
	config_bench_write("moult.conf", MODEL);
	assert_int_equal(chdir(config_bench_folder()), 0);
	assert_int_equal(config_load(&config, "moult.conf", &err), 0);
	assert_string_equal(config->file, want);
	config_unref(config);
	assert_int_equal(config_load(&config, "nope.conf", &err), -ENOENT);
	assert_int_equal(chdir(before), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_nul_byte),
		cmocka_unit_test(test_long_line),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_payload),
		cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_empty_is_good),
		cmocka_unit_test(test_all_keys),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_relative_file),
	};

	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
