/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * STATE_DIR/good/NAME/: small files that outlive the run, and a power cut.
 *
 *	manifest-NUMBER-SHA256  JSON, and a line with its code; the highest number is the newest
 *	KIND-SHA256             what a manifest names with its member "KIND_sha256"
 *
 * Each is named by the SHA-256 of its content (a manifest by that of its JSON), so that a damaged one is known for what it
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

/* The name of a manifest, and its number. */
struct keep_entry {
	char name[KEEP_NAME_MAX];
	uint64_t number;
};

enum keep_manner {
	KEEP_LOOK,
	KEEP_MAKE_SOON, /* makes it and does not wait for the disk: a KEEP_MAKE follows */
	KEEP_MAKE,
};

/* Opens the folder @name of @state_dir/good. A folder that is made has everybody else's
 * rights taken away. An fd, which the caller closes, or -errno with a sentence; -ENOENT:
 * there is none. */
int keep_open(const char *state_dir, const char *name, enum keep_manner manner,
              struct err *err);
/* Waits for other writers of this folder, of this run or an earlier one: blocks. The lock
 * ends with @dir_fd. 0 or -errno. */
int keep_lock(int dir_fd);

/* @data's SHA-256, in KEEP_SHA256_HEX digits with the terminator. */
void keep_digest(const void *data, size_t bytes, char *ret_sha256);
/* "KIND-SHA256" */
void keep_name(char *name, const char *kind, const char *sha256);
/* True: @sha256 has the form of a digest. Ask before a digest that somebody else computed
 * becomes part of a name. */
bool keep_is_digest(const char *sha256);

/* Writes the file @name, 0600, with @bytes of @data. Lasts a power cut only after the next
 * keep_write_manifest(). 0, or -errno: the name still has what it had. */
int keep_write(int dir_fd, const char *name, const void *data, size_t bytes);
/* Both give the file @fd another name; the file's time of change changes, unless it had
 * the name already. keep_link_soon() is for the loop, and leaves another file of that
 * name alone. 0 or -errno. */
int keep_link_soon(int dir_fd, const char *name, int fd);
int keep_link(int dir_fd, const char *name, int fd);
/* Writes a manifest. Everything that was written so far lasts a power cut then. 0 or
 * -errno. */
int keep_write_manifest(int dir_fd, const char *text, uint64_t number);

/* Lists the manifests, the newest first. Returns how many, at most @max. */
size_t keep_list(int dir_fd, struct keep_entry *entries, size_t max);
/* Opens a file of ours that others cannot write to, nor read when @is_secret. An fd or
 * -errno. */
int keep_open_file(int dir_fd, const char *name, bool is_secret);
/* A new reference, or NULL with a sentence: the manifest is not whole, or not moultd's. */
json_t *keep_read_manifest(int dir_fd, const struct keep_entry *entry, struct err *err);
/* The text under @key of a manifest, or of a part of one; NULL: none. */
const char *keep_text(const json_t *json, const char *key);

/* Removes all but the @n_kept newest manifests that differ, and the files that these
 * name. */
void keep_sweep(int dir_fd, size_t n_kept);
/* Removes every folder for which @is_wanted is false; folders whose name begins with a dot
 * are passed over. */
void keep_prune(const char *state_dir,
                bool (*is_wanted)(const void *context, const char *name),
                const void *context);
/* The highest number of any manifest; 0: there is none. */
uint64_t keep_last_number(const char *state_dir);
