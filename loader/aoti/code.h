/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The compiled code of a package in this process: a shared object in memory without a name, which
 * no other process can open, bound and with one container made of it.
 */

#include "loader/aoti/abi.h"
#include "loader/aoti/package.h"
#include "loader/aoti/shim.h"
#include "shared/err.h"

struct code {
	struct aoti_model model;
	struct aoti_container *container; /* NULL: none */
};

/* Opens the library of @package, which runs constructors of it, and makes a container, for the
 * CPU. Outcomes of stage. */
int code_open(struct code *code, const struct package *package, const struct shim *shim,
              struct err *err);
/* Frees the container. The code stays for the life of the process. */
void code_close(struct code *code);
