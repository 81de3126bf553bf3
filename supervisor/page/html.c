/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The template has marks, "<!--NAME-->", and a row of html_marks says what stands in the place of
 * each. The page's script draws the same tables again from the same JSON, so cells here and there
 * are alike.
 */

#include "supervisor/page/html.h"

#include <nettle/base64.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "supervisor/page/template.h"

#define HTML_CELL 96
#define HTML_HASH (BASE64_ENCODE_RAW_LENGTH(SHA256_DIGEST_SIZE) + 1)

struct html {
	FILE *out;
	const json_t *status; /* NULL: nothing may be shown */
	const json_t *receipts;
};

static void html_text(FILE *out, const char *text)
{
	for (; text && *text; text++)
		switch (*text) {
		case '&':
			(void)fputs("&amp;", out);
			break;
		case '<':
			(void)fputs("&lt;", out);
			break;
		case '>':
			(void)fputs("&gt;", out);
			break;
		case '"':
			(void)fputs("&quot;", out);
			break;
		case '\'':
			(void)fputs("&#39;", out);
			break;
		default:
			(void)fputc(*text, out);
		}
}

/* Values */

static const char *html_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static double html_number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static void html_bytes(char *text, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t i = 0;

	while (bytes >= 1024 && i + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		i++;
	}
	(void)snprintf(text, HTML_CELL, i < 2 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
}

static void html_duration(char *text, double ms)
{
	if (ms < 1000)
		(void)snprintf(text, HTML_CELL, ms < 10 ? "%.1f ms" : "%.0f ms", ms);
	else if (ms < 120e3)
		(void)snprintf(text, HTML_CELL, "%.1f s", ms / 1e3);
	else if (ms < 7200e3)
		(void)snprintf(text, HTML_CELL, "%.0f min", ms / 60e3);
	else if (ms < 48 * 3600e3)
		(void)snprintf(text, HTML_CELL, "%.0f h", ms / 3600e3);
	else
		(void)snprintf(text, HTML_CELL, "%.0f days", ms / 86400e3);
}

/* Cells */

static void html_cell(FILE *out, const char *label, const char *text)
{
	(void)fprintf(out, "<td role=\"cell\" data-label=\"%s\">", label);
	html_text(out, text);
	(void)fputs("</td>", out);
}

static void html_cell_count(FILE *out, const char *label, double count)
{
	char text[HTML_CELL];

	(void)snprintf(text, sizeof(text), "%.0f", count);
	html_cell(out, label, text);
}

static void html_cell_bytes(FILE *out, const char *label, double bytes)
{
	char text[HTML_CELL];

	html_bytes(text, bytes);
	html_cell(out, label, text);
}

static void html_cell_duration(FILE *out, const char *label, double ms)
{
	char text[HTML_CELL] = "\xe2\x80\x93";

	if (ms > 0)
		html_duration(text, ms);
	html_cell(out, label, text);
}

static void html_head_cell(FILE *out, const char *text)
{
	(void)fputs("<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">", out);
	html_text(out, text);
	(void)fputs("</th>", out);
}

/* Parts */

static void html_hide_if_closed(const struct html *html)
{
	(void)fputs(html->status ? "" : "hidden", html->out);
}

static void html_summary(const struct html *html)
{
	const json_t *model;
	size_t n_ready = 0;
	size_t i;

	if (!html->status)
		return;
	json_array_foreach(json_object_get(html->status, "models"), i, model) n_ready +=
		strcmp(html_string(model, "state"), "ready") == 0;
	(void)fprintf(html->out, "%zu of %zu models ready, moultd ", n_ready,
	              json_array_size(json_object_get(html->status, "models")));
	html_text(html->out, html_string(html->status, "version"));
}

static void html_trouble(FILE *out, const char *name, const char *text)
{
	(void)fputs("<li><strong>", out);
	html_text(out, name);
	(void)fputs("</strong>: ", out);
	html_text(out, text);
	(void)fputs("</li>\n", out);
}

static void html_troubles(const struct html *html)
{
	const json_t *model;
	size_t i;

	if (json_is_true(json_object_get(html->status, "config_refused")))
		html_trouble(html->out, "configuration",
		             "refused, the last good one is in use");
	json_array_foreach(json_object_get(html->status, "models"), i, model)
	{
		const char *name = html_string(model, "name");
		const char *trouble = html_string(model, "trouble");

		if (*trouble)
			html_trouble(html->out, name, trouble);
		else if (json_is_true(json_object_get(model, "is_stale")))
			html_trouble(html->out, name, "what is on disk does not serve");
	}
}

/* "ready", or "loading: read, 40 %" */
static void html_state(FILE *out, const json_t *model)
{
	const json_t *load = json_object_get(model, "load");
	const json_t *percent = json_object_get(load, "percent");
	char text[HTML_CELL];

	(void)snprintf(text, sizeof(text), "%s%s%s", html_string(model, "state"),
	               json_is_object(load) ? ": " : "", html_string(load, "phase"));
	(void)fprintf(out, "<td role=\"cell\" data-label=\"State\" class=\"state %s\">",
	              strcmp(html_string(model, "state"), "ready") == 0 ? "ready"
	                                                                : "unready");
	html_text(out, text);
	if (json_is_integer(percent))
		(void)fprintf(out, ", %lld %%", (long long)json_integer_value(percent));
	(void)fputs("</td>", out);
}

static void html_models(const struct html *html)
{
	FILE *out = html->out;
	const json_t *model;
	size_t i;

	json_array_foreach(json_object_get(html->status, "models"), i, model)
	{
		const json_t *requests = json_object_get(model, "requests");

		html_head_cell(out, html_string(model, "name"));
		html_state(out, model);
		html_cell_count(out, "Generation", html_number(model, "generation"));
		html_cell_duration(out, "Since", html_number(model, "since_ms"));
		html_cell_count(out, "Answered", html_number(requests, "answered"));
		html_cell_count(out, "Errors",
		                html_number(requests, "faults") +
		                        html_number(requests, "failed"));
		html_cell_count(out, "In queue",
		                html_number(requests, "held") +
		                        html_number(requests, "leased"));
		html_cell(out, "Half within", "\xe2\x80\x93");
		html_cell(out, "99 % within", "\xe2\x80\x93");
		(void)fputs("</tr>\n", out);
	}
}

/* "24.0 MiB", or "24.0 MiB, those of digits" */
static void html_shared(FILE *out, const json_t *model, double bytes)
{
	const char *other = html_string(model, "shares_with");
	char text[HTML_CELL];

	html_bytes(text, bytes);
	(void)fprintf(out, "<td role=\"cell\" data-label=\"Shared\">%s%s", text,
	              *other ? ", those of " : "");
	html_text(out, other);
	(void)fputs("</td>", out);
}

static void html_memory(const struct html *html)
{
	const json_t *room = json_object_get(html->status, "memory");
	const json_t *budget = json_object_get(room, "budget_bytes");
	char text[HTML_CELL];
	FILE *out = html->out;
	const json_t *model;
	size_t i;

	json_array_foreach(json_object_get(html->status, "models"), i, model)
	{
		const json_t *memory = json_object_get(model, "memory");

		html_head_cell(out, html_string(model, "name"));
		html_cell_bytes(out, "Private", html_number(memory, "private_bytes"));
		html_shared(out, model, html_number(memory, "shared_bytes"));
		html_cell(out, "GPU", html_string(memory, "gpu"));
		html_cell_bytes(out, "GPU private",
		                html_number(memory, "gpu_private_bytes"));
		html_cell_bytes(out, "GPU shared",
		                html_number(memory, "gpu_shared_bytes"));
		(void)fputs("</tr>\n", out);
	}
	if (!html->status)
		return;
	html_head_cell(out, "all loaders");
	html_bytes(text, html_number(room, "loaders_bytes"));
	(void)fprintf(out, "<td role=\"cell\" data-label=\"Held\" colspan=\"5\">%s",
	              text);
	html_bytes(text, json_number_value(budget));
	if (json_is_integer(budget))
		(void)fprintf(out, " of a budget of %s</td></tr>\n", text);
	else
		(void)fputs(", no budget</td></tr>\n", out);
}

static void html_time(FILE *out, double time_ms)
{
	time_t seconds = (time_t)(time_ms / 1e3);
	struct tm parts;
	char text[HTML_CELL] = "";

	if (gmtime_r(&seconds, &parts))
		(void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &parts);
	html_cell(out, "At", text);
}

/* "spawn 12 ms, stage 3.2 s": phases that were reached, and no part of another one. */
static void html_phases(FILE *out, const json_t *receipt)
{
	static const char *const names[] = { "spawn", "stage", "commit", "warmup",
		                             "swap",  "drain", "stop",   "reclaim" };
	const json_t *phases = json_object_get(receipt, "phases_ms");
	char text[HTML_CELL];
	bool is_first = true;

	(void)fputs("<td role=\"cell\" data-label=\"Phases\">", out);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		double ms = html_number(phases, names[i]);

		if (ms <= 0)
			continue;
		html_duration(text, ms);
		(void)fprintf(out, "%s%s %s", is_first ? "" : ", ", names[i], text);
		is_first = false;
	}
	(void)fputs("</td>", out);
}

/* The newest first. */
static void html_receipts(const struct html *html)
{
	FILE *out = html->out;

	for (size_t i = json_array_size(html->receipts); i-- > 0;) {
		const json_t *receipt = json_array_get(html->receipts, i);
		const json_t *phases = json_object_get(receipt, "phases_ms");
		char text[HTML_CELL];

		html_head_cell(out, html_string(receipt, "model"));
		html_time(out, html_number(receipt, "time_ms"));
		(void)snprintf(text, sizeof(text), "%.0f \xe2\x86\x92 %.0f",
		               html_number(json_object_get(receipt, "from"),
		                           "generation"),
		               html_number(json_object_get(receipt, "to"), "generation"));
		html_cell(out, "Generations", text);
		html_cell(out, "Cause", html_string(receipt, "cause"));
		html_cell(out, "Outcome", html_string(receipt, "outcome"));
		html_cell(out, "Strategy", html_string(receipt, "strategy"));
		html_cell_duration(out, "Total", html_number(phases, "total"));
		html_cell_duration(out, "Pause", html_number(phases, "pause"));
		html_phases(out, receipt);
		(void)fputs("</tr>\n", out);
	}
}

/* The page */

static const struct html_mark {
	const char *name;
	void (*fill)(const struct html *html);
} html_marks[] = {
	{ "<!--HIDDEN-->", html_hide_if_closed }, { "<!--SUMMARY-->", html_summary },
	{ "<!--TROUBLES-->", html_troubles },     { "<!--MODELS-->", html_models },
	{ "<!--MEMORY-->", html_memory },         { "<!--RECEIPTS-->", html_receipts },
};

/* The mark that @text begins with, or NULL. */
static const struct html_mark *html_mark_at(const char *text)
{
	for (size_t i = 0; i < sizeof(html_marks) / sizeof(html_marks[0]); i++)
		if (strncmp(text, html_marks[i].name, strlen(html_marks[i].name)) == 0)
			return &html_marks[i];
	return NULL;
}

char *html_page(const json_t *status, const json_t *receipts)
{
	struct html html = { .status = status, .receipts = receipts };
	const char *text = (const char *)html_template;
	char *page = NULL;
	size_t bytes;

	html.out = open_memstream(&page, &bytes);
	if (!html.out)
		return NULL;
	while (*text) {
		const char *next = strstr(text, "<!--");
		size_t plain = next ? (size_t)(next - text) : strlen(text);
		const struct html_mark *mark = next ? html_mark_at(next) : NULL;

		/* A comment that is no mark is text. */
		if (next && !mark)
			plain += strlen("<!--");
		(void)fwrite(text, 1, plain, html.out);
		text += plain;
		if (mark) {
			mark->fill(&html);
			text += strlen(mark->name);
		}
	}
	if (fclose(html.out) == 0)
		return page;
	free(page);
	return NULL;
}

/* Prints the hash of what stands between @open and @close, as a policy has it. */
static void html_hash(char text[HTML_HASH], const char *open, const char *close)
{
	const char *page = (const char *)html_template;
	const char *from = strstr(page, open) + strlen(open);
	struct sha256_ctx sha256;
	uint8_t digest[SHA256_DIGEST_SIZE];

	sha256_init(&sha256);
	sha256_update(&sha256, (size_t)(strstr(from, close) - from),
	              (const uint8_t *)from);
	sha256_digest(&sha256, sizeof(digest), digest);
	base64_encode_raw(text, sizeof(digest), digest);
	text[HTML_HASH - 1] = '\0';
}

void html_policy(char policy[HTML_POLICY_MAX])
{
	char style[HTML_HASH];
	char script[HTML_HASH];

	html_hash(style, "<style>", "</style>");
	html_hash(script, "<script>", "</script>");
	(void)snprintf(policy, HTML_POLICY_MAX,
	               "default-src 'none'; style-src 'sha256-%s'; script-src "
	               "'sha256-%s'; connect-src 'self'; base-uri 'none'; form-action "
	               "'none'; frame-ancestors 'none'",
	               style, script);
}
