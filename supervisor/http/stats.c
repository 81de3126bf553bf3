/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The statistics extension of the protocol, with every member that its document has: some
 * clients read all of them unchecked. No answer comes from a cache here, so the members
 * about a cache are zero.
 */

#include <stdlib.h>

#include "shared/clock.h"
#include "supervisor/http/meta.h"
#include "supervisor/figures/stats.h"

/* Time for looking at what the loaders of one model hold; the other models want a turn,
 * too. */
#define HTTP_STATS_LOOK_NS (50 * UINT64_C(1000))

static json_t *http_stats_duration(uint64_t count, uint64_t ns)
{
	return json_pack("{s:I,s:I}", "count", (json_int_t)count, "ns", (json_int_t)ns);
}

static json_t *http_stats_inference(const struct stats *stats)
{
	static const char *const names[] = {
		[STATS_SUCCESS] = "success",     [STATS_FAIL] = "fail",
		[STATS_QUEUE] = "queue",         [STATS_INPUT] = "compute_input",
		[STATS_INFER] = "compute_infer", [STATS_OUTPUT] = "compute_output",
	};
	json_t *json = json_object();

	_Static_assert(sizeof(names) / sizeof(names[0]) == STATS_PART_COUNT,
	               "one name per part");
	for (unsigned int i = 0; i < STATS_PART_COUNT; i++)
		(void)json_object_set_new(json, names[i],
		                          http_stats_duration(stats->parts[i].count,
		                                              stats->parts[i].ns));
	(void)json_object_set_new(json, "cache_hit", http_stats_duration(0, 0));
	(void)json_object_set_new(json, "cache_miss", http_stats_duration(0, 0));
	return json;
}

static int http_stats_compare(const void *a, const void *b)
{
	const struct stats_batch *const *left = a;
	const struct stats_batch *const *right = b;

	return (*left)->rows < (*right)->rows ? -1 : (*left)->rows > (*right)->rows;
}

/* By size. */
static json_t *http_stats_batches(const struct stats *stats)
{
	const struct stats_batch *sorted[STATS_BATCHES];
	json_t *json = json_array();
	size_t n = 0;

	for (size_t i = 0; i < STATS_BATCHES; i++)
		if (stats->batches[i].executions > 0)
			sorted[n++] = &stats->batches[i];
	qsort(sorted, n, sizeof(*sorted), http_stats_compare);
	for (size_t i = 0; i < n; i++) {
		const struct stats_batch *batch = sorted[i];
		uint64_t count = batch->executions;

		(void)json_array_append_new(
			json, json_pack("{s:I,s:o,s:o,s:o}", "batch_size",
		                        (json_int_t)batch->rows, "compute_input",
		                        http_stats_duration(count, batch->input_ns),
		                        "compute_infer",
		                        http_stats_duration(count, batch->infer_ns),
		                        "compute_output",
		                        http_stats_duration(count, batch->output_ns)));
	}
	return json;
}

/* @type and @id as the protocol has them: main memory is of one piece. */
static void http_stats_add_memory(json_t *json, const char *type, unsigned int id,
                                  uint64_t bytes)
{
	(void)json_array_append_new(json, json_pack("{s:s,s:I,s:I}", "type", type, "id",
	                                            (json_int_t)id, "byte_size",
	                                            (json_int_t)bytes));
}

static json_t *http_stats_memory(const struct model *model)
{
	struct model_memory memory =
		model_memory(model, clock_now_ns() + HTTP_STATS_LOOK_NS);
	json_t *json = json_array();

	http_stats_add_memory(json, "CPU", 0, memory.host_bytes);
	if (memory.gpu_index >= 0)
		http_stats_add_memory(json, "GPU", (unsigned int)memory.gpu_index,
		                      memory.gpu_bytes);
	return json;
}

static json_t *http_stats_model(const struct model *model)
{
	const struct stats *stats = model_stats(model);

	/* response_stats is empty: answers come whole, none has a place in a stream. */
	return json_pack("{s:s,s:s,s:I,s:I,s:I,s:o,s:{},s:o,s:o}", "name",
	                 model_name(model), "version", model_config(model)->version,
	                 "last_inference", (json_int_t)stats->last_ms, "inference_count",
	                 (json_int_t)stats->inferences, "execution_count",
	                 (json_int_t)stats->executions, "inference_stats",
	                 http_stats_inference(stats), "response_stats", "batch_stats",
	                 http_stats_batches(stats), "memory_usage",
	                 http_stats_memory(model));
}

char *http_meta_stats(struct model *const *models, const struct model *only)
{
	json_t *stats = json_array();
	json_t *json;
	char *text;

	for (; *models; models++)
		if (!only || *models == only)
			(void)json_array_append_new(stats, http_stats_model(*models));
	json = json_pack("{s:o}", "model_stats", stats);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return text;
}
