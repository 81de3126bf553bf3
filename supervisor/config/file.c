/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Turns the lines of a file into members of struct config.
 *
 * parse() lets libinih split lines into keys and values; on_line() reads them, on_key()
 * takes each key to its row. open_section() chooses the table and the object that keys
 * belong to, close_section() checks what must hold between the keys of a section, with
 * the line of the key that is at fault (line_of()). The first error ends the reading:
 * fail() keeps it, and each step after it returns it. Text is checked before it is
 * split, because it goes into JSON and logs later.
 */

#include "supervisor/config/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
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

/*
 * libinih splits "key = value", skips comments and hands lines on; the reader below it
 * counts them and looks at section headers, because libinih as Debian builds it gives no
 * line numbers, cuts long section names, and says nothing of a section without keys.
 */
struct parser {
	struct config *config;
	const char *path;
	enum config_file_kind kind;
	FILE *stream;
	char *dir;
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

/* Only the first error counts. Returns it. */
static int fail(struct parser *parser, unsigned int line, int code, const char *format,
                ...) __attribute__((format(printf, 4, 5)));

static int fail(struct parser *parser, unsigned int line, int code, const char *format,
                ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	if (parser->result < 0)
		return parser->result;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	parser->result = code;
	return err_set(parser->err, code, "%s:%u: %s", parser->path, line, text);
}

static int fail_memory(struct parser *parser)
{
	return fail(parser, parser->line, -ENOMEM, "out of memory");
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
		return fail(parser, line_of(parser, "settle"), -EINVAL,
		            "settle: is longer than settle_cap: make it shorter, or "
		            "settle_cap longer");
	return 0;
}

static const struct tensor_spec *find_fixed(const struct tensor_spec *specs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (specs[i].shape.rank == 0 || specs[i].shape.dims[0] != TENSOR_DIM_ANY)
			return &specs[i];
	return NULL;
}

static int check_tensors(struct parser *parser)
{
	const struct config_model *model = parser->model;
	const struct tensor_spec *fixed;

	if (model->n_inputs == 0)
		return fail(parser, parser->section_line, -EINVAL,
		            "input: %s has none: add at least one, for instance input = "
		            "image FP32 [-1,64]",
		            parser->label);
	if (model->n_outputs == 0)
		return fail(
			parser, parser->section_line, -EINVAL,
			"output: %s has none: add at least one, for instance output = "
			"scores FP32 [-1,10]",
			parser->label);
	if (model->max_batch == 1)
		return 0;
	fixed = find_fixed(model->inputs, model->n_inputs);
	if (!fixed)
		fixed = find_fixed(model->outputs, model->n_outputs);
	if (fixed)
		return fail(
			parser, line_of(parser, "max_batch"), -EINVAL,
			"max_batch: above 1 every input and output must have -1 as its "
			"first dim, and '%s' has not",
			fixed->name);
	return 0;
}

/* The arena uses the largest power of two that fits, and the largest body must leave room
 * for another one. */
static uint64_t largest_body(uint64_t arena_bytes)
{
	return (UINT64_C(1) << (63 - __builtin_clzll(arena_bytes))) / 2;
}

static int check_model(struct parser *parser)
{
	struct config_model *model = parser->model;

	if (!model->engine)
		return fail(parser, parser->section_line, -EINVAL,
		            "engine: %s names none: add a line such as engine = torch",
		            parser->label);
	if (check_tensors(parser) < 0)
		return parser->result;
	if (model->leases & (model->leases - 1))
		return fail(
			parser, line_of(parser, "leases"), -EINVAL,
			"leases: %u is no power of two: allowed are 1, 2, 4, ... 4096",
			model->leases);
	if (model->max_body_bytes > largest_body(model->request_arena_bytes))
		return fail(
			parser, line_of(parser, "max_body"), -EINVAL,
			"max_body: %llu bytes are more than half of request_arena, which "
			"allows %llu: make it smaller, or request_arena larger",
			(unsigned long long)model->max_body_bytes,
			(unsigned long long)largest_body(model->request_arena_bytes));
	if (model->n_required_secrets > 0 && !model->secrets)
		return fail(
			parser, line_of(parser, "required_secrets"), -EINVAL,
			"required_secrets: need a directory to come from: add secrets = "
			"DIRECTORY");
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
		return fail(
			parser, parser->line, -EINVAL,
			"[supervisor]: belongs into the main file; a file of models_dir "
			"holds one [model NAME]");
	if (parser->supervisor_line)
		return fail(parser, parser->line, -EINVAL,
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
			(void)fail(parser, parser->line, -EINVAL,
			           "%s: stands on line %u already: keep one",
			           parser->label, parser->host_line);
		parser->host_line = parser->line;
		return parser->result < 0 ? NULL : &config->host;
	}
	if (strncmp(name, "cuda:", 5) != 0 || config_check_device(name, &why) < 0) {
		(void)fail(parser, parser->line, -EINVAL,
		           "%s: is no device that has settings: allowed are [device "
		           "host], [device cuda:N] and [device cuda:GPU-UUID]",
		           parser->label);
		return NULL;
	}
	for (size_t i = 0; i < config->n_gpus; i++)
		if (strcmp(config->gpus[i].name, name) == 0)
			(void)fail(parser, parser->line, -EINVAL,
			           "%s: stands on line %u already: keep one",
			           parser->label, config->gpus[i].line);
	if (config->n_gpus == CONFIG_GPUS_MAX)
		(void)fail(parser, parser->line, -EINVAL,
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
		return fail(
			parser, parser->line, -EINVAL,
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
		return fail(parser, parser->line, -EINVAL, "%s: %s", parser->label,
		            why.text);
	if (twin)
		return fail(parser, parser->line, -EINVAL,
		            "%s: stands in %s:%u already: every model needs its own name",
		            parser->label, twin->file, twin->line);
	if (parser->kind == CONFIG_FILE_MODEL && parser->n_models > 0)
		return fail(
			parser, parser->line, -EINVAL,
			"%s: a file of models_dir holds one [model NAME]: put it into a "
			"file of its own",
			parser->label);
	if (parser->config->n_models == CONFIG_MODELS_MAX)
		return fail(parser, parser->line, -EINVAL,
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
		return fail(parser, parser->line, -EINVAL,
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
	return fail(parser, parser->line, -EINVAL,
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
			return fail(parser, parser->line, -EINVAL,
			            "%.60s: belongs into %s", name, others[i].label);
	if (nearest)
		return fail(parser, parser->line, -EINVAL,
		            "%.60s: is no key of %s: did you mean %s?", name,
		            parser->label, nearest->name);
	return fail(parser, parser->line, -EINVAL,
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
		return fail(
			parser, parser->line, -EINVAL,
			"%.60s: stands before any section: put it below [supervisor] or "
			"[model NAME]",
			name);
	key = config_table_find(parser->table, name);
	if (!key)
		return fail_unknown(parser, name);
	line = &parser->key_lines[key - parser->table->keys];
	if (*line && !config_key_may_repeat(key))
		return fail(parser, parser->line, -EINVAL,
		            "%s: is set on line %u already: keep one of the lines", name,
		            *line);
	*line = parser->line;
	r = config_value_set(key, parser->object, &setting, &why);
	if (r == -ENOMEM)
		return fail_memory(parser);
	if (r < 0)
		return fail(parser, parser->line, r, "%.60s: %s", name, why.text);
	return 0;
}

/* libinih's handler: 0 stops it. */
static int on_key(void *context, const char *section, const char *name, const char *value)
{
	struct parser *parser = context;

	(void)section; /* the reader knows better */
	return parser->result == 0 && set_key(parser, name, value) == 0;
}

/* Text is UTF-8 without control characters: it goes into JSON and logs later. */
static int check_text(struct parser *parser, const char *text, size_t bytes)
{
	json_t *json;

	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return fail(
				parser, parser->line, -EINVAL,
				"the line holds a control character (0x%02x) at column "
				"%zu: allowed is plain UTF-8 text",
				c, i + 1);
	}
	json = json_stringn(text, bytes);
	if (!json)
		return fail(parser, parser->line, -EINVAL,
		            "the line is no UTF-8 text: save the file as UTF-8");
	json_decref(json);
	return 0;
}

/* libinih takes a colon as well as '=', whichever comes first. */
static int check_separator(struct parser *parser, const char *start)
{
	size_t bytes = strcspn(start, "=:");
	size_t name_bytes = bytes;

	if (strchr("#;", *start) || start[bytes] != ':')
		return 0;
	while (name_bytes > 0 && strchr(" \t", start[name_bytes - 1]))
		name_bytes--;
	bytes++;
	bytes += strspn(start + bytes, " \t");
	return fail(parser, parser->line, -EINVAL,
	            "%.*s: has a colon where '=' belongs: write %.*s = %.60s",
	            (int)(name_bytes < 60 ? name_bytes : 60), start,
	            (int)(name_bytes < 60 ? name_bytes : 60), start, start + bytes);
}

/* Cuts the end of the line and the blanks before it off. 0 or -EINVAL. */
static int check_line(struct parser *parser, char *text, size_t bytes)
{
	static const char bom[] = "\xef\xbb\xbf";
	char *start = text;

	while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1]) && text[bytes - 1])
		bytes--;
	if (check_text(parser, text, bytes) < 0)
		return parser->result;
	text[bytes] = '\0';
	if (parser->line == 1 && strncmp(start, bom, sizeof(bom) - 1) == 0)
		start += sizeof(bom) - 1;
	start += strspn(start, " \t");
	if (*start != '[')
		return check_separator(parser, start);
	if (open_section(parser, start) < 0)
		return parser->result;
	/* The header is done: libinih must not read it again. */
	text[0] = '\0';
	return 0;
}

/* libinih's reader, with the contract of fgets(): NULL ends the file, or the reading of
 * it. */
static char *on_line(char *buffer, int size, void *context)
{
	struct parser *parser = context;
	size_t bytes = 0;
	int c = EOF;

	if (parser->result < 0)
		return NULL;
	parser->line++;
	while (bytes + 1 < (size_t)size && (c = getc_unlocked(parser->stream)) != EOF) {
		buffer[bytes++] = (char)c;
		if (c == '\n')
			break;
	}
	if (ferror(parser->stream)) {
		(void)fail(parser, parser->line, -EIO, "cannot be read: %s",
		           strerror(errno));
		return NULL;
	}
	if (bytes == 0)
		return NULL;
	if (c != '\n' && c != EOF) {
		(void)fail(parser, parser->line, -EINVAL,
		           "the line is longer than %d bytes", size - 2);
		return NULL;
	}
	buffer[bytes] = '\0';
	return check_line(parser, buffer, bytes) < 0 ? NULL : buffer;
}

static int parse(struct parser *parser)
{
	int line;

	/* Debian's libinih has these as variables of the process. */
	ini_max_line = CONFIG_LINE_BYTES_MAX + 2;
	ini_allow_multiline = false;
	ini_allow_inline_comments = false;
	ini_allow_bom = true;
	ini_stop_on_first_error = true;
	line = ini_parse_stream(on_line, parser, on_key, parser);
	if (parser->result < 0)
		return parser->result;
	if (line > 0)
		return fail(parser, (unsigned int)line, -EINVAL,
		            "is neither a [section], nor key = value, nor a # comment");
	if (line < 0)
		return fail_memory(parser);
	if (close_section(parser) < 0)
		return parser->result;
	if (parser->kind == CONFIG_FILE_MODEL && parser->n_models == 0)
		return fail(parser, parser->line, -EINVAL,
		            "the file holds no model: begin it with [model NAME]");
	/* An empty file is one that somebody is writing anew: it must not end what
	 * serves. */
	if (parser->kind != CONFIG_FILE_MODEL && parser->line == 1 &&
	    ftell(parser->stream) == 0)
		return fail(parser, parser->line, -EINVAL,
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
		.config = config, .path = path, .kind = kind, .err = err
	};
	int r;

	if (!dir)
		return -ENOMEM;
	*strrchr(dir, '/') = '\0';
	parser.dir = dir;
	r = config_file_open(path, &parser.stream, err);
	if (r < 0)
		return r;
	r = parse(&parser);
	(void)fclose(parser.stream); /* only read */
	return r;
}
