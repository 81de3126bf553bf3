/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/config/strict.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"

struct strict {
	void (*say)(void *context, const char *why);
	void *context;
};

int strict_check_file(const char *path, const struct stat *st, struct err *err)
{
	struct err owner;
	struct err own;

	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(
			err, -EPERM,
			"%s: belongs to user %.40s, and whoever owns it decides what "
			"runs as user %.40s: chown it to that user or to root",
			path, access_user(&owner, st->st_uid),
			access_user(&own, geteuid()));
	if (st->st_mode & S_IWOTH)
		return err_set(
			err, -EPERM,
			"%s: everybody may write to it (mode %04o), and it decides "
			"what runs as user %.40s: chmod o-w it",
			path, (unsigned int)(st->st_mode & 07777),
			access_user(&own, geteuid()));
	return 0;
}

static void strict_look(const struct strict *strict, const char *what, const char *path)
{
	struct stat st;
	struct err why;

	/* With the sticky bit files of others are theirs alone, but moultd reads them
	 * all the same. */
	if (!path || stat(path, &st) < 0 || !(st.st_mode & S_IWOTH))
		return;
	(void)err_set(&why, 0,
	              "%s %.300s: everybody may write there (mode %04o): chmod o-w it",
	              what, path, (unsigned int)(st.st_mode & 07777));
	strict->say(strict->context, why.text);
}

/* Kubernetes' links lead through ..data, which lies inside. */
static void strict_look_at_secret(const struct strict *strict, const char *directory,
                                  const char *name)
{
	char path[PATH_MAX];
	FREE char *inside = realpath(directory, NULL);
	FREE char *target = NULL;
	struct stat st;
	struct err why;
	size_t bytes;

	if (!inside || (size_t)snprintf(path, sizeof(path), "%s/%s", directory, name) >=
	                       sizeof(path))
		return;
	if (lstat(path, &st) < 0 || !S_ISLNK(st.st_mode))
		return;
	target = realpath(path, NULL);
	bytes = strlen(inside);
	if (!target || (strncmp(target, inside, bytes) == 0 && target[bytes] == '/'))
		return;
	(void)err_set(
		&why, 0,
		"secret %.150s is a link to %.150s, outside of its directory: whoever "
		"may write there decides about it, and a change there is seen late",
		path, target);
	strict->say(strict->context, why.text);
}

static void strict_look_at_secrets(const struct strict *strict, const char *directory)
{
	DIR *dir = directory ? opendir(directory) : NULL;
	const struct dirent *entry;

	strict_look(strict, "secrets directory", directory);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			strict_look_at_secret(strict, directory, entry->d_name);
	if (dir)
		(void)closedir(dir);
}

void strict_check(const struct config *config,
                  void (*say)(void *context, const char *why), void *context)
{
	const struct strict strict = { say, context };

	strict_look(&strict, "models_dir", config->models_dir);
	strict_look(&strict, "model_repository", config->model_repository);
	strict_look(&strict, "state_dir", config->state_dir);
	strict_look(&strict, "engine_dir", config->engine_dir);
	strict_look(&strict, "loader", config->loader);
	strict_look(&strict, "tls_certificate", config->tls_certificate);
	strict_look(&strict, "tls_key", config->tls_key);
	strict_look(&strict, "tls_client_ca", config->tls_client_ca);
	strict_look_at_secrets(&strict, config->tokens);
	for (size_t i = 0; i < config->n_models; i++) {
		const struct config_model *model = config->models[i];
		bool is_known = false;

		for (size_t j = 0; j < i; j++)
			is_known |=
				model->secrets && config->models[j]->secrets &&
				strcmp(config->models[j]->secrets, model->secrets) == 0;
		strict_look(&strict, "model file", model->path);
		strict_look(&strict, "golden directory", model->golden);
		if (!is_known)
			strict_look_at_secrets(&strict, model->secrets);
	}
}
