/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * moultctl record-golden: writes what moultd shows of a model's requests as golden files
 * (loader/proof/golden_file.h has their form). A body that is JSON stays as it is; any
 * other body keeps its headers and becomes base64.
 *
 * A file is named by the digest of its request, so that equal requests make one file. No
 * file is ever overwritten, or seen before it is whole and on disk. Files have mode 0600,
 * and root gives them to the user of moultd, whose loaders read them.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

#include "shared/err.h"

struct ctl_record {
	/* Set by the caller, who sets all else to 0 and dir_fd to -1. */
	const char *model;
	const char *directory; /* NULL: the model's */
	unsigned int count;
	bool is_json; /* of what is printed */

	char *path; /* of the directory */
	int dir_fd;
	struct ucred owner; /* of moultd */
	unsigned int n_files;
	unsigned int n_known; /* samples that had a file already */
};

/* Opens the directory, at moultd's {"recording": @recording}; @socket_fd leads to moultd.
 * 0, or -errno with a sentence. ctl_record_close() is due in any case. */
int ctl_record_open(struct ctl_record *record, const json_t *recording, int socket_fd,
                    struct err *err);
void ctl_record_close(struct ctl_record *record);

/* Writes @sample, at moultd's {"sample": @sample}, and prints the name of a new file. 0,
 * or -errno with a sentence. */
int ctl_record_take(struct ctl_record *record, const json_t *sample, struct err *err);
/* Prints the outcome, at the last line @answer. */
void ctl_record_print(FILE *out, const struct ctl_record *record, const json_t *answer);
