/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Some of the requests that the serving generation failed on, kept to be asked again of what
 * served before: see arbiter.c.
 *
 * The copies lie on the heap, 4 MiB at the most. Of all that failed each is kept
 * with the same chance, so that a client who sends many can not decide which.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVIDENCE_CASES 4 /* of a kind */
/* Of one, head and body; larger ones are passed over. */
#define EVIDENCE_BYTES_MAX ((size_t)512 * 1024)

struct request;

struct evidence_case {
	unsigned char *data; /* owned: the head, then the body; NULL: no case */
	size_t head_bytes;
	size_t body_bytes;
	bool was_asked; /* arbiter.c */
};

enum evidence_kind {
	EVIDENCE_FAILED, /* the answer was the model's failure */
	EVIDENCE_ENDED,  /* there was none: it has ended two loaders */
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

/* The body of @request is still in its arena. Accepts a NULL @evidence. */
void evidence_note(struct evidence *evidence, enum evidence_kind kind,
                   const struct request *request);
