/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shared/cleanup.h"

int memfd_create_sealed(struct memfd *ret_memfd, const char *name, size_t size_bytes,
                        enum memfd_peer peer)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	CLOSE_FD int fd = -1;
	void *base;

	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size_bytes) < 0)
		return -errno;
	base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	if (peer == MEMFD_PEER_READS)
		seals |= F_SEAL_FUTURE_WRITE;
	if (fcntl(fd, F_ADD_SEALS, seals) < 0) {
		int r = -errno;

		(void)munmap(base, size_bytes);
		return r;
	}
	/* Request bodies have no place in a core file. */
	(void)madvise(base, size_bytes, MADV_DONTDUMP);
	*ret_memfd = (struct memfd){
		.fd = take_fd(&fd),
		.base = base,
		.size_bytes = size_bytes,
	};
	return 0;
}

int memfd_create_constant(const char *name, const void *data, size_t size_bytes)
{
	const char *rest = data;
	CLOSE_FD int fd = -1;

	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	while (size_bytes > 0) {
		ssize_t n = write(fd, rest, size_bytes);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			rest += n;
			size_bytes -= (size_t)n;
		}
	}
	if (fcntl(fd, F_ADD_SEALS,
	          F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	return take_fd(&fd);
}

int memfd_map(struct memfd *ret_memfd, int fd, bool is_writable)
{
	/* An empty one has a place, too: readers count on from it to its end. */
	static unsigned char nothing;
	const int needed = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat st;
	void *base = &nothing;
	int seals;

	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return -errno;
	if ((seals & needed) != needed)
		return -EPERM;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > 0) {
		base = mmap(NULL, (size_t)st.st_size,
		            PROT_READ | (is_writable ? PROT_WRITE : 0), MAP_SHARED, fd,
		            0);
		if (base == MAP_FAILED)
			return -errno;
		(void)madvise(base, (size_t)st.st_size, MADV_DONTDUMP);
	}
	*ret_memfd = (struct memfd){
		.fd = fd,
		.base = base,
		.size_bytes = (size_t)st.st_size,
	};
	return 0;
}

int memfd_punch(const struct memfd *memfd, size_t offset, size_t bytes)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(memfd->fd, mode, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
}

void memfd_fini(struct memfd *memfd)
{
	if (memfd->size_bytes > 0)
		(void)munmap(memfd->base, memfd->size_bytes);
	memfd->base = NULL;
	memfd->size_bytes = 0;
	close_fd(&memfd->fd);
}
