/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/messages/protobuf.h"

#include <errno.h>
#include <string.h>

struct pb_text pb_cut(struct pb_text *text, size_t bytes)
{
	struct pb_text cut = { text->data, bytes };

	text->data += bytes;
	text->bytes -= bytes;
	return cut;
}

int pb_next_varint(struct pb_reader *reader, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (reader->at == reader->end)
		return 0;
	for (unsigned int i = 0; i < PB_VARINT_MAX && reader->at < reader->end; i++) {
		unsigned char byte = *reader->at++;

		/* The tenth byte has room for one bit; further ones are dropped. */
		value |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte < 0x80) {
			*ret_value = value;
			return 1;
		}
	}
	return -EBADMSG;
}

int pb_next_fixed(struct pb_reader *reader, size_t bytes, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (reader->at == reader->end)
		return 0;
	if ((size_t)(reader->end - reader->at) < bytes)
		return -EBADMSG;
	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)reader->at[i] << (8 * i);
	reader->at += bytes;
	*ret_value = value;
	return 1;
}

static int pb_next_text(struct pb_reader *reader, struct pb_text *ret_text)
{
	uint64_t bytes;

	if (pb_next_varint(reader, &bytes) != 1 ||
	    bytes > (uint64_t)(reader->end - reader->at))
		return -EBADMSG;
	*ret_text = (struct pb_text){ reader->at, (size_t)bytes };
	reader->at += bytes;
	return 1;
}

int pb_next(struct pb_reader *reader, struct pb_field *ret_field)
{
	uint64_t key;
	int r = pb_next_varint(reader, &key);

	if (r <= 0)
		return r;
	if (key >> 3 == 0 || key >> 3 > PB_FIELD_MAX)
		return -EBADMSG;
	*ret_field = (struct pb_field){
		.number = (uint32_t)(key >> 3),
		.text = { (const unsigned char *)"", 0 },
	};
	switch (key & 7) {
	case PB_VARINT:
		r = pb_next_varint(reader, &ret_field->value);
		break;
	case PB_FIXED64:
		r = pb_next_fixed(reader, 8, &ret_field->value);
		break;
	case PB_FIXED32:
		r = pb_next_fixed(reader, 4, &ret_field->value);
		break;
	case PB_BYTES:
		r = pb_next_text(reader, &ret_field->text);
		break;
	default:
		return -EBADMSG;
	}
	ret_field->type = (enum pb_type)(key & 7);
	return r == 1 ? 1 : -EBADMSG;
}

/* Bytes of the character at @at (RFC 3629, 4); 0: there is none. */
static size_t pb_character(const unsigned char *at, size_t left)
{
	static const struct {
		unsigned char first, last; /* of the first byte */
		unsigned char low, high;   /* of the second one */
		size_t bytes;
	} rows[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	if (at[0] < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (at[0] < rows[i].first || at[0] > rows[i].last)
			continue;
		if (left < rows[i].bytes || at[1] < rows[i].low || at[1] > rows[i].high)
			return 0;
		for (size_t j = 2; j < rows[i].bytes; j++)
			if ((at[j] & 0xc0) != 0x80)
				return 0;
		return rows[i].bytes;
	}
	return 0;
}

bool pb_is_utf8(struct pb_text text)
{
	size_t bytes;

	for (size_t i = 0; i < text.bytes; i += bytes) {
		bytes = pb_character(text.data + i, text.bytes - i);
		if (bytes == 0)
			return false;
	}
	return true;
}

/* Writing */

void pb_put(struct pb_writer *writer, const void *data, size_t bytes)
{
	if (writer->memory && bytes > 0)
		memcpy(writer->memory + writer->bytes, data, bytes);
	writer->bytes += bytes;
}

void pb_put_varint(struct pb_writer *writer, uint64_t value)
{
	unsigned char text[PB_VARINT_MAX];
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		text[n++] = (unsigned char)(value | 0x80);
	text[n++] = (unsigned char)value;
	pb_put(writer, text, n);
}

void pb_put_key(struct pb_writer *writer, uint32_t number, enum pb_type type)
{
	pb_put_varint(writer, (uint64_t)number << 3 | type);
}

void pb_put_number(struct pb_writer *writer, uint32_t number, uint64_t value)
{
	if (value == 0)
		return;
	pb_put_key(writer, number, PB_VARINT);
	pb_put_varint(writer, value);
}

void pb_put_text(struct pb_writer *writer, uint32_t number, const char *text)
{
	size_t bytes = strlen(text);

	if (bytes == 0)
		return;
	pb_put_key(writer, number, PB_BYTES);
	pb_put_varint(writer, bytes);
	pb_put(writer, text, bytes);
}

size_t pb_bytes_of(uint32_t number, uint64_t bytes)
{
	struct pb_writer writer = { .memory = NULL };

	pb_put_key(&writer, number, PB_BYTES);
	pb_put_varint(&writer, bytes);
	return writer.bytes + (size_t)bytes;
}
