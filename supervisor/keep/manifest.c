/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A manifest is JSON with a model's section as text and the digests of the files beside
 * it. manifest_save() runs in a writer process: it locks the folder, writes secrets if
 * they are to be kept, links the weights, and writes the manifest last. manifest_load()
 * tries the manifests, the newest first, and builds inputs from the first that holds
 * together.
 */

#include "supervisor/keep/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/keep/keep.h"

/* Keeping */

/* Keeps the weights as a hard link, where the file system and the file's owner allow one;
 * then the content is to outlive a power cut, too. Otherwise the section's path must
 * do. */
static void manifest_link_weights(int dir_fd, const struct inputs *inputs)
{
	char name[KEEP_NAME_MAX];

	if (inputs->weights_fd < 0)
		return;
	keep_name(name, "weights", inputs->weights_sha256);
	if (keep_link(dir_fd, name, inputs->weights_fd) == 0)
		(void)fsync(inputs->weights_fd);
}

/* Names the file by the digest of its content, read back from memory. Writes even when the
 * file is there: it may be damaged. */
static int manifest_save_secrets(int dir_fd, const struct inputs *inputs,
                                 char *ret_sha256)
{
	char name[KEEP_NAME_MAX];
	struct memfd map;
	int r = secrets_map(&inputs->secrets, &map);

	if (r < 0)
		return r;
	keep_digest(map.base, map.size_bytes, ret_sha256);
	keep_name(name, "secrets", ret_sha256);
	r = keep_write(dir_fd, name, map.base, map.size_bytes);
	memfd_fini(&map);
	return r;
}

static char *manifest_print(const struct inputs *inputs, const char *secrets_sha256)
{
	FREE char *section = config_model_to_text(inputs->section);
	json_t *json = NULL;
	char *text;

	if (section)
		json = json_pack("{s:i, s:s, s:s*, s:s*}", "format", 1, "section",
		                 section, "weights_sha256",
		                 inputs->weights_fd < 0 ? NULL : inputs->weights_sha256,
		                 "secrets_sha256",
		                 *secrets_sha256 ? secrets_sha256 : NULL);
	text = json ? json_dumps(json, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
	json_decref(json);
	return text;
}

static int manifest_save_in(int dir_fd, const struct inputs *inputs, bool with_secrets,
                            uint64_t number)
{
	char sha256[KEEP_SHA256_HEX] = "";
	FREE char *text = NULL;
	int r;

	/* The loader computed the digest: do not trust it. */
	if (inputs->weights_fd >= 0 && !keep_is_digest(inputs->weights_sha256))
		return -EBADMSG;
	r = keep_lock(dir_fd);
	if (r == 0 && with_secrets && inputs->secrets.count > 0)
		r = manifest_save_secrets(dir_fd, inputs, sha256);
	if (r < 0)
		return r;
	manifest_link_weights(dir_fd, inputs);
	text = manifest_print(inputs, sha256);
	if (!text)
		return -ENOMEM;
	r = keep_write_manifest(dir_fd, text, number);
	if (r == 0)
		keep_sweep(dir_fd, KEEP_MANIFESTS);
	return r;
}

int manifest_link(const char *state_dir, const struct inputs *inputs,
                  struct stat *ret_before, struct stat *ret_after)
{
	CLOSE_FD int dir_fd = -1;
	char name[KEEP_NAME_MAX];
	int r;

	if (inputs->weights_fd < 0 || !keep_is_digest(inputs->weights_sha256))
		return -ENOENT;
	dir_fd = keep_open(state_dir, inputs->section->name, KEEP_MAKE_SOON, NULL);
	if (dir_fd < 0)
		return dir_fd;
	keep_name(name, "weights", inputs->weights_sha256);
	if (fstat(inputs->weights_fd, ret_before) < 0)
		return -errno;
	r = keep_link_soon(dir_fd, name, inputs->weights_fd);
	if (r == 0 && fstat(inputs->weights_fd, ret_after) < 0)
		r = -errno;
	return r;
}

int manifest_save(const char *state_dir, const struct inputs *inputs, bool with_secrets,
                  uint64_t number, struct err *err)
{
	CLOSE_FD int dir_fd = keep_open(state_dir, inputs->section->name, KEEP_MAKE, err);
	int r;

	if (dir_fd < 0)
		return dir_fd;
	r = manifest_save_in(dir_fd, inputs, with_secrets, number);
	return r < 0 ? err_set(err, r, "%s/" KEEP_DIR "/%s: %s", state_dir,
	                       inputs->section->name, strerror(-r))
	             : 0;
}

/* Taking out */

/* Opens the kept weights, or else the section's path. An fd, -1: the manifest names none,
 * or -errno. */
static int manifest_open_weights(int dir_fd, const json_t *json, const char *path)
{
	const char *sha256 = keep_text(json, "weights_sha256");
	char name[KEEP_NAME_MAX];
	int fd;

	if (!sha256 || !path)
		return -1;
	keep_name(name, "weights", sha256);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

static int manifest_take_secrets(struct secrets *ret_secrets, int dir_fd,
                                 const json_t *json, const char *directory,
                                 struct err *err)
{
	const char *sha256 = keep_text(json, "secrets_sha256");
	char found[KEEP_SHA256_HEX];
	char name[KEEP_NAME_MAX];
	CLOSE_FD int fd = -1;
	struct memfd map;
	int r;

	if (!sha256)
		return secrets_read(ret_secrets, directory, err);
	keep_name(name, "secrets", sha256);
	fd = keep_open_file(dir_fd, name, true);
	if (fd == -EPERM)
		return err_set(err, fd,
		               "the kept secrets belong to another user, or others can "
		               "read them");
	r = fd < 0 ? fd : secrets_load(ret_secrets, fd);
	if (r == 0)
		r = secrets_map(ret_secrets, &map);
	if (r == 0) {
		keep_digest(map.base, map.size_bytes, found);
		r = map.size_bytes > 0 && strcmp(found, sha256) == 0 ? 0 : -EBADMSG;
		memfd_fini(&map);
	}
	return r < 0 ? err_set(err, r, "the kept secrets: %s", strerror(-r)) : 0;
}

static int manifest_build(struct inputs **ret_inputs, int dir_fd, const json_t *json,
                          struct config *config, struct err *err)
{
	const struct config_model *section = config->models[0];
	const char *sha256 = keep_text(json, "weights_sha256");
	struct secrets secrets = SECRETS_NULL;
	int fd;
	int r = manifest_take_secrets(&secrets, dir_fd, json, section->secrets, err);

	if (r)
		return r;
	fd = manifest_open_weights(dir_fd, json, section->path);
	if (sha256 && fd < 0) {
		secrets_fini(&secrets);
		return err_set(err, fd, "the kept model file: %s", strerror(-fd));
	}
	r = inputs_of(ret_inputs, config, section, &secrets, fd);
	if (r < 0)
		return err_set(err, r, "%s", strerror(-r));
	inputs_learn_proven(*ret_inputs); /* only what was proven is kept */
	/* The loader hashes what it reads and refuses another file. */
	if (sha256)
		inputs_learn_hash(*ret_inputs, sha256);
	return 0;
}

static int manifest_try(struct inputs **ret_inputs, int dir_fd,
                        const struct keep_entry *entry, const char *model,
                        const struct config *like, struct err *err)
{
	json_t *json = keep_read_manifest(dir_fd, entry, err);
	const char *section = keep_text(json, "section");
	struct config *config = NULL;
	int r = -EBADMSG;

	if (section)
		r = config_of_section(&config, like, section, err);
	else if (json)
		(void)err_set(err, r, "%s holds no section", entry->name);
	/* The code says that moultd wrote it, and not in which folder. */
	if (r == 0 && strcmp(config->models[0]->name, model) != 0)
		r = err_set(err, -EBADMSG, "%s is another model's", entry->name);
	if (r == 0)
		r = manifest_build(ret_inputs, dir_fd, json, config, err);
	config_unref(config);
	json_decref(json);
	return r;
}

int manifest_load(struct inputs **ret_inputs, const char *state_dir, const char *model,
                  const struct config *like, struct err *err)
{
	CLOSE_FD int dir_fd = keep_open(state_dir, model, KEEP_LOOK, err);
	struct keep_entry entries[KEEP_LIST_MAX];
	size_t n;

	if (dir_fd == -ENOENT)
		err->text[0] = '\0';
	if (dir_fd < 0)
		return MANIFEST_E_NONE;
	err->text[0] = '\0';
	n = keep_list(dir_fd, entries, KEEP_LIST_MAX);
	for (size_t i = 0; i < n; i++)
		if (manifest_try(ret_inputs, dir_fd, &entries[i], model, like, err) == 0)
			return 0;
	return MANIFEST_E_NONE;
}

static bool manifest_is_wanted(const void *context, const char *name)
{
	return config_find(context, name) != NULL;
}

void manifest_prune(const char *state_dir, const struct config *config)
{
	keep_prune(state_dir, manifest_is_wanted, config);
}
