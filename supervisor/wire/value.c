/* SPDX-License-Identifier: Apache-2.0 */

/* Values of headers that say where a request ends, or whether it is one. Sections are
 * those of RFC 9112 where no other is named. */

#include <strings.h>

#include "supervisor/wire/steps.h"

/* RFC 9110 7.2, RFC 3986 3.2.2: [ IP-literal ] or a name, and digits behind a colon. */
static bool wire_is_host(const char *text)
{
	static const char name[] = "-._~!$&'()*+,;=%"
				   "0123456789"
				   "abcdefghijklmnopqrstuvwxyz"
				   "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	if (*text == '[') {
		size_t bytes = strspn(text + 1, "0123456789abcdefABCDEFvV:.");

		if (bytes == 0 || text[1 + bytes] != ']')
			return false;
		text += bytes + 2;
	} else {
		text += strspn(text, name);
	}
	if (*text == ':')
		text += 1 + strspn(text + 1, "0123456789");
	return *text == '\0';
}

static void wire_read_length(struct http_wire *wire)
{
	struct http_wire_values *values = &wire->values;
	uint64_t length = 0;

	/* 6.3: identical lengths may be refused as well. */
	if (values->n_lengths++ > 0)
		wire_fail(wire, HTTP_WIRE_TWO_LENGTHS);
	if (wire->text_bytes == 0 || strspn(wire->text, "0123456789") != wire->text_bytes)
		wire_fail(wire, HTTP_WIRE_BAD_LENGTH);
	for (size_t i = 0; i < wire->text_bytes; i++) {
		if (length > (INT64_MAX - 9) / 10) {
			wire_fail(wire, HTTP_WIRE_LARGE_LENGTH);
			return;
		}
		length = length * 10 + (uint64_t)(wire->text[i] - '0');
	}
	values->length_bytes = length;
}

/* 6.1: "chunked", once and last. An unknown coding before it is one fault; a list that
 * does not end with it is another, as nobody knows where such a body ends. */
static void wire_read_coding(struct http_wire *wire)
{
	struct http_wire_values *values = &wire->values;
	const char *text = wire->text;
	unsigned int n_before = 0;

	if (values->is_chunked)
		wire_fail(wire, HTTP_WIRE_TWO_CODINGS);
	values->is_chunked = true;
	while (strcasecmp(text, "chunked") != 0) {
		size_t bytes = strcspn(text, ", \t");

		/* No "chunked" at the end, an empty element, or "chunked" before the
		 * end. */
		if (bytes == 0 || (bytes == 7 && strncasecmp(text, "chunked", 7) == 0) ||
		    text[bytes] == '\0') {
			wire_fail(wire, HTTP_WIRE_BAD_CODING);
			return;
		}
		text += bytes + strspn(text + bytes, ", \t");
		n_before++;
	}
	if (n_before > 0)
		wire_fail(wire, HTTP_WIRE_OTHER_CODING);
}

static void wire_read_connection(struct http_wire *wire)
{
	struct http_wire_values *values = &wire->values;
	const char *text = wire->text;

	while (*text) {
		size_t bytes;

		text += strspn(text, ", \t");
		bytes = strcspn(text, ",");
		while (bytes > 0 && wire_is_space(text[bytes - 1]))
			bytes--;
		if (bytes == 5 && strncasecmp(text, "close", bytes) == 0)
			values->has_close = true;
		else if (bytes == 10 && strncasecmp(text, "keep-alive", bytes) == 0)
			values->has_keep_alive = true;
		text += bytes;
	}
}

void wire_read_value(struct http_wire *wire)
{
	struct http_wire_values *values = &wire->values;

	switch (wire->field) {
	case FIELD_HOST:
		if (values->n_hosts++ > 0)
			wire_fail(wire, HTTP_WIRE_TWO_HOSTS);
		if (!wire_is_host(wire->text))
			wire_fail(wire, HTTP_WIRE_BAD_HOST);
		break;
	case FIELD_LENGTH:
		wire_read_length(wire);
		break;
	case FIELD_CODING:
		wire_read_coding(wire);
		break;
	case FIELD_CONNECTION:
		wire_read_connection(wire);
		break;
	default:
		break;
	}
}

unsigned int wire_field_of(const char *name)
{
	static const struct {
		const char *name;
		unsigned int field;
	} fields[] = {
		{ "host", FIELD_HOST },
		{ "cookie", FIELD_COOKIE },
		{ "expect", FIELD_EXPECT },
		{ "connection", FIELD_CONNECTION },
		{ "content-length", FIELD_LENGTH },
		{ "transfer-encoding", FIELD_CODING },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (strcasecmp(name, fields[i].name) == 0)
			return fields[i].field;
	return FIELD_OTHER;
}

/* 3.2, 6.1, 6.3: faults that only the whole head shows. */
void wire_check_head(struct http_wire *wire)
{
	const struct http_wire_values *values = &wire->values;

	if (values->is_chunked && values->n_lengths > 0)
		wire_fail(wire, HTTP_WIRE_BOTH_LENGTHS);
	if (values->is_chunked && wire->is_old)
		wire_fail(wire, HTTP_WIRE_OLD_CHUNKS);
	if (values->n_hosts == 0 && !wire->is_old)
		wire_fail(wire, HTTP_WIRE_NO_HOST);
}
