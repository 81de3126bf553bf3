/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"

/* Small enough to be hashed while it is still in the cache. */
#define WEIGHTS_CHUNK_BYTES ((size_t)256 * 1024)

static int weights_changed(const char *path, struct err *err)
{
	return err_set(err, WEIGHTS_E_REFUSED,
	               "'%s' changed while it was read; write model files under another "
	               "name and rename them into place",
	               path);
}

static bool weights_is_same(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Into weights->data, or (lean) through a small buffer. The descriptor's offset belongs to
 * everybody who has it open: pread(). */
static int weights_read(struct weights *weights, const char *path, struct err *err)
{
	FREE unsigned char *buffer = weights->data ? NULL : malloc(WEIGHTS_CHUNK_BYTES);
	struct sha256_ctx sha256;
	uint8_t digest[SHA256_DIGEST_SIZE];
	unsigned char *data = weights->data;
	size_t done = 0;

	if (!data && !buffer)
		return err_set(err, -ENOMEM, "out of memory");
	sha256_init(&sha256);
	while (done < weights->bytes) {
		size_t want = weights->bytes - done;
		unsigned char *chunk = data ? data + done : buffer;
		ssize_t n = pread(weights->fd, chunk,
		                  want < WEIGHTS_CHUNK_BYTES ? want : WEIGHTS_CHUNK_BYTES,
		                  (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot read '%s': %s", path,
			               strerror(errno));
		if (n == 0)
			return weights_changed(path, err);
		sha256_update(&sha256, (size_t)n, chunk);
		done += (size_t)n;
	}
	sha256_digest(&sha256, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(weights->sha256 + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

static int weights_open(struct weights *weights, int fd, const char *path,
                        struct err *err)
{
	/* Not blocking: a FIFO must not hold us up before it is refused. */
	weights->fd = fd >= 0 ? fd : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (weights->fd < 0 || fstat(weights->fd, &weights->file) < 0)
		return err_set(err, err_is_shortage(errno) ? -errno : WEIGHTS_E_REFUSED,
		               "cannot open model file '%s': %s", path, strerror(errno));
	if (!S_ISREG(weights->file.st_mode) || weights->file.st_size <= 0)
		return err_set(err, WEIGHTS_E_REFUSED, "model file '%s' is %s", path,
		               S_ISREG(weights->file.st_mode) ? "empty"
		                                              : "not a regular file");
	weights->bytes = (size_t)weights->file.st_size;
	return 0;
}

static int weights_map(struct weights *weights, const char *path, struct err *err)
{
	void *data = mmap(NULL, weights->bytes, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (data == MAP_FAILED)
		return err_set(err, -errno, "no memory for the %zu bytes of '%s'",
		               weights->bytes, path);
	weights->data = data;
	return 0;
}

int weights_init(struct weights *weights, int fd, const char *path, bool is_lean,
                 struct err *err)
{
	int r;

	*weights = (struct weights)WEIGHTS_NULL;
	r = weights_open(weights, fd, path, err);
	if (r == 0 && !is_lean)
		r = weights_map(weights, path, err);
	if (r == 0)
		r = weights_read(weights, path, err);
	if (r == 0)
		r = weights_check(weights, path, err);
	if (r) {
		weights_drop(weights);
		return r;
	}
	/* Nobody has reason to write there; let a stray write show itself. */
	if (weights->data)
		(void)mprotect(weights->data, weights->bytes, PROT_READ);
	return 0;
}

int weights_check(const struct weights *weights, const char *path, struct err *err)
{
	struct stat now;

	if (fstat(weights->fd, &now) < 0 || !weights_is_same(&weights->file, &now))
		return weights_changed(path, err);
	return 0;
}

void weights_drop(struct weights *weights)
{
	if (weights->data)
		(void)munmap(weights->data, weights->bytes);
	weights->data = NULL;
	close_fd(&weights->fd);
}
