/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The walls (loader/walls/walls.h) as the model's section and its engine want them, and the folders
 * inside them that are this loader's own.
 */

#include "loader/engine.h"
#include "loader/load/model_config.h"
#include "loader/walls/walls.h"
#include "shared/err.h"
#include "shared/server_folder.h"

struct enclosure {
	struct walls walls;
	char folder[SERVER_FOLDER_MAX]; /* in memory; "": none */
	int folder_fd;                  /* keeps it from being swept */
	char tmp[SERVER_FOLDER_MAX];    /* $TMPDIR inside the walls; "": none */
	int tmp_fd;
};

#define ENCLOSURE_NULL                                                                   \
	((struct enclosure){ .walls = WALLS_NULL, .folder_fd = -1, .tmp_fd = -1 })

/* Asks the engine what it needs, makes its folders and puts the walls up. 0 or an outcome of enum
 * engine_outcome with a sentence. */
int enclosure_init(struct enclosure *enclosure, const struct model_config *config,
                   const struct engine_api *api,
                   const struct engine_config *engine_config, struct err *err);
/* Empties the folders; moultd removes them once the loader is gone. */
void enclosure_fini(struct enclosure *enclosure);
