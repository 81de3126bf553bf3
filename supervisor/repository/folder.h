/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The models that lie in a folder, each as a section of a configuration. A repository has files
 * NAME.pt and NAME.onnx, and folders NAME with a model's file, or with folders 1, 2, ... of its
 * versions, of which the highest that has a file counts (Triton's model_repository.md); a
 * config.pbtxt in NAME says more. With a name, the folder is the one model itself.
 *
 * What has no model's file yet is no model yet: a folder that is being copied comes when it is
 * there. Reads directories and config.pbtxt, and no model.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

/* Folders that are looked into: the repository, those in it, and those of versions. */
#define FOLDER_PLACES_MAX 512
#define FOLDER_MODELS_MAX 256

struct folder_model {
	char *name;
	char *origin; /* the path that people look at: config.pbtxt, or the model's own */
	char *section; /* lines below [model NAME] */
	char *doubts;  /* sentences, or NULL */
};

struct folder_list {
	struct folder_model models[FOLDER_MODELS_MAX];
	size_t n_models;
};

/* Folders where something that changes may make another list. */
struct folder_places {
	char *paths[FOLDER_PLACES_MAX];
	size_t n;
};

struct folder_ask {
	const char *path; /* absolute */
	const char *name; /* of the one model that it is; or NULL */
	const char
		*python; /* interpreter of models of engines python and onnx; or NULL */
};

/* 0 with a list for folder_free(), or -errno with a sentence that names the file. */
int folder_read(struct folder_list **ret_list, const struct folder_ask *ask,
                struct err *err);
void folder_free(struct folder_list *list); /* accepts NULL */

/* Finds them, whatever may be wrong with what lies in them: folder_places_fini() is due. Those that
 * cannot be read, and those beyond the bound, are left out. */
void folder_find_places(struct folder_places *places, const char *path);
void folder_places_fini(struct folder_places *places);
