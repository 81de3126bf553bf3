/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Prometheus' text format 0.0.4 and OpenMetrics 1.0, from one table of families: a family
 * that is not in the table cannot be written. Samples have the same names in both
 * formats. Names of counters end in _total, which is a part of the family's name in the
 * text format alone.
 *
 * Writing costs a copy of a few short texts for each sample, without printf().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/figures/histogram.h"

enum metrics_format { METRICS_TEXT, METRICS_OPEN, METRICS_FORMAT_COUNT };

enum metrics_type {
	METRICS_COUNTER,
	METRICS_GAUGE,
	METRICS_HISTOGRAM,
	METRICS_INFO, /* in the text format a gauge that is 1 */
};

enum metrics_id {
#define FAMILY(id, type, name, help) METRICS_##id,
#include "supervisor/metrics/families.h"
#undef FAMILY
	METRICS_ID_COUNT
};

struct metrics_family {
	const char *name; /* without _total and _info */
	enum metrics_type type;
	const char *help;
};

extern const struct metrics_family metrics_families[METRICS_ID_COUNT];

struct metrics_label {
	const char *name;
	const char *value;
};

struct metrics {
	enum metrics_format format;
	const struct metrics_family *family; /* that is being written */
	char *text;                          /* owned */
	size_t used_bytes;
	size_t size_bytes;
	bool is_broken; /* there was no memory */
};

/* Begins a text; metrics_finish() is due. */
void metrics_init(struct metrics *metrics, enum metrics_format format);
/* The text, which the caller owns, and its length; NULL: there was no memory. */
char *metrics_finish(struct metrics *metrics, size_t *ret_bytes);

/* Begins a family; once for each. */
void metrics_begin(struct metrics *metrics, enum metrics_id id);
/* Writes a sample of the family that began last. */
void metrics_put(struct metrics *metrics, const struct metrics_label *labels, size_t n,
                 uint64_t value);
/* Likewise, of nanoseconds that are written as seconds. */
void metrics_put_ns(struct metrics *metrics, const struct metrics_label *labels, size_t n,
                    uint64_t ns);
/* Likewise, all samples of @histogram; @n is 3 at most. */
void metrics_put_histogram(struct metrics *metrics, const struct metrics_label *labels,
                           size_t n, enum histogram_kind kind,
                           const struct histogram *histogram);
/* Writes a family with one sample, without labels. */
void metrics_put_one(struct metrics *metrics, enum metrics_id id, uint64_t value);

/* The format that a request's Accept header (or NULL) asks for. */
enum metrics_format metrics_format_of(const char *accept);
const char *metrics_content_type(enum metrics_format format);
