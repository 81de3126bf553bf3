/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/aoti/catch.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/cleanup.h"

void catch_begin(struct catch *catch)
{
	*catch = (struct catch){ -1, -1 };
	catch->fd = memfd_create("moult-stderr", MFD_CLOEXEC);
	if (catch->fd < 0)
		return;
	catch->saved_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	if (catch->saved_fd < 0 || dup2(catch->fd, STDERR_FILENO) < 0) {
		close_fd(&catch->saved_fd);
		close_fd(&catch->fd);
	}
}

void catch_find_cause(const char *text, char *cause, size_t size)
{
	/* The first one has the reason of an operator, the other one that of the model. */
	static const char *const marks[] = { "Exception in aoti_torch: ", "Error: " };
	const char *at = NULL;
	size_t bytes;

	for (size_t i = 0; i < 2 && !at; i++) {
		at = strstr(text, marks[i]);
		at = at ? at + strlen(marks[i]) : NULL;
	}
	bytes = at ? strcspn(at, "\n") : 0;
	(void)snprintf(cause, size, "%.*s", (int)bytes, at ? at : "");
}

void catch_end(struct catch *catch, char *cause, size_t size)
{
	char text[CATCH_TEXT_MAX + 1];
	ssize_t bytes;

	*cause = '\0';
	if (catch->fd < 0)
		return;
	(void)dup2(catch->saved_fd, STDERR_FILENO);
	bytes = pread(catch->fd, text, CATCH_TEXT_MAX, 0);
	text[bytes < 0 ? 0 : bytes] = '\0';
	catch_find_cause(text, cause, size);
	if (bytes > 0)
		(void)!write(STDERR_FILENO, text, (size_t)bytes);
	close_fd(&catch->saved_fd);
	close_fd(&catch->fd);
}
