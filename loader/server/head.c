/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Texts are kept in one buffer of the head, so that a line of libcurl's may go. A line that begins
 * with a blank belongs to the field before it and is joined to it by one blank; what a field may
 * hold is checked by the host.
 */
#include "loader/server/head.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SERVER_QUOTED_MAX     40
#define SERVER_HEAD_SWITCHING 101

void server_head_reset(struct server_head *head)
{
	head->status = 0;
	head->is_begun = false;
	head->is_whole = false;
	head->n_fields = 0;
	head->bytes = 0;
}

bool server_head_is(struct engine_text name, const char *other)
{
	return name.bytes == strlen(other) &&
	       strncasecmp(name.data, other, name.bytes) == 0;
}

static bool server_head_is_hop(struct engine_text name)
{
	static const char *const hops[] = {
		"connection", "keep-alive", "proxy-connection",  "te",
		"trailer",    "upgrade",    "transfer-encoding",
	};

	for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
		if (server_head_is(name, hops[i]))
			return true;
	return false;
}

bool server_head_is_own(struct engine_text name)
{
	return server_head_is_hop(name) || server_head_is(name, "content-length") ||
	       server_head_is(name, "expect");
}

/* Keeps @bytes in the head's text. NULL: there is no room. */
static char *server_head_keep(struct server_head *head, const char *text, size_t bytes)
{
	char *kept = head->text + head->bytes;

	if (bytes > SERVER_HEAD_BYTES_MAX - head->bytes)
		return NULL;
	memcpy(kept, text, bytes);
	head->bytes += bytes;
	return kept;
}

static int server_head_too_large(struct err *err)
{
	return err_set(err, -EBADMSG,
	               "the header fields of its answer have more than %zu "
	               "bytes or are more than %d",
	               SERVER_HEAD_BYTES_MAX, SERVER_HEAD_FIELDS_MAX);
}

static struct engine_text server_head_trim(const char *data, size_t bytes)
{
	while (bytes > 0 && (*data == ' ' || *data == '\t')) {
		data++;
		bytes--;
	}
	while (bytes > 0 && strchr(" \t\r\n", data[bytes - 1]) && data[bytes - 1])
		bytes--;
	return (struct engine_text){ data, bytes };
}

static int server_head_quote(struct err *err, const char *line, size_t bytes,
                             const char *what)
{
	return err_set(err, -EBADMSG, "'%.*s' in the head of its answer is no %s",
	               (int)(bytes < SERVER_QUOTED_MAX ? bytes : SERVER_QUOTED_MAX), line,
	               what);
}

static int server_head_add(struct server_head *head, const char *line, size_t bytes,
                           struct err *err)
{
	const char *colon = memchr(line, ':', bytes);
	struct engine_field *field = &head->fields[head->n_fields];
	char *kept;
	size_t name_bytes;

	if (!colon)
		return server_head_quote(err, line, bytes, "header field");
	kept = server_head_keep(head, line, bytes);
	if (!kept || head->n_fields == SERVER_HEAD_FIELDS_MAX)
		return server_head_too_large(err);
	name_bytes = (size_t)(colon - line);
	field->name = (struct engine_text){ kept, name_bytes };
	field->value = server_head_trim(kept + name_bytes + 1, bytes - name_bytes - 1);
	head->n_fields++;
	return 0;
}

/* A line that begins with a blank goes on with the field before it: RFC 9112 5.2. */
static int server_head_fold(struct server_head *head, const char *line, size_t bytes,
                            struct err *err)
{
	struct engine_text more = server_head_trim(line, bytes);
	struct engine_field *field;
	char *kept;

	if (head->n_fields == 0)
		return err_set(err, -EBADMSG,
		               "the head of its answer begins with a blank");
	field = &head->fields[head->n_fields - 1];
	kept = server_head_keep(head, field->value.data, field->value.bytes);
	if (!kept || !server_head_keep(head, " ", 1) ||
	    !server_head_keep(head, more.data, more.bytes))
		return server_head_too_large(err);
	field->value = (struct engine_text){ kept, field->value.bytes + 1 + more.bytes };
	return 0;
}

/* "HTTP/1.1 200 OK". libcurl takes a line of another form for status 200, and would read a body
 * where the client is told that there is none. */
static int server_head_begin(struct server_head *head, const char *line, size_t bytes,
                             struct err *err)
{
	static const char form[] = "HTTP/1.d ddd";
	size_t i = 0;

	while (i < sizeof(form) - 1 && i < bytes &&
	       (form[i] == 'd' ? isdigit((unsigned char)line[i]) : line[i] == form[i]))
		i++;
	if (i < sizeof(form) - 1 || (i < bytes && !memchr(" \r\n", line[i], 3)))
		return server_head_quote(err, line, bytes, "status line of HTTP/1");
	server_head_reset(head);
	head->is_begun = true;
	for (i -= 3; i < sizeof(form) - 1; i++)
		head->status = head->status * 10 + (unsigned int)(line[i] - '0');
	/* libcurl takes it for a final answer, without an end. */
	if (head->status == SERVER_HEAD_SWITCHING)
		return err_set(err, -EBADMSG,
		               "it goes over to another protocol (status %u), which "
		               "nobody asked for",
		               head->status);
	return 0;
}

int server_head_take(struct server_head *head, const char *line, size_t bytes,
                     struct err *err)
{
	if (head->is_whole) /* a trailer */
		return 0;
	/* Within a head it is a field, whatever its name. */
	if (!head->is_begun)
		return server_head_begin(head, line, bytes, err);
	if (server_head_trim(line, bytes).bytes == 0) {
		head->is_whole = head->status >= 200;
		head->is_begun = false;
		return 0;
	}
	if (*line == ' ' || *line == '\t')
		return server_head_fold(head, line, bytes, err);
	return server_head_add(head, line, bytes, err);
}

uint64_t server_head_length(const struct server_head *head)
{
	for (size_t i = 0; i < head->n_fields; i++) {
		struct engine_text value = head->fields[i].value;
		char text[20];

		if (!server_head_is(head->fields[i].name, "content-length") ||
		    value.bytes >= sizeof(text))
			continue;
		memcpy(text, value.data, value.bytes);
		text[value.bytes] = '\0';
		return strtoull(text, NULL, 10);
	}
	return UINT64_MAX;
}

/* True: a field Connection names @name. */
static bool server_head_is_named(const struct server_head *head, struct engine_text name)
{
	for (size_t i = 0; i < head->n_fields; i++) {
		struct engine_text value = head->fields[i].value;
		const char *end = value.data + value.bytes;

		if (!server_head_is(head->fields[i].name, "connection"))
			continue;
		for (const char *at = value.data; at < end;) {
			const char *comma = memchr(at, ',', (size_t)(end - at));
			size_t bytes = (size_t)((comma ? comma : end) - at);
			struct engine_text one = server_head_trim(at, bytes);

			if (one.bytes == name.bytes &&
			    strncasecmp(one.data, name.data, one.bytes) == 0)
				return true;
			at += bytes + 1;
		}
	}
	return false;
}

void server_head_drop_hops(struct server_head *head)
{
	bool is_dropped[SERVER_HEAD_FIELDS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < head->n_fields; i++)
		is_dropped[i] = server_head_is_hop(head->fields[i].name) ||
		                server_head_is_named(head, head->fields[i].name);
	for (size_t i = 0; i < head->n_fields; i++)
		if (!is_dropped[i])
			head->fields[n++] = head->fields[i];
	head->n_fields = n;
}
