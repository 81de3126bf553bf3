/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A receipt as a paragraph, and the decision that a reload would be taken by: numbers under the
 * names that moultd gives them, in groups.
 */

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "supervisor/ctl/print.h"
#include "supervisor/ctl/print_value.h"

static void print_time(FILE *out, const json_t *time_ms)
{
	time_t seconds = (time_t)(json_integer_value(time_ms) / 1000);
	struct tm local;
	char text[PRINT_CELL_MAX];

	if (json_is_integer(time_ms) && localtime_r(&seconds, &local) &&
	    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local) > 0)
		(void)fprintf(out, "%s  ", text);
}

static void print_side(FILE *out, json_t *side)
{
	const json_t *generation = json_object_get(side, "generation");
	const json_t *pid = json_object_get(side, "pid");

	if (!json_is_object(side)) {
		(void)fputs("none", out);
		return;
	}
	(void)fprintf(out, "generation %lld (pid %lld)",
	              (long long)json_integer_value(generation),
	              (long long)json_integer_value(pid));
}

/* "  phases    spawn 3.1 ms, stage 410 ms": every number of @object that is not zero. */
static void print_phases(FILE *out, json_t *object)
{
	const char *join = "  phases    ";
	char text[PRINT_CELL_MAX];
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		if (json_number_value(value) <= 0)
			continue;
		print_duration(text, sizeof(text), json_number_value(value));
		(void)fputs(join, out);
		ctl_print_text(out, key);
		(void)fprintf(out, " %s", text);
		join = ", ";
	}
	if (strcmp(join, ", ") == 0)
		(void)fputc('\n', out);
}

/* "available 7.1 GiB before, 6.6 GiB at the peak, 7.1 GiB after", when it is known. */
static void print_measure(FILE *out, const json_t *memory, const char *key)
{
	static const struct {
		const char *key;
		const char *label;
	} samples[] = { { "before", "before" },
		        { "peak", "at the peak" },
		        { "after", "after" } };
	char text[PRINT_CELL_MAX];
	bool is_known = false;

	/* A candidate that failed has no peak, a first one no before. */
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		const json_t *sample = json_object_get(memory, samples[i].key);
		double bytes = json_number_value(json_object_get(sample, key));

		if (bytes <= 0)
			continue;
		if (!is_known)
			(void)fprintf(out, "  memory    %-11.*s",
			              (int)print_bare_bytes(key), key);
		print_bytes(text, sizeof(text), bytes);
		(void)fprintf(out, "%s %s %s", is_known ? "," : "", text,
		              samples[i].label);
		is_known = true;
	}
	if (is_known)
		(void)fputc('\n', out);
}

static void print_memory(FILE *out, const json_t *memory)
{
	const char *key;
	json_t *value;

	json_object_foreach(json_object_get(memory, "before"), key, value)
		print_measure(out, memory, key);
}

static void print_gpu_time(FILE *out, const char *label, const json_t *ms)
{
	char text[PRINT_CELL_MAX];

	if (!json_is_number(ms))
		return;
	print_duration(text, sizeof(text), json_number_value(ms));
	(void)fprintf(out, "%s%s", label, text);
}

/* "  gpu       cuda:0 in use: 4.0 GiB before, 8.0 GiB at the peak, 4.0 GiB after" and, on a
 * line of its own, what became of the memory of the loader that went. */
static void print_gpu(FILE *out, json_t *gpu)
{
	static const struct {
		const char *key;
		const char *label;
	} rows[] = { { "before_bytes", "before" },
		     { "peak_bytes", "at the peak" },
		     { "after_bytes", "after" } };
	json_t *reclaim = json_object_get(gpu, "reclaim");
	const char *verdict = print_find_text(reclaim, "verdict");
	const char *device = print_find_text(gpu, "device");
	const json_t *xid = json_object_get(reclaim, "xid");
	double prefilled = json_number_value(json_object_get(gpu, "prefilled_bytes"));

	if (!device)
		return;
	(void)fputs("  gpu       ", out);
	ctl_print_text(out, device);
	(void)fputs(" in use:", out);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const json_t *bytes = json_object_get(gpu, rows[i].key);
		char text[PRINT_CELL_MAX] = "unknown";

		if (json_is_number(bytes))
			print_bytes(text, sizeof(text), json_number_value(bytes));
		(void)fprintf(out, "%s %s %s", i ? "," : "", text, rows[i].label);
	}
	if (prefilled > 0) {
		char text[PRINT_CELL_MAX];

		print_bytes(text, sizeof(text), prefilled);
		(void)fprintf(out, "; %s of weights came before the pause", text);
	}
	(void)fputc('\n', out);
	if (!verdict || strcmp(verdict, "none") == 0)
		return;
	print_field(out, "  reclaim   ", reclaim, "verdict");
	print_gpu_time(out, "; reaped after ", json_object_get(reclaim, "reaped_ms"));
	print_gpu_time(out, ", off the driver's list after ",
	               json_object_get(reclaim, "unlisted_ms"));
	print_gpu_time(out, ", bytes back after ", json_object_get(reclaim, "freed_ms"));
	if (json_is_integer(xid))
		(void)fprintf(out, "; the card had Xid %lld",
		              (long long)json_integer_value(xid));
	print_field(out, ": ", reclaim, "residue");
	(void)fputc('\n', out);
}

static void print_orphans(FILE *out, json_t *orphans)
{
	json_int_t n = json_integer_value(json_object_get(orphans, "processes"));
	json_int_t alive = json_integer_value(json_object_get(orphans, "alive"));
	char text[PRINT_CELL_MAX];

	if (n == 0)
		return;
	print_bytes(text, sizeof(text),
	            json_number_value(json_object_get(orphans, "anon_bytes")));
	(void)fprintf(out, "  orphans   %lld left by loaders, with %s, and killed",
	              (long long)n, text);
	if (alive > 0)
		(void)fprintf(out, "; %lld survive that", (long long)alive);
	print_field(out, ": ", orphans, "who");
	(void)fputc('\n', out);
}

static void print_requests(FILE *out, json_t *requests)
{
	const char *join = "  requests  ";
	const char *key;
	json_t *value;

	json_object_foreach(requests, key, value)
	{
		(void)fprintf(out, "%s%lld ", join, (long long)json_integer_value(value));
		ctl_print_text(out, key);
		join = ", ";
	}
	if (strcmp(join, ", ") == 0)
		(void)fputc('\n', out);
}

/* "  memory    need 64 MiB, old 64 MiB": every size of @decision that is known. */
static void print_sizes(FILE *out, const char *label, json_t *decision)
{
	const char *join = label;
	const char *key;
	json_t *value;

	json_object_foreach(decision, key, value)
	{
		char text[PRINT_CELL_MAX];

		if (!json_is_integer(value))
			continue;
		print_bytes(text, sizeof(text), json_number_value(value));
		(void)fprintf(out, "%s%.*s %s", join, (int)print_bare_bytes(key), key,
		              text);
		join = ", ";
	}
	(void)fputc('\n', out);
}

void ctl_print_decision(FILE *out, json_t *answer)
{
	json_t *decision = json_object_get(answer, "decision");
	json_t *gpu = json_object_get(answer, "gpu_decision");

	print_field(out, "", answer, "model");
	print_field(out, ": ", decision, "strategy");
	print_field(out, ": ", decision, "why");
	(void)fputc('\n', out);
	print_sizes(out, "  memory    ", decision);
	if (json_is_object(gpu))
		print_sizes(out, "  gpu       ", gpu);
}

void ctl_print_receipt(FILE *out, json_t *receipt)
{
	json_int_t golden = json_integer_value(json_object_get(receipt, "golden"));
	json_t *phases = json_object_get(receipt, "phases_ms");
	const char *model = print_find_text(receipt, "model");
	const char *outcome = print_find_text(receipt, "outcome");
	char total[PRINT_CELL_MAX];

	print_time(out, json_object_get(receipt, "time_ms"));
	ctl_print_text(out, model ? model : "?");
	(void)fputs(": ", out);
	print_side(out, json_object_get(receipt, "from"));
	(void)fputs(" -> ", out);
	print_side(out, json_object_get(receipt, "to"));
	(void)fputs(": ", out);
	ctl_print_text(out, outcome ? outcome : "?");
	if (json_number_value(json_object_get(phases, "total")) > 0) {
		print_duration(total, sizeof(total),
		               json_number_value(json_object_get(phases, "total")));
		(void)fprintf(out, " after %s", total);
	}
	(void)fputc('\n', out);
	print_field(out, "  cause     ", receipt, "cause");
	print_field(out, ", strategy ", receipt, "strategy");
	print_field(out, ": ", json_object_get(receipt, "decision"), "why");
	(void)fputc('\n', out);
	if (print_find_text(receipt, "reason")) {
		print_field(out, "  reason    ", receipt, "reason");
		(void)fputc('\n', out);
	}
	if (json_is_true(json_object_get(receipt, "spare")))
		(void)fputs("  spare     the loader had been started ahead\n", out);
	if (golden > 0)
		(void)fprintf(out, "  golden    %lld requests answered as expected\n",
		              (long long)golden);
	print_phases(out, phases);
	print_memory(out, json_object_get(receipt, "memory"));
	print_gpu(out, json_object_get(receipt, "gpu"));
	if (print_find_text(receipt, "death")) {
		print_field(out, "  before    ", receipt, "death");
		(void)fputc('\n', out);
	}
	print_orphans(out, json_object_get(receipt, "orphans"));
	print_requests(out, json_object_get(receipt, "requests"));
}
