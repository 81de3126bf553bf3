/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From 1.22 on the runtime lets a model be changed between parsing and building. It parses the model
 * without its weights, where those are inputs; then it gets the inputs that the file has, and the
 * weights as initializers whose data is external. At no time there is a copy.
 *
 * An older one gets the whole file, and values by the same names that it is to use instead (so does
 * any where an input has no rank, which a value's description cannot tell from a scalar). It copies
 * the weights while it builds, and lets go of that copy in the end.
 *
 * Other functions that look as if they did this do not: what AddExternalInitializers() and
 * AddExternalInitializersFromFilesInMemory() are given is copied for good.
 */
#include "loader/onnx/initializers.h"

#include <stdlib.h>

#include "loader/engine.h"

int initializers_read(struct initializers *initializers, const void *data, size_t bytes,
                      struct err *err)
{
	return graph_read(&initializers->graph, data, bytes, err);
}

static struct ort_status *initializers_make(struct initializers *initializers,
                                            const struct initializers_use *use)
{
	const struct graph *graph = &initializers->graph;
	struct ort_status *status = NULL;

	initializers->values = calloc(graph->n_tensors + 1, sizeof(struct ort_value *));
	if (!initializers->values)
		return use->api->create_status(ORT_FAIL, "out of memory");
	for (size_t i = 0; i < graph->n_tensors && !status; i++) {
		const struct graph_tensor *tensor = &graph->tensors[i];
		const unsigned char *data = use->data;
		/* The runtime reads it. */
		void *bytes = (void *)(uintptr_t)(data + tensor->at);

		status = use->api->create_tensor_over(use->memory, bytes, tensor->bytes,
		                                      tensor->dims, tensor->rank,
		                                      tensor->type,
		                                      &initializers->values[i]);
	}
	return status;
}

/* By names */

static struct ort_status *initializers_name(struct initializers *initializers,
                                            const struct initializers_use *use,
                                            struct ort_session **ret_session)
{
	const struct graph *graph = &initializers->graph;
	struct ort_status *status = NULL;

	for (size_t i = 0; i < graph->n_tensors && !status; i++)
		status = use->api->add_initializer(use->options, graph->tensors[i].name,
		                                   initializers->values[i]);
	return status ? status
	              : use->api->create_session(use->env, use->data, use->bytes,
	                                         use->options, ret_session);
}

/* By a change of the model */

/* Inputs, or outputs, of the session that the file has as well. */
struct initializers_side {
	struct ort_status *(*type)(const struct ort_session *session, size_t i,
	                           struct ort_type_info **ret_info);
	struct ort_status *(*name)(const struct ort_session *session, size_t i,
	                           struct ort_allocator *allocator, char **ret_name);
	struct ort_value_info *infos[ENGINE_TENSORS_MAX];
	size_t n;
};

static struct ort_status *side_add(struct initializers_side *side, size_t i,
                                   const struct initializers_use *use,
                                   const struct ort_session *session)
{
	struct ort_allocator *allocator;
	struct ort_type_info *type = NULL;
	char *name = NULL;
	struct ort_status *status = use->api->default_allocator(&allocator);

	if (status)
		return status;
	status = side->name(session, i, allocator, &name);
	if (!status)
		status = side->type(session, i, &type);
	if (!status)
		status =
			use->editor->create_value_info(name, type, &side->infos[side->n]);
	if (!status)
		side->n++;
	if (type)
		use->api->release_type_info(type);
	if (name)
		allocator->free(allocator, name);
	return status;
}

/* Reads @n from @first on. */
static struct ort_status *side_read(struct initializers_side *side, size_t n,
                                    const struct initializers_use *use,
                                    const struct ort_session *session)
{
	struct ort_status *status = NULL;

	if (n > ENGINE_TENSORS_MAX)
		return use->api->create_status(ORT_FAIL, "too many inputs or outputs");
	for (size_t i = 0; i < n && !status; i++)
		status = side_add(side, i, use, session);
	return status;
}

static void side_drop(struct initializers_side *side, const struct ort_api *api)
{
	for (size_t i = 0; i < side->n; i++)
		if (side->infos[i])
			api->release_value_info(side->infos[i]);
}

/* Gives @graph the inputs and outputs of the file. Its inputs come first in the session, because
 * those that stand for weights were appended. */
static struct ort_status *initializers_sides(const struct initializers *initializers,
                                             const struct initializers_use *use,
                                             const struct ort_session *session,
                                             struct ort_graph *graph)
{
	struct initializers_side inputs = { use->api->input_type, use->api->input_name,
		                            .n = 0 };
	struct initializers_side outputs = { use->api->output_type, use->api->output_name,
		                             .n = 0 };
	size_t n_inputs = 0;
	size_t n_outputs = 0;
	struct ort_status *status = use->api->count_inputs(session, &n_inputs);

	if (!status)
		status = use->api->count_outputs(session, &n_outputs);
	if (!status && n_inputs < initializers->graph.n_tensors)
		status = use->api->create_status(ORT_FAIL, "inputs are missing");
	if (!status)
		status = side_read(&inputs, n_inputs - initializers->graph.n_tensors, use,
		                   session);
	if (!status)
		status = side_read(&outputs, n_outputs, use, session);
	if (!status)
		status = use->editor->set_inputs(graph, inputs.infos, inputs.n);
	if (!status)
		status = use->editor->set_outputs(graph, outputs.infos, outputs.n);
	side_drop(&inputs, use->api);
	side_drop(&outputs, use->api);
	return status;
}

static struct ort_status *initializers_fill(struct initializers *initializers,
                                            const struct initializers_use *use,
                                            struct ort_graph *graph)
{
	struct ort_status *status = NULL;

	for (size_t i = 0; i < initializers->graph.n_tensors && !status; i++) {
		status = use->editor->add_initializer(graph,
		                                      initializers->graph.tensors[i].name,
		                                      initializers->values[i], true);
		if (!status)
			initializers->values[i] = NULL;
	}
	return status;
}

static struct ort_status *initializers_change(struct initializers *initializers,
                                              const struct initializers_use *use,
                                              struct ort_session *session)
{
	const struct ort_editor *editor = use->editor;
	struct ort_graph *graph = NULL;
	struct ort_model *model = NULL;
	struct ort_status *status = editor->create_graph(&graph);

	if (!status)
		status = initializers_sides(initializers, use, session, graph);
	if (!status)
		status = initializers_fill(initializers, use, graph);
	if (!status)
		status = editor->create_model(NULL, NULL, 0, &model);
	if (!status)
		status = editor->add_graph(model, graph);
	if (!status) {
		graph = NULL;
		status = editor->apply(session, model);
	}
	if (graph)
		use->api->release_graph(graph);
	if (model)
		use->api->release_model(model);
	return status;
}

static struct ort_status *initializers_edit(struct initializers *initializers,
                                            const struct initializers_use *use,
                                            struct ort_session **ret_session)
{
	const struct graph *graph = &initializers->graph;
	struct ort_session *session = NULL;
	struct ort_status *status =
		use->editor->create_session(use->env, graph->model, graph->model_bytes,
	                                    use->options, &session);

	if (!status)
		status = initializers_change(initializers, use, session);
	if (!status)
		status = use->editor->finish(session, use->options, NULL);
	if (!status)
		*ret_session = session;
	else if (session)
		use->api->release_session(session);
	return status;
}

struct ort_status *initializers_build(struct initializers *initializers,
                                      const struct initializers_use *use,
                                      struct ort_session **ret_session)
{
	struct ort_status *status = initializers_make(initializers, use);

	if (status)
		return status;
	return use->editor && initializers->graph.has_shapes
	               ? initializers_edit(initializers, use, ret_session)
	               : initializers_name(initializers, use, ret_session);
}

void initializers_drop(struct initializers *initializers, const struct ort_api *api)
{
	for (size_t i = 0; initializers->values && i < initializers->graph.n_tensors; i++)
		if (initializers->values[i])
			api->release_value(initializers->values[i]);
	free(initializers->values);
	initializers->values = NULL;
	graph_drop(&initializers->graph);
}
