/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Several requests computed as one: their inputs laid one behind the other along the
 * first dim, the outputs cut apart again. Pure: a batch has tensors, not requests.
 *
 * Rows are elements along the first dim. Only requests with the same datatypes and the same
 * other dims go together. A batch of one is passed through without a copy.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/engine.h"
#include "shared/err.h"

struct batch_buffer {
	unsigned char *data; /* owned; grows, never shrinks */
	size_t capacity_bytes;
};

struct batch {
	const struct tensor_spec *inputs_spec;  /* borrowed */
	const struct tensor_spec *outputs_spec; /* likewise */
	size_t n_inputs;
	size_t n_outputs;
	uint32_t max_members;
	uint64_t max_rows;
	bool is_batchable;
	uint32_t n_members;
	uint64_t n_rows;
	const struct engine_tensor **members; /* n_inputs tensors of each, borrowed */
	uint64_t *rows;                       /* of each member: its first dim */
	struct engine_tensor *inputs;
	struct batch_buffer *buffers;
	struct engine_tensor *outputs; /* of the whole batch, filled by the engine */
	size_t *cursors;               /* per output: bytes given to earlier members */
};

/* Requests are put together only when @max_rows is above 1 and every spec has a variable
 * first dim. Borrows the specs. 0 or -ENOMEM; batch_fini() in any case. */
int batch_init(struct batch *batch, const struct tensor_spec *inputs, size_t n_inputs,
               const struct tensor_spec *outputs, size_t n_outputs, uint32_t max_rows,
               uint32_t max_members);
void batch_fini(struct batch *batch);

/* Adds a member, whose tensors and data must stay until the batch is cleared. The first
 * member always fits. False: the tensors do not go with those in the batch. */
bool batch_add(struct batch *batch, const struct engine_tensor *tensors);
bool batch_is_full(const struct batch *batch);
void batch_clear(struct batch *batch);

/* Rows of a member, or of all. 1 for a request that has no common first dim, or whose model
 * cannot batch. */
uint32_t batch_rows_of(const struct batch *batch, uint32_t member);
uint32_t batch_rows_of_all(const struct batch *batch);

/* Lays the inputs together in batch->inputs. 0 or -ENOMEM. */
int batch_gather(struct batch *batch);

/* Tells, after ENGINE_E_MODEL, whether the request is to blame: a batch of one request whose
 * inputs have variable first dims that differ. True with a sentence that names them. */
bool batch_is_uneven(const struct batch *batch, struct err *err);

/* Checks batch->outputs, which the engine has filled, against the configuration and the rows
 * of the batch. 0, or ENGINE_E_MODEL with a sentence. */
int batch_check(struct batch *batch, struct err *err);

/* After batch_check(): puts the outputs of @member into @ret_outputs. Members must come in order,
 * each once. The data stays the engine's. 0, or ENGINE_E_MODEL with a sentence when BYTES
 * elements are malformed. */
int batch_split(struct batch *batch, uint32_t member, struct engine_tensor *ret_outputs,
                struct err *err);
