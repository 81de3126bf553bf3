/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/request_text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "shared/field.h"

static struct proto_text request_span(const char *from, const char *to)
{
	return (struct proto_text){ from, (size_t)(to - from) };
}

static bool request_is_space(char c)
{
	return c == ' ' || c == '\t';
}

static struct proto_text request_trim(const char *from, const char *to)
{
	while (from < to && request_is_space(*from))
		from++;
	while (from < to && request_is_space(to[-1]))
		to--;
	return request_span(from, to);
}

/* Takes a line off *@at, and returns it without its end; without data: there is none. */
static struct proto_text request_take_line(const char **at, const char *end)
{
	const char *from = *at;
	const char *newline = memchr(from, '\n', (size_t)(end - from));

	if (!newline)
		return (struct proto_text){ NULL, 0 };
	*at = newline + 1;
	return request_span(from, newline > from && newline[-1] == '\r' ? newline - 1
	                                                                : newline);
}

/* "POST /embed HTTP/1.1" or "POST /embed". */
static bool request_parse_first(struct request_text *request, struct proto_text line)
{
	const char *end = line.data + line.bytes;
	const char *space = memchr(line.data, ' ', line.bytes);
	const char *target = space ? space + 1 : end;
	const char *stop = memchr(target, ' ', (size_t)(end - target));

	if (!space || target == end || *target != '/')
		return false;
	request->method = request_span(line.data, space);
	request->target = request_span(target, stop ? stop : end);
	for (const char *c = line.data; c < space; c++)
		if (!isupper((unsigned char)*c))
			return false;
	for (size_t i = 0; i < request->target.bytes; i++)
		if ((unsigned char)target[i] <= ' ' || (unsigned char)target[i] >= 0x7f)
			return false;
	return !stop || (end - stop > 6 && strncmp(stop, " HTTP/", 6) == 0);
}

static bool request_parse_field(struct request_text *request, struct proto_field *fields,
                                struct proto_text line)
{
	struct proto_field *field = &fields[request->n_fields];
	char *colon = memchr(line.data, ':', line.bytes);

	if (!colon || colon == line.data || request->n_fields == PROTO_FIELDS_MAX)
		return false;
	field->name = request_span(line.data, colon);
	field->value = request_trim(colon + 1, line.data + line.bytes);
	for (char *c = (char *)(uintptr_t)line.data; c < colon; c++) {
		if (!field_is_token((unsigned char)*c))
			return false;
		*c = (char)tolower((unsigned char)*c);
	}
	for (size_t i = 0; i < field->value.bytes; i++)
		if (!field_is_value((unsigned char)field->value.data[i]))
			return false;
	request->n_fields++;
	return true;
}

unsigned int request_text_parse(struct request_text *ret_request,
                                struct proto_field *fields, char *text, size_t bytes)
{
	const char *at = text;
	const char *end = text + bytes;
	struct proto_text line;
	unsigned int n = 1;

	*ret_request = (struct request_text){ .n_fields = 0 };
	line = request_take_line(&at, end);
	if (!line.data || !request_parse_first(ret_request, line))
		return n;
	do {
		n++;
		line = request_take_line(&at, end);
		if (line.bytes > 0 && !request_parse_field(ret_request, fields, line))
			return n;
	} while (line.bytes > 0);
	/* A last line without an end may be cut. */
	if (!line.data && at < end)
		return n;
	ret_request->body = at;
	ret_request->body_bytes = (size_t)(end - at);
	return 0;
}
