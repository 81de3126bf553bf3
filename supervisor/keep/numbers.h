/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Generation numbers: one counter for all models, which only grows, also from one run to
 * the next. STATE_DIR/generation holds the last number, written before it is used:
 * however this run ends, no later generation is mistaken for one of its own.
 */

#include <stdint.h>

#include "shared/err.h"

struct numbers {
	uint64_t last;
	int fd; /* -1: numbers outlive this run by the receipts alone */
};

#define NUMBERS_NULL                                                                     \
	{                                                                                \
		.fd = -1                                                                 \
	}

/* Goes on after the number in @state_dir, or after @at_least if that is higher. A
 * directory that cannot be written to is logged. 0, or with a sentence -ENOTDIR, or
 * -EBUSY: another process uses the directory. */
int numbers_init(struct numbers *numbers, const char *state_dir, uint64_t at_least,
                 struct err *err);
void numbers_fini(struct numbers *numbers);

/* The next number. It is written before it is returned; a failed write is logged. */
uint64_t numbers_next(struct numbers *numbers);
