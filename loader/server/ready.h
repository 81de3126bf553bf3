/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/server/place.h"
#include "loader/server/process.h"
#include "shared/err.h"
#include "shared/ready.h"

/* Waits until the server has answered as @ready wants, until @until_ns at most. 0, or an outcome
 * of enum engine_outcome with a sentence that says what happened instead. */
int server_ready_await(struct server_process *process, const struct server_place *place,
                       const struct ready *ready, int quit_fd, uint64_t until_ns,
                       struct err *err);

/* What a question consists of; @place and @ready are borrowed by the call alone. */
struct server_question {
	const struct server_place *place;
	const struct ready *ready;
	long timeout_ms;
	/* Gets the answer's body, as CURLOPT_WRITEFUNCTION says. */
	size_t (*on_body)(char *data, size_t one, size_t bytes, void *context);
	void *context;
	char *curl_why; /* of CURL_ERROR_SIZE, written until the question is cleaned up */
};

/* Makes one, for the caller to clean up; NULL: out of memory. */
CURL *server_ready_question(const struct server_question *question);
/* True: an answer with this status is what @ready wants. */
bool server_ready_is_right(const struct ready *ready, long status);
/* Writes "200" or "200 to 299". */
void server_ready_print_wanted(const struct ready *ready, struct err *ret_text);
