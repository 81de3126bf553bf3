/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * STATE_DIR/good/NAME/: small files that outlive the run, and a power cut.
 *
 *	manifest-NUMBER-SHA256  JSON; the highest number is the newest
 *	KIND-SHA256             what a manifest names with its member "KIND_sha256"
 *
 * Each is named by the SHA-256 of its content, so that a damaged one is known for what it
 * is and the one before is taken. Each is written under another name, synced, renamed, and
 * its folder synced, before anything older goes. That blocks for as long as the disk likes:
 * saving is for a writer process (keeper.h), reading for the start and for failures.
 *
 * Only what is ours is used: folders and files of another owner, folders that others may
 * write to, and links in the place of either are refused.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"

#define KEEP_DIR        "good"
#define KEEP_SHA256_HEX 65
#define KEEP_NAME_MAX   (sizeof("manifest-") + 21 + KEEP_SHA256_HEX)
#define KEEP_LIST_MAX   32
/* The newest manifests of a folder that a sweep leaves, with what they name. */
#define KEEP_MANIFESTS 2

/* A manifest. */
struct keep_entry {
	char name[KEEP_NAME_MAX];
	uint64_t number;
};

enum keep_manner {
	KEEP_LOOK,
	KEEP_MAKE_SOON, /* makes it and does not wait for the disk: a KEEP_MAKE follows */
	KEEP_MAKE,
};

/* An fd of the folder @name, or -errno with a sentence; -ENOENT: there is none. One that is
 * made has everybody else's rights on it taken away. */
int keep_open(const char *state_dir, const char *name, enum keep_manner manner,
              struct err *err);
/* Waits for other writers of this folder, of this run or an earlier one. The lock ends with
 * @dir_fd. 0 or -errno. */
int keep_lock(int dir_fd);

/* @data's SHA-256, in KEEP_SHA256_HEX digits with the terminator. */
void keep_digest(const void *data, size_t bytes, char *ret_sha256);
/* "KIND-SHA256" */
void keep_name(char *name, const char *kind, const char *sha256);
/* What somebody else computed and is going to be part of a name. */
bool keep_is_digest(const char *sha256);

/* The file @name with what @write_content writes, 0600. 0 or -errno: then what had that name
 * still has it. Lasting after the next keep_write_manifest() only. */
int keep_write(int dir_fd, const char *name,
               int (*write_content)(const void *what, int fd), const void *what);
/* Another name for the file @fd: the file's time of change is another then, unless it had
 * that name. The first is for the loop, and leaves another file of that name alone. 0 or
 * -errno. */
int keep_link_soon(int dir_fd, const char *name, int fd);
int keep_link(int dir_fd, const char *name, int fd);
/* Everything that was written is lasting then. 0 or -errno. */
int keep_write_manifest(int dir_fd, const char *text, uint64_t number);

/* The newest first. How many, at most @max. */
size_t keep_list(int dir_fd, struct keep_entry *entries, size_t max);
/* An fd of a file of ours that others cannot write to, or -errno. @is_secret: nor read. */
int keep_open_file(int dir_fd, const char *name, bool is_secret);
/* NULL with a sentence unless it is whole. */
json_t *keep_read_manifest(int dir_fd, const struct keep_entry *entry, struct err *err);

/* Removes all but the @n_kept newest manifests that differ, and what these name. */
void keep_sweep(int dir_fd, size_t n_kept);
/* Removes every folder for which @is_wanted is false; folders whose name begins with a dot
 * are passed over. */
void keep_prune(const char *state_dir,
                bool (*is_wanted)(const void *context, const char *name),
                const void *context);
/* The highest number of any manifest. 0: there is none. */
uint64_t keep_last_number(const char *state_dir);
