/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An .onnx file, from whoever made the model, as engine onnx takes it apart. Every tensor that is
 * taken lies inside the file and is as large as its dims say; the model without them is read again,
 * has them as inputs, and has none to take.
 */
#include <assert.h>
#include <string.h>

#include "loader/engine.h"
#include "loader/onnx/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tensors(const struct graph *graph, size_t size)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < graph->n_tensors; i++) {
		const struct graph_tensor *tensor = &graph->tensors[i];
		uint64_t elements = 1;

		assert(tensor->at <= size && tensor->bytes <= size - tensor->at);
		assert(*tensor->name && tensor->rank <= GRAPH_RANK_MAX);
		for (size_t j = 0; j < tensor->rank; j++)
			elements *= (uint64_t)tensor->dims[j];
		assert(elements > 0 && tensor->bytes % elements == 0 &&
		       tensor->bytes / elements <= 8);
		bytes += tensor->bytes;
	}
	assert(bytes == graph->taken_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_NULL;
	struct graph graph;
	int r = graph_read(&graph, data, size, &err);

	assert(r == 0 || (*err.text && (r == ENGINE_E_PRIVATE || r == ENGINE_E_FAILED)));
	check_tensors(&graph, size);
	if (r == 0) {
		struct graph again;

		r = graph_read(&again, graph.model, graph.model_bytes, &err);
		assert(r == 0 || again.left_bytes > 0);
		assert(again.n_tensors == 0 && again.left_bytes == graph.left_bytes);
		assert(again.n_inputs == graph.n_inputs + graph.n_tensors);
		assert(again.has_shapes == graph.has_shapes);
		graph_drop(&again);
	}
	graph_drop(&graph);
	return 0;
}
