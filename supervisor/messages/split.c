/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/messages/split.h"

void split_init(struct split *split, bool has_raw)
{
	*split = (struct split){ .state = SPLIT_AT_PREFIX, .has_raw = has_raw };
}

bool split_is_whole(const struct split *split)
{
	return split->state != SPLIT_AT_PREFIX && split->message_left == 0;
}

static struct split_piece split_take(struct pb_text *input, enum split_kind kind,
                                     uint64_t bytes)
{
	return (struct split_piece){ kind, pb_cut(input, (size_t)bytes).data, bytes };
}

static void split_next_field(struct split *split)
{
	split->state = SPLIT_AT_KEY;
	split->head_bytes = split->varint_at = 0;
}

/* The prefix, once it has come whole. */
static struct split_piece split_prefix(struct split *split, struct pb_text *input)
{
	while (input->bytes > 0 && split->head_bytes < SPLIT_PREFIX_BYTES)
		split->head[split->head_bytes++] = *pb_cut(input, 1).data;
	if (split->head_bytes < SPLIT_PREFIX_BYTES)
		return (struct split_piece){ .kind = SPLIT_NONE };
	if (split->head[0] > 0)
		return (struct split_piece){ .kind = split->head[0] == 1 ? SPLIT_PACKED
			                                                 : SPLIT_BAD };
	for (size_t i = 1; i < SPLIT_PREFIX_BYTES; i++)
		split->message_left = split->message_left << 8 | split->head[i];
	split_next_field(split);
	return (struct split_piece){ SPLIT_LENGTH, NULL, split->message_left };
}

/* A message that is not looked into. */
static struct split_piece split_all(struct split *split, struct pb_text *input)
{
	uint64_t bytes =
		input->bytes < split->message_left ? input->bytes : split->message_left;

	split->message_left -= bytes;
	return split_take(input, SPLIT_FIELDS, bytes);
}

/* Bytes of a field. */
static struct split_piece split_field(struct split *split, struct pb_text *input)
{
	uint64_t bytes = input->bytes < split->left ? input->bytes : split->left;
	bool is_raw = split->state == SPLIT_IN_RAW;

	split->left -= bytes;
	split->message_left -= bytes;
	if (split->left == 0)
		split_next_field(split);
	return split_take(input, is_raw ? SPLIT_RAW : SPLIT_FIELDS, bytes);
}

/* Reads the varint in head from varint_at on. */
static uint64_t split_varint(const struct split *split)
{
	struct pb_reader reader = { split->head + split->varint_at,
		                    split->head + split->head_bytes };
	uint64_t value = 0;

	(void)pb_next_varint(&reader, &value);
	return value;
}

/* Key and length, or key and value, have come: the field goes on with @bytes. */
static struct split_piece split_begin(struct split *split, uint64_t bytes)
{
	struct split_piece piece = { SPLIT_FIELDS, split->head, split->head_bytes };

	if (bytes > split->message_left)
		return (struct split_piece){ .kind = SPLIT_BAD };
	split->left = bytes;
	if (split->is_raw)
		piece = (struct split_piece){ SPLIT_BEGINS, NULL, bytes };
	if (bytes == 0)
		split_next_field(split);
	else
		split->state = split->is_raw ? SPLIT_IN_RAW : SPLIT_IN_FIELD;
	return piece;
}

/* A key has come. Returns SPLIT_NONE where its field's length or value is due. */
static struct split_piece split_key(struct split *split)
{
	uint64_t key = split_varint(split);

	split->is_raw = key == (SPLIT_RAW_FIELD << 3 | PB_BYTES);
	split->varint_at = split->head_bytes;
	if (key >> 3 == 0 || key >> 3 > PB_FIELD_MAX)
		return (struct split_piece){ .kind = SPLIT_BAD };
	switch (key & 7) {
	case PB_VARINT:
		split->state = SPLIT_AT_VALUE;
		break;
	case PB_BYTES:
		split->state = SPLIT_AT_LENGTH;
		break;
	case PB_FIXED64:
		return split_begin(split, 8);
	case PB_FIXED32:
		return split_begin(split, 4);
	default:
		return (struct split_piece){ .kind = SPLIT_BAD };
	}
	return (struct split_piece){ .kind = SPLIT_NONE };
}

/* A varint of a field's head has come. */
static struct split_piece split_head(struct split *split)
{
	if (split->state == SPLIT_AT_KEY)
		return split_key(split);
	return split_begin(split,
	                   split->state == SPLIT_AT_LENGTH ? split_varint(split) : 0);
}

/* Reads a field's head as far as it has come. */
static struct split_piece split_fields(struct split *split, struct pb_text *input)
{
	struct split_piece piece = { .kind = SPLIT_NONE };

	while (piece.kind == SPLIT_NONE && input->bytes > 0) {
		unsigned char byte;

		if (split->message_left == 0 ||
		    split->head_bytes - split->varint_at == PB_VARINT_MAX)
			return (struct split_piece){ .kind = SPLIT_BAD };
		byte = *pb_cut(input, 1).data;
		split->head[split->head_bytes++] = byte;
		split->message_left--;
		if (byte < 0x80)
			piece = split_head(split);
	}
	return piece;
}

struct split_piece split_next(struct split *split, struct pb_text *input)
{
	if (split->state == SPLIT_AT_PREFIX)
		return split_prefix(split, input);
	if (input->bytes == 0)
		return (struct split_piece){ .kind = SPLIT_NONE };
	if (split->message_left == 0)
		return (struct split_piece){ .kind = SPLIT_BAD };
	if (!split->has_raw)
		return split_all(split, input);
	if (split->state == SPLIT_IN_FIELD || split->state == SPLIT_IN_RAW)
		return split_field(split, input);
	return split_fields(split, input);
}
