/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The part of a failed loader's answer that is not for everybody: paths, and the words of
 * a framework. The log gets it under a reference, and the client is told the reference
 * alone.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/proto.h"

#define DETAIL_REF_MAX 48 /* generation and lease */

struct detail {
	bool is_full;      /* the client is told all, and nothing is logged */
	uint64_t begun_ns; /* start of the present interval */
	unsigned int n_logged;
	uint64_t n_left_out; /* not logged since the last line */
};

/* True: clients are told all from now on. */
void detail_set_full(struct detail *detail, bool is_full);
/* Logs the failure of @answer, unless too many were logged lately. @body is an error as
 * loaders write it, of answer->body_bytes. @ret_ref gets the reference in any case. */
void detail_note(struct detail *detail, const char *model,
                 const struct proto_answer *answer, const void *body, uint64_t now_ns,
                 char ret_ref[DETAIL_REF_MAX]);
