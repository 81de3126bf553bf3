/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inputs and outputs of a compiled model. Its container tells how many there are, and the form
 * in which they were given in Python, with the keys of dicts. Datatypes and dims of inputs stand
 * in the source of the wrapper, in checks that the compiled code leaves out unless a variable of
 * the environment asks for them. The compiled code itself takes every tensor for what it was
 * compiled for, so that a request of another shape has to be refused before.
 */

#include <stdbool.h>
#include <stddef.h>

#include "loader/aoti/abi.h"
#include "loader/aoti/source.h"
#include "loader/engine.h"
#include "shared/err.h"

#define CALL_DTYPE_NONE (-1)

struct call {
	struct source_input inputs[ENGINE_TENSORS_MAX];
	char input_names[ENGINE_TENSORS_MAX][TENSOR_NAME_MAX];
	size_t n_inputs;
	char output_names[ENGINE_TENSORS_MAX][TENSOR_NAME_MAX];
	size_t n_outputs;
	bool has_named_inputs; /* not INPUT__0 and so on */
	bool has_named_outputs;
	/* The place of each configured tensor among the model's. */
	size_t input_at[ENGINE_TENSORS_MAX];
	size_t output_at[ENGINE_TENSORS_MAX];
};

/* The datatype of @dtype. False: the protocol has none. */
bool call_dtype(int32_t dtype, enum tensor_dtype *ret_dtype);
/* The number of @dtype; CALL_DTYPE_NONE for texts. */
int32_t call_number(enum tensor_dtype dtype);

/* Reads names out of the text of a call's form, in JSON: "INPUT__0" and so on for those that have
 * none. */
void call_read_inputs(struct call *call, const char *spec);
void call_read_outputs(struct call *call, const char *spec);
/* True: all inputs are known, so that call_check_request() holds requests against them. */
bool call_is_known(const struct call *call);
/* Holds the configuration against it. 0, or ENGINE_E_MODEL with a sentence that names both. */
int call_check(struct call *call, const struct engine_config *config, struct err *err);
/* 0, or ENGINE_E_INPUT with a sentence. */
int call_check_request(const struct call *call, const struct engine_config *config,
                       const struct engine_tensor *inputs, struct err *err);
