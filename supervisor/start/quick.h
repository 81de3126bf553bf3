/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One application, or a folder of models, without a configuration file: moultd's arguments become one, in a folder of
 * moultd's own, which also has the control socket and the state. The folder is removed at the end.
 */

#include <stdbool.h>
#include <stdio.h>

#include "shared/err.h"

/* What was asked for; texts are borrowed, NULL where nothing was said. */
struct quick {
	/* What to host, one of them. */
	const char *wsgi;
	const char *asgi;
	const char *model;
	const char *command; /* what to start, and pass requests on to */
	const char *python;
	const char *ready;
	const char *listen;
	const char *secrets; /* directory */
	const char *route;
	const char *threads;
	const char *replicas;
	const char *sandbox;
	const char *sandbox_read; /* a path */
	const char *repository;   /* a folder of models */
	const char *model_name;   /* of the one model that it is */
	const char *grpc_listen;
	bool watch_code;
	bool is_root; /* who starts it */
};

/* True: some argument asks for an application. */
bool quick_is_asked(const struct quick *quick);

/* Writes the configuration, for an application in @directory, with the files of moultd's own in
 * @folder; NULL: without these, as it can be kept. 0 or -EINVAL with a sentence that names the
 * argument. */
int quick_write(const struct quick *quick, const char *directory, const char *folder,
                FILE *stream, struct err *err);

/* Makes the folder and the configuration in it, for an application in the working directory.
 * Nothing is checked but that the arguments go together.
 * Returns 0, with its path, or -errno with a sentence. quick_end() in any case. */
int quick_begin(const struct quick *quick, char **ret_file, struct err *err);
/* Shows on standard output what of @file can be kept. */
void quick_show(const struct quick *quick, const char *file);
/* Removes the folder of @file, which it takes; accepts NULL. */
void quick_end(char *file);
