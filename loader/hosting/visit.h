/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The warm-up of a model that hosts: the loader asks it what its first client would. The
 * request comes from a file, as HTTP has it, with LF or CRLF:
 *
 *	POST /embed HTTP/1.1
 *	Content-Type: application/json
 *
 *	{"sentences": ["first"]}
 *
 * The version may be left out. All behind the empty line is the body.
 *
 * A visit stands between the engine and its host: what the engine takes is the visit's until
 * visit_run() has returned, and the host's from then on. No client asks before.
 */

#include <stdint.h>

#include "loader/engine.h"
#include "loader/load/model_config.h"
#include "shared/err.h"

struct visit;

/* Reads the section's warmup_request; *ret_visit is NULL where it has none. Borrows @host until
 * visit_free(). @quit_fd is readable once the loader is to end: nobody waits for an answer then.
 * 0 or an outcome of enum engine_outcome with a sentence. */
int visit_new(struct visit **ret_visit, const struct engine_host *host,
              const struct model_config *config, int quit_fd, struct err *err);
/* Due after the engine has been closed. Accepts NULL. */
void visit_free(struct visit *visit);

/* What the engine gets instead of the host; good until visit_free(). */
const struct engine_host *visit_lend(const struct visit *visit);

/* Asks @n_runs times. Each answer must have a status below 400. 0, or ENGINE_E_MODEL with a
 * sentence; ENGINE_E_FAILED: the loader is to end, and the request is gone. */
int visit_run(struct visit *visit, uint32_t n_runs, struct err *err);
