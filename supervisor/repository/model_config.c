/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A table for each message: a row says what becomes of a field. Values go into the section as they
 * stand once they are plain words; whether they are good ones is the section's reader's to say, in
 * its own sentences.
 */
#include "supervisor/repository/model_config.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "supervisor/repository/fields.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define SHAPE_MAX   256

struct model_reader {
	struct fields fields;
	struct model_config *config;
	FILE *keys;
	bool is_batched;
	uint64_t replicas;
	const char *kind; /* of all instance groups; NULL: none said it */
	const char *gpu;
	json_t *parameters;
};

/* Engines */

static const struct {
	const char *name; /* of a platform, or a backend */
	const char *engine;
	bool is_platform;
} engines[] = {
	{ "pytorch_libtorch", "torch", true }, { "pytorch", "torch", false },
	{ "onnxruntime_onnx", "onnx", true },  { "onnxruntime", "onnx", false },
	{ "python", "python", false },         { "identity", "identity", false },
};

static int take_engine(struct model_reader *reader, const struct pbtxt_node *node)
{
	bool is_platform = strcmp(node->name, "platform") == 0;
	size_t i = 0;

	if (node->kind == PBTXT_TEXT && *node->text == '\0')
		return 0;
	while (i < COUNT(engines) &&
	       (engines[i].is_platform != is_platform || node->kind != PBTXT_TEXT ||
	        strcmp(engines[i].name, node->text) != 0))
		i++;
	if (i == COUNT(engines))
		return fields_refuse(
			&reader->fields, node,
			"'%.60s' has no engine here: there are the platforms "
			"pytorch_libtorch and onnxruntime_onnx, and the backends "
			"pytorch, onnxruntime, python and identity",
			node->kind == PBTXT_MESSAGE ? "{" : node->text);
	if (reader->config->engine && reader->config->engine != engines[i].engine)
		return fields_refuse(&reader->fields, node,
		                     "platform and backend name different engines");
	reader->config->engine = engines[i].engine;
	if (is_platform)
		(void)fprintf(reader->keys, "platform = %s\n", node->text);
	return 0;
}

static int take_name(struct model_reader *reader, const struct pbtxt_node *node)
{
	return fields_word(&reader->fields, node, reader->config->name);
}

static int take_filename(struct model_reader *reader, const struct pbtxt_node *node)
{
	if (node->kind == PBTXT_TEXT && *node->text == '\0')
		return 0;
	if (fields_is_plain(node) && (strchr(node->text, '/') || node->text[0] == '.'))
		return fields_refuse(&reader->fields, node,
		                     "must be the name of a file, without a folder");
	return fields_word(&reader->fields, node, reader->config->filename);
}

static int take_max_batch(struct model_reader *reader, const struct pbtxt_node *node)
{
	uint64_t rows = 0;
	int r = fields_number(&reader->fields, node, INT32_MAX, &rows);

	if (r == 0 && rows > 0)
		(void)fprintf(reader->keys, "max_batch = %llu\n",
		              (unsigned long long)rows);
	return r;
}

/* Tensors */

static const struct row tensor_rows[] = {
	{ "name", NULL, NULL, NULL },
	{ "data_type", NULL, NULL, NULL },
	{ "dims", NULL, NULL, NULL },
	{ "format", NULL, NULL, NULL },
	{ "reshape", NULL, "shapes are not changed on the way: give the model's own dims",
	  NULL },
	{ "label_filename", NULL, NULL,
	  "there is no classification: clients get the scores" },
	{ "is_shape_tensor", NULL, NULL, NULL },
	{ "allow_ragged_batch", NULL, NULL, NULL },
	{ "optional", NULL, NULL, NULL },
	{ "is_non_linear_format_io", NULL, NULL, NULL },
};

/* What a tensor may not ask for. */
static int check_tensor(const struct model_reader *reader,
                        const struct pbtxt_node *tensor)
{
	static const struct {
		const char *name;
		const char *why;
	} flags[] = {
		{ "is_shape_tensor", "there are no shape tensors here" },
		{ "allow_ragged_batch",
		  "inputs of different shapes are not computed together" },
		{ "optional", "every input is required: give the model a default, or "
		              "take the input out" },
		{ "is_non_linear_format_io", "there is no such format here" },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < COUNT(flags); i++) {
		const struct pbtxt_node *flag = pbtxt_find(tensor, flags[i].name);

		if (flag)
			r = fields_no(&reader->fields, flag, flags[i].why);
	}
	return r;
}

/* Prints the shape, with the batch in front, into @shape. */
static int print_shape(const struct model_reader *reader, const struct pbtxt_node *tensor,
                       char *shape, size_t size)
{
	size_t used = 0;
	bool has_dims = false;

	used += (size_t)snprintf(shape, size, "[%s", reader->is_batched ? "-1" : "");
	for (const struct pbtxt_node *node = tensor->child; node; node = node->next) {
		if (strcmp(node->name, "dims") != 0)
			continue;
		if (!fields_is_plain(node) || used + strlen(node->text) + 3 > size)
			return fields_refuse(&reader->fields, node,
			                     "is no shape: say dims: [ 3, 224, 224 ]");
		used += (size_t)snprintf(shape + used, size - used, "%s%s",
		                         used > 1 ? "," : "", node->text);
		has_dims = true;
	}
	if (!has_dims)
		return fields_refuse(&reader->fields, tensor,
		                     "has no dims: say dims: [ 3, 224, 224 ]");
	(void)snprintf(shape + used, size - used, "]");
	return 0;
}

static int take_tensor(struct model_reader *reader, const struct pbtxt_node *node)
{
	const struct pbtxt_node *name;
	const struct pbtxt_node *type;
	char shape[SHAPE_MAX];
	int r = fields_message(&reader->fields, reader, node, tensor_rows,
	                       COUNT(tensor_rows));

	if (r == 0)
		r = check_tensor(reader, node);
	if (r < 0)
		return r;
	name = pbtxt_find(node, "name");
	type = pbtxt_find(node, "data_type");
	if (!name)
		return fields_refuse(&reader->fields, node, "has no name");
	r = fields_check_plain(&reader->fields, name);
	if (r < 0)
		return r;
	if (!type || type->kind != PBTXT_WORD || strncmp(type->text, "TYPE_", 5) != 0)
		return fields_refuse(
			&reader->fields, type ? type : node,
			"'%s' has no data_type: say data_type: TYPE_FP32 or another",
			name->text);
	r = print_shape(reader, node, shape, sizeof(shape));
	if (r == 0)
		(void)fprintf(reader->keys, "%s = %s %s %s\n", node->name, name->text,
		              fields_is_word(type, "TYPE_STRING") ? "BYTES"
		                                                  : type->text + 5,
		              shape);
	return r;
}

/* Batches */

static int take_delay(struct model_reader *reader, const struct pbtxt_node *node)
{
	uint64_t us = 0;
	int r = fields_number(&reader->fields, node, UINT32_MAX, &us);

	if (r == 0)
		(void)fprintf(reader->keys, "max_delay = %lluus\n",
		              (unsigned long long)us);
	return r;
}

static int take_batching(struct model_reader *reader, const struct pbtxt_node *node)
{
	static const struct row rows[] = {
		{ "max_queue_delay_microseconds", take_delay, NULL, NULL },
		{ "preferred_batch_size", NULL, NULL,
		  "a batch has what waits, up to max_batch_size" },
		{ "preserve_ordering", NULL, NULL,
		  "answers of one connection are in order, and others in none" },
		{ "priority_levels", NULL, NULL,
		  "a request's priority is 1 to 9 here, whatever this says" },
		{ "default_priority_level", NULL, NULL, "it is 5 here" },
		{ "default_queue_policy", NULL, NULL,
		  "max_held and request_timeout of moult.conf bound the queue" },
		{ "priority_queue_policy", NULL, NULL,
		  "max_held and request_timeout of moult.conf bound the queue" },
	};

	return fields_message(&reader->fields, reader, node, rows, COUNT(rows));
}

/* Instances */

static int take_gpus(struct model_reader *reader, const struct pbtxt_node *node)
{
	uint64_t gpu = 0;
	int r = fields_number(&reader->fields, node, 1023, &gpu);

	if (r < 0)
		return r;
	if (reader->gpu && strcmp(reader->gpu, node->text) != 0)
		return fields_refuse(
			&reader->fields, node,
			"a model is on one GPU here: name one, and make a model of "
			"another name for each of the others");
	reader->gpu = node->text;
	return 0;
}

static int take_count(struct model_reader *reader, const struct pbtxt_node *node)
{
	uint64_t count = 0;
	int r = fields_number(&reader->fields, node, 1024, &count);

	reader->replicas += count;
	return r;
}

static int take_kind(struct model_reader *reader, const struct pbtxt_node *node)
{
	if (!fields_is_plain(node))
		return fields_refuse(&reader->fields, node,
		                     "must be KIND_CPU, KIND_GPU or KIND_AUTO");
	if (fields_is_word(node, "KIND_MODEL"))
		fields_doubt(&reader->fields, node,
		             "the model's own device is not asked for: it is on cpu");
	else if (!fields_is_word(node, "KIND_CPU") && !fields_is_word(node, "KIND_GPU") &&
	         !fields_is_word(node, "KIND_AUTO"))
		return fields_refuse(&reader->fields, node,
		                     "must be KIND_CPU, KIND_GPU or KIND_AUTO");
	if (reader->kind && strcmp(reader->kind, node->text) != 0)
		return fields_refuse(
			&reader->fields, node,
			"all loaders of a model are on one device here: name one "
			"kind");
	reader->kind = node->text;
	return 0;
}

static int take_passive(struct model_reader *reader, const struct pbtxt_node *node)
{
	return fields_no(&reader->fields, node,
	                 "instances that nobody asks are not built here");
}

static int take_group(struct model_reader *reader, const struct pbtxt_node *node)
{
	static const struct row rows[] = {
		{ "name", NULL, NULL, NULL },
		{ "kind", take_kind, NULL, NULL },
		{ "count", take_count, NULL, NULL },
		{ "gpus", take_gpus, NULL, NULL },
		{ "passive", take_passive, NULL, NULL },
		{ "rate_limiter", NULL, NULL,
		  "loaders take requests when they are free" },
		{ "profile", NULL, "there are no profiles of TensorRT here", NULL },
		{ "secondary_devices", NULL, "a model is on one device here", NULL },
		{ "host_policy", NULL, NULL, "there are no policies of hosts here" },
	};
	const struct pbtxt_node *count = NULL;
	int r = fields_message(&reader->fields, reader, node, rows, COUNT(rows));

	if (r == 0)
		count = pbtxt_find(node, "count");
	reader->replicas += r == 0 && !count;
	return r;
}

static int end_groups(struct model_reader *reader)
{
	if (reader->replicas > 1)
		(void)fprintf(reader->keys, "replicas = %llu\n",
		              (unsigned long long)reader->replicas);
	if (reader->kind && strcmp(reader->kind, "KIND_GPU") == 0)
		(void)fprintf(reader->keys, "device = cuda%s%s\n", reader->gpu ? ":" : "",
		              reader->gpu ? reader->gpu : "");
	return 0;
}

/* Versions */

static int take_version(struct model_reader *reader, const struct pbtxt_node *node)
{
	uint64_t version = 0;
	int r = fields_number(&reader->fields, node, 999999999, &version);

	if (r < 0 || (reader->config->version && version == reader->config->version))
		return r;
	if (reader->config->version)
		fields_doubt(&reader->fields, node,
		             "one version serves: the highest of these");
	if (version > reader->config->version)
		reader->config->version = (uint32_t)version;
	return 0;
}

static int take_specific(struct model_reader *reader, const struct pbtxt_node *node)
{
	static const struct row rows[] = { { "versions", take_version, NULL, NULL } };

	return fields_message(&reader->fields, reader, node, rows, COUNT(rows));
}

static int take_latest(struct model_reader *reader, const struct pbtxt_node *node)
{
	static const struct row rows[] = { { "num_versions", NULL, NULL, NULL } };
	const struct pbtxt_node *number = NULL;
	int r = fields_message(&reader->fields, reader, node, rows, COUNT(rows));

	if (r == 0)
		number = pbtxt_find(node, "num_versions");
	if (number && !fields_is_word(number, "1"))
		fields_doubt(&reader->fields, number, "one version serves: the highest");
	return r;
}

static int take_versions(struct model_reader *reader, const struct pbtxt_node *node)
{
	static const struct row rows[] = {
		{ "latest", take_latest, NULL, NULL },
		{ "specific", take_specific, NULL, NULL },
		{ "all", NULL, NULL, "one version serves: the highest" },
	};

	return fields_message(&reader->fields, reader, node, rows, COUNT(rows));
}

/* Parameters */

static int take_parameter(struct model_reader *reader, const struct pbtxt_node *node)
{
	static const struct row rows[] = {
		{ "key", NULL, NULL, NULL },
		{ "value", NULL, NULL, NULL },
	};
	const struct pbtxt_node *key;
	const struct pbtxt_node *value;
	int r = fields_message(&reader->fields, reader, node, rows, COUNT(rows));

	if (r < 0)
		return r;
	key = pbtxt_find(node, "key");
	value = pbtxt_find(node, "value");
	if (value && value->kind == PBTXT_MESSAGE)
		value = pbtxt_find(value, "string_value");
	if (!key || key->kind != PBTXT_TEXT || !value || value->kind != PBTXT_TEXT)
		return fields_refuse(
			&reader->fields, node,
			"must be { key: \"NAME\" value: { string_value: \"TEXT\" } }");
	if (strcmp(key->text, "EXECUTION_ENV_PATH") == 0)
		return fields_refuse(
			&reader->fields, node,
			"EXECUTION_ENV_PATH: archives of an environment are not "
			"unpacked: write a section of moult.conf, with python = its "
			"interpreter");
	if (json_object_set_new(reader->parameters, key->text, json_string(value->text)) <
	    0)
		return fields_refuse(&reader->fields, node, "is no UTF-8 text");
	return 0;
}

static int end_parameters(struct model_reader *reader, const struct pbtxt_node *root)
{
	const char *engine = reader->config->engine;
	FREE char *text = NULL;

	if (json_object_size(reader->parameters) == 0)
		return 0;
	if (engine && strcmp(engine, "python") != 0) {
		fields_doubt(&reader->fields, pbtxt_find(root, "parameters"),
		             "they are of Triton's backend, and change nothing here");
		return 0;
	}
	text = json_dumps(reader->parameters, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text)
		return -ENOMEM;
	(void)fprintf(reader->keys, "option.parameters = %s\n", text);
	return 0;
}

/* The whole */

static int take_transactions(struct model_reader *reader, const struct pbtxt_node *node)
{
	static const struct row rows[] = { { "decoupled", NULL, NULL, NULL } };
	const struct pbtxt_node *decoupled = NULL;
	int r = fields_message(&reader->fields, reader, node, rows, COUNT(rows));

	if (r == 0)
		decoupled = pbtxt_find(node, "decoupled");
	return decoupled
	               ? fields_no(&reader->fields, decoupled,
	                           "a request has one answer here, and decoupled models "
	                           "are not served")
	               : r;
}

static const struct row model_rows[] = {
	{ "name", take_name, NULL, NULL },
	{ "platform", take_engine, NULL, NULL },
	{ "backend", take_engine, NULL, NULL },
	{ "max_batch_size", take_max_batch, NULL, NULL },
	{ "input", take_tensor, NULL, NULL },
	{ "output", take_tensor, NULL, NULL },
	{ "dynamic_batching", take_batching, NULL, NULL },
	{ "instance_group", take_group, NULL, NULL },
	{ "version_policy", take_versions, NULL, NULL },
	{ "default_model_filename", take_filename, NULL, NULL },
	{ "parameters", take_parameter, NULL, NULL },
	{ "model_transaction_policy", take_transactions, NULL, NULL },
	{ "optimization", NULL, NULL, "engines optimise by options of their own" },
	{ "response_cache", NULL, NULL, "answers are not cached" },
	{ "metric_tags", NULL, NULL, "metrics have the model's name alone" },
	{ "model_metrics", NULL, NULL, "metrics are those of moult-http(7)" },
	{ "runtime", NULL, "the engine is the one of platform or backend", NULL },
	{ "ensemble_scheduling", NULL,
	  "ensembles are not served: call one model after the other, or from a class of "
	  "Python",
	  NULL },
	{ "sequence_batching", NULL, "sequences are not served: each request is its own",
	  NULL },
	{ "model_warmup", NULL,
	  "not read from here: write a section of moult.conf with warmup_request or "
	  "golden",
	  NULL },
	{ "batch_input", NULL, "inputs made of batches are not there", NULL },
	{ "batch_output", NULL, "outputs made of batches are not there", NULL },
	{ "model_operations", NULL, "libraries of operations are not loaded", NULL },
	{ "model_repository_agents", NULL, "agents are not run", NULL },
	{ "cc_model_filenames", NULL, "one file serves every GPU", NULL },
};

static int read_all(struct model_reader *reader, const struct pbtxt_node *root)
{
	const struct pbtxt_node *rows = pbtxt_find(root, "max_batch_size");
	int r;

	reader->is_batched = rows && !fields_is_word(rows, "0");
	r = fields_take(&reader->fields, reader, root, model_rows, COUNT(model_rows),
	                "a model's configuration");
	if (r == 0)
		r = end_groups(reader);
	return r < 0 ? r : end_parameters(reader, root);
}

void model_config_fini(struct model_config *config)
{
	free(config->keys);
	free(config->doubts);
	*config = (struct model_config){ .engine = NULL };
}

int model_config_read(struct model_config *ret_config, const struct pbtxt_node *root,
                      struct err *err)
{
	struct model_config config = { .engine = NULL };
	struct model_reader reader = { .config = &config, .fields = { .err = err } };
	size_t sizes[2] = { 0, 0 };
	int r = -ENOMEM;

	reader.keys = open_memstream(&config.keys, &sizes[0]);
	reader.fields.doubts = open_memstream(&config.doubts, &sizes[1]);
	reader.parameters = json_object();
	if (reader.keys && reader.fields.doubts && reader.parameters)
		r = read_all(&reader, root);
	json_decref(reader.parameters);
	if (reader.keys && fclose(reader.keys) != 0)
		r = -ENOMEM;
	if (reader.fields.doubts && fclose(reader.fields.doubts) != 0)
		r = -ENOMEM;
	if (r < 0) {
		model_config_fini(&config);
		return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
	}
	*ret_config = config;
	return 0;
}
