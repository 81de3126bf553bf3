/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What stands between clients and the endpoint, as [supervisor] has it. */

#include <ev.h>
#include <stddef.h>

#include "shared/err.h"
#include "supervisor/config/config.h"

struct clients;
struct tls;
struct tokens;
struct watch;

struct gate {
	struct tls *tls;       /* NULL: plain HTTP */
	struct tokens *tokens; /* NULL: nobody is asked for one */
	struct clients *clients;
};

/* Says what of that is of no use now. Returns how many things are. */
size_t gate_check(const struct config *config,
                  void (*say)(void *context, const char *why), void *context);

/* Reads it; gate_close() is due, also after a failure. 0 or -errno with a sentence. */
int gate_open(struct gate *gate, struct ev_loop *loop, const struct config *config,
              struct err *err);
/* Has it watched. 0 or -errno. */
int gate_watch(struct gate *gate, struct watch *watch);
/* The same without TLS; ends with @gate. */
struct gate gate_in_the_clear(const struct gate *gate);
/* Due when no connection is left. */
void gate_close(struct gate *gate);
