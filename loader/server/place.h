/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where the server listens, and where its secrets lie: a folder that nobody else can enter, in
 * memory where there is such a file system, or a port of 127.0.0.1.
 * shared/server_folder.h says who removes a folder whose loader was killed.
 */

#include <stdbool.h>
#include <stddef.h>

#include "loader/engine.h"
#include "shared/err.h"
#include "shared/server_folder.h"

#define SERVER_PATH_MAX (SERVER_FOLDER_MAX + 16)

struct server_place {
	char folder[SERVER_FOLDER_MAX]; /* the loader's own; "": none */
	char socket[SERVER_PATH_MAX];
	char secrets[SERVER_PATH_MAX]; /* folder of the secrets */
	unsigned int port;             /* 0: the socket is used */
};

#define SERVER_PLACE_NULL                                                                \
	{                                                                                \
		.folder = ""                                                             \
	}

/* Puts a file for each secret into the folder. 0, or -errno with a sentence. */
int server_place_init(struct server_place *place, const struct engine_config *config,
                      struct err *err);
/* Removes all that is in the folder. */
void server_place_clear(const struct server_place *place);
void server_place_fini(struct server_place *place);

/* Chooses a port that is free now. 0, or -errno with a sentence. */
int server_place_take_port(unsigned int *ret_port, struct err *err);
/* True, with a sentence: somebody else than the loader's own processes listens on the port. False
 * also where that cannot be seen. */
bool server_place_is_taken(const struct server_place *place, struct err *ret_who);
