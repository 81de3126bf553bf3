/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/inputs/declared.h"

#include "shared/tensor_json.h"

/* A list that is not there tells nothing: the loader hosts routes. */
static int declared_read_list(const json_t *ready, const char *key,
                              struct tensor_spec *specs, size_t *n, struct err *err)
{
	const json_t *list = json_object_get(ready, key);

	return list ? tensors_from_json(list, key, specs, CONFIG_TENSORS_MAX, n, err) : 0;
}

int declared_read(struct declared *declared, const json_t *ready, struct err *err)
{
	int r;

	*declared = (struct declared){ .n_inputs = 0 };
	r = declared_read_list(ready, "inputs", declared->inputs, &declared->n_inputs,
	                       err);
	return r ? r
	         : declared_read_list(ready, "outputs", declared->outputs,
	                              &declared->n_outputs, err);
}

bool declared_look(const struct config_model *section, const struct declared *told,
                   struct declared_view *ret_view)
{
	struct declared_view view = { section->inputs, section->n_inputs,
		                      section->outputs, section->n_outputs };

	if (view.n_inputs == 0) {
		view.inputs = told->inputs;
		view.n_inputs = told->n_inputs;
	}
	if (view.n_outputs == 0) {
		view.outputs = told->outputs;
		view.n_outputs = told->n_outputs;
	}
	*ret_view = view;
	return section->route || (view.n_inputs > 0 && view.n_outputs > 0);
}
