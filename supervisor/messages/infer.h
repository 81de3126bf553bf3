/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A ModelInferRequest as the body of a request for inference over HTTP: JSON, and behind it the
 * tensors as they are (the binary tensor extension). A loader sees no difference, and what goes
 * by requests' bodies (priorities, poison, records) neither.
 *
 * What is read here is all of the message but its raw_input_contents, in one piece. Pure; borrowed
 * memory lives as long as that piece.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"
#include "shared/tensor.h"
#include "supervisor/config/config.h"
#include "supervisor/messages/protobuf.h"

/* An InferInputTensor. */
struct infer_input {
	struct pb_text message; /* all of it */
	struct pb_text name;
	struct pb_text datatype;
	enum tensor_dtype dtype;
	bool has_contents;
	uint64_t bytes; /* as a binary tensor */
};

struct infer {
	struct pb_text message; /* all of it */
	struct pb_text model;
	struct pb_text version;
	struct pb_text id;
	struct infer_input inputs[CONFIG_TENSORS_MAX];
	size_t n_inputs;
};

/* Reads @message. 0, or 400 with a sentence. */
int infer_read(struct infer *infer, struct pb_text message, struct err *err);
/* The contents of the inputs are raw, of the @n sizes @bytes. 0, or 400 with a sentence. */
int infer_set_raw(struct infer *infer, const uint64_t *bytes, size_t n, struct err *err);
/* The contents are raw, of sizes that are not known yet, and none is larger than @bytes. */
void infer_set_bound(struct infer *infer, uint64_t bytes);
/* The contents of the inputs are in their own fields: finds their sizes. 0, or 400 with a
 * sentence. */
int infer_measure(struct infer *infer, struct err *err);
/* Where infer_write_contents() sends bytes. False: no more is wanted. */
struct infer_sink {
	bool (*put)(void *context, const void *data, size_t bytes);
	void *context;
};

/* Writes the contents that infer_measure() has measured, one input after another. False: @sink wants
 * no more. */
bool infer_write_contents(const struct infer *infer, const struct infer_sink *sink);

/* Writes the JSON into @memory, of @size bytes, for inputs whose sizes are known. 0 with the length;
 * 400, or 413 when there is no room, with a sentence. */
int infer_write_json(const struct infer *infer, char *memory, size_t size,
                     size_t *ret_bytes, struct err *err);
