/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A batch's way: batch_add() for each member, batch_gather() lays the inputs together, the
 * engine fills batch->outputs, batch_check() holds them against the declaration, batch_split()
 * cuts them apart, batch_clear() begins anew. The buffers are kept from batch to batch. A
 * cursor per output tells where the next member's part begins, because BYTES elements differ
 * in length.
 */
#include "loader/serve/batch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A cache line: enough for the widest vector instructions. */
#define BATCH_ALIGNMENT ((size_t)64)

static bool batch_has_rows(const struct tensor_spec *specs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (specs[i].shape.rank == 0 || specs[i].shape.dims[0] != TENSOR_DIM_ANY)
			return false;
	return true;
}

int batch_init(struct batch *batch, const struct tensor_spec *inputs, size_t n_inputs,
               const struct tensor_spec *outputs, size_t n_outputs, uint32_t max_rows,
               uint32_t max_members)
{
	*batch = (struct batch){
		.inputs_spec = inputs,
		.outputs_spec = outputs,
		.n_inputs = n_inputs,
		.n_outputs = n_outputs,
		.max_rows = max_rows,
		.is_batchable = max_rows > 1 && batch_has_rows(inputs, n_inputs) &&
		                batch_has_rows(outputs, n_outputs),
	};
	batch->max_members = batch->is_batchable ? max_members : 1;
	batch->members = calloc(batch->max_members, sizeof(*batch->members));
	batch->rows = calloc(batch->max_members, sizeof(*batch->rows));
	batch->inputs = calloc(n_inputs, sizeof(*batch->inputs));
	batch->buffers = calloc(n_inputs, sizeof(*batch->buffers));
	batch->outputs = calloc(n_outputs, sizeof(*batch->outputs));
	batch->cursors = calloc(n_outputs, sizeof(*batch->cursors));
	return batch->members && batch->rows && batch->inputs && batch->buffers &&
	                       batch->outputs && batch->cursors
	               ? 0
	               : -ENOMEM;
}

void batch_fini(struct batch *batch)
{
	for (size_t i = 0; batch->buffers && i < batch->n_inputs; i++)
		free(batch->buffers[i].data);
	free(batch->members);
	free(batch->rows);
	free(batch->inputs);
	free(batch->buffers);
	free(batch->outputs);
	free(batch->cursors);
	*batch = (struct batch){ 0 };
}

/* The common first dim of all tensors; false when they do not have one. */
static bool batch_rows(const struct batch *batch, const struct engine_tensor *tensors,
                       uint64_t *ret_rows)
{
	*ret_rows = 1;
	if (!batch->is_batchable)
		return false;
	*ret_rows = (uint64_t)tensors[0].shape.dims[0];
	for (size_t i = 1; i < batch->n_inputs; i++)
		if (tensors[i].shape.dims[0] != tensors[0].shape.dims[0])
			return false;
	return true;
}

static bool batch_is_alike(const struct engine_tensor *a, const struct engine_tensor *b)
{
	return a->dtype == b->dtype && a->shape.rank == b->shape.rank &&
	       memcmp(a->shape.dims + 1, b->shape.dims + 1,
	              (a->shape.rank - 1) * sizeof(a->shape.dims[0])) == 0;
}

bool batch_add(struct batch *batch, const struct engine_tensor *tensors)
{
	uint64_t rows;
	bool has_rows = batch_rows(batch, tensors, &rows);

	if (batch->n_members > 0) {
		if (!has_rows || batch_is_full(batch) ||
		    rows > batch->max_rows - batch->n_rows)
			return false;
		for (size_t i = 0; i < batch->n_inputs; i++)
			if (!batch_is_alike(&tensors[i], &batch->members[0][i]))
				return false;
	}
	batch->members[batch->n_members] = tensors;
	batch->rows[batch->n_members] = rows;
	batch->n_members++;
	/* A request without common rows fills the batch: nothing can join it. */
	batch->n_rows = has_rows ? batch->n_rows + rows : UINT64_MAX;
	return true;
}

bool batch_is_full(const struct batch *batch)
{
	return batch->n_members == batch->max_members || batch->n_rows >= batch->max_rows;
}

static uint32_t batch_count(const struct batch *batch, uint64_t rows)
{
	if (batch->n_rows == UINT64_MAX)
		return 1;
	return rows < UINT32_MAX ? (uint32_t)rows : UINT32_MAX;
}

uint32_t batch_rows_of(const struct batch *batch, uint32_t member)
{
	return batch_count(batch, batch->rows[member]);
}

uint32_t batch_rows_of_all(const struct batch *batch)
{
	return batch_count(batch, batch->n_rows);
}

void batch_clear(struct batch *batch)
{
	batch->n_members = 0;
	batch->n_rows = 0;
	memset(batch->cursors, 0, batch->n_outputs * sizeof(*batch->cursors));
}

static int batch_grow(struct batch_buffer *buffer, size_t bytes)
{
	size_t capacity = BATCH_ALIGNMENT;
	unsigned char *data;

	if (bytes <= buffer->capacity_bytes)
		return 0;
	while (capacity < bytes)
		capacity *= 2;
	data = aligned_alloc(BATCH_ALIGNMENT, capacity);
	if (!data)
		return -ENOMEM;
	free(buffer->data);
	*buffer = (struct batch_buffer){ .data = data, .capacity_bytes = capacity };
	return 0;
}

static int batch_gather_input(struct batch *batch, size_t input)
{
	struct batch_buffer *buffer = &batch->buffers[input];
	struct engine_tensor joined = batch->members[0][input];
	size_t at = 0;
	int r;

	batch->inputs[input] = joined;
	if (batch->n_members == 1)
		return 0;
	/* Every tensor lies in an arena or on the heap: their sum does not overflow. */
	for (uint32_t i = 1; i < batch->n_members; i++)
		joined.bytes += batch->members[i][input].bytes;
	r = batch_grow(buffer, joined.bytes);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < batch->n_members; i++) {
		const struct engine_tensor *tensor = &batch->members[i][input];

		if (tensor->bytes > 0)
			memcpy(buffer->data + at, tensor->data, tensor->bytes);
		at += tensor->bytes;
	}
	joined.shape.dims[0] = (int64_t)batch->n_rows;
	joined.data = buffer->data;
	batch->inputs[input] = joined;
	return 0;
}

int batch_gather(struct batch *batch)
{
	assert(batch->n_members > 0);
	for (size_t i = 0; i < batch->n_inputs; i++) {
		int r = batch_gather_input(batch, i);

		if (r < 0)
			return r;
	}
	return 0;
}

bool batch_is_uneven(const struct batch *batch, struct err *err)
{
	const struct tensor_spec *specs = batch->inputs_spec;
	size_t first = SIZE_MAX;

	for (size_t i = 0; batch->n_members == 1 && i < batch->n_inputs; i++) {
		if (specs[i].shape.rank == 0 || specs[i].shape.dims[0] != TENSOR_DIM_ANY)
			continue;
		if (first == SIZE_MAX)
			first = i;
		if (batch->inputs[i].shape.dims[0] == batch->inputs[first].shape.dims[0])
			continue;
		(void)err_set(err, ENGINE_E_INPUT,
		              "the batches of the inputs differ, and the model cannot "
		              "compute them: '%s' has %lld rows and '%s' has %lld",
		              specs[first].name,
		              (long long)batch->inputs[first].shape.dims[0],
		              specs[i].name, (long long)batch->inputs[i].shape.dims[0]);
		return true;
	}
	return false;
}

int batch_check(struct batch *batch, struct err *err)
{
	char want[128];
	char got[128];

	for (size_t i = 0; i < batch->n_outputs; i++) {
		const struct tensor_spec *spec = &batch->outputs_spec[i];
		const struct engine_tensor *output = &batch->outputs[i];
		size_t bytes = 0;
		size_t count;

		if ((unsigned int)output->dtype >= TENSOR_DTYPE_COUNT ||
		    output->shape.rank > TENSOR_RANK_MAX)
			return err_set(err, ENGINE_E_MODEL,
			               "output '%s' is no tensor that can be",
			               spec->name);
		if (output->dtype != spec->dtype ||
		    !tensor_shape_matches(&spec->shape, &output->shape) ||
		    tensor_count(&output->shape, &count) < 0)
			return err_set(
				err, ENGINE_E_MODEL,
				"output '%s' is %s %s, and the configuration declares %s "
				"%s: return that, or declare what is returned",
				spec->name, tensor_dtype_name(output->dtype),
				tensor_shape_print(&output->shape, got, sizeof(got)),
				tensor_dtype_name(spec->dtype),
				tensor_shape_print(&spec->shape, want, sizeof(want)));
		if (output->dtype != TENSOR_DTYPE_BYTES &&
		    (tensor_bytes(output->dtype, &output->shape, &bytes) < 0 ||
		     bytes != output->bytes))
			return err_set(
				err, ENGINE_E_MODEL,
				"output '%s' of shape %s holds %zu bytes instead of "
				"%zu",
				spec->name,
				tensor_shape_print(&output->shape, got, sizeof(got)),
				output->bytes, bytes);
		if (batch->n_members > 1 &&
		    (uint64_t)output->shape.dims[0] != batch->n_rows)
			return err_set(err, ENGINE_E_MODEL,
			               "output '%s' has %lld rows for a batch of %llu",
			               spec->name, (long long)output->shape.dims[0],
			               (unsigned long long)batch->n_rows);
	}
	return 0;
}

int batch_split(struct batch *batch, uint32_t member, struct engine_tensor *ret_outputs,
                struct err *err)
{
	for (size_t i = 0; i < batch->n_outputs; i++) {
		struct engine_tensor part = batch->outputs[i];
		size_t left = part.bytes - batch->cursors[i];
		size_t count = 0;

		part.data = (const unsigned char *)part.data + batch->cursors[i];
		if (batch->n_members > 1)
			part.shape.dims[0] = (int64_t)batch->rows[member];
		/* The whole has been counted by batch_check(): a part cannot overflow. */
		(void)tensor_count(&part.shape, &count);
		part.bytes = count * tensor_dtype_bytes(part.dtype);
		if (part.dtype == TENSOR_DTYPE_BYTES &&
		    !tensor_measure_texts(part.data, left, count, &part.bytes))
			return err_set(err, ENGINE_E_MODEL,
			               "output '%s' holds malformed BYTES elements",
			               batch->outputs_spec[i].name);
		batch->cursors[i] += part.bytes;
		ret_outputs[i] = part;
	}
	return 0;
}
