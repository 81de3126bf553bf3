/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Heads as they lie in the lane's memory, and as an engine sees them; and a request from a
 * file, which whoever runs the model has written, and no client: it is read in place.
 */
#include "loader/hosting/head.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shared/field.h"
#include "shared/request_text.h"

/* One field more than an engine may give: its length. */
#define HOST_HEAD_FIELDS_MAX (PROTO_FIELDS_MAX - 1)
/* Bytes of a name that a sentence quotes. */
#define HOST_HEAD_QUOTED_MAX 64

static struct engine_text host_head_text(struct proto_text text)
{
	return (struct engine_text){ text.data, text.bytes };
}

/* Reads "ADDRESS PORT". */
static void host_head_read_client(struct engine_request *request, struct proto_text text)
{
	const char *blank = memrchr(text.data, ' ', text.bytes);
	char port[8] = "";

	if (!blank)
		return;
	request->client = (struct engine_text){ text.data, (size_t)(blank - text.data) };
	(void)snprintf(port, sizeof(port), "%.*s",
	               (int)(text.data + text.bytes - blank - 1), blank + 1);
	request->client_port = (unsigned int)strtoul(port, NULL, 10);
}

int host_head_read(struct engine_request *ret_request, struct engine_field *fields,
                   const unsigned char *memory, size_t bytes)
{
	struct proto_head head;
	struct proto_field field;
	size_t n = 0;
	int r;

	if (proto_head_read(&head, memory, bytes) < 0)
		return -EBADMSG;
	while ((r = proto_head_next(&head, &field)) == 1) {
		if (proto_text_equals(field.name, PROTO_CLIENT_FIELD)) {
			host_head_read_client(ret_request, field.value);
			continue;
		}
		if (n == PROTO_FIELDS_MAX)
			return -EBADMSG;
		fields[n].name = host_head_text(field.name);
		fields[n].value = host_head_text(field.value);
		n++;
	}
	ret_request->method = host_head_text(head.method);
	ret_request->target = host_head_text(head.target);
	ret_request->n_fields = n;
	return r;
}

/* A request as text */

unsigned int host_head_parse(struct engine_request *ret_request,
                             struct engine_field *fields, char *text, size_t bytes)
{
	struct proto_field found[PROTO_FIELDS_MAX];
	struct request_text request;
	unsigned int wrong = request_text_parse(&request, found, text, bytes);

	if (wrong)
		return wrong;
	for (size_t i = 0; i < request.n_fields; i++)
		fields[i] = (struct engine_field){
			.name = host_head_text(found[i].name),
			.value = host_head_text(found[i].value),
		};
	*ret_request = (struct engine_request){
		.method = host_head_text(request.method),
		.target = host_head_text(request.target),
		.fields = fields,
		.n_fields = request.n_fields,
		.body = request.body,
		.body_bytes = request.body_bytes,
		.client = { "127.0.0.1", sizeof("127.0.0.1") - 1 },
		.deadline_ns = UINT64_MAX,
	};
	return 0;
}

/* An answer's head */

static bool host_head_is_all(struct engine_text text, bool (*is)(unsigned char c))
{
	for (size_t i = 0; i < text.bytes; i++)
		if (!is((unsigned char)text.data[i]))
			return false;
	return true;
}

static bool host_head_is(struct engine_text name, const char *other)
{
	size_t bytes = __builtin_strlen(other);

	return name.bytes == bytes && strncasecmp(name.data, other, bytes) == 0;
}

static bool host_head_has_length(const struct engine_part *part)
{
	for (size_t i = 0; i < part->n_fields; i++)
		if (host_head_is(part->fields[i].name, "content-length"))
			return true;
	return false;
}

static int host_head_check_field(const struct engine_field *field, struct err *err)
{
	size_t bytes = field->name.bytes < HOST_HEAD_QUOTED_MAX ? field->name.bytes
	                                                        : HOST_HEAD_QUOTED_MAX;

	if (field->name.bytes == 0 || field->name.bytes > UINT16_MAX ||
	    !host_head_is_all(field->name, field_is_token))
		return err_set(err, ENGINE_HOST_E_INVALID,
		               "'%.*s' is no name for a header field", (int)bytes,
		               field->name.data);
	if (!host_head_is_all(field->value, field_is_value))
		return err_set(err, ENGINE_HOST_E_INVALID,
		               "the value of the header field '%.*s' has a line break or "
		               "another control character",
		               (int)bytes, field->name.data);
	return 0;
}

int host_head_check(const struct engine_part *part, bool is_first, struct err *err)
{
	if (!is_first && (part->flags & ENGINE_PART_FAULT) &&
	    !(part->flags & ENGINE_PART_LAST))
		return err_set(err, ENGINE_HOST_E_INVALID,
		               "an answer that is broken off has no further part: FAULT "
		               "goes with LAST");
	if (!is_first)
		return part->status || part->n_fields > 0
		               ? err_set(err, ENGINE_HOST_E_INVALID,
		                         "the answer has begun: its status and header "
		                         "fields cannot be sent any more")
		               : 0;
	if (part->status < 200 || part->status > 599)
		return err_set(err, ENGINE_HOST_E_INVALID,
		               "an answer's status must be from 200 to 599: %u is none",
		               part->status);
	if (part->n_fields > HOST_HEAD_FIELDS_MAX)
		return err_set(err, ENGINE_HOST_E_INVALID,
		               "an answer has %zu header fields, and at most %d can be "
		               "sent",
		               part->n_fields, HOST_HEAD_FIELDS_MAX);
	for (size_t i = 0; i < part->n_fields; i++) {
		int r = host_head_check_field(&part->fields[i], err);

		if (r)
			return r;
	}
	if (host_head_bytes(part, true) > PROTO_HEAD_MAX)
		return err_set(err, ENGINE_HOST_E_INVALID,
		               "an answer's header fields have more than %d bytes",
		               PROTO_HEAD_MAX);
	return 0;
}

/* Makes the arena's fields of @part. A whole answer that is cut into pieces gets its length, for
 * which @length has room. Returns how many. */
static size_t host_head_fields(const struct engine_part *part, bool is_cut,
                               struct proto_field *fields, char length[24])
{
	bool is_whole = part->flags & ENGINE_PART_LAST;
	size_t n = 0;

	for (; n < part->n_fields; n++) {
		const struct engine_field *field = &part->fields[n];

		fields[n].name =
			(struct proto_text){ field->name.data, field->name.bytes };
		fields[n].value =
			(struct proto_text){ field->value.data, field->value.bytes };
	}
	if (is_cut && is_whole && !host_head_has_length(part)) {
		(void)snprintf(length, 24, "%zu", part->body_bytes);
		fields[n].name = proto_text_of("Content-Length");
		fields[n++].value = proto_text_of(length);
	}
	return n;
}

size_t host_head_bytes(const struct engine_part *part, bool is_cut)
{
	static const struct proto_text nothing = { "", 0 };
	struct proto_field fields[PROTO_FIELDS_MAX];
	char length[24];
	size_t n = host_head_fields(part, is_cut, fields, length);

	return proto_head_bytes(nothing, nothing, fields, n);
}

void host_head_write(const struct engine_part *part, bool is_cut, unsigned char *memory)
{
	static const struct proto_text nothing = { "", 0 };
	struct proto_field fields[PROTO_FIELDS_MAX];
	char length[24];
	size_t n = host_head_fields(part, is_cut, fields, length);

	proto_head_write(memory, nothing, nothing, fields, n);
}
