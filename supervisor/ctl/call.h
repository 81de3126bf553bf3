/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One call to moultd's control socket: a line of JSON goes there, lines of JSON come back, the
 * last of which has the member ok. Every wait has a deadline. What the lines say is for others,
 * and so are the sentences about what goes wrong.
 */

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct ctl_call {
	int fd; /* owned; -1: none */
	int stop_fd;
	uint64_t deadline_ns;
	char *buffer; /* owned */
	size_t capacity;
	size_t bytes; /* in the buffer */
	size_t taken; /* of them: lines that were handed out */
};

#define CTL_CALL_NULL                                                                    \
	{                                                                                \
		.fd = -1, .stop_fd = -1                                                  \
	}

/* Connects to @path; ctl_call_close() in any case. Waits end at @deadline_ns, and when @stop_fd
 * is readable (borrowed; -1: none is). 0 or -errno. */
int ctl_call_open(struct ctl_call *call, const char *path, uint64_t deadline_ns,
                  int stop_fd);
/* Accepts a call that was never opened. */
void ctl_call_close(struct ctl_call *call);
/* 0; -EILSEQ: @request, which may be NULL, has no text; -EPIPE: moultd has hung up. */
int ctl_call_send(struct ctl_call *call, const json_t *request);
/* The next line without its end, borrowed until the next call. 0; -ETIMEDOUT; -ECANCELED: stop_fd
 * is readable; -EPIPE: moultd has hung up; -EMSGSIZE, -ENOMEM: the line is too long. */
int ctl_call_line(struct ctl_call *call, char **ret_line, size_t *ret_bytes);
