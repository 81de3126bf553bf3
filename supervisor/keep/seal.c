/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/keep/seal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/hex.h"

#define SEAL_KEY_NEW ".key.new"

struct seal_key {
	uint8_t bytes[SHA256_DIGEST_SIZE];
};

int seal_make_key(int fd)
{
	CLOSE_FD int key_fd = -1;
	struct seal_key key;

	if (getrandom(&key, sizeof(key), 0) != sizeof(key))
		return -errno;
	(void)unlinkat(fd, SEAL_KEY_NEW, 0);
	key_fd = openat(fd, SEAL_KEY_NEW,
	                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (key_fd < 0)
		return -errno;
	if (write(key_fd, &key, sizeof(key)) != sizeof(key))
		return -ENOSPC;
	if (fsync(key_fd) < 0 || renameat(fd, SEAL_KEY_NEW, fd, SEAL_KEY) < 0 ||
	    fsync(fd) < 0)
		return -errno;
	return 0;
}

static int seal_read_key(int key_fd, struct seal_key *ret_key)
{
	struct seal_key more;

	if (pread(key_fd, ret_key, sizeof(*ret_key), 0) != sizeof(*ret_key) ||
	    pread(key_fd, &more, 1, sizeof(*ret_key)) != 0)
		return -EINVAL;
	return 0;
}

static void seal_compute(const struct seal_key *key, uint64_t number, const char *text,
                         size_t bytes, char *ret_code)
{
	const uint64_t big = htobe64(number);
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct hmac_sha256_ctx hmac;

	hmac_sha256_set_key(&hmac, sizeof(key->bytes), key->bytes);
	hmac_sha256_update(&hmac, sizeof(big), (const uint8_t *)&big);
	hmac_sha256_update(&hmac, bytes, (const uint8_t *)text);
	hmac_sha256_digest(&hmac, sizeof(digest), digest);
	hex_print(ret_code, digest, sizeof(digest));
}

int seal_print(int key_fd, uint64_t number, const char *text, size_t bytes,
               char *ret_code)
{
	struct seal_key key;
	int r = seal_read_key(key_fd, &key);

	if (r == 0)
		seal_compute(&key, number, text, bytes, ret_code);
	return r;
}

int seal_check(int key_fd, uint64_t number, const char *text, size_t bytes,
               const char *code)
{
	char expected[SEAL_HEX];
	int r = seal_print(key_fd, number, text, bytes, expected);

	if (r < 0)
		return r;
	return memeql_sec(code, expected, SEAL_HEX - 1) ? 0 : -EBADMSG;
}
