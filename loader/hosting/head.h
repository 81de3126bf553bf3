/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Heads of hosted requests and answers, between the arena's form (shared/proto.h) and the
 * engine's (loader/engine.h).
 */

#include <stdbool.h>
#include <stddef.h>

#include "loader/engine.h"
#include "shared/err.h"
#include "shared/proto.h"

/* Points method, target and fields of @ret_request into @memory. @fields has room for
 * PROTO_FIELDS_MAX. 0 or -EBADMSG. */
int host_head_read(struct engine_request *ret_request, struct engine_field *fields,
                   const unsigned char *memory, size_t bytes);

/* Checks what an engine wants to send (RFC 9110 5.1, 5.5, 15). @is_first: the answer begins with
 * this part. 0, or ENGINE_HOST_E_INVALID with a sentence. */
int host_head_check(const struct engine_part *part, bool is_first, struct err *err);
/* Bytes that host_head_write() will need, which host_head_check() has found to be within
 * PROTO_HEAD_MAX. @is_cut: the part is sent in pieces; a whole answer gets its length then, beside
 * what the engine has given. */
size_t host_head_bytes(const struct engine_part *part, bool is_cut);
void host_head_write(const struct engine_part *part, bool is_cut, unsigned char *memory);

/* Reads a request as HTTP has it, "POST /path" and so on, from @text, which it changes and the
 * request borrows; @fields has PROTO_FIELDS_MAX places. 0, or the number of the line that is
 * wrong. */
unsigned int host_head_parse(struct engine_request *ret_request,
                             struct engine_field *fields, char *text, size_t bytes);
