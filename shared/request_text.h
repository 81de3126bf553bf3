/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A request as HTTP has it, in a file that whoever runs the model has written: "POST /path", with or
 * without a version, lines such as "Content-Type: text/plain", an empty line, and the body. Lines end
 * with LF or CRLF.
 */

#include <stddef.h>

#include "shared/proto.h"

struct request_text {
	struct proto_text method;
	struct proto_text target;
	size_t n_fields;
	const char *body;
	size_t body_bytes;
};

/* Reads @text, which it changes (names in lower case) and the request borrows; @fields has
 * PROTO_FIELDS_MAX places. 0, or the number of the line that is wrong. */
unsigned int request_text_parse(struct request_text *ret_request,
                                struct proto_field *fields, char *text, size_t bytes);
