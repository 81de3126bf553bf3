/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The files of moultctl record-golden. The directory is checked before anything is
 * recorded: for room, as a loader refuses one with too many files, and for an owner whose
 * files moultd's loaders can read. Each file is written under another name, brought to
 * disk, and only then linked to its own: a reload meanwhile finds whole files.
 */

#include "supervisor/ctl/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <nettle/sha2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/hex.h"
#include "shared/proto.h"

/* Bytes of the digest in the name of a file. */
#define CTL_RECORD_DIGEST_BYTES 8
#define CTL_RECORD_NAME_MAX     64
/* JSON is read as a loader reads it. */
#define CTL_RECORD_JSON_FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

/* Opening */

static bool ctl_record_is_golden(const char *name)
{
	size_t bytes = strlen(name);
	size_t tail = sizeof(PROTO_GOLDEN_SUFFIX) - 1;

	return name[0] != '.' && bytes > tail &&
	       strcmp(name + bytes - tail, PROTO_GOLDEN_SUFFIX) == 0;
}

/* A loader refuses a directory with too many. */
static int ctl_record_check_room(const struct ctl_record *record, struct err *err)
{
	DIR *stream = opendir(record->path);
	const struct dirent *entry;
	unsigned int n = 0;

	if (!stream)
		return err_set(err, -errno, "cannot read '%.300s': %s", record->path,
		               strerror(errno));
	while ((entry = readdir(stream)))
		n += ctl_record_is_golden(entry->d_name);
	(void)closedir(stream);
	if (n + record->count <= PROTO_GOLDEN_MAX)
		return 0;
	return err_set(
		err, -ENOSPC,
		"'%.300s' has %u golden requests and may have %d: take some out, or "
		"record fewer",
		record->path, n, PROTO_GOLDEN_MAX);
}

/* Refuses to write files of mode 0600 into the model's directory that its loaders cannot
 * read. */
static int ctl_record_check_owner(struct ctl_record *record, int socket_fd,
                                  struct err *err)
{
	socklen_t bytes = sizeof(record->owner);

	if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &record->owner, &bytes) < 0)
		return err_set(err, -errno, "who runs moultd cannot be told: %s",
		               strerror(errno));
	if (record->directory || geteuid() == 0 || geteuid() == record->owner.uid)
		return 0;
	return err_set(
		err, -EPERM,
		"the files would be yours and no loader could read them: be root or "
		"the user of moultd, or name a directory with --directory");
}

int ctl_record_open(struct ctl_record *record, const json_t *recording, int socket_fd,
                    struct err *err)
{
	const char *configured =
		json_string_value(json_object_get(recording, "directory"));
	const char *path = record->directory ? record->directory : configured;
	int r;

	if (!path)
		return err_set(
			err, -ENOENT,
			"model '%s' has no key golden: set it, or name a directory "
			"with --directory",
			record->model);
	r = ctl_record_check_owner(record, socket_fd, err);
	if (r < 0)
		return r;
	record->path = strdup(path);
	if (!record->path)
		return err_set(err, -ENOMEM, "out of memory");
	record->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (record->dir_fd < 0)
		return err_set(err, -errno,
		               "cannot open '%.300s': %s: make it, or name another with "
		               "--directory",
		               path, strerror(errno));
	return ctl_record_check_room(record, err);
}

void ctl_record_close(struct ctl_record *record)
{
	close_fd(&record->dir_fd);
	free(record->path);
	record->path = NULL;
}

/* Writing */

/* Decodes the base64 of @body. The caller frees the bytes; NULL: malformed, or no
 * memory. */
static unsigned char *ctl_record_decode(const json_t *body, size_t *ret_bytes)
{
	const json_t *text = json_object_get(body, "base64");
	size_t length = json_string_length(text);
	size_t bytes = BASE64_DECODE_LENGTH(length);
	FREE unsigned char *data = malloc(bytes + 1);
	struct base64_decode_ctx context;

	base64_decode_init(&context);
	if (!data || !json_is_string(text) ||
	    !base64_decode_update(&context, &bytes, data, length,
	                          json_string_value(text)) ||
	    !base64_decode_final(&context))
		return NULL;
	*ret_bytes = bytes;
	return take_ptr(&data);
}

static bool ctl_record_is_json(const unsigned char *data, size_t bytes)
{
	json_t *json = json_loadb((const char *)data, bytes, CTL_RECORD_JSON_FLAGS, NULL);
	bool is_object = json_is_object(json);

	json_decref(json);
	return is_object;
}

/* Prints JSON as it is: parsed before, it cannot end before its end. */
static int ctl_record_print_body(FILE *out, const json_t *body)
{
	const json_t *headers = json_object_get(body, "headers");
	size_t bytes = 0;
	FREE unsigned char *data = ctl_record_decode(body, &bytes);

	if (!data)
		return -EBADMSG;
	if (json_object_size(headers) == 0 && ctl_record_is_json(data, bytes))
		(void)fwrite(data, 1, bytes, out);
	else
		(void)json_dumpf(body, out, 0);
	return 0;
}

/* Makes the name of a file, from the digest of all that makes the request what it is. */
static int ctl_record_name(const json_t *request, char *name)
{
	FREE char *text = json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS);
	struct sha256_ctx context;
	uint8_t digest[SHA256_DIGEST_SIZE];
	char hex[2 * CTL_RECORD_DIGEST_BYTES + 1];

	if (!text)
		return -EBADMSG;
	sha256_init(&context);
	sha256_update(&context, strlen(text), (const uint8_t *)text);
	sha256_digest(&context, sizeof(digest), digest);
	hex_print(hex, digest, CTL_RECORD_DIGEST_BYTES);
	(void)snprintf(name, CTL_RECORD_NAME_MAX, "recorded-%s" PROTO_GOLDEN_SUFFIX, hex);
	return 0;
}

/* Takes @fd. */
static int ctl_record_write(int fd, const json_t *sample)
{
	FILE *out = fdopen(fd, "w");
	int r;

	if (!out) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	(void)fputs("{\"recorded\": ", out);
	(void)json_dumpf(json_object_get(sample, "recorded"), out, JSON_ENCODE_ANY);
	(void)fputs(",\n\"request\": ", out);
	r = ctl_record_print_body(out, json_object_get(sample, "request"));
	(void)fputs(",\n\"response\": ", out);
	if (r == 0)
		r = ctl_record_print_body(out, json_object_get(sample, "response"));
	(void)fputs("}\n", out);
	if (r == 0 && (fflush(out) != 0 || ferror(out) || fsync(fd) < 0))
		r = errno ? -errno : -EIO;
	if (fclose(out) != 0 && r == 0)
		r = -errno;
	return r;
}

/* Keeps a sample whole or not at all: a file gets its name when it is on disk. 0, -EEXIST
 * or -errno. */
static int ctl_record_keep(const struct ctl_record *record, const char *name,
                           const json_t *sample)
{
	char fresh[CTL_RECORD_NAME_MAX + 8];
	int fd;
	int r;

	(void)snprintf(fresh, sizeof(fresh), ".%s.new", name);
	(void)unlinkat(record->dir_fd, fresh, 0); /* what a crash has left behind */
	fd = openat(record->dir_fd, fresh,
	            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (geteuid() == 0 && fchown(fd, record->owner.uid, record->owner.gid) < 0) {
		r = -errno;
		(void)close(fd);
	} else {
		r = ctl_record_write(fd, sample);
	}
	if (r == 0 && linkat(record->dir_fd, fresh, record->dir_fd, name, 0) < 0)
		r = -errno;
	(void)unlinkat(record->dir_fd, fresh, 0);
	if (r == 0 && fsync(record->dir_fd) < 0)
		r = -errno;
	return r;
}

int ctl_record_take(struct ctl_record *record, const json_t *sample, struct err *err)
{
	char name[CTL_RECORD_NAME_MAX] = "";
	int r = ctl_record_name(json_object_get(sample, "request"), name);

	if (r == 0 && faccessat(record->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		r = -EEXIST;
	else if (r == 0)
		r = ctl_record_keep(record, name, sample);
	if (r == -EEXIST) {
		record->n_known++;
		return 0;
	}
	if (r < 0)
		return err_set(err, r, "cannot write '%.300s/%s': %s", record->path, name,
		               strerror(-r));
	record->n_files++;
	(void)printf(record->is_json ? "{\"file\":\"%s\"}\n" : "%s\n", name);
	(void)fflush(stdout);
	return 0;
}

void ctl_record_print(FILE *out, const struct ctl_record *record, const json_t *answer)
{
	const json_t *passed_over = json_object_get(answer, "passed_over");
	json_int_t large = json_integer_value(json_object_get(passed_over, "large"));
	json_int_t other = json_integer_value(json_object_get(passed_over, "other"));

	(void)fprintf(out, "%u golden requests written into %s", record->n_files,
	              record->path);
	if (record->n_known > 0)
		(void)fprintf(out, "; %u were there already", record->n_known);
	if (large + other > 0)
		(void)fprintf(out,
		              "; passed over were %lld that are too large and %lld that "
		              "failed, came in parts or too fast",
		              (long long)large, (long long)other);
	(void)fputc('\n', out);
}
