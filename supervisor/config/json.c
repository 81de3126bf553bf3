/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A configuration as JSON: config_model_to_json() for the loader, whose keys are those of
 * loader/load/model_config.c, and config_to_json() for people, whose keys are those of the file.
 */
#include "supervisor/config/config.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/clock.h"
#include "shared/tensor_json.h"
#include "supervisor/config/keys.h"
#include "supervisor/config/value.h"

/* Ends the making of @json. Setters of jansson take NULL for a value and fail then, so that a
 * chain of them needs this one check. Returns @json; NULL: a part is missing. */
static json_t *whole(json_t *json, int failed)
{
	if (!failed)
		return json;
	json_decref(json);
	return NULL;
}

static json_t *names(char *const *texts, size_t count)
{
	json_t *array = json_array();
	int failed = 0;

	for (size_t i = 0; i < count; i++)
		failed |= json_array_append_new(array, json_string(texts[i]));
	return whole(array, failed);
}

static json_t *options(const struct config_option *rows, size_t count)
{
	json_t *object = json_object();
	int failed = 0;

	for (size_t i = 0; i < count; i++)
		failed |= json_object_set_new(object, rows[i].name,
		                              json_string(rows[i].value));
	return whole(object, failed);
}

static int set_text(json_t *object, const char *name, const char *text)
{
	return text ? json_object_set_new(object, name, json_string(text)) : 0;
}

static int set_number(json_t *object, const char *name, uint64_t value)
{
	return json_object_set_new(object, name, json_integer((json_int_t)value));
}

static int set_ms(json_t *object, const char *name, uint64_t ns)
{
	return json_object_set_new(object, name,
	                           json_sprintf("%" PRIu64, ns / CLOCK_NS_PER_MS));
}

/* The options, and the keys that are the engine's to understand. */
static json_t *all_options(const struct config_model *model)
{
	json_t *object = options(model->options, model->n_options);
	int failed = 0;

	if (!object)
		return NULL;
	failed |= set_text(object, "wsgi", model->wsgi);
	failed |= set_text(object, "asgi", model->asgi);
	failed |= set_text(object, "model", model->python_class);
	if (config_takes_framework(model))
		failed |= set_text(object, "python", model->python);
	if (config_is_server(model)) {
		failed |= set_text(object, "command", model->command);
		failed |= set_text(object, "ready", model->ready);
		failed |= set_ms(object, "ready_interval_ms",
		                 model->ready ? model->ready_interval_ns : 0);
		failed |= json_object_set_new(object, "ready_failures",
		                              json_sprintf("%u", model->ready_failures));
		failed |= set_text(object, "replay", model->replay);
		/* So that the engine can say why before moultd's patience ends. */
		failed |= set_ms(object, "start_ms", model->commit_timeout_ns);
		failed |= set_ms(object, "stop_ms", model->stop_timeout_ns);
	}
	return whole(object, failed);
}

char *config_model_to_json(const struct config *config, const struct config_model *model,
                           struct config_manner manner)
{
	json_t *json = json_object();
	char *text;
	int failed = 0;

	failed |= set_text(json, "model", model->name);
	failed |= set_text(json, "version", model->version);
	failed |= set_text(json, "engine", model->engine);
	failed |= set_text(json, "engine_dir", config->engine_dir);
	failed |= set_text(json, "path", model->path);
	/* The loader sees one card alone, which is its first. */
	failed |= set_text(json, "device", manner.gpu ? "cuda:0" : model->device);
	failed |= set_text(json, "gpu", manner.gpu);
	failed |= set_number(json, "threads", model->threads);
	failed |= set_number(json, "working_bytes", model->working_memory_bytes);
	failed |= set_number(json, "max_batch", model->max_batch);
	failed |= set_number(json, "max_delay_us", model->max_delay_ns / 1000);
	failed |= set_number(json, "warmup_runs",
	                     manner.is_proven && manner.was_killed ? 0
	                                                           : model->warmup_runs);
	failed |= set_text(json, "warmup_request", model->warmup_request);
	failed |= set_text(json, "golden", manner.is_proven ? NULL : model->golden);
	failed |= json_object_set_new(json, "required_secrets",
	                              names(model->required_secrets,
	                                    model->n_required_secrets));
	failed |= json_object_set_new(json, "inputs",
	                              tensors_to_json(model->inputs, model->n_inputs));
	failed |= json_object_set_new(json, "outputs",
	                              tensors_to_json(model->outputs, model->n_outputs));
	failed |= set_text(json, "working_directory", model->working_directory);
	failed |= set_text(json, "sandbox", config_sandbox_word(config_sandbox(model)));
	failed |= set_text(json, "sandbox_read", model->sandbox_read);
	failed |= set_text(json, "sandbox_write", model->sandbox_write);
	failed |= set_number(json, "max_processes", model->max_processes);
	/* Of a user, whose loaders of two generations, and a spare, may be there at once. */
	failed |= set_number(json, "max_processes_together",
	                     model->max_processes * (2 * (uint64_t)model->replicas + 1));
	failed |= set_number(json, "max_memory", model->max_memory_bytes);
	failed |= set_number(json, "group_limits", manner.group_limits);
	failed |= set_number(json, "user", config_user_of(config, model->name));
	failed |= json_object_set_new(json, "hosted", json_boolean(model->route != NULL));
	failed |= json_object_set_new(json, "options", all_options(model));
	failed |= set_number(json, "leases", model->leases);
	failed |= set_number(json, "max_body_bytes", model->max_body_bytes);
	failed |= set_number(json, "request_timeout_ms",
	                     model->request_timeout_ns / CLOCK_NS_PER_MS);
	failed |= set_text(json, "weights", manner.weights);
	failed |= set_text(json, "weights_sha256", manner.weights_sha256);
	failed |= set_text(json, "placed", manner.placed);
	if (manner.chunk_bytes)
		failed |= json_object_set_new(json, "chunks",
		                              json_pack("{s:I,s:I,s:s}", "chunk_bytes",
		                                        (json_int_t)manner.chunk_bytes,
		                                        "mapped_bytes",
		                                        (json_int_t)manner.mapped_bytes,
		                                        "canary", manner.canary));
	failed |= set_number(json, "prefill_bytes", manner.prefill_bytes);
	failed |= json_object_set_new(json, "lean", json_boolean(manner.is_lean));
	failed |= json_object_set_new(json, "urgent", json_boolean(manner.is_urgent));
	failed |= json_object_set_new(json, "proven", json_boolean(manner.is_proven));
	json = whole(json, failed);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return text;
}

/* Adds every key of @table to @json, as the file would have it, without options. */
static int set_keys(json_t *json, const struct config_table *table, const void *object)
{
	int failed = 0;

	for (size_t i = 0; i < table->n_keys; i++) {
		const struct config_key *key = &table->keys[i];

		if (key->type != CONFIG_TYPE_OPTION)
			failed |= json_object_set_new(json, key->name,
			                              config_value_to_json(key, object));
	}
	return failed;
}

static int set_options(json_t *json, const char *prefix, const struct config_option *rows,
                       size_t count)
{
	char name[sizeof("environment.") + CONFIG_NAME_MAX];
	int failed = 0;

	for (size_t i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "%s%s", prefix, rows[i].name);
		failed |= set_text(json, name, rows[i].value);
	}
	return failed;
}

json_t *config_to_json(const struct config *config)
{
	json_t *json = json_object();
	json_t *supervisor = json_object();
	json_t *devices = json_object();
	json_t *host = json_object();
	json_t *models = json_object();
	int failed = 0;

	failed |= set_text(json, "file", config->file);
	failed |= set_keys(supervisor, &config_supervisor_table, config);
	failed |= set_keys(host, &config_device_table, &config->host);
	for (size_t i = 0; i < config->n_models; i++) {
		const struct config_model *model = config->models[i];
		json_t *object = json_object();

		failed |= json_object_set_new(object, "file",
		                              json_sprintf("%s:%u", model->file,
		                                           model->line));
		failed |= set_keys(object, &config_model_table, model);
		failed |=
			set_options(object, "option.", model->options, model->n_options);
		failed |= set_options(object, "environment.", model->environment,
		                      model->n_environment);
		failed |= json_object_set_new(models, model->name, object);
	}
	failed |= json_object_set_new(json, "supervisor", supervisor);
	failed |= json_object_set_new(devices, "host", host);
	for (size_t i = 0; i < config->n_gpus; i++) {
		json_t *gpu = json_object();

		failed |= set_keys(gpu, &config_device_table, &config->gpus[i].device);
		failed |= json_object_set_new(devices, config->gpus[i].name, gpu);
	}
	failed |= json_object_set_new(json, "devices", devices);
	failed |= json_object_set_new(json, "models", models);
	return whole(json, failed);
}
