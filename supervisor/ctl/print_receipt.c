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

/* "  requests  4 answered, 1 failed", or "  phases    spawn 3.1 ms, stage 410 ms" where the
 * values have the unit of the key @like. */
static void print_pairs(FILE *out, const char *label, json_t *object,
                        bool (*is_shown)(const json_t *value), const char *like)
{
	const char *join = label;
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		if (!is_shown(value))
			continue;
		(void)fputs(join, out);
		if (like) {
			(void)fprintf(out, "%.*s ", (int)print_bare_bytes(key), key);
			print_scalar(out, like, value);
		} else {
			print_scalar(out, key, value);
			(void)fprintf(out, " %s", key);
		}
		join = ", ";
	}
	if (join != label)
		(void)fputc('\n', out);
}

static bool is_positive(const json_t *value)
{
	return json_number_value(value) > 0;
}

static bool is_count(const json_t *value)
{
	return json_is_integer(value);
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

/* "  gpu       cuda:0 in use: 4.0 GiB before, 8.0 GiB at the peak, 4.0 GiB after" and, on a
 * line of its own, what became of the memory of the loader that went. */
static void print_gpu(FILE *out, const json_t *gpu)
{
	const char *verdict =
		json_string_value(json_object_get(json_object_get(gpu, "reclaim"),
	                                          "verdict"));

	if (!print_has(gpu, "device"))
		return;
	print_form(out, gpu,
	           "  gpu       {device} in use: [{before_bytes}|unknown] before, "
	           "[{peak_bytes}|unknown] at the peak, [{after_bytes}|unknown] after");
	if (print_find_number(gpu, "prefilled_bytes") > 0)
		print_form(out, gpu,
		           "; {prefilled_bytes} of weights came before the pause");
	(void)fputc('\n', out);
	if (verdict && *verdict && strcmp(verdict, "none") != 0)
		print_form(out, gpu,
		           "  reclaim   {reclaim.verdict}"
		           "[; reaped after {reclaim.reaped_ms}]"
		           "[, off the driver's list after {reclaim.unlisted_ms}]"
		           "[, bytes back after {reclaim.freed_ms}]"
		           "[; the card had Xid {reclaim.xid}][: {reclaim.residue}]\n");
}

static void print_orphans(FILE *out, const json_t *orphans)
{
	if (print_find_number(orphans, "processes") <= 0)
		return;
	print_form(
		out, orphans,
		"  orphans   {processes} left by loaders, with {anon_bytes}, and killed");
	if (print_find_number(orphans, "alive") > 0)
		print_form(out, orphans, "; {alive} survive that");
	print_form(out, orphans, "[: {who}]\n");
}

void ctl_print_decision(FILE *out, json_t *answer)
{
	print_form(out, answer, "{model}: {decision.strategy}[: {decision.why}]\n");
	print_pairs(out, "  memory    ", json_object_get(answer, "decision"), is_count,
	            "need_bytes");
	print_pairs(out, "  gpu       ", json_object_get(answer, "gpu_decision"),
	            is_count, "need_bytes");
}

void ctl_print_receipt(FILE *out, json_t *receipt)
{
	print_time(out, json_object_get(receipt, "time_ms"));
	print_form(out, receipt,
	           "{model}: [generation {from.generation} (pid {from.pid})|none] -> "
	           "[generation {to.generation} (pid {to.pid})|none]: {outcome}");
	if (print_find_number(receipt, "phases_ms.total") > 0)
		print_form(out, receipt, " after {phases_ms.total}");
	print_form(out, receipt,
	           "\n[  cause     {cause}][, strategy {strategy}][: {decision.why}]\n"
	           "[  limit     {recycle}\n]"
	           "[  reason    {reason}\n]");
	if (json_is_true(json_object_get(receipt, "spare")))
		(void)fputs("  spare     the loader had been started ahead\n", out);
	if (print_find_number(receipt, "golden") > 0)
		print_form(out, receipt,
		           "  golden    {golden} requests answered as expected\n");
	print_pairs(out, "  phases    ", json_object_get(receipt, "phases_ms"),
	            is_positive, "phases_ms");
	print_memory(out, json_object_get(receipt, "memory"));
	print_gpu(out, json_object_get(receipt, "gpu"));
	print_form(out, receipt, "[  before    {death}\n]");
	print_orphans(out, json_object_get(receipt, "orphans"));
	print_pairs(out, "  requests  ", json_object_get(receipt, "requests"), is_count,
	            NULL);
}
