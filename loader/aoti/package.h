/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A package of AOTInductor (.pt2): a zip archive, which torch writes without compression, with the
 * compiled code of one or more models, what that was compiled for, and weights. Nothing is
 * unpacked: all parts lie in the package's bytes, which the caller keeps.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"

#define PACKAGE_NAME_MAX 128

/* Bytes of the package. */
struct package_part {
	const unsigned char *data; /* NULL: there is no such part */
	size_t bytes;
};

/* A file of weights. */
struct package_weight {
	char name[PACKAGE_NAME_MAX]; /* "weight_0" */
	struct package_part part;
};

struct package {
	struct package_part all;
	char model[PACKAGE_NAME_MAX]; /* that is run */
	struct package_part library;  /* an ELF shared object */
	struct package_part source;   /* of its wrapper, in C++ */
	struct package_part metadata; /* JSON: what it was compiled for */
	struct package_part layout;   /* JSON: weights_config */
	bool has_blob;                /* weights in one blob, which torch copies */
	bool has_operators;           /* calls operators that only torch's C++ can call */
	struct package_weight *weights;
	size_t n_weights;
	bool is_bad;      /* a part lies outside of the package, or is compressed */
	const char *want; /* the model that was asked for; NULL: any */
};

#define PACKAGE_NULL                                                                     \
	{                                                                                \
		.all = { NULL, 0 }                                                       \
	}

/* Looks up the parts of @model (NULL: the only one, or "model"). package_fini() also after a
 * failure. 0; ENGINE_E_MODEL or ENGINE_E_FAILED with a sentence. */
int package_open(struct package *package, const void *data, size_t bytes,
                 const char *model, struct err *err);
/* The bytes of the tensor in the file of weights @name. False: there is no such file, or it is
 * damaged. */
bool package_find_weight(const struct package *package, const char *name,
                         struct package_part *ret_part);
/* Whether the code can run on this machine's CPU. 0, or ENGINE_E_MODEL or ENGINE_E_CONFIG with a
 * sentence. */
int package_check_machine(const struct package *package, const char *device,
                          struct err *err);
void package_fini(struct package *package);
