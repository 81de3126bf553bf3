/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An .onnx file taken apart without the runtime: which of its tensors can be used where they lie,
 * and the same model without them, which takes them as inputs. The file is hostile: every length is
 * checked, and what is unusual stays in the model, for the runtime to judge.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/onnx/ort.h"
#include "shared/err.h"

#define GRAPH_RANK_MAX 8

struct graph_tensor {
	char *name;
	enum ort_type type;
	size_t at; /* of its bytes in the file */
	size_t bytes;
	int64_t dims[GRAPH_RANK_MAX];
	size_t rank;
};

struct graph_name {
	const void *data; /* in the file */
	size_t bytes;
};

struct graph {
	struct graph_tensor *tensors; /* those that are used where they lie */
	size_t n_tensors;
	size_t tensors_room;
	struct graph_name *inputs; /* of the file */
	size_t n_inputs;
	size_t inputs_room;
	bool has_shapes; /* each input and output is a tensor, and has a rank */
	char *model;     /* the file without their bytes */
	size_t model_bytes;
	uint64_t taken_bytes; /* of the tensors */
	uint64_t left_bytes;  /* of others that are as large */
};

/* Takes the file apart. graph_drop() after it, whatever it returns. 0; ENGINE_E_PRIVATE with a
 * sentence: too little of the file can be used where it lies; ENGINE_E_FAILED: out of memory. */
int graph_read(struct graph *graph, const void *data, size_t bytes, struct err *err);
void graph_drop(struct graph *graph);
