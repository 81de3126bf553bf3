/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Serves the routes of a model: lends struct engine_host (loader/engine.h) to an engine, over a
 * lane.
 *
 * The thread that serves runs host_run(), and nothing else: it takes requests, cancellations and
 * releases from the lane. Threads of the engine take requests and give answers. One lock guards
 * all of it; nobody holds the lock while blocking in poll(2).
 *
 * A request is ended exactly once, or the process ends and the supervisor replays it.
 */

#include <stdint.h>

#include "loader/engine.h"
#include "loader/serve/lane.h"
#include "shared/err.h"

struct host;

/* Borrows @lane until host_free(). 0 or -errno with a sentence. */
int host_new(struct host **ret_host, struct lane *lane, int control_fd, struct err *err);
/* Due after the engine has been closed. Accepts NULL. */
void host_free(struct host *host);

/* What the engine gets; good until host_free(). */
const struct engine_host *host_lend(const struct host *host);

/* Serves until something else must be done: SERVE_E_*, as serve_run(). */
int host_run(struct host *host, struct err *err);

/* No request comes any more: whoever waits in take or answer is told. */
void host_end(struct host *host);
