/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The folder of a loader that hosts: a server's socket and secrets lie there, or what an archive
 * has in it, and nobody else can enter it. The loader makes it, and holds its lock (flock(2)) for as long as it lives.
 *
 * A loader that is killed leaves its folder behind. moultd sweeps when such a loader is reaped, and
 * the next loader of the same user does before it makes its own. What is swept has the name, the
 * mode, the owner and the mark that server_folder_make() gives, and no lock.
 */

#include <stddef.h>

#define SERVER_FOLDER_MAX 512
/* A socket's name has no more room than for a folder of so many bytes. */
#define SERVER_FOLDER_SECRET_MAX 80

enum server_folder_use {
	SERVER_FOLDER_SECRET, /* in memory where that can be: it is not to reach a disk.
	                         Of SERVER_FOLDER_SECRET_MAX at most */
	SERVER_FOLDER_LARGE,  /* where temporary files are */
};

/* Makes a folder; *ret_fd holds its lock. 0, or -errno. */
int server_folder_make(enum server_folder_use use, char path[SERVER_FOLDER_MAX],
                       int *ret_fd);
/* Removes a folder with all that is in it. What cannot be removed stays, and the mark with it. */
void server_folder_remove(const char *path);
/* Removes the folders whose loaders are gone, of the first @most entries of each place. */
void server_folder_sweep(size_t most);
