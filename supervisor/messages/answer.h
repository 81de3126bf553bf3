/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The answer to a request for inference, JSON and binary tensors behind it, as a
 * ModelInferResponse in gRPC's frame. Tensors stay where they lie: a message is pieces in their
 * order. Pure; what a loader wrote is hostile.
 */

#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/messages/protobuf.h"

/* Of raw_output_contents a key with a length, and the contents. */
#define ANSWER_PIECES_MAX (2 * CONFIG_TENSORS_MAX + 1)

struct answer {
	unsigned char *memory; /* what is not tensors; owned */
	struct pb_text pieces[ANSWER_PIECES_MAX];
	size_t n_pieces;
	uint64_t bytes; /* of all pieces */
};

/* Makes the message of @json, which nobody else can change, and of the @tensors, borrowed. 0, or 500
 * with a sentence. */
int answer_make(struct answer *answer, struct pb_text json, struct pb_text tensors,
                struct err *err);
/* A message of @bytes bytes, which the caller writes behind the frame: returns where; NULL: out of
 * memory. */
unsigned char *answer_make_room(struct answer *answer, size_t bytes);
void answer_fini(struct answer *answer);

/* Reads {"error": ...} into @err; another text says nothing, and @err stays. */
void answer_read_error(struct pb_text json, struct err *err);
