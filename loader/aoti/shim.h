/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * torch's library: found, opened, and bound. It is looked for in option.library, in the virtual
 * environment of the key python, and where the system has its libraries. Once opened it stays for
 * the life of the process, and compiled models find its functions by their names.
 */

#include "loader/aoti/abi.h"
#include "loader/aoti/options.h"
#include "shared/err.h"

#define SHIM_VERSION_MAX 48

struct shim {
	bool is_open;
	char version[SHIM_VERSION_MAX]; /* "2.11.0+cpu"; "" before it is open */
	struct aoti_torch torch;
};

/* Opens it. 0, or ENGINE_E_CONFIG with a sentence that says where it was looked for. */
int shim_open(struct shim *shim, const struct aoti_options *options, struct err *err);
/* "2.11.0+cpu" out of the text of torch/version.py. False: it is not there. */
bool shim_find_version(const char *text, char version[SHIM_VERSION_MAX]);
/* Binds the function @name of @handle to *@ret_function, a pointer to a function. */
bool shim_bind(void *handle, const char *name, void *ret_function);
