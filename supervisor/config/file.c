/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Turns the lines of a file into members of struct config.
 *
 * read_lines() hands each line to take_line(), which gives headers to open_section() and
 * the rest to take_key(), from where set_key() finds the row. open_section() chooses the
 * table and the object that keys belong to, close_section() checks what must hold between
 * the keys of a section (rules.c), with the line of the key that is at fault (line_of()). The first
 * error ends the reading: refuse() keeps it, and each step after it returns it. Text is
 * checked before it is split, because it goes into JSON and logs later.
 */

#include "supervisor/config/file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "supervisor/config/check.h"
#include "supervisor/config/value.h"
#include "supervisor/config/strict.h"

#define LABEL_MAX (CONFIG_NAME_MAX + 16)

struct parser {
	struct config *config;
	const char *path;
	enum config_file_kind kind;
	FILE *stream;
	const char *dir; /* relative paths start from it */
	struct err *err;
	int result; /* of the first error; the rest is skipped */

	unsigned int line;
	unsigned int n_models;
	unsigned int supervisor_line; /* of [supervisor], or 0 */
	unsigned int host_line;       /* of [device host], or 0 */

	/* The open section; table is NULL before the first. */
	const struct config_table *table;
	void *object;
	struct config_model *model; /* the same object, if it is a model */
	char label[LABEL_MAX];      /* "[model digits]" */
	unsigned int section_line;
	unsigned int key_lines[CONFIG_KEYS_MAX]; /* where each key stands, or 0 */
};

/* Only the first error counts. Returns -EINVAL, or what an earlier error was. */
static int refuse(struct parser *parser, unsigned int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct parser *parser, unsigned int line, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	if (parser->result < 0)
		return parser->result;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	parser->result = -EINVAL;
	return err_set(parser->err, -EINVAL, "%s:%u: %s", parser->path, line, text);
}

/* The sentence is the caller's of config_file_read(). */
static int fail_memory(struct parser *parser)
{
	parser->result = -ENOMEM;
	return -ENOMEM;
}

/* Line on which @name stands, or that of its section when the key is not set. */
static unsigned int line_of(const struct parser *parser, const char *name)
{
	const struct config_key *key = config_table_find(parser->table, name);
	unsigned int line = parser->key_lines[key - parser->table->keys];

	return line ? line : parser->section_line;
}

static int check_supervisor(struct parser *parser)
{
	const struct config *config = parser->config;

	if (config->settle_ns > config->settle_cap_ns)
		return refuse(parser, line_of(parser, "settle"),
		              "settle: is longer than settle_cap: make it shorter, or "
		              "settle_cap longer");
	return 0;
}

static int check_model(struct parser *parser)
{
	struct config_model *model = parser->model;
	struct err why = ERR_NULL;
	const char *key = NULL;

	if (config_rules_check(model, parser->label, &key, &why) < 0)
		return refuse(parser, key ? line_of(parser, key) : parser->section_line,
		              "%s", why.text);
	config_complete_hosting(model,
	                        line_of(parser, "threads") != parser->section_line);
	if (!model->platform) {
		model->platform = strdup(model->engine);
		if (!model->platform)
			return fail_memory(parser);
	}
	return 0;
}

static int close_section(struct parser *parser)
{
	int r = 0;

	if (parser->model)
		r = check_model(parser);
	else if (parser->table == &config_supervisor_table)
		r = check_supervisor(parser);
	parser->table = NULL;
	parser->object = NULL;
	parser->model = NULL;
	memset(parser->key_lines, 0, sizeof(parser->key_lines));
	return r;
}

static int open_supervisor(struct parser *parser)
{
	if (parser->kind == CONFIG_FILE_MODEL)
		return refuse(
			parser, parser->line,
			"[supervisor]: belongs into the main file; a file of models_dir "
			"holds one [model NAME]");
	if (parser->supervisor_line)
		return refuse(parser, parser->line,
		              "[supervisor]: stands on line %u already: keep one",
		              parser->supervisor_line);
	parser->supervisor_line = parser->line;
	parser->table = &config_supervisor_table;
	parser->object = parser->config;
	return 0;
}

/* Settings of the device @name; NULL after a refusal. */
static struct config_device *find_device(struct parser *parser, const char *name)
{
	struct config *config = parser->config;
	struct config_gpu *gpu = &config->gpus[config->n_gpus];
	struct err why;

	if (strcmp(name, "host") == 0) {
		if (parser->host_line)
			(void)refuse(parser, parser->line,
			             "%s: stands on line %u already: keep one",
			             parser->label, parser->host_line);
		parser->host_line = parser->line;
		return parser->result < 0 ? NULL : &config->host;
	}
	if (strncmp(name, "cuda:", 5) != 0 || config_check_device(name, &why) < 0) {
		(void)refuse(parser, parser->line,
		             "%s: is no device that has settings: allowed are [device "
		             "host], [device cuda:N] and [device cuda:GPU-UUID]",
		             parser->label);
		return NULL;
	}
	for (size_t i = 0; i < config->n_gpus; i++)
		if (strcmp(config->gpus[i].name, name) == 0)
			(void)refuse(parser, parser->line,
			             "%s: stands on line %u already: keep one",
			             parser->label, config->gpus[i].line);
	if (config->n_gpus == CONFIG_GPUS_MAX)
		(void)refuse(parser, parser->line,
		             "%s: is one more than the %d GPUs that one moultd knows",
		             parser->label, CONFIG_GPUS_MAX);
	if (parser->result < 0)
		return NULL;
	*gpu = (struct config_gpu){ .line = parser->line,
		                    .device = config->gpu_fallback };
	(void)snprintf(gpu->name, sizeof(gpu->name), "%s", name);
	config->n_gpus++;
	return &gpu->device;
}

static int open_device(struct parser *parser, const char *name)
{
	if (parser->kind == CONFIG_FILE_MODEL)
		return refuse(
			parser, parser->line,
			"%s: belongs into the main file; a file of models_dir holds one "
			"[model NAME]",
			parser->label);
	parser->object = find_device(parser, name);
	if (!parser->object)
		return parser->result;
	parser->table = &config_device_table;
	return 0;
}

static int check_new_model(struct parser *parser, const char *name)
{
	const struct config_model *twin = config_find(parser->config, name);
	struct err why;

	if (config_check_name(name, &why) < 0)
		return refuse(parser, parser->line, "%s: %s", parser->label, why.text);
	if (twin)
		return refuse(
			parser, parser->line,
			"%s: stands in %s:%u already: every model needs its own name",
			parser->label, twin->file, twin->line);
	if (parser->kind == CONFIG_FILE_MODEL && parser->n_models > 0)
		return refuse(
			parser, parser->line,
			"%s: a file of models_dir holds one [model NAME]: put it into a "
			"file of its own",
			parser->label);
	if (parser->config->n_models == CONFIG_MODELS_MAX)
		return refuse(parser, parser->line,
		              "%s: is one more than the %d models that one moultd serves",
		              parser->label, CONFIG_MODELS_MAX);
	return 0;
}

int config_file_set_origin(struct config *config, const char *file, unsigned int line)
{
	struct config_model *model = config->models[config->n_models - 1];
	char *copy = strdup(file);

	if (!copy)
		return -ENOMEM;
	free(model->file);
	model->file = copy;
	model->line = line;
	return 0;
}

static int open_model(struct parser *parser, const char *name)
{
	struct config *config = parser->config;
	struct config_model *model;

	if (check_new_model(parser, name) < 0)
		return parser->result;
	model = calloc(1, sizeof(*model));
	if (!model)
		return fail_memory(parser);
	config->models[config->n_models++] = model;
	parser->n_models++;
	(void)snprintf(model->name, sizeof(model->name), "%s", name);
	model->is_in_dir = parser->kind == CONFIG_FILE_MODEL;
	if (config_file_set_origin(config, parser->path, parser->line) < 0 ||
	    config_set_defaults(&config_model_table, model, NULL) < 0)
		return fail_memory(parser);
	parser->table = &config_model_table;
	parser->object = model;
	parser->model = model;
	return 0;
}

/* @text begins with '[' and has no blanks at its end. */
static int open_section(struct parser *parser, char *text)
{
	char *end = strchr(text, ']');

	if (close_section(parser) < 0)
		return parser->result;
	if (!end || end[1] != '\0')
		return refuse(parser, parser->line,
		              "%.60s: must end with ] and nothing after it", text);
	(void)snprintf(parser->label, sizeof(parser->label), "%s", text);
	parser->section_line = parser->line;
	*end = '\0';
	text++;
	if (strcmp(text, "supervisor") == 0)
		return open_supervisor(parser);
	if (strncmp(text, "model", 5) == 0 && (text[5] == ' ' || text[5] == '\t'))
		return open_model(parser, text + 5 + strspn(text + 5, " \t"));
	if (strncmp(text, "device", 6) == 0 && (text[6] == ' ' || text[6] == '\t'))
		return open_device(parser, text + 6 + strspn(text + 6, " \t"));
	return refuse(parser, parser->line,
	              "%s: is no section: allowed are [supervisor], [device NAME] and "
	              "[model NAME]",
	              parser->label);
}

static int fail_unknown(struct parser *parser, const char *name)
{
	static const struct {
		const struct config_table *table;
		const char *label;
	} others[] = {
		{ &config_supervisor_table, "[supervisor]" },
		{ &config_device_table, "a [device NAME] section" },
		{ &config_model_table, "a [model NAME] section" },
	};
	const struct config_key *nearest = config_table_nearest(parser->table, name);

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (config_table_find(others[i].table, name))
			return refuse(parser, parser->line, "%.60s: belongs into %s",
			              name, others[i].label);
	if (nearest)
		return refuse(parser, parser->line,
		              "%.60s: is no key of %s: did you mean %s?", name,
		              parser->label, nearest->name);
	return refuse(parser, parser->line,
	              "%.60s: is no key of %s: moult.conf(5) lists them", name,
	              parser->label);
}

static int set_key(struct parser *parser, const char *name, const char *text)
{
	struct config_setting setting = { .name = name,
		                          .text = text,
		                          .dir = parser->dir };
	const struct config_key *key;
	struct err why = ERR_NULL;
	unsigned int *line;
	int r;

	if (!parser->table)
		return refuse(
			parser, parser->line,
			"%.60s: stands before any section: put it below [supervisor] or "
			"[model NAME]",
			name);
	key = config_table_find(parser->table, name);
	if (!key)
		return fail_unknown(parser, name);
	line = &parser->key_lines[key - parser->table->keys];
	if (*line && !config_key_may_repeat(key))
		return refuse(parser, parser->line,
		              "%s: is set on line %u already: keep one of the lines",
		              name, *line);
	*line = parser->line;
	r = config_value_set(key, parser->object, &setting, &why);
	if (r == -ENOMEM)
		return fail_memory(parser);
	if (r < 0)
		return refuse(parser, parser->line, "%.60s: %s", name, why.text);
	return 0;
}

/* Text is UTF-8 without control characters: it goes into JSON and logs later. */
static int check_text(struct parser *parser, const char *text, size_t bytes)
{
	json_t *json;

	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return refuse(
				parser, parser->line,
				"the line holds a control character (0x%02x) at column "
				"%zu: allowed is plain UTF-8 text",
				c, i + 1);
	}
	json = json_stringn(text, bytes);
	if (!json)
		return refuse(parser, parser->line,
		              "the line is no UTF-8 text: save the file as UTF-8");
	json_decref(json);
	return 0;
}

/* Takes "name = value", whose end has no blanks. */
static int take_key(struct parser *parser, char *text)
{
	size_t bytes = strcspn(text, "=:");
	char separator = text[bytes];
	const char *value = text + bytes + 1;

	if (separator == '\0')
		return refuse(parser, parser->line,
		              "is neither a [section], nor key = value, nor a # comment");
	value += strspn(value, " \t");
	while (bytes > 0 && strchr(" \t", text[bytes - 1]))
		bytes--;
	text[bytes] = '\0';
	if (separator == ':')
		return refuse(parser, parser->line,
		              "%.60s: has a colon where '=' belongs: write %.60s = %.60s",
		              text, text, value);
	return set_key(parser, text, value);
}

/* Takes a line of @bytes, with its end. */
static int take_line(struct parser *parser, char *text, size_t bytes)
{
	static const char bom[] = "\xef\xbb\xbf";

	while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1]) && text[bytes - 1])
		bytes--;
	if (check_text(parser, text, bytes) < 0)
		return parser->result;
	text[bytes] = '\0';
	if (parser->line == 1 && strncmp(text, bom, sizeof(bom) - 1) == 0)
		text += sizeof(bom) - 1;
	text += strspn(text, " \t");
	if (*text == '\0' || *text == '#' || *text == ';')
		return 0;
	return *text == '[' ? open_section(parser, text) : take_key(parser, text);
}

/* Afterwards parser->line is the one behind the last. */
static int read_lines(struct parser *parser)
{
	FREE char *line = NULL;
	size_t size = 0;
	ssize_t n;

	parser->line = 1;
	while ((n = getline(&line, &size, parser->stream)) > 0) {
		if (n - (line[n - 1] == '\n') > CONFIG_LINE_BYTES_MAX)
			return refuse(parser, parser->line,
			              "the line is longer than %d bytes",
			              CONFIG_LINE_BYTES_MAX);
		if (take_line(parser, line, (size_t)n) < 0)
			return parser->result;
		parser->line++;
	}
	if (feof(parser->stream))
		return 0;
	return errno == ENOMEM ? fail_memory(parser)
	                       : refuse(parser, parser->line, "cannot be read: %s",
	                                strerror(errno));
}

static int parse(struct parser *parser)
{
	if (read_lines(parser) < 0 || close_section(parser) < 0)
		return parser->result;
	if (parser->kind == CONFIG_FILE_MODEL && parser->n_models == 0)
		return refuse(parser, parser->line,
		              "the file holds no model: begin it with [model NAME]");
	/* An empty file is one that somebody is writing anew: it must not end what
	 * serves. */
	if (parser->kind != CONFIG_FILE_MODEL && parser->line == 1)
		return refuse(parser, parser->line,
		              "the file is empty: begin it with [supervisor] or "
		              "[model NAME]");
	return 0;
}

int config_file_open(const char *path, FILE **ret_stream, struct err *err)
{
	CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		return err_set(err, -errno, "%s: %s: name a file that can be read", path,
		               access_why(&(struct err)ERR_NULL, path, R_OK, errno));
	if (!S_ISREG(status.st_mode))
		return err_set(err, -EINVAL, "%s: is no regular file", path);
	if (strict_check_file(path, &status, err) < 0)
		return -EPERM;
	if (status.st_size > CONFIG_FILE_BYTES_MAX)
		return err_set(err, -EFBIG, "%s: has %lld bytes: at most %ld are allowed",
		               path, (long long)status.st_size, CONFIG_FILE_BYTES_MAX);
	*ret_stream = fdopen(fd, "re");
	if (!*ret_stream)
		return -ENOMEM;
	(void)take_fd(&fd); /* owned by the stream */
	return 0;
}

int config_file_read(struct config *config, const char *path, enum config_file_kind kind,
                     struct err *err)
{
	FREE char *dir = strdup(path);
	struct parser parser = {
		.config = config, .path = path, .dir = dir, .kind = kind, .err = err
	};
	int r;

	if (!dir)
		return -ENOMEM;
	*strrchr(dir, '/') = '\0';
	r = config_file_open(path, &parser.stream, err);
	if (r < 0)
		return r;
	r = parse(&parser);
	(void)fclose(parser.stream); /* only read */
	return r;
}

int config_read_text(struct config *config, const char *text, enum config_file_kind kind,
                     struct err *err)
{
	FREE char *copy = strdup(text);
	struct parser parser = {
		.config = config, .path = "kept", .dir = "", .kind = kind, .err = err
	};
	int r;

	parser.stream = copy ? fmemopen(copy, strlen(copy), "r") : NULL;
	if (!parser.stream)
		return -ENOMEM;
	r = parse(&parser);
	(void)fclose(parser.stream); /* only read */
	return r;
}
