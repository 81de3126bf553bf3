/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inputs of one infer request, from JSON, from the binary part behind it, or from a raw
 * body. Internal to decode.c, which reads everything around them.
 *
 * All functions return 0, or the HTTP status of the refusal with a sentence in
 * decoding->err.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/oip/oip.h"
#include "loader/oip/cut.h"

/* One decode in the making. */
struct oip_decoding {
	struct oip_request *request;
	const struct oip_model *model;
	const unsigned char *binary; /* behind the JSON part */
	size_t binary_bytes;
	size_t binary_used;
	/* Into scratch, which may move until oip_tensor_settle(); or OIP_TENSOR_IN_BODY. */
	size_t offsets[ENGINE_TENSORS_MAX];
	bool is_given[ENGINE_TENSORS_MAX];
	const struct oip_cut *cut; /* data of the input that is being read; or NULL */
	bool binary_output;        /* the request's default */
	struct err *err;
};

#define OIP_TENSOR_IN_BODY SIZE_MAX

/* What was cut out of the JSON is of no use: the whole of it has to be parsed. No status of
 * HTTP's. */
#define OIP_TENSOR_E_CUT 1

void oip_tensor_init(struct oip_decoding *decoding);
/* Input @i, which @json with these @parameters (NULL: none) describes. */
int oip_tensor_read(struct oip_decoding *decoding, size_t i, const json_t *json,
                    const json_t *parameters);
/* Input @i, whose datatype and shape are known: the next @bytes of the binary part. */
int oip_tensor_take(struct oip_decoding *decoding, size_t i, size_t bytes);
/* The only input: all of the binary part. */
int oip_tensor_read_raw(struct oip_decoding *decoding);
/* Every input of the model was read. */
int oip_tensor_check_given(struct oip_decoding *decoding);
/* Nothing may be left of the binary part. */
int oip_tensor_check_end(struct oip_decoding *decoding);
/* Points the inputs to what was copied: scratch moves no more. */
void oip_tensor_settle(struct oip_decoding *decoding);
