/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Passes requests of the host on to the server, and its answers back: one thread with libcurl's
 * multi interface, which never waits for a client or for the server alone.
 *
 * What the thread knows nothing of is a failure of the loader: a server that has ended, or that
 * takes no connection any more. Its requests stay unanswered then, and moultd asks them again.
 * So is a server that has ceased to be ready (probe.h): what it has is answered first.
 */

#include <stdint.h>

#include "loader/engine.h"
#include "loader/server/place.h"
#include "loader/server/probe.h"
#include "loader/server/process.h"
#include "shared/err.h"

struct server_proxy;

/* Starts the thread, which serves at most @n_transfers requests at once and looks after
 * @process and @watch from now on. @replay lists methods that may be repeated beside the usual
 * ones. 0, or -errno with a sentence. */
int server_proxy_new(struct server_proxy **ret_proxy, const struct engine_host *host,
                     const struct server_place *place, const char *replay,
                     struct server_process *process, const struct server_watch *watch,
                     uint32_t n_transfers, struct err *err);
/* Waits for the end of the thread, which the end of the host brings. Accepts NULL. */
void server_proxy_free(struct server_proxy *proxy);
