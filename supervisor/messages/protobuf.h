/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The wire format of protocol buffers (protobuf.dev/programming-guides/encoding), as far as
 * inference needs it: fields are read one after another from where they lie, and written once.
 * Groups, which proto3 does not have, are malformed. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Wire types. */
enum pb_type { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

#define PB_VARINT_MAX 10 /* bytes of a varint */
#define PB_FIELD_MAX  UINT64_C(0x1fffffff)

/* Bytes that lie in somebody else's memory. */
struct pb_text {
	const unsigned char *data;
	size_t bytes;
};

struct pb_reader {
	const unsigned char *at;
	const unsigned char *end;
};

struct pb_field {
	uint32_t number;
	enum pb_type type;
	uint64_t value;      /* VARINT, FIXED64, FIXED32 */
	struct pb_text text; /* BYTES; of others empty */
};

static inline struct pb_reader pb_reader_of(struct pb_text text)
{
	return (struct pb_reader){ text.data, text.data + text.bytes };
}

/* Takes the first @bytes off @text, which has as many. */
struct pb_text pb_cut(struct pb_text *text, size_t bytes);
/* Reads the next field. 1; 0 at the end; -EBADMSG: the bytes are no message. */
int pb_next(struct pb_reader *reader, struct pb_field *ret_field);
/* Reads one varint, of 64 bits. 1; 0 at the end; -EBADMSG. */
int pb_next_varint(struct pb_reader *reader, uint64_t *ret_value);
/* Reads @bytes, 4 or 8, as a little-endian number. 1; 0 at the end; -EBADMSG: too few are left. */
int pb_next_fixed(struct pb_reader *reader, size_t bytes, uint64_t *ret_value);
/* Whether @text is UTF-8, as every string of proto3 is. */
bool pb_is_utf8(struct pb_text text);

/* Writes into memory that the caller owns; with NULL nothing is written, and bytes are counted. */
struct pb_writer {
	unsigned char *memory; /* large enough, or NULL */
	size_t bytes;
};

void pb_put(struct pb_writer *writer, const void *data, size_t bytes);
void pb_put_varint(struct pb_writer *writer, uint64_t value);
/* A field's key. */
void pb_put_key(struct pb_writer *writer, uint32_t number, enum pb_type type);
/* A field of VARINT; nothing where @value is 0, the default. */
void pb_put_number(struct pb_writer *writer, uint32_t number, uint64_t value);
/* A field of BYTES; of an empty one nothing, which is the default, too. */
void pb_put_text(struct pb_writer *writer, uint32_t number, const char *text);
/* Bytes of a field @number with @bytes bytes in it, key and length included. */
size_t pb_bytes_of(uint32_t number, uint64_t bytes);
