/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/serve/compute.h"

#include "shared/clock.h"

int compute_init(struct compute *compute, const struct model_config *config,
                 const struct engine_api *api, struct engine *engine,
                 uint32_t max_members)
{
	*compute = (struct compute){
		.api = api,
		.engine = engine,
		.model = {
			.name = config->model,
			.version = config->version,
			.inputs = config->inputs,
			.n_inputs = config->n_inputs,
			.outputs = config->outputs,
			.n_outputs = config->n_outputs,
			.max_body_bytes = config->max_body_bytes,
		},
	};
	fit_init(&compute->fit, config->n_inputs);
	return batch_init(&compute->batch, config->inputs, config->n_inputs,
	                  config->outputs, config->n_outputs, config->max_batch,
	                  max_members);
}

void compute_fini(struct compute *compute)
{
	batch_fini(&compute->batch);
}

/* The time counts from the turn of the batch, the engine's from behind the gathering. Shapes are
 * learned before the check: a wrong answer has fitted, too. */
int compute_run(struct compute *compute, struct err *err)
{
	struct batch *batch = &compute->batch;
	uint64_t start_ns;
	int r;

	compute->has_outputs = false;
	compute->use = (struct engine_use){ 0 };
	compute->began_ns = clock_now_ns();
	if (batch_gather(batch) < 0)
		return err_set(err, ENGINE_E_FAILED, "out of memory for a batch");
	start_ns = clock_now_ns();
	compute->gather_ns = start_ns - compute->began_ns;
	r = compute->api->infer(compute->engine, batch->inputs, batch->outputs, err);
	compute->took_ns = clock_now_ns() - start_ns;
	compute->has_outputs = r == 0;
	if (compute->api->measure)
		compute->api->measure(compute->engine, &compute->use);
	if (r == 0)
		fit_note(&compute->fit, batch->inputs, start_ns);
	if (r == ENGINE_E_MEMORY) {
		fit_learn(&compute->fit, batch->inputs, &compute->use, start_ns);
		if (compute->use.wanted_bytes > 0)
			return fit_explain(&compute->use, err);
	}
	if (r == 0)
		r = batch_check(batch, err);
	return r == ENGINE_E_MODEL && batch_is_uneven(batch, err) ? ENGINE_E_INPUT : r;
}
