/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The checks of `moultd -t`: one exists_look_at_...() for each kind of thing that a model
 * names. Nothing of a model or an engine is executed: a model file is read as far as its
 * format (shared/model_format.h), and an engine's file is mapped for the options that it
 * declares (shared/engine_options.h). Secrets are read as a start reads them.
 */

#include "supervisor/inputs/config_exists.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/command.h"
#include "shared/engine_options.h"
#include "shared/model_format.h"
#include "shared/proto.h"
#include "supervisor/inputs/config_visit.h"
#include "supervisor/inputs/inputs.h"

struct exists {
	void (*say)(void *context, const char *why);
	void *context;
	size_t n;
	const struct config_model *model; /* NULL: [supervisor] */
};

static void exists_say(struct exists *exists, const char *key, const char *why)
{
	const struct config_model *model = exists->model;
	struct err sentence;

	if (model)
		(void)err_set(&sentence, 0, "%s:%u: [model %s]: %s: %s", model->file,
		              model->line, model->name, key, why);
	else
		(void)err_set(&sentence, 0, "[supervisor]: %s: %s", key, why);
	exists->say(exists->context, sentence.text);
	exists->n++;
}

/* A hint where @path has a "~", which a shell alone replaces; or "". */
static const char *exists_tilde(const char *path)
{
	return strstr(path, "/~") ? ": ~ is no directory here, write the path out" : "";
}

/* Whether @path is of @type (of st_mode) and open to @want (of access(2)). Where it is
 * not, says why; of a NULL @path nothing. */
static bool exists_look(struct exists *exists, const char *key, const char *path,
                        mode_t type, int want)
{
	struct err why;
	struct err storage;
	struct stat st;

	if (!path)
		return false;
	if (stat(path, &st) == 0 && (st.st_mode & S_IFMT) != type)
		(void)err_set(&why, 0, "%.200s is no %s", path,
		              type == S_IFDIR ? "directory" : "regular file");
	else if (access(path, want) < 0)
		(void)err_set(&why, 0, "%.200s: %s%s", path,
		              access_why(&storage, path, want, errno),
		              exists_tilde(path));
	else
		return true;
	exists_say(exists, key, why.text);
	return false;
}

static size_t exists_read(void *context, uint64_t at, void *buffer, size_t bytes)
{
	const int *fd = context;
	ssize_t n = pread(*fd, buffer, bytes, (off_t)at);

	return n < 0 ? 0 : (size_t)n;
}

static void exists_look_at_file(struct exists *exists)
{
	const struct config_model *model = exists->model;
	CLOSE_FD int fd = -1;
	struct err why = ERR_NULL;
	struct stat st;

	if (!model->path && strcmp(model->engine, "torch") == 0)
		exists_say(exists, "path", "engine torch needs a model file: set path");
	if (!model->path && config_is_onnx(model))
		exists_say(exists, "path", "engine onnx needs a model file: set path");
	if (!model->path && strcmp(model->engine, "aoti") == 0)
		exists_say(exists, "path", "engine aoti needs a model file: set path");
	if (!exists_look(exists, "path", model->path, S_IFREG, R_OK))
		return;
	fd = open(model->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	if (st.st_size == 0) {
		exists_say(exists, "path", "the model file is empty");
	} else {
		const struct model_file file = { exists_read, &fd, (uint64_t)st.st_size };

		if ((strcmp(model->engine, "torch") == 0 &&
		     model_format_check_torchscript(&file, &why)) ||
		    (strcmp(model->engine, "aoti") == 0 &&
		     model_format_check_aoti(&file, &why)) ||
		    (config_is_onnx(model) && model_format_check_onnx(&file, &why)))
			exists_say(exists, "path", why.text);
	}
}

/* Lists the engines in @directory, as "identity, torch". */
static void exists_list_engines(const char *directory, struct err *ret_names)
{
	DIR *dir = opendir(directory);
	const size_t head = sizeof(PROTO_ENGINE_PREFIX) - 1;
	const size_t tail = sizeof(PROTO_ENGINE_SUFFIX) - 1;
	const struct dirent *entry;
	size_t used = 0;

	ret_names->text[0] = '\0';
	while (dir && (entry = readdir(dir))) {
		size_t bytes = strlen(entry->d_name);

		if (bytes <= head + tail || used >= sizeof(ret_names->text) ||
		    strncmp(entry->d_name, PROTO_ENGINE_PREFIX, head) != 0 ||
		    strcmp(entry->d_name + bytes - tail, PROTO_ENGINE_SUFFIX) != 0)
			continue;
		used += (size_t)snprintf(ret_names->text + used,
		                         sizeof(ret_names->text) - used, "%s%.*s",
		                         used ? ", " : "", (int)(bytes - head - tail),
		                         entry->d_name + head);
	}
	if (dir)
		(void)closedir(dir);
}

static void exists_check_options(struct exists *exists, const char *declared)
{
	const struct config_model *model = exists->model;
	char key[sizeof("option.") + CONFIG_NAME_MAX];
	struct err why;

	for (size_t i = 0; i < model->n_options; i++) {
		const char *name = model->options[i].name;

		if (!engine_options_check(model->engine, declared, name, &why))
			continue;
		(void)snprintf(key, sizeof(key), "option.%s", name);
		exists_say(exists, key, why.text);
	}
}

/* Checks the model's options against those that the engine's file declares. */
static void exists_look_at_options(struct exists *exists, const char *path)
{
	CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *declared;
	struct stat st;
	void *file;

	if (exists->model->n_options == 0 || fd < 0 || fstat(fd, &st) < 0 ||
	    !S_ISREG(st.st_mode))
		return;
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file == MAP_FAILED)
		return;
	declared = engine_options_find(file, (size_t)st.st_size);
	if (declared)
		exists_check_options(exists, declared);
	(void)munmap(file, (size_t)st.st_size);
}

static void exists_look_at_engine(struct exists *exists, const struct config *config)
{
	const struct config_model *model = exists->model;
	FREE char *path = NULL;
	struct err names;
	struct err why;

	if (asprintf(&path, "%s/" PROTO_ENGINE_PREFIX "%s" PROTO_ENGINE_SUFFIX,
	             config->engine_dir, model->engine) < 0) {
		path = NULL;
		return;
	}
	if (access(path, R_OK) == 0) {
		exists_look_at_options(exists, path);
		return;
	}
	exists_list_engines(config->engine_dir, &names);
	(void)err_set(&why, 0, "there is no engine '%s' in %.150s; there are: %.200s",
	              model->engine, config->engine_dir, names.text);
	exists_say(exists, "engine", why.text);
}

static void exists_look_at_secrets(struct exists *exists)
{
	struct secrets secrets = SECRETS_NULL;
	struct err why = ERR_NULL;

	if (!exists->model->secrets)
		return;
	if (inputs_read_secrets(&secrets, exists->model, &why))
		exists_say(exists, "secrets", why.text);
	secrets_fini(&secrets);
}

/* Whether the file is JSON, and an object that has each of @members (NULL: no more). */
static void exists_look_at_json(struct exists *exists, const char *key, const char *path,
                                const char *const *members)
{
	json_error_t why_json;
	/* Numbers of any size: those that read the file for good take them. */
	json_t *json = json_load_file(path, JSON_DECODE_INT_AS_REAL, &why_json);
	struct err why = ERR_NULL;

	if (!json && json_error_code(&why_json) != json_error_out_of_memory)
		(void)err_set(&why, 0, "%.200s is no JSON: line %d: %s", path,
		              why_json.line, why_json.text);
	for (; json && *members && !*why.text; members++)
		if (!json_object_get(json, *members))
			(void)err_set(&why, 0, "%.200s has no member '%s'", path,
			              *members);
	json_decref(json);
	if (*why.text)
		exists_say(exists, key, why.text);
}

static void exists_look_at_warmup(struct exists *exists)
{
	static const char *const members[] = { "inputs", NULL };
	const struct config_model *model = exists->model;
	const char *path = model->warmup_request;
	struct err why = ERR_NULL;

	if (!exists_look(exists, "warmup_request", path, S_IFREG, R_OK))
		return;
	if (!model->route)
		exists_look_at_json(exists, "warmup_request", path, members);
	else if (!config_visit_check(model, &why))
		exists_say(exists, "warmup_request", why.text);
}

static void exists_look_at_golden(struct exists *exists)
{
	static const char *const members[] = { "request", "response", NULL };
	const char *folder = exists->model->golden;
	const struct dirent *entry;
	DIR *dir;

	if (!exists_look(exists, "golden", folder, S_IFDIR, R_OK | X_OK))
		return;
	dir = opendir(folder);
	while (dir && (entry = readdir(dir))) {
		size_t bytes = strlen(entry->d_name);
		FREE char *path = NULL;

		if (entry->d_name[0] == '.' || bytes < sizeof(".json") ||
		    strcmp(entry->d_name + bytes - 5, ".json") != 0)
			continue;
		if (asprintf(&path, "%s/%s", folder, entry->d_name) < 0)
			path = NULL;
		else if (exists_look(exists, "golden", path, S_IFREG, R_OK))
			exists_look_at_json(exists, "golden", path, members);
	}
	if (dir)
		(void)closedir(dir);
}

/* Returns where the loader looks for programs. */
static const char *exists_path_of(const struct config_model *model)
{
	for (size_t i = 0; i < model->n_environment; i++)
		if (strcmp(model->environment[i].name, "PATH") == 0)
			return model->environment[i].value;
	return getenv("PATH");
}

static void exists_look_at_command(struct exists *exists)
{
	const struct config_model *model = exists->model;
	struct command command = COMMAND_NULL;
	struct err why = ERR_NULL;
	FREE char *path = NULL;

	if (!config_is_server(model))
		return;
	if (command_init(&command, model->command, &why) < 0 ||
	    command_find(&command, exists_path_of(model), model->working_directory, &path,
	                 &why) < 0)
		exists_say(exists, "command", why.text);
	command_fini(&command);
}

/* Returns the end of the file's name in @text; NULL: that names a module. */
static const char *exists_file_end(const char *text)
{
	const char *end = text ? strstr(text, ".py") : NULL;
	size_t bytes = text ? strlen(text) : 0;

	if (end && (end[3] == '\0' || end[3] == ':'))
		return end + 3;
	if (bytes > 4 && strcmp(text + bytes - 4, ".mar") == 0)
		return text + bytes;
	return NULL;
}

/* The file that @text names: "FILE.py:NAME", "FILE.py" or "FILE.mar"; a module may lie anywhere. */
static void exists_look_at_source(struct exists *exists, const char *key,
                                  const char *text)
{
	const char *directory = exists->model->working_directory;
	const char *end = exists_file_end(text);
	FREE char *path = NULL;
	int n;

	if (!end || (*text != '/' && !directory))
		return;
	n = *text == '/' ? asprintf(&path, "%.*s", (int)(end - text), text)
	                 : asprintf(&path, "%s/%.*s", directory, (int)(end - text), text);
	if (n < 0)
		path = NULL;
	(void)exists_look(exists, key, path, S_IFREG, R_OK);
}

/* What is executed for the model, and where. */
static void exists_look_at_host(struct exists *exists)
{
	const struct config_model *model = exists->model;

	(void)exists_look(exists, "working_directory", model->working_directory, S_IFDIR,
	                  X_OK);
	(void)exists_look(exists, "python", model->python, S_IFREG, X_OK);
	exists_look_at_command(exists);
	exists_look_at_source(exists, "wsgi", model->wsgi);
	exists_look_at_source(exists, "asgi", model->asgi);
	exists_look_at_source(exists, "model", model->python_class);
}

static void exists_look_at_tensors(struct exists *exists, const char *key,
                                   const struct tensor_spec *specs, size_t n_specs)
{
	struct err why;

	for (size_t i = 0; i < n_specs; i++)
		for (size_t j = 0; j < specs[i].shape.rank; j++) {
			if (specs[i].shape.dims[j] != 0)
				continue;
			(void)err_set(
				&why, 0,
				"'%s' has a dim of 0, so that it never holds anything: "
				"-1 takes any size",
				specs[i].name);
			exists_say(exists, key, why.text);
			break;
		}
}

static void exists_look_at_model(struct exists *exists, const struct config *config)
{
	const struct config_model *model = exists->model;

	exists_look_at_engine(exists, config);
	exists_look_at_file(exists);
	exists_look_at_secrets(exists);
	exists_look_at_warmup(exists);
	exists_look_at_golden(exists);
	exists_look_at_host(exists);
	exists_look_at_tensors(exists, "input", model->inputs, model->n_inputs);
	exists_look_at_tensors(exists, "output", model->outputs, model->n_outputs);
}

size_t config_check_exists(const struct config *config,
                           void (*say)(void *context, const char *why), void *context)
{
	struct exists exists = { .say = say, .context = context };

	(void)exists_look(&exists, "loader", config->loader, S_IFREG, X_OK);
	(void)exists_look(&exists, "engine_dir", config->engine_dir, S_IFDIR, X_OK);
	for (size_t i = 0; i < config->n_models; i++) {
		exists.model = config->models[i];
		exists_look_at_model(&exists, config);
	}
	return exists.n;
}

/* Places: what moultd makes itself, in folders that somebody else makes. */

/* Whether @path is there or can be made. */
static void exists_look_at_place(struct exists *exists, const char *key, const char *path)
{
	FREE char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;
	struct err storage;
	struct err why;
	struct stat st;
	int r;

	if (!slash || stat(path, &st) == 0)
		return;
	slash[slash == folder] = '\0';
	r = stat(folder, &st) < 0 || access(folder, W_OK | X_OK) < 0 ? errno : 0;
	if (r == EACCES && stat(folder, &st) == 0 && !S_ISDIR(st.st_mode))
		r = ENOTDIR;
	if (r == 0)
		return;
	(void)err_set(&why, 0, "%.200s cannot be made: %.200s: %s%s", path, folder,
	              access_why(&storage, folder, W_OK | X_OK, r),
	              r == ENOENT ? ": create it, or name another path" : "");
	exists_say(exists, key, why.text);
}

void config_check_places(const struct config *config,
                         void (*say)(void *context, const char *why), void *context)
{
	struct exists exists = { .say = say, .context = context };
	struct stat st;

	exists_look_at_place(&exists, "control", config->control);
	exists_look_at_place(&exists, "state_dir", config->state_dir);
	if (stat(config->state_dir, &st) == 0 && !S_ISDIR(st.st_mode))
		exists_say(&exists, "state_dir", "is there, and no directory");
	if (stat(config->control, &st) == 0 && !S_ISSOCK(st.st_mode))
		exists_say(&exists, "control", "is there, and no socket");
	if (config->access_log[0] != '/')
		return;
	exists_look_at_place(&exists, "access_log", config->access_log);
	if (stat(config->access_log, &st) == 0 && S_ISDIR(st.st_mode))
		exists_say(&exists, "access_log", "is a directory");
}
