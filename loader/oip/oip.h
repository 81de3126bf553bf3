/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Open Inference Protocol v2: the body of an infer request into tensors, tensors into the
 * body of an answer; JSON and the binary tensor extension, both ways. Compressed requests
 * are inflated here too.
 *
 * Everything that comes in is hostile. Decoding copies nothing that can stay where it is:
 * binary tensors that are aligned to their elements are used in the request arena itself.
 * Encoding writes once, into the response arena.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/engine.h"
#include "shared/err.h"
#include "shared/proto.h"
#include "shared/tensor.h"

#define OIP_ID_MAX 256

/* Of a body; deflate means its zlib wrapper. */
enum oip_encoding { OIP_PLAIN, OIP_GZIP, OIP_DEFLATE };

/* What the configuration says of the model; borrowed, lives longer than any request. */
struct oip_model {
	const char *name;
	const char *version;
	const struct tensor_spec *inputs;
	size_t n_inputs;
	const struct tensor_spec *outputs;
	size_t n_outputs;
	size_t max_body_bytes; /* after inflation */
	/* What a sentence calls a tensor of @inputs; NULL: "input". Expected outputs are
	 * decoded as inputs are. */
	const char *kind;
};

/* Memory that grows and is kept for the next request. */
struct oip_buffer {
	unsigned char *data;
	size_t used_bytes;
	size_t capacity_bytes;
};

/* One output that the client wants, in its order. */
struct oip_wanted {
	uint32_t output; /* index into the model's outputs */
	bool is_binary;
};

/* A decoded request. Zeroed by oip_request_init(), reused by each oip_decode(), always
 * for the same model. */
struct oip_request {
	char id[OIP_ID_MAX]; /* "" when the client gave none */
	struct engine_tensor inputs[ENGINE_TENSORS_MAX]; /* in the model's order */
	struct oip_wanted wanted[ENGINE_TENSORS_MAX];
	size_t n_wanted;
	uint64_t timeout_ns;       /* parameter timeout; 0: none */
	enum oip_encoding accepts; /* of the answer */
	/* Clients send the same JSON in front of their tensors again and again: when all
	 * inputs were binary, it and what it says are kept, and equal bytes are not
	 * parsed again. */
	struct oip_buffer header;
	struct oip_binary {
		uint32_t input;
		size_t bytes;
	} sequence[ENGINE_TENSORS_MAX]; /* inputs in the order of the binary part */
	size_t n_sequence;
	struct oip_buffer scratch;  /* tensors that had to be copied */
	struct oip_buffer inflated; /* the body, when it came compressed */
};

void oip_request_init(struct oip_request *request);
void oip_request_fini(struct oip_request *request);

/* What decoding a body is going to cost, as its head has it. */
struct oip_work {
	size_t json_bytes; /* to be parsed */
	bool is_compressed;
};

void oip_read_work(const struct proto_head *head, size_t body_bytes,
                   struct oip_work *ret_work);

/*
 * Decodes @body as @head says (inference-header-content-length, content-encoding,
 * accept-encoding). The inputs point into @body, which must stay, or into @request.
 * 0, or the HTTP status of the refusal (400, 413, 415, 500, 501) with a sentence.
 *
 * `data` is flat or nested exactly like the shape. Parameters that are not known are left
 * alone, but what would change the answer (shared memory, classification) is refused.
 */
int oip_decode(struct oip_request *request, const struct oip_model *model,
               const struct proto_head *head, const unsigned char *body,
               size_t body_bytes, struct err *err);

/* What the answer's parameters say of where it comes from. */
struct oip_origin {
	uint64_t generation;
	uint64_t memory_peak_bytes; /* of computing the whole batch; 0: not known */
};

/* What came of the encoding. */
struct oip_answer {
	size_t body_bytes;
	size_t json_bytes; /* of body_bytes, before binary tensors; 0: all is JSON */
};

/* Memory that oip_encode() may need for these outputs, at the most. */
size_t oip_answer_bound(const struct oip_request *request, const struct oip_model *model,
                        const struct engine_tensor *outputs);

/*
 * Writes the answer. @outputs: of this request alone, in the model's order. @memory holds
 * oip_answer_bound() bytes; BYTES elements must be whole. 0, or 500 with a sentence: JSON
 * cannot hold what the model has made (BYTES that are no UTF-8).
 */
int oip_encode(const struct oip_request *request, const struct oip_model *model,
               const struct oip_origin *origin, const struct engine_tensor *outputs,
               unsigned char *memory, struct oip_answer *ret_answer, struct err *err);

/* {"error": text} into @memory, at most @size bytes; returns the bytes used. What is not
 * UTF-8 in @text becomes question marks. */
size_t oip_encode_error(const char *text, unsigned char *memory, size_t size);

/*
 * Compresses an answer that is all JSON when the client accepts it and it pays (16 KiB
 * and more): in place, through @request's scratch memory. Returns the new size, and the
 * encoding's name in *ret_encoding; or @bytes and NULL when the body is left as it is.
 */
size_t oip_compress(struct oip_request *request, unsigned char *memory, size_t bytes,
                    const char **ret_encoding);
