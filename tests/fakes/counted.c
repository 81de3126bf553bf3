/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Preloaded into moultd: counts what it asks of the kernel and of the allocator, into the file
 * that COUNTED names. Allocations are counted by who asks: moultd itself, libmicrohttpd, or
 * another library. Loaders, which inherit nothing of moultd's environment but what they need,
 * are not counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc's own, by the names under which it keeps them for whoever replaces them. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);

/* In the file, in this order: tests/system/harness.py reads it. */
enum {
	COUNTED_OURS,
	COUNTED_MICROHTTPD,
	COUNTED_OTHERS,
	COUNTED_READS,
	COUNTED_LARGEST_READ,
	COUNTED_WAITS,
	COUNTED_COUNT
};

struct range {
	uintptr_t begin;
	uintptr_t end;
};

static uint64_t unheard[COUNTED_COUNT];
static uint64_t *counts = unheard;
static struct range ours;
static struct range microhttpd;

static int on_object(struct dl_phdr_info *info, size_t size, void *context)
{
	struct range *range = NULL;

	(void)size;
	(void)context;
	if (ours.end == 0)
		range = &ours; /* the program comes first */
	else if (strstr(info->dlpi_name, "libmicrohttpd"))
		range = &microhttpd;
	if (!range)
		return 0;
	range->begin = info->dlpi_addr;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type == PT_LOAD)
			range->end = info->dlpi_addr + part->p_vaddr + part->p_memsz;
	}
	return 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *file = getenv("COUNTED");
	int fd = file ? open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	void *shared;

	if (fd < 0)
		return;
	(void)dl_iterate_phdr(on_object, NULL);
	if (ftruncate(fd, sizeof(unheard)) == 0) {
		shared = mmap(NULL, sizeof(unheard), PROT_READ | PROT_WRITE, MAP_SHARED,
		              fd, 0);
		if (shared != MAP_FAILED)
			counts = shared;
	}
	(void)close(fd);
}

static int is_in(const struct range *range, uintptr_t at)
{
	return at >= range->begin && at < range->end;
}

static void count(const void *caller)
{
	uintptr_t at = (uintptr_t)caller;

	if (is_in(&ours, at))
		counts[COUNTED_OURS]++;
	else if (is_in(&microhttpd, at))
		counts[COUNTED_MICROHTTPD]++;
	else
		counts[COUNTED_OTHERS]++;
}

void *malloc(size_t bytes)
{
	count(__builtin_return_address(0));
	return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
	count(__builtin_return_address(0));
	return __libc_calloc(n, bytes);
}

void *realloc(void *memory, size_t bytes)
{
	count(__builtin_return_address(0));
	return __libc_realloc(memory, bytes);
}

/* The C library's would be counted as asked for by itself. */
char *strdup(const char *text)
{
	size_t bytes = strlen(text) + 1;
	char *copy;

	count(__builtin_return_address(0));
	copy = __libc_malloc(bytes);
	return copy ? memcpy(copy, text, bytes) : NULL;
}

ssize_t recvfrom(int fd, void *data, size_t bytes, int flags, __SOCKADDR_ARG address,
                 socklen_t *address_bytes)
{
	ssize_t n = syscall(SYS_recvfrom, fd, data, bytes, flags, address.__sockaddr__,
	                    address_bytes);

	counts[COUNTED_READS]++;
	if (n > 0 && (uint64_t)n > counts[COUNTED_LARGEST_READ])
		counts[COUNTED_LARGEST_READ] = (uint64_t)n;
	return n;
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms)
{
	counts[COUNTED_WAITS]++;
	return (int)syscall(SYS_epoll_wait, fd, events, most, timeout_ms);
}
