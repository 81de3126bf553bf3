/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The text is one buffer that grows. metrics_reserve() makes room for a whole sample,
 * behind which the small writers need not check anything. Without memory the text is
 * broken: all later calls do nothing, and metrics_finish() says so. The end of the file
 * chooses the format by the header Accept (RFC 9110 12.5.1).
 */

#include "supervisor/metrics/metrics.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define METRICS_FIRST_BYTES ((size_t)32 * 1024)
/* Bytes of a sample beside its name and labels: a suffix, punctuation, a number. */
#define METRICS_NUMBER_BYTES ((size_t)96)
#define METRICS_OPEN_TYPE    "application/openmetrics-text"
#define METRICS_NS_DIGITS    9

const struct metrics_family metrics_families[METRICS_ID_COUNT] = {
#define FAMILY(id, type, name, help) [METRICS_##id] = { name, METRICS_##type, help },
#include "supervisor/metrics/families.h"
#undef FAMILY
};

void metrics_init(struct metrics *metrics, enum metrics_format format)
{
	*metrics = (struct metrics){ .format = format };
}

/* Makes room for @bytes more. False, and false from then on: no memory. */
static bool metrics_reserve(struct metrics *metrics, size_t bytes)
{
	size_t size = metrics->size_bytes ? metrics->size_bytes : METRICS_FIRST_BYTES;
	char *text;

	if (metrics->is_broken)
		return false;
	if (bytes <= metrics->size_bytes - metrics->used_bytes)
		return true;
	while (size - metrics->used_bytes < bytes)
		size *= 2;
	text = realloc(metrics->text, size);
	metrics->is_broken = !text;
	if (!text)
		return false;
	metrics->text = text;
	metrics->size_bytes = size;
	return true;
}

/* Writers, which are called where there is room. */

static void metrics_char(struct metrics *metrics, char c)
{
	metrics->text[metrics->used_bytes++] = c;
}

static void metrics_text(struct metrics *metrics, const char *text)
{
	size_t bytes = strlen(text);

	memcpy(metrics->text + metrics->used_bytes, text, bytes);
	metrics->used_bytes += bytes;
}

static void metrics_escape(struct metrics *metrics, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"' || *text == '\n')
			metrics_char(metrics, '\\');
		metrics_char(metrics, *text == '\n' ? 'n' : *text);
	}
}

/* Writes at least @min_digits digits. */
static void metrics_number(struct metrics *metrics, uint64_t value,
                           unsigned int min_digits)
{
	char digits[24];
	unsigned int n = 0;

	do {
		digits[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0 || n < min_digits);
	while (n > 0)
		metrics_char(metrics, digits[--n]);
}

static void metrics_seconds(struct metrics *metrics, uint64_t ns)
{
	metrics_number(metrics, ns / UINT64_C(1000000000), 1);
	metrics_char(metrics, '.');
	metrics_number(metrics, ns % UINT64_C(1000000000), METRICS_NS_DIGITS);
	while (metrics->text[metrics->used_bytes - 1] == '0' &&
	       metrics->text[metrics->used_bytes - 2] != '.')
		metrics->used_bytes--;
}

char *metrics_finish(struct metrics *metrics, size_t *ret_bytes)
{
	if (metrics_reserve(metrics, METRICS_NUMBER_BYTES) &&
	    metrics->format == METRICS_OPEN)
		metrics_text(metrics, "# EOF\n");
	if (metrics->is_broken) {
		free(metrics->text);
		return NULL;
	}
	*ret_bytes = metrics->used_bytes;
	return metrics->text;
}

/* The suffix that all samples of the family have. */
static const char *metrics_suffix(const struct metrics_family *family)
{
	return family->type == METRICS_COUNTER ? "_total"
	       : family->type == METRICS_INFO  ? "_info"
	                                       : "";
}

static const char *metrics_type_name(const struct metrics *metrics)
{
	switch (metrics->family->type) {
	case METRICS_COUNTER:
		return "counter";
	case METRICS_HISTOGRAM:
		return "histogram";
	case METRICS_INFO:
		return metrics->format == METRICS_OPEN ? "info" : "gauge";
	case METRICS_GAUGE:
		break;
	}
	return "gauge";
}

static void metrics_head(struct metrics *metrics, const char *kind, const char *text)
{
	metrics_text(metrics, kind);
	metrics_text(metrics, metrics->family->name);
	if (metrics->format == METRICS_TEXT)
		metrics_text(metrics, metrics_suffix(metrics->family));
	metrics_char(metrics, ' ');
	metrics_text(metrics, text);
	metrics_char(metrics, '\n');
}

void metrics_begin(struct metrics *metrics, enum metrics_id id)
{
	const struct metrics_family *family = &metrics_families[id];

	metrics->family = family;
	if (!metrics_reserve(metrics, 2 * strlen(family->name) + strlen(family->help) +
	                                      METRICS_NUMBER_BYTES))
		return;
	metrics_head(metrics, "# HELP ", family->help);
	metrics_head(metrics, "# TYPE ", metrics_type_name(metrics));
}

/* Writes a sample up to its number, for which there is room then. False: no memory. */
static bool metrics_sample(struct metrics *metrics, const char *suffix,
                           const struct metrics_label *labels, size_t n)
{
	size_t bytes = strlen(metrics->family->name) + METRICS_NUMBER_BYTES;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(labels[i].name) + 2 * strlen(labels[i].value) + 4;
	if (!metrics_reserve(metrics, bytes))
		return false;
	metrics_text(metrics, metrics->family->name);
	metrics_text(metrics, suffix);
	for (size_t i = 0; i < n; i++) {
		metrics_char(metrics, i == 0 ? '{' : ',');
		metrics_text(metrics, labels[i].name);
		metrics_text(metrics, "=\"");
		metrics_escape(metrics, labels[i].value);
		metrics_char(metrics, '"');
	}
	metrics_text(metrics, n > 0 ? "} " : " ");
	return true;
}

void metrics_put(struct metrics *metrics, const struct metrics_label *labels, size_t n,
                 uint64_t value)
{
	if (!metrics_sample(metrics, metrics_suffix(metrics->family), labels, n))
		return;
	metrics_number(metrics, value, 1);
	metrics_char(metrics, '\n');
}

void metrics_put_ns(struct metrics *metrics, const struct metrics_label *labels, size_t n,
                    uint64_t ns)
{
	if (!metrics_sample(metrics, metrics_suffix(metrics->family), labels, n))
		return;
	metrics_seconds(metrics, ns);
	metrics_char(metrics, '\n');
}

void metrics_put_histogram(struct metrics *metrics, const struct metrics_label *labels,
                           size_t n, enum histogram_kind kind,
                           const struct histogram *histogram)
{
	struct metrics_label all[4];
	uint64_t below = 0;

	assert(metrics->family->type == METRICS_HISTOGRAM && n < 4);
	if (n > 0)
		memcpy(all, labels, n * sizeof(*labels));
	for (unsigned int i = 0; i <= histogram_buckets(kind); i++) {
		bool is_last = i == histogram_buckets(kind);

		below += is_last ? 0 : histogram->counts[i];
		all[n] = (struct metrics_label){
			"le", is_last ? "+Inf" : histogram_bound_text(kind, i)
		};
		if (!metrics_sample(metrics, "_bucket", all, n + 1))
			return;
		metrics_number(metrics, is_last ? histogram->count : below, 1);
		metrics_char(metrics, '\n');
	}
	if (!metrics_sample(metrics, "_sum", labels, n))
		return;
	if (kind == HISTOGRAM_NS)
		metrics_seconds(metrics, histogram->sum);
	else
		metrics_number(metrics, histogram->sum, 1);
	metrics_char(metrics, '\n');
	if (!metrics_sample(metrics, "_count", labels, n))
		return;
	metrics_number(metrics, histogram->count, 1);
	metrics_char(metrics, '\n');
}

void metrics_put_one(struct metrics *metrics, enum metrics_id id, uint64_t value)
{
	metrics_begin(metrics, id);
	metrics_put(metrics, NULL, 0, value);
}

/* Accept */

/* The weight of one element of the header in thousandths. */
static unsigned int metrics_weight(const char *element, size_t bytes)
{
	for (size_t i = 0; i + 2 < bytes; i++)
		if (element[i] == ';') {
			size_t at = i + 1;

			while (at + 2 < bytes && isspace((unsigned char)element[at]))
				at++;
			if (tolower((unsigned char)element[at]) == 'q' &&
			    element[at + 1] == '=') {
				double q = strtod(element + at + 2, NULL);

				return q >= 0 && q <= 1 ? (unsigned int)(q * 1000) : 0;
			}
		}
	return 1000;
}

/* Whether the range that @element starts with is @type. */
static bool metrics_accepts(const char *element, size_t bytes, const char *type)
{
	size_t length = strlen(type);

	return bytes >= length && strncasecmp(element, type, length) == 0 &&
	       (bytes == length || strchr("; \t", element[length]));
}

enum metrics_format metrics_format_of(const char *accept)
{
	unsigned int open = 0;
	unsigned int text = 0;

	while (accept && *accept) {
		const char *element = accept + strspn(accept, ", \t");
		size_t bytes = strcspn(element, ",");
		unsigned int weight = metrics_weight(element, bytes);

		if (metrics_accepts(element, bytes, METRICS_OPEN_TYPE)) {
			if (weight > open)
				open = weight;
		} else if (metrics_accepts(element, bytes, "text/plain") &&
		           weight > text) {
			text = weight;
		}
		accept = element + bytes;
	}
	return open > 0 && open >= text ? METRICS_OPEN : METRICS_TEXT;
}

const char *metrics_content_type(enum metrics_format format)
{
	return format == METRICS_OPEN ? METRICS_OPEN_TYPE "; version=1.0.0; charset=utf-8"
	                              : "text/plain; version=0.0.4; charset=utf-8";
}
