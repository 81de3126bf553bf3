/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The head of a server's answer, taken line by line as it comes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/engine.h"
#include "shared/err.h"

#define SERVER_HEAD_FIELDS_MAX 128
#define SERVER_HEAD_BYTES_MAX  ((size_t)49152)

struct server_head {
	unsigned int status; /* 0: no line has come */
	bool is_begun;       /* its empty line has not come */
	bool is_whole;       /* the empty line of a final answer has come */
	struct engine_field fields[SERVER_HEAD_FIELDS_MAX]; /* texts lie in @text */
	size_t n_fields;
	size_t bytes;
	char text[SERVER_HEAD_BYTES_MAX];
};

void server_head_reset(struct server_head *head);
/* Takes a line with its end; one of an interim answer is dropped. 0, or -EBADMSG with a
 * sentence: such a head is not passed on. */
int server_head_take(struct server_head *head, const char *line, size_t bytes,
                     struct err *err);
/* The length that the head gives the body; UINT64_MAX: none. */
uint64_t server_head_length(const struct server_head *head);
/* Drops the fields that are the connection's own: RFC 9110 7.6.1. */
void server_head_drop_hops(struct server_head *head);
/* True: a field @name of @request is the connection's, or libcurl's to set. */
bool server_head_is_own(struct engine_text name);
bool server_head_is(struct engine_text name, const char *other);
