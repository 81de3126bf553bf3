/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The kept configuration is one manifest (keep.h): a text for what is no model's, and a
 * text for each model. Both are printed from the values in use, so that reading them back
 * needs none of the administrator's files. Loading has to find state_dir before any
 * configuration can be read: config_kept_scan() looks for that one key, line by line.
 */

#include "supervisor/keep/config_kept.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "supervisor/config/file.h"
#include "supervisor/config/value.h"
#include "supervisor/keep/keep.h"

/* The name of no model begins with a dot. */
#define CONFIG_KEPT_DIR    ".config"
#define CONFIG_KEPT_FORMAT 1

/* Keeping */

static json_t *config_kept_model_to_json(const struct config_model *section)
{
	FREE char *text = config_model_to_text(section);

	return text ? json_pack("{s:s, s:i, s:s}", "file", section->file, "line",
	                        (int)section->line, "section", text)
	            : NULL;
}

char *config_kept_print(const struct config_kept *kept)
{
	FREE char *head = config_head_to_text(kept->config);
	json_t *models = json_array();
	json_t *json = NULL;
	int failed = 0;
	char *text = NULL;

	for (size_t i = 0; i < kept->n_sections; i++)
		failed |= json_array_append_new(
			models, config_kept_model_to_json(kept->sections[i]));
	/* json_pack() takes the models, also when it fails. */
	if (head)
		json = json_pack("{s:i, s:s, s:s, s:o}", "format", CONFIG_KEPT_FORMAT,
		                 "file", kept->config->file, "head", head, "models",
		                 models);
	else
		json_decref(models);
	if (json && !failed)
		text = json_dumps(json, JSON_INDENT(1) | JSON_SORT_KEYS);
	json_decref(json);
	return text;
}

static int config_kept_save_in(int dir_fd, const char *text, uint64_t number)
{
	int r = keep_lock(dir_fd);

	if (r == 0 && *text)
		r = keep_write_manifest(dir_fd, text, number);
	if (r == 0)
		keep_sweep(dir_fd, *text ? KEEP_MANIFESTS : 0);
	return r;
}

int config_kept_save(const char *state_dir, const char *text, uint64_t number,
                     struct err *err)
{
	CLOSE_FD int dir_fd =
		keep_open(state_dir, CONFIG_KEPT_DIR, *text ? KEEP_MAKE : KEEP_LOOK, err);
	int r;

	if (dir_fd < 0)
		return dir_fd == -ENOENT && !*text ? 0 : dir_fd;
	r = config_kept_save_in(dir_fd, text, number);
	return r < 0 ? err_set(err, r, "%s/" KEEP_DIR "/" CONFIG_KEPT_DIR ": %s",
	                       state_dir, strerror(-r))
	             : 0;
}

/* Taking out */

static int config_kept_read_model(struct config *config, const json_t *model,
                                  struct err *err)
{
	const char *text = keep_text(model, "section");
	const char *file = keep_text(model, "file");
	json_int_t line = json_integer_value(json_object_get(model, "line"));
	int r = text && file ? config_read_text(config, text, CONFIG_FILE_MODEL, err)
	                     : err_set(err, -EBADMSG, "a model is no section");

	return r < 0 ? r : config_file_set_origin(config, file, (unsigned int)line);
}

static int config_kept_read(struct config *config, const json_t *json, struct err *err)
{
	const char *head = keep_text(json, "head");
	json_t *models = json_object_get(json, "models");
	const json_t *model;
	size_t i;
	int r;

	if (!head)
		return err_set(err, -EBADMSG, "it holds no configuration");
	r = config_set_all_defaults(config, err);
	if (r == 0)
		r = config_read_text(config, head, CONFIG_FILE_MAIN, err);
	json_array_foreach(models, i, model)
	{
		if (r == 0)
			r = config_kept_read_model(config, model, err);
	}
	return r < 0 ? r : config_complete(config, err);
}

/* Builds a configuration from @json if it was kept of @file (absolute); another moultd's
 * is none of ours. */
static int config_kept_build(struct config **ret_config, const json_t *json,
                             const char *file, struct err *err)
{
	const char *kept_file = keep_text(json, "file");
	struct config *config = NULL;
	int r;

	if (!kept_file || strcmp(kept_file, file) != 0)
		return err_set(err, -ENOENT, "it was kept of another file, %s",
		               kept_file ? kept_file : "?");
	r = config_new(&config, file);
	if (r == 0)
		r = config_kept_read(config, json, err);
	if (r < 0) {
		config_unref(config);
		return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
	}
	*ret_config = config;
	return 0;
}

static int config_kept_load_from(struct config **ret_config, const char *state_dir,
                                 const char *file, struct err *err)
{
	CLOSE_FD int dir_fd = keep_open(state_dir, CONFIG_KEPT_DIR, KEEP_LOOK, err);
	struct keep_entry entries[KEEP_LIST_MAX];
	size_t n;
	int r = -ENOENT;

	if (dir_fd < 0)
		return dir_fd;
	n = keep_list(dir_fd, entries, KEEP_LIST_MAX);
	for (size_t i = 0; r < 0 && i < n; i++) {
		json_t *json = keep_read_manifest(dir_fd, &entries[i], err);

		r = json ? config_kept_build(ret_config, json, file, err) : -EBADMSG;
		json_decref(json);
	}
	return r;
}

/* The value of key @name in @line, or NULL. The section is not looked at: the file may be
 * damaged anywhere. */
static char *config_kept_value(char *line, const char *name)
{
	char *text = line + strspn(line, " \t");
	size_t bytes = strlen(name);

	if (strncmp(text, name, bytes) != 0)
		return NULL;
	text += bytes;
	text += strspn(text, " \t");
	if (*text++ != '=')
		return NULL;
	text += strspn(text, " \t");
	bytes = strlen(text);
	while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1]))
		bytes--;
	text[bytes] = '\0';
	return text;
}

/* Reads state_dir from @file, line by line to the end, whatever else is wrong there. */
static void config_kept_scan(struct config *config, const char *file,
                             const struct config_key *key)
{
	FREE char *dir = strdup(file);
	FREE char *line = NULL;
	FILE *stream = NULL;
	size_t size = 0;

	if (!dir || config_file_open(file, &stream, NULL) < 0)
		return;
	*strrchr(dir, '/') = '\0';
	while (getline(&line, &size, stream) > 0) {
		struct config_setting setting = { .name = key->name, .dir = dir };

		setting.text = config_kept_value(line, key->name);
		if (setting.text)
			(void)config_value_set(key, config, &setting, NULL);
	}
	(void)fclose(stream); /* only read */
}

int config_kept_load(struct config **ret_config, const char *file, struct err *err)
{
	const struct config_key *key =
		config_table_find(&config_supervisor_table, "state_dir");
	const char *several = getenv("STATE_DIRECTORY");
	FREE char *first = several ? strndup(several, strcspn(several, ":")) : NULL;
	FREE char *path = NULL;
	struct config said = { .n_models = 0 };
	int r = config_make_absolute(file, &path);

	if (r < 0)
		return err_set(err, r, "%s: %s", file, strerror(-r));
	config_kept_scan(&said, path, key);
	const char *const places[] = { said.state_dir, first, key->fallback };

	/* A damaged one is reported, not passed over. */
	r = -ENOENT;
	for (size_t i = 0; r == -ENOENT && i < sizeof(places) / sizeof(places[0]); i++)
		if (places[i] && places[i][0] == '/')
			r = config_kept_load_from(ret_config, places[i], path, err);
	config_value_fini(key, &said);
	return r;
}
