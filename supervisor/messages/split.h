/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Takes one message of gRPC apart while it comes (grpc.io, "gRPC over HTTP2": a byte that says
 * whether it is compressed, four of length, the message). Of a ModelInferRequest the contents of
 * raw_input_contents come out by themselves, to go where they are to lie; all other fields come
 * out as they are. Pure; keeps nothing but where it is.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/messages/protobuf.h"

#define SPLIT_PREFIX_BYTES 5
/* The number of raw_input_contents in ModelInferRequest. */
#define SPLIT_RAW_FIELD 7

enum split_state {
	SPLIT_AT_PREFIX,
	SPLIT_AT_KEY,
	SPLIT_AT_VALUE, /* of a VARINT */
	SPLIT_AT_LENGTH,
	SPLIT_IN_FIELD, /* bytes are left, of a field that goes on as it is */
	SPLIT_IN_RAW,
};

struct split {
	enum split_state state;
	bool has_raw;  /* the message is a ModelInferRequest */
	bool is_raw;   /* the field is one of raw_input_contents */
	uint64_t left; /* bytes of the field that are to come */
	uint64_t message_left;
	unsigned char
		head[2 * PB_VARINT_MAX]; /* the prefix; or a field's key and length */
	size_t head_bytes;
	size_t varint_at; /* where in head the varint begins that is being read */
};

enum split_kind {
	SPLIT_NONE,   /* all of the input was used */
	SPLIT_LENGTH, /* the prefix: .bytes is the length of the message */
	SPLIT_FIELDS, /* bytes of other fields */
	SPLIT_BEGINS, /* one of raw_input_contents begins: .bytes is its length */
	SPLIT_RAW,    /* bytes of it */
	SPLIT_BAD,    /* this is no message, or there is a second one */
	SPLIT_PACKED, /* the message is compressed */
};

struct split_piece {
	enum split_kind kind;
	const unsigned char
		*data; /* in the input, or in struct split until the next call */
	uint64_t bytes;
};

void split_init(struct split *split, bool has_raw);
/* Takes the next piece off the beginning of *@input. After SPLIT_BAD and SPLIT_PACKED, no more may
 * be asked for. */
struct split_piece split_next(struct split *split, struct pb_text *input);
/* Whether a whole message has come. */
bool split_is_whole(const struct split *split);
