/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The wheels of torch have the library in torch/lib, and the version in torch/version.py, where
 * an unpacked libtorch has the file build-version. The library itself does not tell it.
 */
#include "loader/aoti/shim.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader/engine.h"
#include "shared/cleanup.h"

#define SHIM_MAJOR 2
#define SHIM_MINOR 6

#define SHIM_REMEDY                                                                      \
	"pip install torch into a virtual environment and name its interpreter "         \
	"(python = /path/to/venv/bin/python), or name the library "                      \
	"(option.library = /path/to/libtorch_cpu.so)"

/* Where a wheel's library lies, below the prefix of an interpreter. */
static const char *const shim_patterns[] = {
	"lib/python3*/site-packages/torch/lib/libtorch_cpu.so",
	"lib64/python3*/site-packages/torch/lib/libtorch_cpu.so",
	"local/lib/python3*/dist-packages/torch/lib/libtorch_cpu.so",
	"lib/python3*/dist-packages/torch/lib/libtorch_cpu.so",
};

bool shim_bind(void *handle, const char *name, void *ret_function)
{
	void *symbol = dlsym(handle, name);

	/* POSIX promises this for dlsym(); ISO C has no cast for it. */
	memcpy(ret_function, &symbol, sizeof(symbol));
	return symbol != NULL;
}

/* The version */

bool shim_find_version(const char *text, char version[SHIM_VERSION_MAX])
{
	const char *at = strstr(text, "__version__ = ");

	if (!at)
		return false;
	at += strcspn(at, "'\"");
	return *at && sscanf(at + 1, "%47[0-9A-Za-z.+_-]", version) == 1;
}

static bool shim_read_text(const char *folder, const char *name, char *text, size_t size)
{
	FREE char *path = NULL;
	CLOSE_FD int fd = -1;
	ssize_t n;

	if (asprintf(&path, "%s/../%s", folder, name) < 0) {
		path = NULL;
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, size - 1);
	text[n < 0 ? 0 : n] = '\0';
	return n > 0;
}

/* Reads the version that the package beside the library at @path says, or "unknown". */
static void shim_read_version(struct shim *shim, const char *path)
{
	const char *slash = strrchr(path, '/');
	FREE char *folder = slash ? strndup(path, (size_t)(slash - path)) : NULL;
	char text[4096];

	if (folder && shim_read_text(folder, "version.py", text, sizeof(text)) &&
	    shim_find_version(text, shim->version))
		return;
	if (folder && shim_read_text(folder, "build-version", text, sizeof(text)) &&
	    sscanf(text, "%47[0-9A-Za-z.+_-]", shim->version) == 1)
		return;
	(void)snprintf(shim->version, sizeof(shim->version), "unknown");
}

/* One that is not known is judged by its functions alone. */
static bool shim_is_old(const char *version)
{
	unsigned int major = 0;
	unsigned int minor = 0;

	return sscanf(version, "%u.%u", &major, &minor) == 2 &&
	       (major < SHIM_MAJOR || (major == SHIM_MAJOR && minor < SHIM_MINOR));
}

/* The library */

/* The name of the first function that it lacks; NULL: it has all. */
static const char *shim_bind_all(struct aoti_torch *torch, void *handle)
{
	const struct {
		const char *name;
		void *function;
	} rows[] = {
		{ "aoti_torch_create_tensor_from_blob", &torch->from_blob },
		{ "aoti_torch_delete_tensor_object", &torch->free },
		{ "aoti_torch_get_data_ptr", &torch->data },
		{ "aoti_torch_get_dtype", &torch->dtype },
		{ "aoti_torch_get_dim", &torch->rank },
		{ "aoti_torch_get_sizes", &torch->sizes },
		{ "aoti_torch_get_strides", &torch->strides },
		{ "aoti_torch_get_device_type", &torch->device_type },
		{ "_ZN2at15set_num_threadsEi", &torch->set_threads },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!shim_bind(handle, rows[i].name, rows[i].function))
			return rows[i].name;
	return NULL;
}

static int shim_check(struct shim *shim, void *handle, const char *path, struct err *err)
{
	const char *missing = shim_bind_all(&shim->torch, handle);

	if (!dlsym(handle, "_ZN2at15set_num_threadsEi"))
		return err_set(err, ENGINE_E_CONFIG,
		               "'%s' is no torch: name libtorch_cpu.so", path);
	if (missing || shim_is_old(shim->version))
		return err_set(err, ENGINE_E_CONFIG,
		               "torch %s in '%s' is too old for packages of AOTInductor: "
		               "engine aoti takes 2.6 and newer ones (pip install "
		               "--upgrade torch, in a virtual environment that python = "
		               "names)",
		               shim->version, path);
	shim->is_open = true;
	return 0;
}

static int shim_open_at(struct shim *shim, const char *path, struct err *err)
{
	void *handle;

	shim_read_version(shim, path);
	/* Opening an old one would be of no use, and takes its time. */
	if (shim_is_old(shim->version))
		return err_set(err, ENGINE_E_CONFIG,
		               "torch %s in '%s' is too old for packages of AOTInductor: "
		               "engine aoti takes 2.6 and newer ones (pip install "
		               "--upgrade torch)",
		               shim->version, path);
	/* The code of a model names no library: it finds torch among what is global. */
	handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	if (!handle)
		return err_set(err, ENGINE_E_CONFIG,
		               "torch cannot be opened: %s: " SHIM_REMEDY, dlerror());
	return shim_check(shim, handle, path, err);
}

/* The path of the library of the environment that has @python: PREFIX/bin/python. The link is not
 * followed, because a virtual environment's leads to the system's interpreter. The caller frees
 * it; NULL: there is none. */
static char *shim_of_python(const char *python)
{
	size_t prefix = strlen(python);
	char *path = NULL;

	for (int i = 0; i < 2; i++)
		while (prefix > 0 && python[--prefix] != '/')
			;
	for (size_t i = 0; !path && i < sizeof(shim_patterns) / sizeof(shim_patterns[0]);
	     i++) {
		FREE char *pattern = NULL;
		glob_t found = { 0 };

		if (asprintf(&pattern, "%.*s/%s", (int)prefix, python, shim_patterns[i]) <
		    0) {
			pattern = NULL;
			continue;
		}
		if (glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0)
			path = strdup(found.gl_pathv[0]);
		globfree(&found);
	}
	return path;
}

static int shim_open_system(struct shim *shim, struct err *err)
{
	void *handle = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_GLOBAL);

	if (!handle)
		return err_set(
			err, ENGINE_E_CONFIG,
			"engine aoti runs packages by torch, and the system has no "
			"libtorch_cpu.so: " SHIM_REMEDY);
	(void)snprintf(shim->version, sizeof(shim->version), "unknown");
	return shim_check(shim, handle, "libtorch_cpu.so", err);
}

int shim_open(struct shim *shim, const struct aoti_options *options, struct err *err)
{
	FREE char *path = NULL;

	if (shim->is_open)
		return 0;
	if (options->library)
		return shim_open_at(shim, options->library, err);
	if (!options->python)
		return shim_open_system(shim, err);
	path = shim_of_python(options->python);
	if (!path)
		return err_set(
			err, ENGINE_E_CONFIG,
			"python = %s has no torch: install it there with %s -m pip "
			"install torch",
			options->python, options->python);
	return shim_open_at(shim, path, err);
}
