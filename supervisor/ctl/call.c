/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The socket does not block, so that a moultd that hangs ends no wait but at the deadline. The
 * buffer grows up to the longest line that makes sense.
 */

#include "supervisor/ctl/call.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shared/cleanup.h"
#include "shared/clock.h"

#define CALL_BYTES_FIRST ((size_t)64 << 10)
#define CALL_BYTES_MAX   ((size_t)8 << 20)

int ctl_call_open(struct ctl_call *call, const char *path, uint64_t deadline_ns,
                  int stop_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*call = (struct ctl_call)CTL_CALL_NULL;
	call->deadline_ns = deadline_ns;
	call->stop_fd = stop_fd;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	call->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (call->fd < 0 ||
	    connect(call->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return 0;
}

void ctl_call_close(struct ctl_call *call)
{
	close_fd(&call->fd);
	free(call->buffer);
	call->buffer = NULL;
	call->capacity = call->bytes = call->taken = 0;
}

int ctl_call_send(struct ctl_call *call, const json_t *request)
{
	FREE char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
	size_t bytes;

	if (!line)
		return -EILSEQ;
	/* A fresh socket has room for the line; the terminator becomes the line's end. */
	bytes = strlen(line);
	line[bytes++] = '\n';
	return send(call->fd, line, bytes, MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : -EPIPE;
}

static int call_wait(const struct ctl_call *call)
{
	struct pollfd ready[] = {
		{ .fd = call->fd, .events = POLLIN },
		{ .fd = call->stop_fd, .events = POLLIN },
	};

	for (;;) {
		uint64_t now_ns = clock_now_ns();

		if (now_ns >= call->deadline_ns)
			return -ETIMEDOUT;
		if (poll(ready, 2,
		         (int)((call->deadline_ns - now_ns) / CLOCK_NS_PER_MS + 1)) > 0)
			return ready[1].revents ? -ECANCELED : 0;
	}
}

static int call_make_room(struct ctl_call *call)
{
	size_t capacity = call->capacity ? call->capacity * 2 : CALL_BYTES_FIRST;
	char *larger;

	if (call->bytes < call->capacity)
		return 0;
	if (capacity > CALL_BYTES_MAX)
		return -EMSGSIZE;
	larger = realloc(call->buffer, capacity);
	if (!larger)
		return -ENOMEM;
	call->buffer = larger;
	call->capacity = capacity;
	return 0;
}

/* Waits for more bytes. 0 or -errno. */
static int call_receive(struct ctl_call *call)
{
	ssize_t n;
	int r = call_make_room(call);

	if (r == 0)
		r = call_wait(call);
	if (r < 0)
		return r;
	n = recv(call->fd, call->buffer + call->bytes, call->capacity - call->bytes, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -EPIPE;
	call->bytes += (size_t)n;
	return 0;
}

int ctl_call_line(struct ctl_call *call, char **ret_line, size_t *ret_bytes)
{
	size_t seen = 0;
	int r = 0;

	/* What was handed out goes. */
	call->bytes -= call->taken;
	if (call->taken > 0)
		memmove(call->buffer, call->buffer + call->taken, call->bytes);
	call->taken = 0;
	while (r == 0) {
		char *end = call->bytes > seen ? memchr(call->buffer + seen, '\n',
		                                        call->bytes - seen)
		                               : NULL;

		if (end) {
			*ret_line = call->buffer;
			*ret_bytes = (size_t)(end - call->buffer);
			call->taken = *ret_bytes + 1;
			return 0;
		}
		seen = call->bytes;
		r = call_receive(call);
	}
	return r;
}
