/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/memory/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"

/* Value of a line "NAME: 1234 kB" (proc(5)), in bytes; 0: no such line. */
static uint64_t memory_field(const char *text, const char *name)
{
	size_t bytes = strlen(name);

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, bytes) == 0 && line[bytes] == ':')
			return strtoull(line + bytes + 1, NULL, 10) * 1024;
	}
	return 0;
}

bool memory_read_file(const char *path, char *text, size_t size)
{
	CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	return n >= 0;
}

uint64_t memory_available(void)
{
	char text[4096];

	return memory_read_file("/proc/meminfo", text, sizeof(text))
	               ? memory_field(text, "MemAvailable")
	               : 0;
}

/* proc(5): statm has sums of the figures in status, and costs a fraction of it.
 * Resident pages are anonymous, of files, or shared memory; the third number counts the
 * last two. */
struct memory_size memory_size_of(pid_t pid)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	unsigned long long pages[3] = { 0 };
	struct memory_size size = { 0 };
	char path[64];
	char text[256];
	char *at = text;

	(void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	if (!memory_read_file(path, text, sizeof(text)))
		return size;
	for (size_t i = 0; i < 3; i++)
		pages[i] = strtoull(at, &at, 10);
	size.virtual_bytes = pages[0] * page;
	size.resident_bytes = pages[1] * page;
	size.anon_bytes = pages[1] > pages[2] ? (pages[1] - pages[2]) * page : 0;
	return size;
}

json_t *memory_bytes_to_json(uint64_t bytes)
{
	return bytes > INT64_MAX ? json_null() : json_integer((json_int_t)bytes);
}

json_t *memory_to_json(const struct memory_sample *sample)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I}", "available_bytes",
	                 (json_int_t)sample->available_bytes, "loader_rss_bytes",
	                 (json_int_t)sample->loader_rss_bytes, "loader_anon_bytes",
	                 (json_int_t)sample->loader_anon_bytes, "loader_pss_bytes",
	                 (json_int_t)sample->loader_pss_bytes, "shared_bytes",
	                 (json_int_t)sample->shared_bytes);
}
