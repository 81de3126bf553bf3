/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The page /metrics. Making its text takes a twentieth of the loop's time at most,
 * however many ask: a page is sent until it is twenty times as old as it took to make.
 * With few models that is a new page for each request. Answers hold references to a page
 * and send it from where it lies.
 */

#include <stddef.h>
#include <stdlib.h>

#include "shared/clock.h"
#include "supervisor/gate/tls.h"
#include "supervisor/http/access_log.h"
#include "supervisor/http/conn.h"
#include "supervisor/http/meta.h"
#include "supervisor/metrics/all.h"
#include "supervisor/spares/spares.h"

/* Making the text may take one part in so many of the loop's time. */
#define HTTP_METRICS_PART 20

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

struct http_page {
	unsigned int refs;
	uint64_t made_ns; /* when */
	uint64_t took_ns; /* of the loop's time, to make it */
	char *text;
	size_t bytes;
};

static void http_metrics_devices(struct metrics *metrics, const struct devices *devices)
{
	static const struct {
		enum metrics_id id;
		size_t offset; /* of the uint64_t in struct device_figures */
	} rows[] = {
		{ METRICS_DEVICE_TOTAL_BYTES,
		  offsetof(struct device_figures, total_bytes) },
		{ METRICS_DEVICE_USED_BYTES,
		  offsetof(struct device_figures, used_bytes) },
		{ METRICS_DEVICE_FREE_BYTES,
		  offsetof(struct device_figures, free_bytes) },
		{ METRICS_DEVICE_XIDS, offsetof(struct device_figures, xids) },
	};

	for (size_t row = 0; row < COUNT(rows); row++) {
		metrics_begin(metrics, rows[row].id);
		for (size_t i = 0; i < devices->n_gpus; i++) {
			const struct device *gpu = &devices->gpus[i];
			const struct device_figures figures = device_figures(gpu);
			const void *bytes = (const char *)&figures + rows[row].offset;
			const struct metrics_label labels[] = {
				{ "device", gpu->name },
				{ "uuid", gpu->uuid },
			};

			/* Errors are counted whether the card answers or not. */
			if (figures.is_known || rows[row].id == METRICS_DEVICE_XIDS)
				metrics_put(metrics, labels, COUNT(labels),
				            *(const uint64_t *)bytes);
		}
	}
}

static void http_metrics_claims(struct metrics *metrics, struct devices *devices)
{
	metrics_begin(metrics, METRICS_DEVICE_LOADERS_BYTES);
	for (size_t i = 0; i < devices->n_gpus; i++) {
		const struct metrics_label labels[] = {
			{ "device", devices->gpus[i].name },
			{ "uuid", devices->gpus[i].uuid },
		};

		metrics_put(metrics, labels, COUNT(labels),
		            device_room_seen(&devices->gpus[i]).used_bytes);
	}
}

static void http_metrics_spares(struct metrics *metrics, const struct spares *spares)
{
	static const struct {
		enum metrics_id id;
		size_t offset; /* of the uint64_t in struct spare_counts */
	} rows[] = {
		{ METRICS_SPARE_READY, offsetof(struct spare_counts, ready) },
		{ METRICS_SPARES_STARTED, offsetof(struct spare_counts, started) },
		{ METRICS_SPARES_TAKEN, offsetof(struct spare_counts, taken) },
		{ METRICS_SPARES_LOST, offsetof(struct spare_counts, lost) },
	};
	struct spare_counts counts;
	size_t at = 0;

	if (!spares_sum(spares, &at, &counts))
		return;
	for (size_t row = 0; row < COUNT(rows); row++) {
		metrics_begin(metrics, rows[row].id);
		for (at = 0; spares_sum(spares, &at, &counts);) {
			const struct metrics_label label = { "engine", counts.engine };
			const void *value = (const char *)&counts + rows[row].offset;

			metrics_put(metrics, &label, 1, *(const uint64_t *)value);
		}
	}
}

static void http_metrics_of_tls(struct metrics *metrics, const struct tls *tls)
{
	const struct tls_figures figures = tls_figures(tls);

	metrics_put_one(metrics, METRICS_TLS_NOT_AFTER, figures.not_after_s);
	metrics_put_one(metrics, METRICS_TLS_STALE, figures.is_stale);
	metrics_put_one(metrics, METRICS_TLS_ROTATIONS, figures.rotations);
	metrics_put_one(metrics, METRICS_TLS_UNFINISHED, figures.unfinished);
}

static void http_metrics_of_http(struct metrics *metrics, const struct http *http)
{
	static const char *const classes[] = {
		[2] = "2xx", [3] = "3xx", [4] = "4xx", [5] = "5xx"
	};

	metrics_put_one(metrics, METRICS_HTTP_CONNECTIONS, http->conns.n_connections);
	metrics_put_one(metrics, METRICS_HTTP_ACCEPTED, http->conns.n_accepted);
	metrics_put_one(metrics, METRICS_HTTP_EXPIRED, http->conns.n_expired);
	metrics_put_one(metrics, METRICS_HTTP_EVICTED,
	                http->conns.n_evicted + http->turns.n_refused);
	metrics_put_one(metrics, METRICS_HTTP_REFUSED, http->conns.n_refused);
	metrics_put_one(metrics, METRICS_HTTP_LIMITED,
	                clients_limited(http->models.gate->clients));
	metrics_put_one(metrics, METRICS_HTTP_WAITED, http->turns.n_waited);
	metrics_put_one(metrics, METRICS_HTTP_RUNS, http->conns.n_runs);
	if (http->models.gate->tls)
		http_metrics_of_tls(metrics, http->models.gate->tls);
	if (http->models.gate->tokens) {
		metrics_put_one(metrics, METRICS_TOKENS,
		                tokens_count(http->models.gate->tokens));
		metrics_put_one(metrics, METRICS_TOKENS_STALE,
		                tokens_is_stale(http->models.gate->tokens));
	}
	if (http->access)
		metrics_put_one(metrics, METRICS_ACCESS_LOG_DROPPED,
		                access_log_dropped(http->access));
	metrics_begin(metrics, METRICS_HTTP_RESPONSES);
	for (size_t i = 2; i < COUNT(classes); i++) {
		const struct metrics_label label = { "class", classes[i] };

		metrics_put(metrics, &label, 1, http->answers.n_by_class[i]);
	}
}

static char *http_metrics_print(struct http *http, enum metrics_format format,
                                size_t *ret_bytes)
{
	const struct http_models *models = &http->models;
	const struct model *const *list = (const struct model *const *)models->list;
	struct metrics metrics;

	metrics_init(&metrics, format);
	metrics_add_build(&metrics);
	metrics_add_models(&metrics, list, &http->metrics);
	metrics_add_reloads(&metrics, list);
	if (models->devices->n_gpus > 0) {
		nvml_glance(&models->devices->nvml);
		http_metrics_devices(&metrics, models->devices);
		http_metrics_claims(&metrics, models->devices);
	}
	metrics_put_one(&metrics, METRICS_CONFIG_REFUSED,
	                models->config_error->text[0] != '\0');
	http_metrics_spares(&metrics, *models->spares);
	http_metrics_of_http(&metrics, models->endpoint ? models->endpoint : http);
	if (models->add_metrics)
		models->add_metrics(models->context, &metrics);
	metrics_add_process(&metrics, &http->metrics);
	return metrics_finish(&metrics, ret_bytes);
}

/* The page */

void http_page_unref(struct http_page *page)
{
	if (!page || --page->refs > 0)
		return;
	free(page->text);
	free(page);
}

static struct http_page *http_page_make(struct http *http, enum metrics_format format)
{
	struct http_page *page = calloc(1, sizeof(*page));
	uint64_t began_ns = clock_spent_ns();

	if (!page)
		return NULL;
	page->refs = 1;
	page->text = http_metrics_print(http, format, &page->bytes);
	page->made_ns = clock_now_ns();
	page->took_ns = clock_spent_ns() - began_ns;
	if (page->text)
		return page;
	http_page_unref(page);
	return NULL;
}

const char *http_page_text(const struct http_page *page, size_t *ret_bytes)
{
	*ret_bytes = page->bytes;
	return page->text;
}

struct http_page *http_metrics_page(struct http *http, enum metrics_format format)
{
	struct http_page **page = &http->pages[format];

	if (!*page ||
	    clock_now_ns() - (*page)->made_ns > (*page)->took_ns * HTTP_METRICS_PART) {
		http_page_unref(*page);
		*page = http_page_make(http, format);
	}
	if (*page)
		(*page)->refs++;
	return *page;
}
