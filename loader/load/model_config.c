/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads LOAD's JSON into struct model_config: one small function per kind of value, one per
 * group of keys, and model_config_init() over all of them. The supervisor has checked the
 * configuration for people already; a failure here means that the two programs do not fit
 * together, and its sentence only names the key.
 */
#include "loader/load/model_config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/access.h"
#include "shared/clock.h"
#include "shared/engine_options.h"
#include "shared/proto.h"
#include "shared/tensor_json.h"

#define MODEL_CONFIG_BATCH_MAX   65536
#define MODEL_CONFIG_THREADS_MAX 1024

/* *ret_text is NULL when an optional key is not there. */
static int model_config_text(const json_t *object, const char *key, bool is_required,
                             const char **ret_text, struct err *err)
{
	const json_t *value = json_object_get(object, key);

	*ret_text = json_string_value(value);
	if (*ret_text || (!value && !is_required))
		return 0;
	return err_set(err, -EINVAL, "LOAD: '%s' must be a text", key);
}

static int model_config_number(const json_t *object, const char *key, uint64_t min,
                               uint64_t max, uint64_t *ret_number, struct err *err)
{
	const json_t *value = json_object_get(object, key);
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 0 || (uint64_t)number < min ||
	    (uint64_t)number > max)
		return err_set(err, -EINVAL,
		               "LOAD: '%s' must be a number from %llu to %llu", key,
		               (unsigned long long)min, (unsigned long long)max);
	*ret_number = (uint64_t)number;
	return 0;
}

/* None: the configuration leaves them to the model. */
static int model_config_tensors(struct model_config *config, struct err *err)
{
	int r = tensors_from_json(json_object_get(config->json, "inputs"),
	                          "LOAD: 'inputs'", config->inputs, ENGINE_TENSORS_MAX,
	                          &config->n_inputs, err);

	return r ? r
	         : tensors_from_json(json_object_get(config->json, "outputs"),
	                             "LOAD: 'outputs'", config->outputs,
	                             ENGINE_TENSORS_MAX, &config->n_outputs, err);
}

void model_config_set_inputs(struct model_config *config, const struct tensor_spec *specs,
                             size_t n)
{
	memcpy(config->inputs, specs, n * sizeof(*specs));
	config->n_inputs = n;
}

void model_config_set_outputs(struct model_config *config,
                              const struct tensor_spec *specs, size_t n)
{
	memcpy(config->outputs, specs, n * sizeof(*specs));
	config->n_outputs = n;
}

static int model_config_required(struct model_config *config, struct err *err)
{
	const json_t *array = json_object_get(config->json, "required_secrets");

	if (json_array_size(array) > MODEL_CONFIG_NAMES_MAX)
		return err_set(err, -EINVAL, "LOAD: more than %d required secrets",
		               MODEL_CONFIG_NAMES_MAX);
	for (size_t i = 0; i < json_array_size(array); i++) {
		const char *name = json_string_value(json_array_get(array, i));

		if (!name)
			return err_set(err, -EINVAL,
			               "LOAD: the name of a secret must be a text");
		config->required_secrets[config->n_required_secrets++] = name;
	}
	return 0;
}

static int model_config_options(struct model_config *config, struct err *err)
{
	json_t *object = json_object_get(config->json, "options");
	const char *name;
	json_t *value;

	json_object_foreach(object, name, value)
	{
		if (!json_is_string(value) ||
		    config->n_options == MODEL_CONFIG_OPTIONS_MAX)
			return err_set(err, -EINVAL,
			               "LOAD: options must be at most %d texts",
			               MODEL_CONFIG_OPTIONS_MAX);
		if (strcmp(name, ENGINE_OPTIONS_OF_ALL) == 0)
			config->secrets_env = json_string_value(value);
		else
			config->options[config->n_options++] = (struct engine_option){
				.name = name,
				.value = json_string_value(value),
			};
	}
	return 0;
}

static int model_config_texts(struct model_config *config, struct err *err)
{
	const struct {
		const char *key;
		const char **ret_text;
		bool is_required;
	} rows[] = {
		{ "model", &config->model, true },
		{ "version", &config->version, true },
		{ "engine", &config->engine, true },
		{ "engine_dir", &config->engine_dir, true },
		{ "path", &config->path, false },
		{ "device", &config->device, true },
		{ "gpu", &config->gpu, false },
		{ "warmup_request", &config->warmup_request, false },
		{ "golden", &config->golden, false },
		{ "working_directory", &config->working_directory, false },
		{ "sandbox", &config->sandbox, false },
		{ "sandbox_read", &config->sandbox_read, false },
		{ "sandbox_write", &config->sandbox_write, false },
		{ "weights_sha256", &config->weights_sha256, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int r = model_config_text(config->json, rows[i].key, rows[i].is_required,
		                          rows[i].ret_text, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int model_config_numbers(struct model_config *config, struct err *err)
{
	uint64_t threads = 0;
	uint64_t max_batch = 0;
	uint64_t max_delay_us = 0;
	uint64_t warmup_runs = 0;
	uint64_t leases = 0;
	const struct {
		const char *key;
		uint64_t min;
		uint64_t max;
		uint64_t *ret_number;
	} rows[] = {
		{ "threads", 1, MODEL_CONFIG_THREADS_MAX, &threads },
		{ "max_batch", 1, MODEL_CONFIG_BATCH_MAX, &max_batch },
		{ "max_delay_us", 0, UINT32_MAX, &max_delay_us },
		{ "warmup_runs", 0, UINT32_MAX, &warmup_runs },
		{ "leases", 1, PROTO_LEASES_MAX, &leases },
		{ "max_body_bytes", 1, INT64_MAX, &config->max_body_bytes },
		{ "working_bytes", 0, INT64_MAX, &config->working_bytes },
		{ "prefill_bytes", 0, INT64_MAX, &config->prefill_bytes },
		{ "user", 0, UINT32_MAX, &config->user },
		{ "max_processes", 0, INT64_MAX, &config->max_processes },
		{ "max_processes_together", 0, INT64_MAX,
		  &config->max_processes_together },
		{ "max_memory", 0, INT64_MAX, &config->max_memory_bytes },
		{ "group_limits", 0, UINT32_MAX, &config->group_limits },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int r = model_config_number(config->json, rows[i].key, rows[i].min,
		                            rows[i].max, rows[i].ret_number, err);

		if (r < 0)
			return r;
	}
	config->threads = (uint32_t)threads;
	config->max_batch = (uint32_t)max_batch;
	config->max_delay_ns = max_delay_us * 1000;
	config->warmup_runs = (uint32_t)warmup_runs;
	config->leases = (uint32_t)leases;
	return 0;
}

static int model_config_share(struct model_config *config, struct err *err)
{
	static const char *const names[] = {
		[WEIGHTS_PRIVATE] = "private",
		[WEIGHTS_FILL] = "fill",
		[WEIGHTS_MAP] = "map",
	};
	const char *name = NULL;
	int r = model_config_text(config->json, "weights", false, &name, err);

	if (r < 0 || !name)
		return r;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], name) == 0) {
			config->share = (enum weights_share)i;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "LOAD: there is no share '%s'", name);
}

static int model_config_placed(struct model_config *config, struct err *err)
{
	const json_t *chunks = json_object_get(config->json, "chunks");
	uint64_t chunk_bytes = 0;
	uint64_t mapped_bytes = 0;
	const char *name = NULL;
	int r = model_config_text(config->json, "placed", false, &name, err);

	if (r < 0 || !name)
		return r;
	if (strcmp(name, "fill") == 0)
		config->placed = PLACED_FILL;
	else if (strcmp(name, "private") == 0)
		config->placed = PLACED_PRIVATE;
	if (config->placed != PLACED_NOT)
		return 0;
	if (strcmp(name, "map") != 0)
		return err_set(err, -EINVAL, "LOAD: weights cannot be placed by '%s'",
		               name);
	config->placed = PLACED_MAP;
	r = model_config_number(chunks, "chunk_bytes", 1, INT64_MAX, &chunk_bytes, err);
	if (r == 0)
		r = model_config_number(chunks, "mapped_bytes", 1, INT64_MAX,
		                        &mapped_bytes, err);
	config->chunks.chunk_bytes = chunk_bytes;
	config->chunks.mapped_bytes = mapped_bytes;
	return r ? r : model_config_text(chunks, "canary", true, &config->canary, err);
}

int model_config_init(struct model_config *config, const char *payload, struct err *err)
{
	json_error_t error;
	int r;

	*config = (struct model_config){ .json = json_loads(payload, 0, &error) };
	if (!config->json && json_error_code(&error) == json_error_out_of_memory)
		return err_set(err, -ENOMEM, "LOAD: out of memory");
	if (!json_is_object(config->json))
		return err_set(err, -EINVAL, "LOAD: no JSON object: %s",
		               config->json ? "" : error.text);
	r = model_config_texts(config, err);
	config->is_hosted = json_is_true(json_object_get(config->json, "hosted"));
	config->is_lean = json_is_true(json_object_get(config->json, "lean"));
	config->is_urgent = json_is_true(json_object_get(config->json, "urgent"));
	config->is_proven = json_is_true(json_object_get(config->json, "proven"));
	if (r == 0)
		r = model_config_share(config, err);
	if (r == 0)
		r = model_config_placed(config, err);
	if (r == 0)
		r = model_config_numbers(config, err);
	if (r == 0 && !config->is_hosted)
		r = model_config_tensors(config, err);
	if (r == 0)
		r = model_config_required(config, err);
	if (r == 0)
		r = model_config_options(config, err);
	return r;
}

void model_config_fini(struct model_config *config)
{
	json_decref(config->json);
	config->json = NULL;
}

int model_config_open_warmup(const struct model_config *config, int *ret_fd,
                             size_t *ret_bytes, struct err *err)
{
	const char *path = config->warmup_request;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	*ret_fd = fd;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err,
		               err_is_shortage(errno) ? ENGINE_E_FAILED : ENGINE_E_CONFIG,
		               "cannot open warmup_request '%s': %s", path,
		               access_why(&(struct err)ERR_NULL, path, R_OK, errno));
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 ||
	    (uint64_t)st.st_size > config->max_body_bytes)
		return err_set(err, ENGINE_E_CONFIG,
		               "warmup_request '%s' must be a file of 1 to %llu bytes "
		               "(max_body)",
		               path, (unsigned long long)config->max_body_bytes);
	*ret_bytes = (size_t)st.st_size;
	return 0;
}
