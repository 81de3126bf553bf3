/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One screen of rates: what each model did between two looks at moultd's counters. Counters that
 * went back are those of another moultd, and rates are not known then. The table is as wide as the
 * reader's lines: only the models' names give way, and all else fits into 80 columns.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "supervisor/ctl/print.h"
#include "supervisor/ctl/print_value.h"

#define TOP_CELL        12
#define TOP_NAME_MIN    8
#define TOP_NAME_MAX    40
#define TOP_FIXED       61 /* columns behind the names */
#define TOP_BAR         20
#define TOP_BUCKETS_MAX 64

struct top_row {
	const json_t *model;
	size_t at; /* its place in the answer */
	bool has_rates;
	double requests; /* a second, that ended */
	double errors;   /* a second */
	double queue;
	double median_ms; /* < 0: not known */
	double slow_ms;   /* likewise: 99 of 100 took no longer */
};

/* Four significant digits at most, and a letter for what is left out. */
static void top_number(char *text, size_t size, double number)
{
	if (number < 9.95)
		(void)snprintf(text, size, "%.1f", number);
	else if (number < 9999.5)
		(void)snprintf(text, size, "%.0f", number);
	else if (number < 999500)
		(void)snprintf(text, size, "%.0fk", number / 1e3);
	else
		(void)snprintf(text, size, "%.1fM", number / 1e6);
}

static void top_time(char *text, size_t size, double ms)
{
	if (ms < 0)
		(void)snprintf(text, size, "-");
	else if (ms < 0.9995)
		(void)snprintf(text, size, "%.0fus", ms * 1e3);
	else if (ms < 9.95)
		(void)snprintf(text, size, "%.1fms", ms);
	else if (ms < 999.5)
		(void)snprintf(text, size, "%.0fms", ms);
	else
		(void)snprintf(text, size, "%.1fs", ms / 1e3);
}

static void top_bytes(char *text, size_t size, double bytes)
{
	static const char units[] = "BKMGT";
	size_t i = 0;

	while (bytes >= 999.5 && units[i + 1]) {
		bytes /= 1024;
		i++;
	}
	(void)snprintf(text, size, i > 0 && bytes < 9.95 ? "%.1f%c" : "%.0f%c", bytes,
	               units[i]);
}

/* The time that @share of the requests took at most, where counts[i] of them took up to
 * bounds[i], and the last of the counts longer; evenly spread between two bounds. Beyond the last
 * bound that bound itself. < 0: there were none. */
static double top_quantile(const double *bounds, const double *counts, size_t n_bounds,
                           double share)
{
	double total = 0;
	double below = 0;
	double rank;

	for (size_t i = 0; i <= n_bounds; i++)
		total += counts[i];
	if (total <= 0)
		return -1;
	rank = total * share;
	for (size_t i = 0; i < n_bounds; i++) {
		double from = i > 0 ? bounds[i - 1] : 0;

		if (counts[i] > 0 && below + counts[i] >= rank)
			return from + (bounds[i] - from) * ((rank - below) / counts[i]);
		below += counts[i];
	}
	return bounds[n_bounds - 1];
}

static void top_latency(struct top_row *row, const json_t *bounds, const json_t *then)
{
	const json_t *now = json_object_get(row->model, "latency_counts");
	size_t n = json_array_size(bounds);
	double bounds_ms[TOP_BUCKETS_MAX];
	double counts[TOP_BUCKETS_MAX + 1];

	row->median_ms = row->slow_ms = -1;
	if (n == 0 || n > TOP_BUCKETS_MAX || json_array_size(now) != n + 1 ||
	    json_array_size(then) != n + 1)
		return;
	for (size_t i = 0; i <= n; i++) {
		if (i < n)
			bounds_ms[i] = json_number_value(json_array_get(bounds, i));
		counts[i] = json_number_value(json_array_get(now, i)) -
		            json_number_value(json_array_get(then, i));
	}
	row->median_ms = top_quantile(bounds_ms, counts, n, 0.5);
	row->slow_ms = top_quantile(bounds_ms, counts, n, 0.99);
}

static double top_ended(const json_t *model)
{
	return print_find_number(model, "requests.answered") +
	       print_find_number(model, "requests.failed");
}

static double top_failed(const json_t *model)
{
	return print_find_number(model, "requests.faults") +
	       print_find_number(model, "requests.failed");
}

static const json_t *top_find(const json_t *answer, const char *name)
{
	const json_t *model;
	size_t i;

	json_array_foreach(json_object_get(answer, "models"), i, model)
	{
		const char *other = json_string_value(json_object_get(model, "name"));

		if (name && other && strcmp(name, other) == 0)
			return model;
	}
	return NULL;
}

/* The look before, if it was at the same moultd. */
static const json_t *top_before(const struct ctl_looks *looks)
{
	return looks->before && looks->seconds > 0 &&
	                       print_find_number(looks->before, "supervisor.pid") ==
	                               print_find_number(looks->answer, "supervisor.pid")
	               ? looks->before
	               : NULL;
}

static void top_measure(struct top_row *row, const struct ctl_looks *looks, size_t at)
{
	const json_t *model =
		json_array_get(json_object_get(looks->answer, "models"), at);
	const char *name = json_string_value(json_object_get(model, "name"));
	const json_t *then = top_find(top_before(looks), name);
	const json_t *supervisor = json_object_get(looks->answer, "supervisor");
	double ended = top_ended(model) - top_ended(then);

	*row = (struct top_row){
		.model = model,
		.at = at,
		.queue = print_find_number(model, "requests.held") +
		         print_find_number(model, "requests.leased"),
	};
	top_latency(row, json_object_get(supervisor, "latency_bounds_ms"),
	            json_object_get(then, "latency_counts"));
	/* A model that was taken out and came back counts anew. */
	if (!then || ended < 0)
		return;
	row->has_rates = true;
	row->requests = ended / looks->seconds;
	row->errors = (top_failed(model) - top_failed(then)) / looks->seconds;
}

/* The busiest first; else as they are configured. */
static int top_compare(const void *a, const void *b)
{
	const struct top_row *left = a;
	const struct top_row *right = b;

	if (left->requests > right->requests || left->requests < right->requests)
		return left->requests > right->requests ? -1 : 1;
	return left->at < right->at ? -1 : left->at > right->at;
}

static void top_rate(FILE *out, int width, bool is_known, double rate)
{
	char text[TOP_CELL] = "-";

	if (is_known)
		top_number(text, sizeof(text), rate);
	(void)fprintf(out, " %*s", width, text);
}

static void top_put_bytes(FILE *out, int width, double bytes)
{
	char text[TOP_CELL];

	top_bytes(text, sizeof(text), bytes);
	(void)fprintf(out, " %*s", width, text);
}

static void top_put_time(FILE *out, int width, double ms)
{
	char text[TOP_CELL];

	top_time(text, sizeof(text), ms);
	(void)fprintf(out, " %*s", width, text);
}

/* Prints the first @width characters of @text, and blanks up to there. */
static void top_cell(FILE *out, const char *text, int width)
{
	char cell[4 * TOP_NAME_MAX + 1];
	int columns = 0;
	size_t bytes = 0;

	for (; text[bytes] && bytes + 1 < sizeof(cell); bytes++) {
		if (((unsigned char)text[bytes] & 0xc0) != 0x80 && columns++ == width)
			break;
		cell[bytes] = text[bytes];
	}
	cell[bytes] = '\0';
	ctl_print_text(out, cell);
	(void)fprintf(out, "%*s", columns < width ? width - columns : 0, "");
}

static void top_print_row(FILE *out, const struct top_row *row, int name_width)
{
	const json_t *model = row->model;
	const char *name = json_string_value(json_object_get(model, "name"));
	const char *state = json_string_value(json_object_get(model, "state"));
	bool is_on_gpu = print_has(model, "memory.gpu");

	top_cell(out, name ? name : "?", name_width);
	(void)fputc(' ', out);
	top_cell(out, state ? state : "?", 10);
	(void)fprintf(out, " %4.0f", print_find_number(model, "generation"));
	top_rate(out, 6, row->has_rates, row->requests);
	(void)fprintf(out, " %5.0f", row->queue);
	top_put_time(out, 6, row->median_ms);
	top_put_time(out, 6, row->slow_ms);
	top_rate(out, 5, row->has_rates, row->errors);
	top_put_bytes(out, 5,
	              print_find_number(model, is_on_gpu ? "memory.gpu_private_bytes"
	                                                 : "memory.private_bytes"));
	top_put_bytes(out, 5,
	              print_find_number(model, is_on_gpu ? "memory.gpu_shared_bytes"
	                                                 : "memory.shared_bytes"));
	(void)fputc('\n', out);
}

/* "main memory [####................] 320.0 MiB of 2.0 GiB" */
static void top_print_use(FILE *out, const char *name, double used, double of,
                          const char *what)
{
	char bytes[TOP_CELL * 2];
	int filled = of > 0 ? (int)(used / of * TOP_BAR + 0.5) : 0;

	top_cell(out, name, 11);
	(void)fputs(" [", out);
	for (int i = 0; i < TOP_BAR; i++)
		(void)fputc(i < filled ? '#' : '.', out);
	print_bytes(bytes, sizeof(bytes), used);
	(void)fprintf(out, "] %s of ", bytes);
	print_bytes(bytes, sizeof(bytes), of);
	(void)fprintf(out, "%s %s\n", bytes, what);
}

/* What loaders hold of a device: of their budget, or else of what there is. */
static void top_print_device(FILE *out, const char *name, const json_t *device)
{
	double used = print_find_number(device, "loaders_bytes");
	double budget = print_find_number(device, "budget_bytes");
	double total = print_find_number(device, "total_bytes");

	if (budget > 0)
		top_print_use(out, name, used, budget, "(budget)");
	else if (total > 0)
		top_print_use(out, name, used, total, "(all there is)");
}

static void top_print_head(FILE *out, const struct ctl_looks *looks,
                           const struct top_row *rows, size_t n)
{
	const json_t *supervisor = json_object_get(looks->answer, "supervisor");
	const json_t *device;
	struct top_row sum = { .has_rates = false };
	size_t i;

	for (i = 0; i < n; i++) {
		sum.has_rates |= rows[i].has_rates;
		sum.requests += rows[i].requests;
		sum.errors += rows[i].errors;
		sum.queue += rows[i].queue;
	}
	(void)fputs(looks->time, out);
	top_rate(out, 0, sum.has_rates, sum.requests);
	(void)fprintf(out, " requests/s, %.0f in queue,", sum.queue);
	top_rate(out, 0, sum.has_rates, sum.errors);
	(void)fputs(" errors/s", out);
	print_form(out, supervisor, "; moultd {version}, up for {uptime_s}\n");
	top_print_device(out, "main memory", json_object_get(supervisor, "memory"));
	json_array_foreach(json_object_get(supervisor, "devices"), i, device)
		top_print_device(out, json_string_value(json_object_get(device, "name")),
	                         device);
}

void ctl_print_top(FILE *out, const struct ctl_looks *looks)
{
	const json_t *models = json_object_get(looks->answer, "models");
	size_t n = json_array_size(models);
	FREE struct top_row *rows = calloc(n + 1, sizeof(*rows));
	int name_width = looks->columns - TOP_FIXED;

	if (!rows)
		return;
	for (size_t i = 0; i < n; i++)
		top_measure(&rows[i], looks, i);
	qsort(rows, n, sizeof(*rows), top_compare);
	if (name_width < TOP_NAME_MIN)
		name_width = TOP_NAME_MIN;
	if (name_width > TOP_NAME_MAX)
		name_width = TOP_NAME_MAX;
	top_print_head(out, looks, rows, n);
	(void)fprintf(out, "\n%-*s %-10s %4s %6s %5s %6s %6s %5s %5s %5s\n", name_width,
	              "MODEL", "STATE", "GEN", "REQ/S", "QUEUE", "P50", "P99", "ERR/S",
	              "PRIV", "SHARE");
	for (size_t i = 0; i < n; i++)
		top_print_row(out, &rows[i], name_width);
}
