/* SPDX-License-Identifier: Apache-2.0 */

/* The inputs of a generation, read from disk: refused, or only out of reach. */

#include <errno.h>
#include <string.h>

#include "tests/unit/scratch.h"
#include "tests/unit/shortage.h"

#include "supervisor/config/config.h"
#include "supervisor/inputs/inputs.h"

#define SECTION                                                                          \
	"engine = identity\ninput = a FP32 [-1,4]\noutput = b FP32 [-1,4]\n"             \
	"path = model.bin\n"

static struct config *begin(void)
{
	struct config *config = NULL;
	struct err err = ERR_NULL;

	(void)scratch_enter();
	scratch_mkdir("secrets");
	scratch_write("secrets/token", "secret");
	scratch_write("model.bin", "weights");
	scratch_write(
		"moult.conf",
		"[model with-secrets]\n" SECTION
		"secrets = secrets\nrequired_secrets = token\n[model without]\n" SECTION);
	if (config_load(&config, scratch_path("moult.conf"), &err) != 0)
		fail_msg("%s", err.text);
	return config;
}

static void end(struct config *config)
{
	config_unref(config);
	scratch_leave();
}

/* Reads the inputs and gives them back. */
static int read_inputs(struct config *config, const char *model, struct err *err)
{
	struct inputs_found found;
	struct inputs *inputs = NULL;
	int r = inputs_new(&inputs, config, config_find(config, model),
	                   &(struct inputs_choice){ 0 }, &found, err);

	assert_int_equal(r == 0, inputs != NULL);
	inputs_unref(inputs);
	return r;
}

/* Each round has one more descriptor, until everything can be read. */
static void test_shortage(void **state)
{
	static const struct {
		const char *model;
		const char *last; /* the purpose of the missing descriptor */
	} rows[] = {
		{ "with-secrets", "secrets" },
		{ "without", "model file" },
	};
	struct config *config = begin();

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_NULL;
		struct err why = ERR_NULL;
		int r = -EMFILE;

		for (rlim_t limit = 3; r == -EMFILE; limit++) {
			struct rlimit before = shortage_begin(RLIMIT_NOFILE, limit);

			why = err;
			r = read_inputs(config, rows[i].model, &err);
			shortage_end(RLIMIT_NOFILE, &before);
		}
		if (r != 0)
			fail_msg("%s: %d '%s'", rows[i].model, r, err.text);
		if (!strstr(why.text, strerror(EMFILE)) ||
		    !strstr(why.text, rows[i].last))
			fail_msg("%s: '%s'", rows[i].model, why.text);
	}
	end(config);
}

static void test_refused(void **state)
{
	struct config *config = begin();
	struct err err = ERR_NULL;
	int r;

	(void)state;
	assert_int_equal(read_inputs(config, "with-secrets", &err), 0);
	scratch_write("model.bin", "");
	assert_int_equal(read_inputs(config, "with-secrets", &err), INPUTS_E_REFUSED);
	assert_non_null(strstr(err.text, "is empty"));
	scratch_remove("model.bin");
	assert_int_equal(read_inputs(config, "with-secrets", &err), INPUTS_E_REFUSED);
	assert_non_null(strstr(err.text, "cannot open model file"));
	scratch_write("model.bin", "weights");
	scratch_write("secrets/token", "");
	scratch_write("secrets/other", "secret");
	do
		r = read_inputs(config, "with-secrets", &err);
	while (r == INPUTS_E_UNSETTLED);
	assert_int_equal(r, INPUTS_E_REFUSED);
	assert_non_null(strstr(err.text,
	                       "secrets/token is required (required_secrets) and "
	                       "not there; skipped: token (empty"));
	end(config);
}

/* What was read a moment ago is taken as it is; without it the directory is read. */
static void test_secrets_at_hand(void **state)
{
	struct config *config = begin();
	const struct config_model *section = config_find(config, "with-secrets");
	struct secrets secrets = SECRETS_NULL;
	const struct inputs_choice choice = { .secrets = &secrets };
	struct inputs_found found;
	struct inputs *inputs;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(inputs_read_secrets(&secrets, section, &err), 0);
	scratch_write("secrets/token", "another secret");
	assert_int_equal(inputs_new(&inputs, config, section, &choice, &found, &err), 0);
	assert_string_equal(inputs->secrets.digest, secrets.digest);
	assert_string_equal(found.secrets_digest, secrets.digest);
	assert_int_not_equal(inputs->secrets.fd, secrets.fd);
	assert_true(secrets_has(&inputs->secrets, "token"));
	inputs_unref(inputs);
	assert_int_equal(inputs_new(&inputs, config, section,
	                            &(struct inputs_choice){ 0 }, &found, &err),
	                 0);
	assert_string_not_equal(found.secrets_digest, secrets.digest);
	inputs_unref(inputs);
	secrets_fini(&secrets);
	end(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shortage),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_secrets_at_hand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
