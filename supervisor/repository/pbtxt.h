/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Text in protobuf's text format (protobuf.dev/reference/protobuf/textformat-spec), such as a
 * config.pbtxt of Triton's, as a tree of fields. No schema: what a field may be is the caller's to
 * say. Without extensions and Any, whose names stand in brackets. Pure: bounded by the text's size.
 */

#include <stddef.h>

#include "shared/err.h"

#define PBTXT_BYTES_MAX ((size_t)1024 * 1024)
#define PBTXT_DEPTH_MAX 16
#define PBTXT_NODES_MAX 16384

enum pbtxt_kind {
	PBTXT_WORD,   /* a number, true, false or a word, as it stands */
	PBTXT_TEXT,   /* what was quoted, without escapes, and no NUL in it */
	PBTXT_MESSAGE /* its fields are children */
};

/* One field; an element of a list is a field like one that stands alone. */
struct pbtxt_node {
	const char *name;
	enum pbtxt_kind kind;
	const char *text; /* of WORD and TEXT */
	unsigned int line;
	struct pbtxt_node *child; /* the first */
	struct pbtxt_node *next;  /* the next field of the same message */
};

struct pbtxt;

/* Reads @text, which is not terminated. 0, or -EINVAL with a sentence that begins with the line
 * ("3: ..."), -E2BIG likewise, -ENOMEM. */
int pbtxt_read(struct pbtxt **ret_pbtxt, const char *text, size_t bytes, struct err *err);
/* The message that the whole text is. */
const struct pbtxt_node *pbtxt_root(const struct pbtxt *pbtxt);
void pbtxt_free(struct pbtxt *pbtxt); /* accepts NULL */

/* The last field @name of @message, which counts where one is expected; or NULL. */
const struct pbtxt_node *pbtxt_find(const struct pbtxt_node *message, const char *name);
