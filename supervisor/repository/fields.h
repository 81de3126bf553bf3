/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Fields of a message of protobuf's text format against a table, which says what becomes of each.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "shared/err.h"
#include "supervisor/repository/pbtxt.h"

#define FIELDS_WORD_MAX 128

struct model_reader;

/* Where sentences about fields go. */
struct fields {
	FILE *doubts;        /* borrowed */
	const char *doubted; /* the last field of which something was said; or NULL */
	unsigned int doubted_line;
	struct err *err; /* borrowed */
};

/* What becomes of a field: the first of these that the row has. */
struct row {
	const char *name;
	int (*take)(struct model_reader *reader, const struct pbtxt_node *node);
	const char *refusal; /* why not, and what to do */
	const char *doubt;   /* what happens in its place */
};

/* -EINVAL with a sentence that begins with the line and the field's name. */
int fields_refuse(const struct fields *fields, const struct pbtxt_node *node,
                  const char *format, ...) __attribute__((format(printf, 3, 4)));
void fields_doubt(struct fields *fields, const struct pbtxt_node *node, const char *why);
/* Goes through the fields of @message. @what: it, for people. 0 or what take() or a refusal gave. */
int fields_take(struct fields *fields, struct model_reader *reader,
                const struct pbtxt_node *message, const struct row *rows, size_t n,
                const char *what);
/* The same of @node, which must be a message. */
int fields_message(struct fields *fields, struct model_reader *reader,
                   const struct pbtxt_node *node, const struct row *rows, size_t n);

/* Whether @node is a text or word that can stand in a line of a section. */
bool fields_is_plain(const struct pbtxt_node *node);
/* These refuse what is not so. */
int fields_check_plain(const struct fields *fields, const struct pbtxt_node *node);
/* @ret_word: FIELDS_WORD_MAX bytes. */
int fields_word(const struct fields *fields, const struct pbtxt_node *node,
                char *ret_word);
/* A number from 0 to @max. */
int fields_number(const struct fields *fields, const struct pbtxt_node *node,
                  uint64_t max, uint64_t *ret_number);
bool fields_is_word(const struct pbtxt_node *node, const char *word);
/* Refuses @node unless it says no. */
int fields_no(const struct fields *fields, const struct pbtxt_node *node,
              const char *why);
