/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Families of /metrics about models, reloads apart. The format wants each family in one
 * piece, so that every function goes through all models. Most values are there for the
 * taking; memory has to be looked for in /proc, which metrics_look() does for a bounded
 * time.
 */

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "shared/clock.h"
#include "supervisor/metrics/all.h"
#include "supervisor/model/model.h"
#include "supervisor/figures/stats.h"

/* Time for looking at what loaders hold; models for which none was left come first the
 * next time. */
#define METRICS_LOOK_NS (300 * UINT64_C(1000))

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static void metrics_put_model(struct metrics *metrics, const struct model *model,
                              uint64_t value)
{
	const struct metrics_label label = { "model", model_name(model) };

	metrics_put(metrics, &label, 1, value);
}

static void metrics_counts(struct metrics *metrics, const struct model *const *models)
{
	static const struct {
		enum metrics_id id;
		size_t offset; /* of the uint64_t in struct request_counts */
	} rows[] = {
		{ METRICS_REQUESTS_ACCEPTED, offsetof(struct request_counts, accepted) },
		{ METRICS_REQUESTS_ANSWERED, offsetof(struct request_counts, answered) },
		{ METRICS_REQUESTS_FAULTS, offsetof(struct request_counts, faults) },
		{ METRICS_REQUESTS_FAILED, offsetof(struct request_counts, failed) },
		{ METRICS_REQUESTS_REPLAYED, offsetof(struct request_counts, replayed) },
		{ METRICS_REQUESTS_HELD, offsetof(struct request_counts, held) },
		{ METRICS_REQUESTS_HELD_BYTES,
		  offsetof(struct request_counts, held_bytes) },
		{ METRICS_REQUESTS_LEASED, offsetof(struct request_counts, leased) },
	};

	for (size_t row = 0; row < COUNT(rows); row++) {
		metrics_begin(metrics, rows[row].id);
		for (size_t i = 0; models[i]; i++) {
			const void *counts = model_counts(models[i]);

			metrics_put_model(metrics, models[i],
			                  *(const uint64_t *)((const char *)counts +
			                                      rows[row].offset));
		}
	}
}

static void metrics_failures(struct metrics *metrics, const struct model *const *models)
{
	metrics_begin(metrics, METRICS_REQUESTS_FAILURES);
	for (size_t i = 0; models[i]; i++)
		for (unsigned int j = 0; j < REQUEST_FAILURE_COUNT; j++) {
			const struct metrics_label labels[] = {
				{ "model", model_name(models[i]) },
				{ "reason",
				  request_failure_name((enum request_failure)j) },
			};

			metrics_put(metrics, labels, COUNT(labels),
			            model_counts(models[i])->failures[j]);
		}
}

/* Statuses that alerts are about; their series are there from the start. */
static bool metrics_is_usual(unsigned int status)
{
	return status == 200 || status == 400 || status == 500 || status == 503 ||
	       status == 504;
}

static void metrics_responses(struct metrics *metrics, const struct model *const *models)
{
	metrics_begin(metrics, METRICS_RESPONSES);
	for (size_t i = 0; models[i]; i++) {
		const uint64_t *counts = model_stats(models[i])->responses;

		for (unsigned int s = STATS_STATUS_MIN; s < STATS_STATUS_END; s++) {
			char code[8];
			const struct metrics_label labels[] = {
				{ "model", model_name(models[i]) },
				{ "code", code },
			};

			if (counts[s - STATS_STATUS_MIN] == 0 && !metrics_is_usual(s))
				continue;
			(void)snprintf(code, sizeof(code), "%u", s);
			metrics_put(metrics, labels, COUNT(labels),
			            counts[s - STATS_STATUS_MIN]);
		}
	}
}

static void metrics_computed(struct metrics *metrics, const struct model *const *models)
{
	metrics_begin(metrics, METRICS_INFERENCES);
	for (size_t i = 0; models[i]; i++)
		metrics_put_model(metrics, models[i], model_stats(models[i])->inferences);
	metrics_begin(metrics, METRICS_EXECUTIONS);
	for (size_t i = 0; models[i]; i++)
		metrics_put_model(metrics, models[i], model_stats(models[i])->executions);
}

static void metrics_histograms(struct metrics *metrics, const struct model *const *models)
{
	static const struct {
		enum metrics_id id;
		enum histogram_kind kind;
		size_t offset; /* in struct stats */
		bool is_rare;  /* not there before the first value: few engines tell it */
	} rows[] = {
		{ METRICS_REQUEST_SECONDS, HISTOGRAM_NS, offsetof(struct stats, request),
		  false },
		{ METRICS_QUEUE_SECONDS, HISTOGRAM_NS, offsetof(struct stats, queue),
		  false },
		{ METRICS_COMPUTE_SECONDS, HISTOGRAM_NS, offsetof(struct stats, compute),
		  false },
		{ METRICS_BATCH_ROWS, HISTOGRAM_ROWS, offsetof(struct stats, rows),
		  false },
		{ METRICS_REQUEST_MEMORY_BYTES, HISTOGRAM_BYTES,
		  offsetof(struct stats, memory), true },
	};

	for (size_t row = 0; row < COUNT(rows); row++) {
		metrics_begin(metrics, rows[row].id);
		for (size_t i = 0; models[i]; i++) {
			const struct metrics_label label = { "model",
				                             model_name(models[i]) };
			const void *stats = model_stats(models[i]);
			const struct histogram *histogram =
				(const void *)((const char *)stats + rows[row].offset);

			if (histogram->count > 0 || !rows[row].is_rare)
				metrics_put_histogram(metrics, &label, 1, rows[row].kind,
				                      histogram);
		}
	}
}

/* One series for each layer that there may be, so that an alert sees one that is missing. */
static void metrics_walls(struct metrics *metrics, const struct model *const *models)
{
	static const char *const layers[] = { "own_user",        "max_processes",
		                              "max_memory",      "no_new_privs",
		                              "no_core",         "not_dumpable",
		                              "no_capabilities", "landlock",
		                              "seccomp" };

	metrics_begin(metrics, METRICS_WALLS);
	for (size_t i = 0; models[i]; i++)
		for (size_t j = 0; j < COUNT(layers); j++) {
			const struct metrics_label labels[] = {
				{ "model", model_name(models[i]) },
				{ "layer", layers[j] },
			};

			metrics_put(metrics, labels, COUNT(labels),
			            strstr(model_walls(models[i]), layers[j]) != NULL);
		}
}

static void metrics_states(struct metrics *metrics, const struct model *const *models)
{
	metrics_begin(metrics, METRICS_GENERATION);
	for (size_t i = 0; models[i]; i++)
		metrics_put_model(metrics, models[i], model_generation(models[i]));
	metrics_begin(metrics, METRICS_READY);
	for (size_t i = 0; models[i]; i++)
		metrics_put_model(metrics, models[i], model_is_ready(models[i]));
	metrics_begin(metrics, METRICS_LOADERS);
	for (size_t i = 0; models[i]; i++)
		metrics_put_model(metrics, models[i], model_loaders(models[i]));
	metrics_begin(metrics, METRICS_STALE);
	for (size_t i = 0; models[i]; i++)
		metrics_put_model(metrics, models[i], model_is_stale(models[i]));
	metrics_walls(metrics, models);
}

/* Looks at as many models as there is time for, in turn. */
static void metrics_look(const struct model *const *models, struct metrics_state *state)
{
	uint64_t until_ns = clock_now_ns() + METRICS_LOOK_NS;
	size_t n = 0;

	while (models[n])
		n++;
	for (size_t i = 0; i < n && clock_now_ns() < until_ns; i++) {
		if (state->next_look >= n)
			state->next_look = 0;
		(void)model_memory(models[state->next_look++], until_ns);
	}
}

static void metrics_memory(struct metrics *metrics, const struct model *const *models)
{
	metrics_begin(metrics, METRICS_MEMORY_BYTES);
	for (size_t i = 0; models[i]; i++) {
		struct model_memory memory = model_memory(models[i], 0);
		const struct metrics_label host[] = {
			{ "model", model_name(models[i]) },
			{ "device", "host" },
		};
		const struct metrics_label gpu[] = {
			{ "model", model_name(models[i]) },
			{ "device", memory.gpu },
		};

		metrics_put(metrics, host, COUNT(host), memory.host_bytes);
		if (memory.gpu)
			metrics_put(metrics, gpu, COUNT(gpu), memory.gpu_bytes);
	}
}

void metrics_add_models(struct metrics *metrics, const struct model *const *models,
                        struct metrics_state *state)
{
	metrics_counts(metrics, models);
	metrics_failures(metrics, models);
	metrics_responses(metrics, models);
	metrics_computed(metrics, models);
	metrics_histograms(metrics, models);
	metrics_states(metrics, models);
	metrics_look(models, state);
	metrics_memory(metrics, models);
}
