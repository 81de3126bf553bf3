/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Some of the requests that the serving generation failed on. model/arbiter.c asks them
 * again of what served before.
 *
 * The copies lie on the heap, 4 MiB at the most. Each failed request is kept with the
 * same chance, so that a client that sends many cannot decide which are.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVIDENCE_CASES 4 /* of each kind */
/* Head and body of one case; larger ones are passed over. */
#define EVIDENCE_BYTES_MAX ((size_t)512 * 1024)

struct request;

struct evidence_case {
	unsigned char *data; /* owned: the head, then the body; NULL: no case */
	size_t head_bytes;
	size_t body_bytes;
	bool was_asked; /* set by model/arbiter.c */
};

enum evidence_kind {
	EVIDENCE_FAILED, /* the answer was the model's failure */
	EVIDENCE_ENDED,  /* no answer: the request has ended two loaders */
	EVIDENCE_KIND_COUNT
};

struct evidence {
	struct evidence_set {
		struct evidence_case cases[EVIDENCE_CASES];
		uint64_t n_seen;
	} sets[EVIDENCE_KIND_COUNT];
};

/* NULL without memory. */
struct evidence *evidence_new(void);
void evidence_free(struct evidence *evidence); /* accepts NULL */

/* May keep a copy of @request, whose body must still be in its arena. Accepts a NULL
 * @evidence. */
void evidence_note(struct evidence *evidence, enum evidence_kind kind,
                   const struct request *request);
