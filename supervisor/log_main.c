/* SPDX-License-Identifier: Apache-2.0 */

/*
 * moult-log FILE: appends to FILE the lines that come on descriptor 3, on behalf of moultd,
 * which must never wait for a disk. FILE is opened for each lot of lines, so that it can be
 * renamed at any moment. Ends when moultd has closed the other end.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/proto.h"

#define LOT_BYTES (64 * 1024) /* many lines; each is shorter than 2 KiB */
#define MODE      0640

/* 0 or -errno. */
static int append(const char *path, const char *text, size_t bytes)
{
	CLOSE_FD int fd =
		open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, MODE);

	if (fd < 0)
		return -errno;
	while (bytes > 0) {
		ssize_t n = write(fd, text, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		bytes -= (size_t)n;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static char lot[LOT_BYTES];
	size_t used = 0;
	int last = 0;

	if (argc != 2) {
		(void)fprintf(stderr, "usage: moult-log FILE, by moultd alone\n");
		return 2;
	}
	for (;;) {
		ssize_t n = read(PROTO_CONTROL_FD, lot + used, sizeof(lot) - used);
		const char *end;
		size_t whole;
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
		/* No line is parted when the file is renamed. */
		end = memrchr(lot, '\n', used);
		whole = end ? (size_t)(end + 1 - lot) : used == sizeof(lot) ? used : 0;
		r = whole ? append(argv[1], lot, whole) : last;
		if (r < 0 && r != last)
			(void)fprintf(stderr, "%s: %s: lines are lost\n", argv[1],
			              strerror(-r));
		last = r;
		used -= whole;
		memmove(lot, lot + whole, used);
	}
	return 0;
}
