/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inputs of one infer request, from JSON, from the binary part behind it, or from a raw
 * body. Internal to oip/decode.c, which reads everything around them.
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

/* The state while one request is decoded. */
struct oip_decoding {
	struct oip_request *request;
	const struct oip_model *model;
	const unsigned char *binary; /* behind the JSON part */
	size_t binary_bytes;
	size_t binary_used;
	/* Offsets into scratch, which may move until oip_tensor_settle(); or
	 * OIP_TENSOR_IN_BODY. */
	size_t offsets[ENGINE_TENSORS_MAX];
	bool is_given[ENGINE_TENSORS_MAX];
	const struct oip_cut *cut; /* `data` of the input that is being read; or NULL */
	bool binary_output;        /* the request's default */
	struct err *err;
};

#define OIP_TENSOR_IN_BODY SIZE_MAX

/* The list that was cut out of the JSON is of no use: the whole JSON has to be parsed. No status
 * of HTTP has this number. */
#define OIP_TENSOR_E_CUT 1

void oip_tensor_init(struct oip_decoding *decoding);
/* Forgets which inputs the binary part had. */
void oip_tensor_forget(struct oip_request *request);
/* Reads input @i, as @json with these @parameters (NULL: none) describes it. */
int oip_tensor_read(struct oip_decoding *decoding, size_t i, const json_t *json,
                    const json_t *parameters);
/* Takes the next @bytes of the binary part for input @i, whose datatype and shape are known. */
int oip_tensor_take(struct oip_decoding *decoding, size_t i, size_t bytes);
/* Takes all of the binary part for the only input. */
int oip_tensor_read_raw(struct oip_decoding *decoding);
/* Checks that every input of the model was read. */
int oip_tensor_check_given(struct oip_decoding *decoding);
/* Checks that nothing is left of the binary part. */
int oip_tensor_check_end(struct oip_decoding *decoding);
/* Points the copied inputs into scratch, which moves no more. */
void oip_tensor_settle(struct oip_decoding *decoding);
