/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads a model file in one of the ways of enum weights_share. weights_read_all() is the one
 * loop over the file: what is read goes to memory or to the store, and is hashed beside that
 * (digest.h), so that both are of the same bytes. The file's stat(2) is taken before and
 * compared after (weights_check()): a file that changed while it was read is refused.
 */
#include "loader/load/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/load/digest.h"
#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/file.h"

static int weights_changed(const char *path, struct err *err)
{
	return err_set(err, WEIGHTS_E_REFUSED,
	               "'%s' changed while it was read; write model files under another "
	               "name and rename them into place",
	               path);
}

/* The places where the bytes of a file go. */
struct weights_sink {
	unsigned char *data; /* room for all bytes; or NULL */
	int fd;              /* takes all bytes; or -1 */
	bool is_hashed;
};

void weights_tell(const struct weights *weights, size_t bytes)
{
	if (weights->passed)
		atomic_store_explicit(weights->passed, bytes, memory_order_relaxed);
}

static int weights_write(int fd, const unsigned char *data, size_t bytes, size_t at)
{
	while (bytes > 0) {
		ssize_t n = pwrite(fd, data, bytes, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		at += (size_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* Reads with pread(): the descriptor's offset is shared with everybody who has it open. */
static int weights_read_all(const struct weights *weights,
                            const struct weights_sink *sink, struct digest *digest,
                            const char *path, struct err *err)
{
	size_t done = 0;

	while (done < weights->bytes) {
		size_t want = weights->bytes - done;
		unsigned char *chunk =
			sink->data ? sink->data + done : digest_room(digest);
		ssize_t n = pread(weights->fd, chunk,
		                  want < DIGEST_PIECE_BYTES ? want : DIGEST_PIECE_BYTES,
		                  (off_t)done);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot read '%s': %s", path,
			               strerror(errno));
		if (n == 0)
			return weights_changed(path, err);
		if (sink->is_hashed)
			digest_add(digest, chunk, (size_t)n);
		r = sink->fd < 0 ? 0 : weights_write(sink->fd, chunk, (size_t)n, done);
		if (r < 0)
			return err_set(err, r,
			               "no memory for the shared copy of '%s': %s", path,
			               strerror(-r));
		done += (size_t)n;
		weights_tell(weights, done);
	}
	return 0;
}

static int weights_read(struct weights *weights, const struct weights_sink *sink,
                        const char *path, struct err *err)
{
	struct digest *digest;
	int r = digest_new(&digest, sink->is_hashed ? weights->bytes : 0);

	if (r < 0)
		return err_set(err, r, "out of memory");
	r = weights_read_all(weights, sink, digest, path, err);
	if (r == 0 && sink->is_hashed)
		digest_finish(digest, weights->sha256);
	digest_free(digest);
	return r;
}

static int weights_open(struct weights *weights, int fd, const char *path,
                        struct err *err)
{
	/* O_NONBLOCK: a FIFO must not block the open before it is refused. */
	weights->fd = fd >= 0 ? fd : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (weights->fd < 0 || fstat(weights->fd, &weights->file) < 0)
		return err_set(err, err_is_shortage(errno) ? -errno : WEIGHTS_E_REFUSED,
		               "cannot open model file '%s': %s", path,
		               access_why(&(struct err)ERR_NULL, path, R_OK, errno));
	if (!S_ISREG(weights->file.st_mode) || weights->file.st_size <= 0)
		return err_set(err, WEIGHTS_E_REFUSED, "model file '%s' is %s", path,
		               S_ISREG(weights->file.st_mode) ? "empty"
		                                              : "not a regular file");
	weights->bytes = (size_t)weights->file.st_size;
	return 0;
}

static int weights_read_private(struct weights *weights, const char *path,
                                struct err *err)
{
	struct weights_sink sink = { .fd = -1, .is_hashed = true };
	void *data = mmap(NULL, weights->bytes, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (data == MAP_FAILED)
		return err_set(err, -errno, "no memory for the %zu bytes of '%s'",
		               weights->bytes, path);
	weights->data = sink.data = data;
	r = weights_read(weights, &sink, path, err);
	/* Read-only from here on, so that a stray write shows itself. */
	if (r == 0)
		(void)mprotect(data, weights->bytes, PROT_READ);
	return r;
}

static int weights_hash(struct weights *weights, const char *path, struct err *err)
{
	return weights_read(weights,
	                    &(struct weights_sink){ .fd = -1, .is_hashed = true }, path,
	                    err);
}

/* Copy-on-write: a model may keep state where its file has a tensor. */
static int weights_map(struct weights *weights, int fd, const char *path, struct err *err)
{
	void *data = mmap(NULL, weights->bytes, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_NORESERVE, fd, 0);

	if (data == MAP_FAILED)
		return err_set(err, -errno, "cannot map the %zu bytes of '%s': %s",
		               weights->bytes, path, strerror(errno));
	weights->data = data;
	return 0;
}

static int weights_fill(struct weights *weights, bool is_hashed, const char *path,
                        struct err *err)
{
	struct weights_sink sink = { .fd = weights->store_fd, .is_hashed = is_hashed };
	int r = weights_read(weights, &sink, path, err);

	if (r == 0)
		r = weights_check(weights, path, err);
	return r ? r : weights_map(weights, sink.fd, path, err);
}

/* Maps what came. A known hash is believed: its giver vouches that it is of these bytes. */
static int weights_adopt(struct weights *weights, const struct weights_source *source,
                         struct err *err)
{
	int r = 0;

	if (source->sha256)
		(void)snprintf(weights->sha256, sizeof(weights->sha256), "%s",
		               source->sha256);
	else
		r = weights_hash(weights, source->path, err);
	if (r == 0)
		weights_tell(weights, weights->bytes);
	return r ? r : weights_map(weights, weights->fd, source->path, err);
}

static int weights_take(struct weights *weights, const struct weights_source *source,
                        struct err *err)
{
	if (source->share == WEIGHTS_MAP)
		return weights_adopt(weights, source, err);
	if (source->is_lean && source->sha256) {
		(void)snprintf(weights->sha256, sizeof(weights->sha256), "%s",
		               source->sha256);
		return 0;
	}
	if (source->is_lean)
		return weights_hash(weights, source->path, err);
	return source->share == WEIGHTS_FILL
	               ? weights_fill(weights, true, source->path, err)
	               : weights_read_private(weights, source->path, err);
}

int weights_init(struct weights *weights, const struct weights_source *source,
                 struct err *err)
{
	struct stat store;
	int r;

	*weights = (struct weights)WEIGHTS_NULL;
	weights->share = source->share;
	weights->store_fd = source->store_fd;
	weights->passed = source->passed;
	r = weights_open(weights, source->fd, source->path, err);
	/* The store was made as large as the file was: another size means that it changed. */
	if (r == 0 && source->store_fd >= 0 && fstat(source->store_fd, &store) == 0 &&
	    store.st_size != weights->file.st_size)
		r = weights_changed(source->path, err);
	if (r == 0)
		r = weights_take(weights, source, err);
	if (r == 0)
		r = weights_check(weights, source->path, err);
	if (r)
		weights_drop(weights);
	return r;
}

int weights_place(struct weights *weights, const char *path, struct err *err)
{
	return weights_fill(weights, false, path, err);
}

int weights_seal(struct weights *weights, const char *path, struct err *err)
{
	if (weights->store_fd < 0 || !weights->data)
		return 0;
	if (fcntl(weights->store_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_set(err, -errno, "cannot seal the copy of '%s': %s", path,
		               strerror(errno));
	return 0;
}

void weights_unshare(struct weights *weights)
{
	if (weights->data)
		(void)munmap(weights->data, weights->bytes);
	weights->data = NULL;
	/* Closing would not give the memory back, because the supervisor has the store open,
	 * too. A hole frees whole pages only, hence it reaches beyond the end. */
	if (weights->store_fd >= 0)
		(void)fallocate(weights->store_fd,
		                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		                (off_t)(weights->bytes + DIGEST_PIECE_BYTES));
	close_fd(&weights->store_fd);
	weights->share = WEIGHTS_PRIVATE;
}

int weights_check(const struct weights *weights, const char *path, struct err *err)
{
	struct stat now;

	if (fstat(weights->fd, &now) < 0 || !file_is_unwritten(&weights->file, &now))
		return weights_changed(path, err);
	return 0;
}

void weights_leave(struct weights *weights)
{
	if (weights->share != WEIGHTS_PRIVATE)
		weights->data = NULL;
	weights_drop(weights);
}

void weights_drop(struct weights *weights)
{
	if (weights->data)
		(void)munmap(weights->data, weights->bytes);
	weights->data = NULL;
	close_fd(&weights->fd);
	close_fd(&weights->store_fd);
}
