/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/enclosure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"

static enum walls_mode enclosure_mode(const struct model_config *config)
{
	const char *mode = config->sandbox ? config->sandbox : "strict";

	if (strcmp(mode, "off") == 0)
		return WALLS_OFF;
	if (strcmp(mode, "open") == 0)
		return WALLS_OPEN;
	return strcmp(mode, "net") == 0 ? WALLS_NET : WALLS_STRICT;
}

/* Allows each of @paths ("/a, /b"), all of which must be there. */
static int enclosure_add_paths(struct walls *walls, const char *key, const char *paths,
                               void (*allow)(struct walls *walls, const char *path),
                               struct err *err)
{
	FREE char *text = paths ? strdup(paths) : NULL;
	char *rest = text;
	const char *path;

	if (paths && !text)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	while (rest && (path = strsep(&rest, ", "))) {
		if (*path == '\0')
			continue;
		if (access(path, F_OK) < 0)
			return err_set(err, ENGINE_E_CONFIG,
			               "%s: '%s' cannot be opened: %s: make it, or take "
			               "it out of the line",
			               key, path, strerror(errno));
		allow(walls, path);
	}
	return 0;
}

/* What the section names is the model's: its file, its folder, and what is asked of it. */
static int enclosure_add_section(struct walls *walls, const struct model_config *config,
                                 struct err *err)
{
	const char *const paths[] = { config->engine_dir, config->path, config->golden,
		                      config->warmup_request, config->working_directory };
	int r;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (paths[i] && strcmp(paths[i], "/") != 0)
			walls_read(walls, paths[i]);
	r = enclosure_add_paths(walls, "sandbox_read", config->sandbox_read, walls_read,
	                        err);
	return r ? r
	         : enclosure_add_paths(walls, "sandbox_write", config->sandbox_write,
	                               walls_write, err);
}

static int enclosure_make_folder(struct walls *walls, char path[SERVER_FOLDER_MAX],
                                 int *ret_fd, enum server_folder_use use, struct err *err)
{
	int r = server_folder_make(use, path, ret_fd);

	if (r < 0)
		return err_set(err, ENGINE_E_FAILED,
		               "no folder of the loader's own can be made in /dev/shm, "
		               "$TMPDIR or /tmp (%s): make one of them writable",
		               strerror(-r));
	walls_own(walls, path);
	return 0;
}

/* Programs get a place for files, and a driver one for its cache of compiled kernels. */
static int enclosure_make_tmp(struct enclosure *enclosure, bool has_device,
                              struct err *err)
{
	int r = enclosure_make_folder(&enclosure->walls, enclosure->tmp,
	                              &enclosure->tmp_fd, SERVER_FOLDER_LARGE, err);

	if (r)
		return r;
	if (setenv("TMPDIR", enclosure->tmp, 1) < 0 ||
	    (has_device && setenv("CUDA_CACHE_PATH", enclosure->tmp, 0) < 0))
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	return 0;
}

static int enclosure_make_folders(struct enclosure *enclosure, bool has_device,
                                  struct err *err)
{
	const struct walls *walls = &enclosure->walls;
	int r = 0;

	if (walls->said.has_folder)
		r = enclosure_make_folder(&enclosure->walls, enclosure->folder,
		                          &enclosure->folder_fd, SERVER_FOLDER_SECRET,
		                          err);
	if (r == 0 && (walls->mode == WALLS_STRICT || walls->mode == WALLS_NET) &&
	    (walls->said.has_processes || has_device))
		r = enclosure_make_tmp(enclosure, has_device, err);
	return r;
}

static void enclosure_limit(struct walls *walls, const struct model_config *config)
{
	if (config->max_processes)
		walls_limit(walls, WALLS_LIMIT_PROCESSES, config->max_processes_together,
		            config->group_limits & WALLS_LIMIT_PROCESSES);
	if (config->max_memory_bytes)
		walls_limit(walls, WALLS_LIMIT_MEMORY, 0,
		            config->group_limits & WALLS_LIMIT_MEMORY);
}

int enclosure_init(struct enclosure *enclosure, const struct model_config *config,
                   const struct engine_api *api,
                   const struct engine_config *engine_config, struct err *err)
{
	struct walls *walls = &enclosure->walls;
	bool has_device = strcmp(config->device, "cpu") != 0;
	int r = 0;

	walls_begin(walls, enclosure_mode(config), 0);
	walls_expect_user(walls, (uid_t)config->user);
	enclosure_limit(walls, config);
	if (api->need)
		r = api->need(engine_config, &walls->said, err);
	if (r == 0)
		r = enclosure_add_section(walls, config, err);
	if (r == 0)
		r = enclosure_make_folders(enclosure, has_device, err);
	if (r)
		return r;
	if (has_device)
		walls_add_device(walls);
	return walls_up(walls, err) < 0 ? ENGINE_E_FAILED : 0;
}

void enclosure_fini(struct enclosure *enclosure)
{
	if (*enclosure->folder)
		server_folder_remove(enclosure->folder);
	if (*enclosure->tmp)
		server_folder_remove(enclosure->tmp);
	*enclosure->folder = *enclosure->tmp = '\0';
	close_fd(&enclosure->folder_fd);
	close_fd(&enclosure->tmp_fd);
	walls_fini(&enclosure->walls);
}
