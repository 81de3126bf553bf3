/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/repository/fields.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

int fields_refuse(const struct fields *fields, const struct pbtxt_node *node,
                  const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return err_set(fields->err, -EINVAL, "%u: %s: %.400s", node->line, node->name,
	               text);
}

void fields_doubt(struct fields *fields, const struct pbtxt_node *node, const char *why)
{
	/* Elements of a list are fields of one name. */
	if (fields->doubted && fields->doubted_line == node->line &&
	    strcmp(fields->doubted, node->name) == 0)
		return;
	(void)fprintf(fields->doubts, "%sconfig.pbtxt:%u: %s: %s",
	              fields->doubted ? "; " : "", node->line, node->name, why);
	fields->doubted = node->name;
	fields->doubted_line = node->line;
}

int fields_take(struct fields *fields, struct model_reader *reader,
                const struct pbtxt_node *message, const struct row *rows, size_t n,
                const char *what)
{
	int r = 0;

	for (const struct pbtxt_node *node = message->child; r == 0 && node;
	     node = node->next) {
		const struct row *row = rows;

		while (row < rows + n && strcmp(row->name, node->name) != 0)
			row++;
		if (row == rows + n)
			r = fields_refuse(fields, node,
			                  "is no field of %s that is known here", what);
		else if (row->take)
			r = row->take(reader, node);
		else if (row->refusal)
			r = fields_refuse(fields, node, "%s", row->refusal);
		else if (row->doubt)
			fields_doubt(fields, node, row->doubt);
	}
	return r;
}

int fields_message(struct fields *fields, struct model_reader *reader,
                   const struct pbtxt_node *node, const struct row *rows, size_t n)
{
	if (node->kind != PBTXT_MESSAGE)
		return fields_refuse(fields, node, "must be a message: { ... }");
	return fields_take(fields, reader, node, rows, n, node->name);
}

bool fields_is_plain(const struct pbtxt_node *node)
{
	if (node->kind == PBTXT_MESSAGE || *node->text == '\0' ||
	    strlen(node->text) >= FIELDS_WORD_MAX)
		return false;
	for (const char *c = node->text; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return false;
	return true;
}

int fields_check_plain(const struct fields *fields, const struct pbtxt_node *node)
{
	return fields_is_plain(node)
	               ? 0
	               : fields_refuse(
				 fields, node,
				 "must be a text of 1 to %d characters without blanks",
				 FIELDS_WORD_MAX - 1);
}

int fields_word(const struct fields *fields, const struct pbtxt_node *node,
                char *ret_word)
{
	int r = fields_check_plain(fields, node);

	if (r == 0)
		(void)snprintf(ret_word, FIELDS_WORD_MAX, "%s", node->text);
	return r;
}

int fields_number(const struct fields *fields, const struct pbtxt_node *node,
                  uint64_t max, uint64_t *ret_number)
{
	char *end = NULL;
	uint64_t number;

	if (node->kind != PBTXT_WORD || *node->text < '0' || *node->text > '9')
		return fields_refuse(fields, node,
		                     "must be a whole number from 0 to %llu",
		                     (unsigned long long)max);
	errno = 0;
	number = strtoull(node->text, &end, 0);
	if (errno != 0 || *end || number > max)
		return fields_refuse(fields, node,
		                     "must be a whole number from 0 to %llu",
		                     (unsigned long long)max);
	*ret_number = number;
	return 0;
}

bool fields_is_word(const struct pbtxt_node *node, const char *word)
{
	return node->kind == PBTXT_WORD && strcmp(node->text, word) == 0;
}

int fields_no(const struct fields *fields, const struct pbtxt_node *node, const char *why)
{
	static const char *const words[] = { "false", "False", "f", "0" };

	for (size_t i = 0; i < COUNT(words); i++)
		if (fields_is_word(node, words[i]))
			return 0;
	return fields_refuse(fields, node, "%s", why);
}
