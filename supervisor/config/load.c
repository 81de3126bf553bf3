/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Loads a configuration whole: defaults, the main file, the files of models_dir, what
 * no file says, and checks across sections.
 *
 * config_load() fills a fresh struct and drops it at the first error, so a half-read
 * configuration never exists outside. Reading a single file is file.c.
 */

#include "supervisor/config/config.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/proto.h"
#include "supervisor/config/file.h"
#include "supervisor/repository/folder.h"

/* Engine that is always built: its folder is that of all engines. */
#define ENGINE_PROBE "moult-engine-identity.so"

/* Finds @name beside the running program, where it can be read, or else takes
 * @fallback: so a build tree runs as it is, and so does an installation in another
 * place than it was configured for. The caller frees *ret_path. 0 or -ENOMEM. */
static int find_beside(const char *name, const char *fallback, char **ret_path)
{
	FREE char *path = NULL;
	char exe[PATH_MAX];
	ssize_t bytes = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	exe[bytes > 0 ? bytes : 0] = '\0';
	slash = strrchr(exe, '/');
	if (slash) {
		*slash = '\0';
		if (asprintf(&path, "%s/%s", exe, name) < 0) {
			path = NULL;
			return -ENOMEM;
		}
	}
	if (!path || access(path, R_OK) < 0)
		*ret_path = strdup(fallback);
	else
		*ret_path = take_ptr(&path);
	return *ret_path ? 0 : -ENOMEM;
}

/* Finds the folder of the engines: the program's own in a build tree. */
static int find_engines(char **ret_path)
{
	static const char *const places[] = { ENGINE_PROBE,
		                              MOULT_ENGINES_FROM_HERE "/" ENGINE_PROBE };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		FREE char *engine = NULL;

		if (find_beside(places[i], "/", &engine) < 0)
			return -ENOMEM;
		*strrchr(engine, '/') = '\0';
		*ret_path = *engine ? realpath(engine, NULL) : NULL;
		if (*ret_path)
			return 0;
	}
	*ret_path = strdup(MOULT_ENGINE_DIR);
	return *ret_path ? 0 : -ENOMEM;
}

int config_find_helper(const char *name, char **ret_path)
{
	FREE char *installed = NULL;

	if (asprintf(&installed, "%s/%s", MOULT_HELPER_DIR, name) < 0) {
		installed = NULL;
		return -ENOMEM;
	}
	return find_beside(name, installed, ret_path);
}

int config_set_places(struct config *config, const char *loader, const char *engine_dir)
{
	config->loader = strdup(loader);
	config->engine_dir = strdup(engine_dir);
	return config->loader && config->engine_dir ? 0 : -ENOMEM;
}

static int fill_places(struct config *config)
{
	int r = 0;

	if (!config->loader)
		r = find_beside("moult-loader", MOULT_LOADER_PATH, &config->loader);
	if (r == 0 && !config->engine_dir)
		r = find_engines(&config->engine_dir);
	return r;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_model_file(const struct dirent *entry)
{
	size_t bytes = strlen(entry->d_name);

	return entry->d_name[0] != '.' && bytes > 5 &&
	       strcmp(entry->d_name + bytes - 5, ".conf") == 0;
}

static int read_model_file(struct config *config, const char *name, struct err *err)
{
	FREE char *path = NULL;
	struct stat status;

	if (asprintf(&path, "%s/%s", config->models_dir, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	/* A link may hang for a moment while a volume is swapped: reading it reports
	 * that. */
	if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
		return 0;
	return config_file_read(config, path, CONFIG_FILE_MODEL, err);
}

static int read_models_dir(struct config *config, struct err *err)
{
	struct dirent **entries;
	int n = scandir(config->models_dir, &entries, is_model_file, by_name);
	int r = 0;

	if (n < 0)
		return err_set(err, -errno,
		               "%s: models_dir: %s: %s: %s, or take the key out",
		               config->file, config->models_dir,
		               access_why(&(struct err)ERR_NULL, config->models_dir,
		                          R_OK | X_OK, errno),
		               errno == ENOENT ? "create it" : "name another");
	config->n_in_dir = (size_t)n;
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = read_model_file(config, entries[i]->d_name, err);
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* Adds the section of @model, as if it stood in a file of models_dir. */
static int read_repository_model(struct config *config, const struct folder_model *model,
                                 struct err *err)
{
	FREE char *text = NULL;
	struct err why = ERR_NULL;
	int r;

	if (asprintf(&text, "[model %s]\n%s", model->name, model->section) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	r = config_read_text(config, text, CONFIG_FILE_MODEL, &why);
	if (r < 0) {
		/* Lines are those of a text that nobody has seen. */
		const char *sentence = strstr(why.text, ": ");

		return err_set(err, r, "%s: %s", model->origin,
		               sentence ? sentence + 2 : why.text);
	}
	if (model->doubts) {
		char **doubts = &config->models[config->n_models - 1]->doubts;

		*doubts = strdup(model->doubts);
		if (!*doubts)
			return -ENOMEM;
	}
	return config_file_set_origin(config, model->origin, 1);
}

static int read_repository(struct config *config, struct err *err)
{
	const struct folder_ask ask = {
		.path = config->model_repository,
		.name = config->model_repository_name,
		.python = config->model_repository_python,
	};
	struct folder_list *list = NULL;
	struct err why = ERR_NULL;
	int r = folder_read(&list, &ask, &why);

	if (r < 0)
		return err_set(err, r, "%s: model_repository: %s", config->file,
		               why.text);
	config->n_in_repository = list->n_models;
	for (size_t i = 0; r == 0 && i < list->n_models; i++)
		r = read_repository_model(config, &list->models[i], err);
	folder_free(list);
	return r;
}

/* Its keys mean nothing without it. */
static int check_repository(const struct config *config, struct err *err)
{
	if (config->model_repository ||
	    (!config->model_repository_name && !config->model_repository_python))
		return 0;
	return err_set(err, -EINVAL,
	               "%s: %s: there is no model_repository: name its folder, or leave "
	               "the key out",
	               config->file,
	               config->model_repository_name ? "model_repository_name"
	                                             : "model_repository_python");
}

/* The LOAD message is the one place where a model's settings meet a limit together. */
static int check_payload(const struct config *config, const struct config_model *model,
                         struct err *err)
{
	FREE char *json =
		config_model_to_json(config, model, (struct config_manner){ 0 });

	if (!json)
		return -ENOMEM;
	if (strlen(json) > PROTO_PAYLOAD_MAX)
		return err_set(
			err, -EINVAL,
			"%s:%u: [model %s]: its settings take %zu bytes as JSON: at "
			"most %d are allowed, so shorten the options",
			model->file, model->line, model->name, strlen(json),
			PROTO_PAYLOAD_MAX);
	return 0;
}

/* A mistyped name would keep the whole from being ready for ever. */
static int check_ready(const struct config *config, struct err *err)
{
	if (config_ready_is_all(config) || config_ready_is_any(config))
		return 0;
	for (size_t i = 0; i < config->n_ready; i++)
		if (!config_find(config, config->ready[i]))
			return err_set(
				err, -EINVAL,
				"%s: ready names '%s', and there is no such model: "
				"say all, any, or names of models",
				config->file, config->ready[i]);
	return 0;
}

/* One without the other would be plain HTTP where somebody wanted TLS. */
static int check_tls(const struct config *config, struct err *err)
{
	const char *key = config->tls_key ? "tls_key" : "tls_client_ca";

	if (config->tls_certificate && !config->tls_key)
		return err_set(err, -EINVAL,
		               "%s: tls_certificate: its private key is missing: name "
		               "the file with tls_key",
		               config->file);
	if (!config->tls_certificate && (config->tls_key || config->tls_client_ca))
		return err_set(err, -EINVAL,
		               "%s: %s: there is no TLS without a certificate: name the "
		               "file with tls_certificate",
		               config->file, key);
	return 0;
}

/* Nobody would be believed. */
static int check_proxies(const struct config *config, struct err *err)
{
	if (config->proxy_protocol == CONFIG_PROXY_NO || config->trusted_proxies)
		return 0;
	return err_set(err, -EINVAL,
	               "%s: proxy_protocol: whom to believe is missing: name the proxies "
	               "with trusted_proxies",
	               config->file);
}

/* Lines among moultd's own have the form of these. */
static int check_access_log(const struct config *config, struct err *err)
{
	if (config->access_log_format == CONFIG_ACCESS_JSON &&
	    config->access_log[0] != '/')
		return err_set(err, -EINVAL,
		               "%s: access_log_format: json is for a file: name one with "
		               "access_log, or leave the format out",
		               config->file);
	return 0;
}

/* Two listeners at one address; a port that the kernel chooses is never the same. */
static bool is_taken(const char *address, const char *other)
{
	const char *colon = strrchr(address, ':');

	return other && strcmp(address, other) == 0 && colon && strcmp(colon, ":0") != 0;
}

static int check_listeners(const struct config *config, struct err *err)
{
	const struct {
		const char *key;
		const char *address;
		const char *other_key;
		const char *other;
	} rows[] = {
		{ "admin_listen", config->admin_listen, "listen", config->listen },
		{ "grpc_listen", config->grpc_listen, "listen", config->listen },
		{ "grpc_listen", config->grpc_listen, "admin_listen",
		  config->admin_listen },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].address && is_taken(rows[i].address, rows[i].other))
			return err_set(err, -EINVAL,
			               "%s: %s: %s is where %s is: choose another port",
			               config->file, rows[i].key, rows[i].address,
			               rows[i].other_key);
	return 0;
}

static bool is_list_of_tokens(char *const *names, size_t n)
{
	return n != 1 || (strcmp(names[0], CONFIG_TOKENS_ALL) != 0 &&
	                  strcmp(names[0], CONFIG_TOKENS_ANYBODY) != 0);
}

/* Names of tokens where nobody is asked for one would let everybody in. */
static int check_tokens(const struct config *config, struct err *err)
{
	if (config->tokens)
		return 0;
	if (is_list_of_tokens(config->metrics_tokens, config->n_metrics_tokens))
		return err_set(err, -EINVAL,
		               "%s: metrics_tokens: there are no tokens: name their "
		               "directory with tokens in [supervisor]",
		               config->file);
	if (config->n_repository_tokens > 0 &&
	    strcmp(config->repository_tokens[0], CONFIG_TOKENS_NOBODY) != 0 &&
	    is_list_of_tokens(config->repository_tokens, config->n_repository_tokens))
		return err_set(err, -EINVAL,
		               "%s: repository_tokens: there are no tokens: name their "
		               "directory with tokens in [supervisor], or say anybody or "
		               "nobody",
		               config->file);
	for (size_t i = 0; i < config->n_models; i++) {
		const struct config_model *model = config->models[i];
		bool is_infer =
			is_list_of_tokens(model->infer_tokens, model->n_infer_tokens);

		if (is_infer ||
		    is_list_of_tokens(model->metadata_tokens, model->n_metadata_tokens))
			return err_set(err, -EINVAL,
			               "%s:%u: [model %s]: %s: there are no tokens: name "
			               "their directory with tokens in [supervisor]",
			               model->file, model->line, model->name,
			               is_infer ? "infer_tokens" : "metadata_tokens");
	}
	return 0;
}

/* True: @model has @bytes of @prefix among its routes. */
static bool has_route(const struct config_model *model, const char *prefix, size_t bytes)
{
	const char *cursor = model->route ? model->route : "";
	const char *one;
	size_t n;

	while (config_list_next(&cursor, &one, &n))
		if (n == bytes && memcmp(one, prefix, n) == 0)
			return true;
	return false;
}

/* Of two models with one prefix, one would never be asked. */
static int check_routes(const struct config *config, struct err *err)
{
	for (size_t i = 0; i < config->n_models; i++) {
		const struct config_model *model = config->models[i];
		const char *cursor = model->route ? model->route : "";
		const char *one;
		size_t bytes;

		while (config_list_next(&cursor, &one, &bytes))
			for (size_t j = 0; j < i; j++)
				if (has_route(config->models[j], one, bytes))
					return err_set(
						err, -EINVAL,
						"%s:%u: [model %s]: route: %.*s is "
						"[model %s]'s already: give each its "
						"own prefix",
						model->file, model->line, model->name,
						(int)bytes, one, config->models[j]->name);
	}
	return 0;
}

/* A model's user comes from its name alone, so that files that it wrote stay its own. */
static int check_users(const struct config *config, struct err *err)
{
	for (size_t i = 0; config->loader_users && i < config->n_models; i++) {
		const struct config_model *model = config->models[i];
		uint32_t user = config_user_of(config, model->name);

		for (size_t j = 0; j < i; j++)
			if (config_user_of(config, config->models[j]->name) == user)
				return err_set(
					err, -EINVAL,
					"%s:%u: [model %s]: of loader_users it would "
					"have the same user (%u) as [model %s]: name a "
					"larger range, or the model otherwise",
					model->file, model->line, model->name, user,
					config->models[j]->name);
	}
	return 0;
}

static bool is_secrets_reload_disabled(void)
{
	const char *text = getenv("MOULT_DISABLE_SECRETS_RELOAD");

	return text && (strcmp(text, "1") == 0 || strcasecmp(text, "true") == 0 ||
	                strcasecmp(text, "yes") == 0);
}

int config_complete(struct config *config, struct err *err)
{
	int r = fill_places(config);

	for (size_t i = 0; r == 0 && i < config->n_models; i++) {
		if (is_secrets_reload_disabled())
			config->models[i]->disable_secrets_reload = true;
		r = check_payload(config, config->models[i], err);
	}
	return r;
}

static int load(struct config *config, struct err *err)
{
	int r = config_set_all_defaults(config, err);

	if (r == 0)
		r = config_file_read(config, config->file, CONFIG_FILE_MAIN, err);
	if (r == 0 && config->models_dir)
		r = read_models_dir(config, err);
	if (r == 0)
		r = check_repository(config, err);
	if (r == 0 && config->model_repository)
		r = read_repository(config, err);
	if (r == 0)
		r = check_ready(config, err);
	if (r == 0)
		r = check_routes(config, err);
	if (r == 0)
		r = check_users(config, err);
	if (r == 0)
		r = check_listeners(config, err);
	if (r == 0)
		r = check_access_log(config, err);
	if (r == 0)
		r = check_tls(config, err);
	if (r == 0)
		r = check_proxies(config, err);
	if (r == 0)
		r = check_tokens(config, err);
	return r < 0 ? r : config_complete(config, err);
}

int config_make_absolute(const char *file, char **ret_path)
{
	FREE char *cwd = NULL;

	if (file[0] == '/') {
		*ret_path = strdup(file);
		return *ret_path ? 0 : -ENOMEM;
	}
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return -errno;
	if (asprintf(ret_path, "%s/%s", cwd, file) < 0) {
		*ret_path = NULL;
		return -ENOMEM;
	}
	return 0;
}

int config_load(struct config **ret_config, const char *file, struct err *err)
{
	struct config *config = NULL;
	FREE char *path = NULL;
	int r = config_make_absolute(file, &path);

	if (r == 0)
		r = config_new(&config, path);
	if (r == 0)
		r = load(config, err);
	if (r < 0) {
		config_unref(config);
		return r == -ENOMEM ? err_set(err, r, "%s: out of memory", file) : r;
	}
	*ret_config = config;
	return 0;
}
