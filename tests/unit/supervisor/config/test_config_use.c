/* SPDX-License-Identifier: Apache-2.0 */

/* One configuration after another: the keys that need a new generation or a restart, the
 * message for a loader, the printed values. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "shared/cleanup.h"
#include "supervisor/config/keys.h"
#include "supervisor/config/value.h"
#include "tests/unit/config_bench.h"

/* A changed line, and its consequence. */
static const struct {
	const char *line;
	bool is_new_generation;
	const char *model_restart;
} changes[] = {
	{ "", false, "" },
	{ "engine = torch\n", true, "" },
	{ "platform = p\n", true, "" },
	{ "path = p\n", true, "" },
	{ "input = c FP32 [1]\n", true, "" },
	{ "output = c FP32 [1]\n", true, "" },
	{ "secrets = s\n", true, "" },
	{ "option.a = b\n", true, "" },
	{ "threads = 2\n", true, "" },
	{ "max_delay = 1ms\n", true, "" },
	{ "warmup_request = w\n", true, "" },
	{ "golden = g\n", true, "" },
	{ "leases = 16\n", true, "" },
	{ "response_arena = 1M\n", true, "" },
	{ "strategy = overlap\n", false, "" },
	{ "disable_secrets_reload = yes\n", false, "" },
	{ "max_held = 5\n", false, "" },
	{ "drain_timeout = 5s\n", false, "" },
	{ "max_body = 1M\n", false, "max_body" },
	{ "max_body = 1M\nrequest_arena = 4M\n", false, "request_arena, max_body" },
	{ "version = 2\nmax_body = 1M\n", true, "max_body" },
};

static void test_changes(void **state)
{
	static const char rest[] = "input = a FP32 [-1,4]\noutput = b FP32 [-1,4]\n";
	static const char plain[] = "engine = identity\n";

	(void)state;
	for (size_t i = 0; i < COUNT_OF(changes); i++) {
		bool has_engine = strncmp(changes[i].line, "engine", 6) == 0;
		struct config *running = config_bench_load_good(MODEL);
		struct config *fresh;
		FREE char *text = NULL;
		char keys[128];

		assert_true(asprintf(&text, "[model m]\n%s%s%s", has_engine ? "" : plain,
		                     rest, changes[i].line) > 0);
		fresh = config_bench_load_good(text);
		if (config_model_needs_generation(running->models[0], fresh->models[0]) !=
		    changes[i].is_new_generation)
			fail_msg("new generation: %s", changes[i].line);
		(void)config_model_restart_keys(running->models[0], fresh->models[0],
		                                keys, sizeof(keys));
		assert_string_equal(keys, changes[i].model_restart);
		config_unref(running);
		config_unref(fresh);
	}
}

static void test_changed_elements(void **state)
{
	static const char base[] =
		MODEL "secrets=s\nrequired_secrets = a, b\noption.x = 1\n";
	static const char *const others[] = {
		MODEL "secrets=s\nrequired_secrets = a, c\noption.x = 1\n",
		MODEL "secrets=s\nrequired_secrets = a\noption.x = 1\n",
		MODEL "secrets=s\nrequired_secrets = a, b\noption.x = 2\n",
		MODEL "secrets=s\nrequired_secrets = a, b\noption.y = 1\n",
		"[model m]\nengine = identity\ninput = a FP32 [-1,5]\noutput = b FP32 "
		"[-1,4]\n"
		"secrets=s\nrequired_secrets = a, b\noption.x = 1\n",
		"[model m]\nengine = identity\ninput = a FP64 [-1,4]\noutput = b FP32 "
		"[-1,4]\n"
		"secrets=s\nrequired_secrets = a, b\noption.x = 1\n",
	};
	struct config *running = config_bench_load_good(base);
	struct config *same = config_bench_load_good(base);

	(void)state;
	assert_false(config_model_needs_generation(running->models[0], same->models[0]));
	config_unref(same);
	for (size_t i = 0; i < COUNT_OF(others); i++) {
		struct config *fresh = config_bench_load_good(others[i]);

		assert_true(config_model_needs_generation(running->models[0],
		                                          fresh->models[0]));
		config_unref(fresh);
	}
	config_unref(running);
}

static void test_restart_keys(void **state)
{
	struct config *running =
		config_bench_load_good("[supervisor]\npoll = 1s\n" MODEL
	                               "request_arena = 1M\nmax_body = 64K\n");
	struct config *fresh =
		config_bench_load_good("[supervisor]\nlisten = systemd\npoll = 2s\n"
	                               "control = c\nmax_connections = 5\n" MODEL
	                               "request_arena = 2M\nmax_body = 64K\n");
	const struct config_model *model = fresh->models[0];
	char text[64];
	char small[8];

	(void)state;
	assert_int_equal(config_restart_keys(running, running, text, sizeof(text)), 0);
	assert_string_equal(text, "");
	assert_int_equal(config_restart_keys(running, fresh, text, sizeof(text)), 3);
	assert_string_equal(text, "listen, control, max_connections");
	assert_int_equal(config_restart_keys(running, fresh, small, sizeof(small)), 3);
	assert_int_equal(config_model_restart_keys(running->models[0], model, text, 64),
	                 1);
	assert_string_equal(text, "request_arena");
	assert_int_equal(config_keep_restart_keys(fresh, running), 0);
	assert_int_equal(config_restart_keys(running, fresh, text, sizeof(text)), 0);
	assert_int_equal(model->request_arena_bytes, 1 << 20);
	assert_string_equal(small, "listen,");
	config_unref(running);
	config_unref(fresh);
}

static void test_load_payload(void **state)
{
	struct config *config = config_bench_load_good(
		"[supervisor]\nengine_dir = /e\n[model digits]\nengine = torch\n"
		"path = /d.pt\ninput = image FP32 [-1,64]\noutput = scores FP32 [-1,10]\n"
		"secrets = /s\nrequired_secrets = token\noption.k = v\nmax_batch = 64\n"
		"max_delay = 2ms\nwarmup_request = /w.json\ngolden = /g\n");
	FREE char *proven =
		config_model_to_json(config, config->models[0],
	                             (struct config_manner){ .is_proven = true });
	FREE char *text = config_model_to_json(config, config->models[0],
	                                       (struct config_manner){ 0 });

	(void)state;
	assert_string_equal(
		text,
		"{\"model\":\"digits\",\"version\":\"1\",\"engine\":\"torch\","
		"\"engine_dir\":\"/e\",\"path\":\"/"
		"d.pt\",\"device\":\"cpu\",\"threads\":1,\"working_bytes\":0,"
		"\"max_batch\":64,\"max_delay_us\":2000,\"warmup_runs\":3,"
		"\"warmup_request\":\"/w.json\",\"golden\":\"/"
		"g\",\"required_secrets\":[\"token\"],"
		"\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[-1,64]}"
		"],"
		"\"outputs\":[{\"name\":\"scores\",\"datatype\":\"FP32\",\"shape\":[-1,"
		"10]}],"
		"\"sandbox\":\"strict\",\"max_processes\":0,\"max_processes_together\":0,"
		"\"max_memory\":0,\"group_limits\":0,\"user\":0,\"hosted\":false,"
		"\"options\":{\"k\":"
		"\"v\"},"
		"\"leases\":256,\"max_body_"
		"bytes\":67108864,"
		"\"request_timeout_ms\":60000,\"prefill_bytes\":0,\"lean\":false,"
		"\"urgent\":false,\"proven\":false}");
	assert_null(strstr(proven, "golden"));
	config_unref(config);
}

/* Writes one object of config_to_json() as the lines it came from. */
static void write_section(FILE *out, const char *label, json_t *object)
{
	const char *key;
	json_t *value;

	(void)fprintf(out, "[%s]\n", label);
	json_object_foreach(object, key, value)
	{
		size_t i;
		json_t *element;

		if (json_is_null(value) || strcmp(key, "file") == 0)
			continue;
		if (json_is_array(value))
			json_array_foreach(value, i, element)(void)
				fprintf(out, "%s = %s\n", key,
			                json_string_value(element));
		else if (json_is_integer(value))
			(void)fprintf(out, "%s = %lld\n", key,
			              (long long)json_integer_value(value));
		else if (json_is_boolean(value))
			(void)fprintf(out, "%s = %s\n", key,
			              json_is_true(value) ? "yes" : "no");
		else
			(void)fprintf(out, "%s = %s\n", key, json_string_value(value));
	}
}

static char *to_ini(const struct config *config)
{
	json_t *root = config_to_json(config);
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	const char *name;
	json_t *model;

	assert_non_null(root);
	write_section(out, "supervisor", json_object_get(root, "supervisor"));
	json_object_foreach(json_object_get(root, "models"), name, model)
	{
		char label[80];

		(void)snprintf(label, sizeof(label), "model %s", name);
		write_section(out, label, model);
	}
	assert_int_equal(fclose(out), 0);
	json_decref(root);
	return text;
}

/* Effective values, written back as a file, give the same configuration. */
static void test_round_trip(void **state)
{
	static const char *const texts[] = {
		MODEL,
		"[supervisor]\npoll = 1500ms\nlisten = [::]:1\nlog_level = err\n"
		"connection_memory = 9K\n" MODEL "max_delay = 1us\nmax_body = 1000000\n"
		"request_timeout = 90m\nsecrets = s\nrequired_secrets = a, b\n"
		"option.x = 1\noption.y = \noutput = s INT8 []\nwatch_model_file = no\n"
		"strategy = overlap\n[model n]\nengine = e\ninput = x BOOL [1,2]\n"
		"output = y FP16 [0]\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(texts); i++) {
		struct config *first = config_bench_load_good(texts[i]);
		FREE char *text = to_ini(first);
		struct config *second = config_bench_load_good(text);

		for (size_t k = 0; k < config_supervisor_table.n_keys; k++)
			assert_true(config_value_equal(&config_supervisor_table.keys[k],
			                               first, second));
		assert_int_equal(first->n_models, second->n_models);
		for (size_t m = 0; m < first->n_models; m++)
			for (size_t k = 0; k < config_model_table.n_keys; k++)
				assert_true(config_value_equal(
					&config_model_table.keys[k], first->models[m],
					second->models[m]));
		config_unref(first);
		config_unref(second);
	}
}

static void check_rows(const struct config_table *table)
{
	for (size_t i = 0; i < table->n_keys; i++) {
		const struct config_key *key = &table->keys[i];

		assert_non_null(key->help);
		assert_ptr_equal(config_table_find(table, key->name), key);
		assert_true(key->min <= key->max);
		if (key->type == CONFIG_TYPE_UINT || key->type == CONFIG_TYPE_SIZE)
			assert_true(key->bytes == 8 || key->max <= UINT32_MAX);
		if (key->type == CONFIG_TYPE_DURATION)
			assert_int_equal(key->bytes, 8);
		if (key->type == CONFIG_TYPE_ENUM)
			assert_int_equal(key->bytes, sizeof(int));
		if (key->type == CONFIG_TYPE_STRING)
			assert_non_null(key->value);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(table->keys[j].name, key->name);
	}
}

static void test_rows(void **state)
{
	(void)state;
	check_rows(&config_supervisor_table);
	check_rows(&config_model_table);
}

static void test_mdoc(void **state)
{
	FREE char *path = config_bench_path("options.mdoc");
	FREE char *text = calloc(1, 65536);
	CLOSE_FD int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(config_print_mdoc(fd), 0);
	assert_true(pread(fd, text, 65535, 0) > 1000);
	assert_null(strstr(text, "\n\n"));
	for (size_t i = 0; i < config_model_table.n_keys; i++) {
		char item[80];

		(void)snprintf(item, sizeof(item), "\n.It Ic %s ",
		               config_model_table.keys[i].name);
		assert_non_null(strstr(text, item));
	}
	config_bench_remove("options.mdoc");
	assert_int_equal(config_print_mdoc(-1), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_changed_elements),
		cmocka_unit_test(test_restart_keys),
		cmocka_unit_test(test_load_payload),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_mdoc),
	};

	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
