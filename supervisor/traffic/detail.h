/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is not for everybody in the answers of a loader that failed: paths, and the words of a
 * framework. It goes to the log under a reference, which is all that the client is told.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/proto.h"

#define DETAIL_REF_MAX 48 /* generation and lease */

struct detail {
	bool is_full;      /* clients are told, and nothing is logged */
	uint64_t begun_ns; /* of the present stretch of time */
	unsigned int n_logged;
	uint64_t n_left_out; /* since the last that was logged */
};

/* @answer failed, with this @body of an error as loaders write it. Logs it, unless too many
 * were. */
void detail_note(struct detail *detail, const char *model,
                 const struct proto_answer *answer, const void *body, uint64_t now_ns,
                 char ret_ref[DETAIL_REF_MAX]);
