/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/aoti/code.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/aoti/catch.h"
#include "loader/engine.h"
#include "shared/cleanup.h"

/* Code has templates of C++'s library in it, as torch has, and of a torch with the other one of
 * libstdc++'s two string classes: its own ones come first. The sanitizers' linker has no such
 * order. */
#ifdef __SANITIZE_ADDRESS__
#define CODE_BIND 0
#else
#define CODE_BIND RTLD_DEEPBIND
#endif

/* The descriptor of a copy of @part, or -errno. */
static int code_copy(const struct package_part *part)
{
	CLOSE_FD int fd = memfd_create("moult-aoti", MFD_CLOEXEC);
	size_t done = 0;

	while (fd >= 0 && done < part->bytes) {
		ssize_t n = write(fd, part->data + done, part->bytes - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return fd < 0 ? -errno : take_fd(&fd);
}

/* What the linker says of @text, dlerror()'s, for somebody who has a package and a torch. */
static int code_say_unlinked(const char *text, const struct shim *shim, struct err *err)
{
	const char *symbol = strstr(text, "undefined symbol: ");
	bool is_torch;

	if (!symbol)
		return err_set(
			err, ENGINE_E_MODEL,
			"its shared object cannot be opened (%s): copy the package "
			"again, or compile it anew on this machine",
			text);
	symbol += strlen("undefined symbol: ");
	is_torch = strncmp(symbol, "aoti_torch_", 11) == 0;
	if (is_torch && strstr(symbol, "_cuda"))
		return err_set(err, ENGINE_E_MODEL,
		               "it was compiled for a CUDA device (it calls %s): compile "
		               "it anew from the model on the CPU",
		               symbol);
	return err_set(err, ENGINE_E_MODEL,
	               "it was compiled by another torch: it calls %s, which torch %s "
	               "lacks: install the torch that compiled it, or compile it anew by "
	               "this one",
	               symbol, shim->version);
}

static int code_link(void **ret_handle, const struct package *package,
                     const struct shim *shim, struct err *err)
{
	CLOSE_FD int fd = code_copy(&package->library);
	char path[64];

	if (fd < 0)
		return err_set(err, ENGINE_E_FAILED,
		               "no memory for the package's code: %s", strerror(-fd));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* All that it calls is looked up before anything of it runs. */
	*ret_handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | CODE_BIND);
	return *ret_handle ? 0 : code_say_unlinked(dlerror(), shim, err);
}

static int code_bind(struct aoti_model *model, void *handle, struct err *err)
{
#define CODE "AOTInductorModelContainer"
	const struct {
		const char *name;
		void *function;
	} rows[] = {
		{ CODE "CreateWithDevice", &model->create },
		{ CODE "Delete", &model->free },
		{ CODE "Run", &model->run },
		{ CODE "GetNumInputs", &model->count_inputs },
		{ CODE "GetNumOutputs", &model->count_outputs },
		{ CODE "GetCallSpec", &model->spec },
		{ CODE "GetNumConstants", &model->count_constants },
		{ CODE "GetConstantName", &model->constant_name },
		{ CODE "GetConstantOriginalFQN", &model->constant_origin },
		{ CODE "GetConstantDtype", &model->constant_dtype },
		{ CODE "GetConstantFromFolded", &model->constant_folded },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!shim_bind(handle, rows[i].name, rows[i].function))
			return err_set(err, ENGINE_E_MODEL,
			               "its shared object lacks %s(): compile it by "
			               "torch 2.6 or a newer one",
			               rows[i].name);
	(void)shim_bind(handle, CODE "UpdateUserManagedConstantBufferPairs",
	                &model->use_pairs);
#undef CODE
	return 0;
}

int code_open(struct code *code, const struct package *package, const struct shim *shim,
              struct err *err)
{
	char cause[ERR_TEXT_MAX];
	struct catch catch;
	void *handle;
	int32_t failed;
	int r = code_link(&handle, package, shim, err);

	if (r == 0)
		r = code_bind(&code->model, handle, err);
	if (r)
		return r;
	catch_begin(&catch);
	failed = code->model.create(&code->container, 1, "cpu", NULL);
	catch_end(&catch, cause, sizeof(cause));
	if (!failed)
		return 0;
	code->container = NULL;
	return err_set(err, ENGINE_E_MODEL,
	               "torch %s cannot build the model: %s: compile the package anew by "
	               "this torch",
	               shim->version, *cause ? cause : "it does not say why");
}

void code_close(struct code *code)
{
	if (code->container)
		(void)code->model.free(code->container);
	code->container = NULL;
}
