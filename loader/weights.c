/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
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

static int weights_read(struct weights *weights, int fd, const char *path,
                        struct err *err)
{
	struct sha256_ctx sha256;
	uint8_t digest[SHA256_DIGEST_SIZE];
	unsigned char *data = weights->data;
	size_t done = 0;

	sha256_init(&sha256);
	while (done < weights->bytes) {
		size_t want = weights->bytes - done;
		ssize_t n = read(fd, data + done,
		                 want < WEIGHTS_CHUNK_BYTES ? want : WEIGHTS_CHUNK_BYTES);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot read '%s': %s", path,
			               strerror(errno));
		if (n == 0)
			return weights_changed(path, err);
		sha256_update(&sha256, (size_t)n, data + done);
		done += (size_t)n;
	}
	sha256_digest(&sha256, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(weights->sha256 + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

int weights_init(struct weights *weights, const char *path, struct err *err)
{
	CLOSE_FD int fd = -1;
	struct stat before;
	struct stat after;
	int r;

	*weights = (struct weights){ 0 };
	/* Not blocking: a FIFO must not hold us up before it is refused. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &before) < 0)
		return err_set(err, WEIGHTS_E_REFUSED, "cannot open model file '%s': %s",
		               path, strerror(errno));
	if (!S_ISREG(before.st_mode) || before.st_size <= 0)
		return err_set(err, WEIGHTS_E_REFUSED, "model file '%s' is %s", path,
		               S_ISREG(before.st_mode) ? "empty" : "not a regular file");
	weights->data = mmap(NULL, (size_t)before.st_size, PROT_READ | PROT_WRITE,
	                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (weights->data == MAP_FAILED) {
		r = -errno;
		weights->data = NULL;
		return err_set(err, r, "no memory for the %lld bytes of '%s'",
		               (long long)before.st_size, path);
	}
	weights->bytes = (size_t)before.st_size;
	r = weights_read(weights, fd, path, err);
	if (r == 0 && (fstat(fd, &after) < 0 || !weights_is_same(&before, &after)))
		r = weights_changed(path, err);
	if (r) {
		weights_drop(weights);
		return r;
	}
	/* Nobody has reason to write there; let a stray write show itself. */
	(void)mprotect(weights->data, weights->bytes, PROT_READ);
	return 0;
}

void weights_drop(struct weights *weights)
{
	if (weights->data)
		(void)munmap(weights->data, weights->bytes);
	weights->data = NULL;
}
