/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A session over an .onnx file whose weights stay where the loader has the file: no copy is made of
 * them. They last until initializers_drop(), which comes after the session's end.
 */

#include "loader/onnx/graph.h"
#include "loader/onnx/ort.h"
#include "shared/err.h"

struct initializers {
	struct graph graph;
	struct ort_value **values; /* of graph.tensors, but for those that a graph took */
};

struct initializers_use {
	const struct ort_api *api;
	const struct ort_editor *editor; /* or NULL */
	const struct ort_env *env;
	const struct ort_memory *memory;
	struct ort_options *options;
	const void *data; /* the file */
	size_t bytes;
};

/* Takes the file apart: what graph_read() returns. */
int initializers_read(struct initializers *initializers, const void *data, size_t bytes,
                      struct err *err);
/* Builds the session over what was read. NULL, or a failure that may be one of this way alone: a
 * session of the file by itself explains what is wrong with a model. */
struct ort_status *initializers_build(struct initializers *initializers,
                                      const struct initializers_use *use,
                                      struct ort_session **ret_session);
void initializers_drop(struct initializers *initializers, const struct ort_api *api);
