/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A descent over the text, one function for each rule of the grammar. Nodes and texts lie in two
 * allocations whose sizes follow from the text's, so that nothing grows while it is read: a field
 * takes two bytes of text at least, and a decoded text is no longer than its source.
 */
#include "supervisor/repository/pbtxt.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/hex.h"

#define WORD_START "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
#define WORD_REST  WORD_START "0123456789"
#define NUMBER     WORD_REST ".+-"

struct pbtxt {
	struct pbtxt_node root;
	struct pbtxt_node *nodes;
	size_t n_nodes;
	size_t max_nodes;
	char *texts;
	size_t used;
};

struct pbtxt_reader {
	struct pbtxt *pbtxt;
	const char *at;
	const char *end;
	unsigned int line;
	unsigned int depth;
	struct err *err;
};

/* A message that is being read: where its next field goes. */
struct pbtxt_fields {
	struct pbtxt_node **tail;
	char end; /* '}', '>' or, for the whole text, '\0' */
};

static int pbtxt_refuse(const struct pbtxt_reader *reader, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int pbtxt_refuse(const struct pbtxt_reader *reader, int r, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return err_set(reader->err, r, "%u: %.400s", reader->line, text);
}

/* Letters */

static char pbtxt_peek(const struct pbtxt_reader *reader)
{
	return reader->at < reader->end ? *reader->at : '\0';
}

static const char *pbtxt_line_end(const struct pbtxt_reader *reader)
{
	const char *end = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));

	return end ? end : reader->end;
}

/* Skips blanks and comments; the next letter, '\0' at the end. */
static char pbtxt_next(struct pbtxt_reader *reader)
{
	while (reader->at < reader->end && *reader->at &&
	       strchr(" \t\r\n\v\f#", *reader->at)) {
		if (*reader->at == '#')
			reader->at = pbtxt_line_end(reader);
		else
			reader->line += *reader->at++ == '\n';
	}
	return pbtxt_peek(reader);
}

static bool pbtxt_take(struct pbtxt_reader *reader, char c)
{
	if (pbtxt_next(reader) != c || c == '\0')
		return false;
	reader->at++;
	return true;
}

static int pbtxt_refuse_letter(struct pbtxt_reader *reader, const char *wanted)
{
	unsigned char c = (unsigned char)pbtxt_next(reader);

	if (reader->at >= reader->end)
		return pbtxt_refuse(reader, -EINVAL, "ends where %s is expected", wanted);
	if (c <= ' ' || c >= 0x7f)
		return pbtxt_refuse(reader, -EINVAL,
		                    "has the byte 0x%02x where %s is expected", c,
		                    wanted);
	return pbtxt_refuse(reader, -EINVAL, "has '%c' where %s is expected", c, wanted);
}

/* Texts */

static void pbtxt_put(struct pbtxt_reader *reader, char c)
{
	struct pbtxt *pbtxt = reader->pbtxt;

	pbtxt->texts[pbtxt->used++] = c;
}

/* Copies letters of @set; NULL where there are none. */
static const char *pbtxt_copy(struct pbtxt_reader *reader, const char *set)
{
	const char *text = reader->pbtxt->texts + reader->pbtxt->used;
	char c = pbtxt_peek(reader);

	if (c == '\0' || !strchr(set, c))
		return NULL;
	for (; c != '\0' && strchr(set, c); c = pbtxt_peek(reader)) {
		pbtxt_put(reader, c);
		reader->at++;
	}
	pbtxt_put(reader, '\0');
	return text;
}

/* Reads up to @most digits of base @bits (1 << @bits); the first is there. */
static unsigned int pbtxt_digits(struct pbtxt_reader *reader, unsigned int bits, int most)
{
	unsigned int value = 0;

	while (most-- > 0) {
		int digit = hex_value(pbtxt_peek(reader));

		if (digit < 0 || digit >= 1 << bits)
			break;
		value = value << bits | (unsigned int)digit;
		reader->at++;
	}
	return value;
}

/* Reads what follows a backslash. */
static int pbtxt_escape(struct pbtxt_reader *reader)
{
	static const char names[] = "abfnrtv\\'\"?";
	static const char values[] = "\a\b\f\n\r\t\v\\'\"?";
	char c = pbtxt_peek(reader);
	const char *named = c ? strchr(names, c) : NULL;
	unsigned int value;

	if (named) {
		reader->at++;
		value = (unsigned char)values[named - names];
	} else if (c >= '0' && c <= '7') {
		value = pbtxt_digits(reader, 3, 3);
	} else if (c == 'x' || c == 'X') {
		reader->at++;
		value = pbtxt_digits(reader, 4, 2);
	} else {
		return pbtxt_refuse(reader, -EINVAL,
		                    "has an escape in a text that is not known here: "
		                    "write the letter itself, or its bytes as \\x41");
	}
	if (value == 0 || value > 0xff)
		return pbtxt_refuse(reader, -EINVAL,
		                    "has an escape in a text that stands for no byte, or "
		                    "for one of value 0");
	pbtxt_put(reader, (char)value);
	return 0;
}

/* Reads one quoted text, whose first quote is there. */
static int pbtxt_quoted(struct pbtxt_reader *reader)
{
	char quote = *reader->at++;
	int r = 0;

	while (r == 0 && reader->at < reader->end && *reader->at != quote) {
		char c = *reader->at;

		if (c == '\n' || c == '\0')
			return pbtxt_refuse(reader, -EINVAL,
			                    "has a text that does not end on its line");
		reader->at++;
		if (c == '\\')
			r = pbtxt_escape(reader);
		else
			pbtxt_put(reader, c);
	}
	if (r == 0 && reader->at >= reader->end)
		r = pbtxt_refuse(reader, -EINVAL, "ends within a text");
	reader->at += r == 0;
	return r;
}

/* Reads texts that follow one another, which are one. */
static int pbtxt_texts(struct pbtxt_reader *reader, struct pbtxt_node *node)
{
	int r = 0;

	node->kind = PBTXT_TEXT;
	node->text = reader->pbtxt->texts + reader->pbtxt->used;
	while (r == 0 && (pbtxt_next(reader) == '"' || pbtxt_peek(reader) == '\''))
		r = pbtxt_quoted(reader);
	pbtxt_put(reader, '\0');
	return r;
}

/* Fields */

static int pbtxt_message(struct pbtxt_reader *reader, struct pbtxt_fields fields);

/* Adds a field behind the others of its message. NULL, with a sentence: there are too many. */
static struct pbtxt_node *pbtxt_add(struct pbtxt_reader *reader,
                                    struct pbtxt_fields *fields, const char *name)
{
	struct pbtxt *pbtxt = reader->pbtxt;
	struct pbtxt_node *node;

	if (pbtxt->n_nodes == pbtxt->max_nodes) {
		(void)pbtxt_refuse(reader, -E2BIG, "has more than %d fields",
		                   PBTXT_NODES_MAX);
		return NULL;
	}
	node = &pbtxt->nodes[pbtxt->n_nodes++];
	node->name = name;
	node->line = reader->line;
	*fields->tail = node;
	fields->tail = &node->next;
	return node;
}

static int pbtxt_submessage(struct pbtxt_reader *reader, struct pbtxt_node *node)
{
	char end = *reader->at++ == '{' ? '}' : '>';
	int r;

	if (reader->depth == PBTXT_DEPTH_MAX)
		return pbtxt_refuse(reader, -E2BIG, "is nested more than %d times",
		                    PBTXT_DEPTH_MAX);
	node->kind = PBTXT_MESSAGE;
	reader->depth++;
	r = pbtxt_message(reader, (struct pbtxt_fields){ &node->child, end });
	reader->depth--;
	return r;
}

static int pbtxt_word(struct pbtxt_reader *reader, struct pbtxt_node *node)
{
	char *text = reader->pbtxt->texts + reader->pbtxt->used;
	const char *word;

	node->kind = PBTXT_WORD;
	/* A sign may stand apart from its number. */
	if (pbtxt_take(reader, '-')) {
		pbtxt_put(reader, '-');
		(void)pbtxt_next(reader);
	}
	word = pbtxt_copy(reader, NUMBER);
	node->text = text;
	return word ? 0 : pbtxt_refuse_letter(reader, "a value");
}

static int pbtxt_value(struct pbtxt_reader *reader, struct pbtxt_fields *fields,
                       const char *name)
{
	char c = pbtxt_next(reader);
	struct pbtxt_node *node = pbtxt_add(reader, fields, name);

	if (!node)
		return -E2BIG;
	if (c == '{' || c == '<')
		return pbtxt_submessage(reader, node);
	if (c == '"' || c == '\'')
		return pbtxt_texts(reader, node);
	return pbtxt_word(reader, node);
}

static int pbtxt_list(struct pbtxt_reader *reader, struct pbtxt_fields *fields,
                      const char *name)
{
	int r;

	if (pbtxt_take(reader, ']'))
		return 0;
	do {
		r = pbtxt_value(reader, fields, name);
	} while (r == 0 && pbtxt_take(reader, ','));
	if (r == 0 && !pbtxt_take(reader, ']'))
		r = pbtxt_refuse_letter(reader, "',' or ']'");
	return r;
}

static int pbtxt_field(struct pbtxt_reader *reader, struct pbtxt_fields *fields)
{
	const char *name = pbtxt_copy(reader, WORD_REST);
	bool has_colon;
	char c;
	int r;

	if (!name || (*name >= '0' && *name <= '9'))
		return pbtxt_refuse_letter(reader, "the name of a field");
	has_colon = pbtxt_take(reader, ':');
	c = pbtxt_next(reader);
	if (!has_colon && c != '{' && c != '<' && c != '[')
		return pbtxt_refuse(reader, -EINVAL,
		                    "%.60s: a colon is missing behind it", name);
	r = pbtxt_take(reader, '[') ? pbtxt_list(reader, fields, name)
	                            : pbtxt_value(reader, fields, name);
	if (r == 0 && !pbtxt_take(reader, ','))
		(void)pbtxt_take(reader, ';');
	return r;
}

static int pbtxt_message(struct pbtxt_reader *reader, struct pbtxt_fields fields)
{
	int r = 0;

	while (r == 0 && pbtxt_next(reader) != fields.end && reader->at < reader->end)
		r = pbtxt_field(reader, &fields);
	if (r < 0)
		return r;
	if (fields.end == '\0')
		return reader->at == reader->end
		               ? 0
		               : pbtxt_refuse_letter(reader, "the name of a field");
	return pbtxt_take(reader, fields.end)
	               ? 0
	               : pbtxt_refuse_letter(reader, "the end of a message");
}

/* The whole */

void pbtxt_free(struct pbtxt *pbtxt)
{
	if (!pbtxt)
		return;
	free(pbtxt->nodes);
	free(pbtxt->texts);
	free(pbtxt);
}

static struct pbtxt *pbtxt_new(size_t bytes)
{
	struct pbtxt *pbtxt = calloc(1, sizeof(*pbtxt));

	if (!pbtxt)
		return NULL;
	pbtxt->max_nodes = bytes < PBTXT_NODES_MAX ? bytes + 1 : PBTXT_NODES_MAX;
	pbtxt->nodes = calloc(pbtxt->max_nodes, sizeof(*pbtxt->nodes));
	/* Each text has an end of its own. */
	pbtxt->texts = malloc(2 * bytes + 2);
	if (pbtxt->nodes && pbtxt->texts)
		return pbtxt;
	pbtxt_free(pbtxt);
	return NULL;
}

int pbtxt_read(struct pbtxt **ret_pbtxt, const char *text, size_t bytes, struct err *err)
{
	struct pbtxt_reader reader = {
		.at = text, .end = text + bytes, .line = 1, .err = err
	};
	int r;

	if (bytes > PBTXT_BYTES_MAX)
		return pbtxt_refuse(&reader, -E2BIG, "is larger than %zu bytes",
		                    PBTXT_BYTES_MAX);
	reader.pbtxt = pbtxt_new(bytes);
	if (!reader.pbtxt)
		return err_set(err, -ENOMEM, "out of memory");
	reader.pbtxt->root.kind = PBTXT_MESSAGE;
	reader.pbtxt->root.name = "";
	r = pbtxt_message(&reader,
	                  (struct pbtxt_fields){ &reader.pbtxt->root.child, '\0' });
	if (r < 0) {
		pbtxt_free(reader.pbtxt);
		return r;
	}
	*ret_pbtxt = reader.pbtxt;
	return 0;
}

const struct pbtxt_node *pbtxt_root(const struct pbtxt *pbtxt)
{
	return &pbtxt->root;
}

const struct pbtxt_node *pbtxt_find(const struct pbtxt_node *message, const char *name)
{
	const struct pbtxt_node *found = NULL;

	for (const struct pbtxt_node *node = message->child; node; node = node->next)
		if (strcmp(node->name, name) == 0)
			found = node;
	return found;
}
