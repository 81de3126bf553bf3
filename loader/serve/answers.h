/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Answers into the response arena: the outputs of a computed request, or a sentence.
 *
 * Room for an answer is waited for without a deadline: a slow client is the supervisor's
 * business. Functions return 0, SERVE_E_CONTROL, or SERVE_E_VIOLATION with a sentence.
 */

#include <stdint.h>

#include "loader/serve/compute.h"
#include "loader/serve/decoder.h"
#include "loader/serve/lane.h"
#include "shared/err.h"

/* The way out; both are borrowed. */
struct answers {
	struct lane *lane;
	int control_fd; /* ends the waiting for room */
};

/* Answers with an error that the request or the clock is to blame for. */
int answers_error(const struct answers *answers, uint64_t lease, int status,
                  const char *text, struct err *err);
/* Answers with an error that the model is to blame for. */
int answers_fault(const struct answers *answers, uint64_t lease, const char *text,
                  struct err *err);
/* Cuts the outputs of @member, number @index of the batch, out of it and answers it. */
int answers_outputs(const struct answers *answers, struct compute *compute,
                    struct decoder_request *member, uint32_t index, struct err *err);
