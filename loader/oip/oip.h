/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Open Inference Protocol v2: decodes the body of an infer request into tensors, and encodes
 * tensors into the body of an answer; JSON and the binary tensor extension, both ways.
 * Compressed requests are inflated here, too.
 *
 * Every request is hostile. Decoding copies nothing that can stay where it is:
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

/* The encoding of a body; deflate means the zlib wrapper. */
enum oip_encoding { OIP_PLAIN, OIP_GZIP, OIP_DEFLATE };

/* The model as it is configured; borrowed, lives longer than any request. */
struct oip_model {
	const char *name;
	const char *version;
	const struct tensor_spec *inputs;
	size_t n_inputs;
	const struct tensor_spec *outputs;
	size_t n_outputs;
	size_t max_body_bytes; /* after inflation */
	/* The word for a tensor of @inputs in sentences; NULL: "input". (Golden requests decode
	 * expected outputs as inputs.) */
	const char *kind;
};

/* Memory that grows and is kept for the next request. Only the functions below change it. */
struct oip_buffer {
	unsigned char *data;
	size_t used_bytes;
	size_t capacity_bytes;
};

/* Makes room for @bytes, aligned to 64, and keeps what is used; for 0 bytes there is an
 * address, too. False: out of memory. */
bool oip_buffer_reserve(struct oip_buffer *buffer, size_t bytes);
/* Makes the room @capacity_bytes, aligned as malloc() does, without a copy where memory can be
 * moved. False: out of memory. */
bool oip_buffer_grow(struct oip_buffer *buffer, size_t capacity_bytes);
/* The first @bytes are used. */
void oip_buffer_use(struct oip_buffer *buffer, size_t bytes);
void oip_buffer_fini(struct oip_buffer *buffer);

/* An output that the client wants. */
struct oip_wanted {
	uint32_t output; /* index into the model's outputs */
	bool is_binary;
};

/* A decoded request. Zeroed by oip_request_init(), reused by each oip_decode(), always
 * for the same model. */
struct oip_request {
	char id[OIP_ID_MAX]; /* "" when the client gave none */
	struct engine_tensor inputs[ENGINE_TENSORS_MAX]; /* in the model's order */
	struct oip_wanted wanted[ENGINE_TENSORS_MAX];    /* in the client's order */
	size_t n_wanted;
	uint64_t timeout_ns;       /* parameter timeout; 0: none */
	enum oip_encoding accepts; /* the answer may have this encoding */
	/* Clients send the same JSON before their tensors again and again. When all inputs
	 * were binary, the JSON and its meaning are kept; equal bytes are not parsed again. */
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
/* Frees the buffers; the inputs are gone with them. */
void oip_request_fini(struct oip_request *request);

/* The work of decoding a body, by its head. */
struct oip_work {
	size_t json_bytes; /* to be parsed */
	bool is_compressed;
};

/* Reads the work from @head; a malformed field counts as absent. */
void oip_read_work(const struct proto_head *head, size_t body_bytes,
                   struct oip_work *ret_work);

/*
 * Decodes @body as @head says (inference-header-content-length, content-encoding,
 * accept-encoding). The inputs point into @body, which must stay, or into @request.
 * 0, or the HTTP status of the refusal (400, 413, 415, 500, 501) with a sentence.
 *
 * `data` is flat or nested exactly like the shape. Unknown parameters are left alone, but those
 * that would change the answer (shared memory, classification) are refused.
 */
int oip_decode(struct oip_request *request, const struct oip_model *model,
               const struct proto_head *head, const unsigned char *body,
               size_t body_bytes, struct err *err);

/* The origin of an answer, for its parameters. */
struct oip_origin {
	uint64_t generation;
	uint64_t memory_peak_bytes; /* of computing the whole batch; 0: not known */
};

/* The sizes of an encoded answer. */
struct oip_answer {
	size_t body_bytes;
	size_t json_bytes; /* of body_bytes, before binary tensors; 0: all is JSON */
};

/* Returns the bytes that oip_encode() needs for these outputs at the most. */
size_t oip_answer_bound(const struct oip_request *request, const struct oip_model *model,
                        const struct engine_tensor *outputs);

/*
 * Writes the answer. @outputs: of this request alone, in the model's order. @memory holds
 * oip_answer_bound() bytes; BYTES elements must be whole. 0, or 500 with a sentence: JSON
 * cannot hold the output (BYTES that are no UTF-8).
 */
int oip_encode(const struct oip_request *request, const struct oip_model *model,
               const struct oip_origin *origin, const struct engine_tensor *outputs,
               unsigned char *memory, struct oip_answer *ret_answer, struct err *err);

/* Writes {"error": text} to @memory, at most @size bytes; returns the bytes used. Bytes of @text
 * that are not UTF-8 become question marks. */
size_t oip_encode_error(const char *text, unsigned char *memory, size_t size);

/*
 * Compresses an answer that is all JSON when the client accepts that and the answer has 16 KiB
 * or more: in place, through @request's scratch memory. Returns the new size, and the
 * encoding's name in *ret_encoding; or @bytes and NULL when the body is left as it is.
 */
size_t oip_compress(struct oip_request *request, unsigned char *memory, size_t bytes,
                    const char **ret_encoding);
