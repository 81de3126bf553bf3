/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The wheels of onnxruntime have the library in their folder capi, with its whole version in the
 * name: site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0.
 */
#include "loader/onnx/runtime.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"

#define RUNTIME_REMEDY                                                                   \
	"pip install onnxruntime into a virtual environment and name its interpreter "   \
	"(python = /path/to/venv/bin/python), or name the library "                      \
	"(option.library = /path/to/libonnxruntime.so.1)"

/* std::__throw_bad_alloc() of libstdc++, which the runtime links. */
#define RUNTIME_THROW "_ZSt17__throw_bad_allocv"

#define RUNTIME_LIBRARY "libonnxruntime.so*"
/* Wheels before 1.19 have this alone, and the runtime inside it. */
#define RUNTIME_MODULE "onnxruntime_pybind11_state*.so"

/* Where a wheel's library lies, below the prefix of an interpreter. */
static const char *const runtime_folders[] = {
	"lib/python3*/site-packages/onnxruntime/capi",
	"lib64/python3*/site-packages/onnxruntime/capi",
	"local/lib/python3*/dist-packages/onnxruntime/capi",
	"lib/python3*/dist-packages/onnxruntime/capi",
};

/* The path of the first file that @pattern names, which the caller frees. NULL: there is none. */
static char *runtime_match(const char *pattern)
{
	glob_t found = { 0 };
	char *path = NULL;

	if (glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0)
		path = strdup(found.gl_pathv[0]);
	globfree(&found);
	return path;
}

/* Likewise @file of the environment that has @python: PREFIX/bin/python. The link is not
 * followed, because a virtual environment's leads to the system's interpreter. */
static char *runtime_of_python(const char *python, const char *file)
{
	size_t prefix = strlen(python);
	char *path = NULL;

	for (int i = 0; i < 2; i++)
		while (prefix > 0 && python[--prefix] != '/')
			;
	for (size_t i = 0;
	     !path && i < sizeof(runtime_folders) / sizeof(runtime_folders[0]); i++) {
		FREE char *pattern = NULL;

		if (asprintf(&pattern, "%.*s/%s/%s", (int)prefix, python,
		             runtime_folders[i], file) < 0)
			pattern = NULL;
		else
			path = runtime_match(pattern);
	}
	return path;
}

static int runtime_check(struct runtime *runtime, void *handle, const char *name,
                         struct err *err)
{
	const struct ort_api_base *(*entry)(void) = NULL;
	void *symbol = dlsym(handle, "OrtGetApiBase");
	const struct ort_api_base *base;
	unsigned int major = 0;
	unsigned int minor = 0;

	if (!symbol)
		return err_set(err, ENGINE_E_CONFIG,
		               "'%s' is no ONNX Runtime: it exports no OrtGetApiBase(): "
		               "name libonnxruntime.so.1",
		               name);
	/* POSIX promises this for dlsym(); ISO C has no cast for it. */
	memcpy(&entry, &symbol, sizeof(entry));
	base = entry();
	(void)snprintf(runtime->version, sizeof(runtime->version), "%s", base->version());
	/* Asked for what it lacks an old one writes to standard error. */
	if (sscanf(runtime->version, "%u.%u", &major, &minor) != 2 || major != 1 ||
	    minor < ORT_API || !(runtime->api = base->api(ORT_API)))
		return err_set(err, ENGINE_E_CONFIG,
		               "ONNX Runtime %.31s in '%s' has another interface than "
		               "engine onnx calls: it takes " ORT_API_TEXT
		               " and newer ones of 1.x (pip install --upgrade "
		               "onnxruntime)",
		               runtime->version, name);
	symbol = dlsym(handle, RUNTIME_THROW);
	if (!symbol)
		return err_set(err, ENGINE_E_CONFIG,
		               "'%s' brings a C++ library of its own, and engine onnx "
		               "takes builds that use the system's libstdc++",
		               name);
	memcpy(&runtime->throw, &symbol, sizeof(runtime->throw));
	if (minor >= ORT_API_EDITOR) {
		runtime->api = base->api(ORT_API_EDITOR);
		runtime->editor = runtime->api->editor();
	}
	return 0;
}

static char *runtime_folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? strndup(path, (size_t)(slash - path)) : NULL;
}

static int runtime_open_at(struct runtime *runtime, const char *path, struct err *err)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return err_set(err, ENGINE_E_CONFIG,
		               "ONNX Runtime cannot be opened: %s: " RUNTIME_REMEDY,
		               dlerror());
	runtime->folder = runtime_folder_of(path);
	return runtime_check(runtime, handle, path, err);
}

static int runtime_open_system(struct runtime *runtime, struct err *err)
{
	static const char *const names[] = { "libonnxruntime.so.1", "libonnxruntime.so" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);

		if (handle)
			return runtime_check(runtime, handle, names[i], err);
	}
	return err_set(err, ENGINE_E_CONFIG,
	               "engine onnx runs models by ONNX Runtime, and the system has no "
	               "libonnxruntime.so.1: " RUNTIME_REMEDY);
}

static int runtime_open_python(struct runtime *runtime, const char *python,
                               struct err *err)
{
	FREE char *path = runtime_of_python(python, RUNTIME_LIBRARY);
	FREE char *module = NULL;

	if (path)
		return runtime_open_at(runtime, path, err);
	module = runtime_of_python(python, RUNTIME_MODULE);
	if (module)
		return err_set(
			err, ENGINE_E_CONFIG,
			"the onnxruntime of python = %s is older than 1.19, and its "
			"wheel has no library but the module of Python: %s -m pip "
			"install --upgrade onnxruntime",
			python, python);
	return err_set(err, ENGINE_E_CONFIG,
	               "python = %s has no onnxruntime: install it there with "
	               "%s -m pip install onnxruntime",
	               python, python);
}

int runtime_open(struct runtime *runtime, const struct onnx_options *options,
                 struct err *err)
{
	/* Wheels from 1.29 on report to their maker from a thread of their own, keep a file below
	 * the home directory, and start a shell meanwhile; 1.29.0 crashes where it cannot. */
	(void)setenv("ORT_DISABLE_TELEMETRY", "1", 0);

	if (runtime->api)
		return 0;
	if (options->library)
		return runtime_open_at(runtime, options->library, err);
	return options->python ? runtime_open_python(runtime, options->python, err)
	                       : runtime_open_system(runtime, err);
}

void runtime_need_cuda(const struct runtime *runtime, struct engine_walls *walls)
{
	FREE char *path = NULL;

	if (!runtime->folder)
		return;
	if (asprintf(&path, "%s/../../nvidia", runtime->folder) < 0)
		path = NULL;
	else
		walls->read(walls, path);
}
