/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/figures/stats.h"

static uint64_t stats_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void stats_add(struct stats *stats, enum stats_part part, uint64_t ns)
{
	stats->parts[part].count++;
	stats->parts[part].ns += ns;
}

/* The place of batches of @rows, or NULL: all are taken. */
static struct stats_batch *stats_batch_of(struct stats *stats, uint32_t rows)
{
	for (uint32_t i = 0; i < STATS_BATCHES; i++) {
		struct stats_batch *batch = &stats->batches[(rows + i) % STATS_BATCHES];

		if (batch->executions == 0)
			batch->rows = rows;
		if (batch->rows == rows)
			return batch;
	}
	return NULL;
}

void stats_note_execution(struct stats *stats, const struct proto_answer *answer,
                          uint64_t took_ns)
{
	bool is_first = answer->flags & PROTO_ANSWER_EXECUTION;
	uint64_t compute_ns = stats_min(answer->compute_ns, took_ns);
	struct stats_batch *batch;

	if (answer->batch_rows == 0 && !is_first)
		return;
	if (is_first) {
		stats->executions++;
		histogram_note(&stats->compute, HISTOGRAM_NS, compute_ns);
		histogram_note(&stats->rows, HISTOGRAM_ROWS, answer->batch_rows);
		if (answer->peak_kib > 0)
			histogram_note(&stats->memory, HISTOGRAM_BYTES,
			               answer->peak_kib * UINT64_C(1024));
	}
	batch = stats_batch_of(stats, answer->batch_rows);
	if (!batch)
		return;
	if (is_first) {
		batch->executions++;
		batch->input_ns += stats_min(answer->gather_ns, took_ns);
		batch->infer_ns += compute_ns;
	}
	/* Requests of one batch are decoded and encoded one after the other. */
	if (batch->executions > 0) {
		batch->input_ns += stats_min(answer->decode_ns, took_ns);
		batch->output_ns += stats_min(answer->encode_ns, took_ns);
	}
}

void stats_note_answer(struct stats *stats, const struct proto_answer *answer,
                       const struct stats_end *end)
{
	uint64_t took_ns = end->took_ns;
	uint64_t queue_ns = stats_min(answer->queue_ns, took_ns);

	stats->last_ms = end->now_ms;
	histogram_note(&stats->request, HISTOGRAM_NS, took_ns);
	if (end->status < 200 || end->status > 299) {
		stats_add(stats, STATS_FAIL, took_ns);
		return;
	}
	stats->inferences += answer->rows;
	stats_add(stats, STATS_SUCCESS, took_ns);
	stats_add(stats, STATS_QUEUE, queue_ns);
	stats_add(stats, STATS_INPUT,
	          stats_min(stats_min(answer->decode_ns, took_ns) +
	                            stats_min(answer->gather_ns, took_ns),
	                    took_ns));
	stats_add(stats, STATS_INFER, stats_min(answer->compute_ns, took_ns));
	stats_add(stats, STATS_OUTPUT, stats_min(answer->encode_ns, took_ns));
	histogram_note(&stats->queue, HISTOGRAM_NS, queue_ns);
}

void stats_note_failure(struct stats *stats, const struct stats_end *end, bool was_left)
{
	stats->last_ms = end->now_ms;
	stats_add(stats, STATS_FAIL, end->took_ns);
	/* The wait of a client that left is no time of an answer. */
	if (!was_left)
		histogram_note(&stats->request, HISTOGRAM_NS, end->took_ns);
}

void stats_note_response(struct stats *stats, unsigned int status)
{
	if (status >= STATS_STATUS_MIN && status < STATS_STATUS_END)
		stats->responses[status - STATS_STATUS_MIN]++;
}
