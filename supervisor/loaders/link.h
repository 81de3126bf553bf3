/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The process of a generation and the channel to it. The process is a spare that was
 * taken, or is started. A spare is untried until it says HELLO, and another loader may
 * replace it until then.
 */

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/chan.h"
#include "shared/err.h"
#include "shared/proto.h"
#include "supervisor/process/child.h"
#include "supervisor/process/recipe.h"

struct generation;
struct spares;

struct generation_link_listener {
	/* A message has come; the descriptors that it takes none of are closed. */
	void (*on_message)(struct generation *generation, struct chan_message *message);
	/* The channel is of no use. */
	void (*on_broken)(struct generation *generation, const char *why);
	/* The process is reaped, and all that it sent has been read. */
	void (*on_exit)(struct generation *generation, int status);
};

struct generation_link {
	const struct generation_link_listener *listener;
	struct child child;
	struct child_listener child_listener;
	struct chan chan;
	ev_io chan_io;
	struct recipe spare; /* by which it was started, if it was a spare */
	char last_line[256]; /* last line of its stderr: often the best reason there is */
	bool has_hint;       /* the log has said what its walls may have refused */
};

void generation_link_init(struct generation *generation,
                          const struct generation_link_listener *listener);
/* Takes a spare of @spares (or NULL), or starts a loader. @newest is the newest section of the
 * model, which says what its spares are; not used without @spares. 0, or -errno with a
 * sentence. */
int generation_link_open(struct generation *generation, struct spares *spares,
                         const struct config_model *newest, struct err *err);
/* True: the loader was a spare and has not said yet that it is this generation's. */
bool generation_link_is_untried(const struct generation *generation);
/* A fault of an untried spare costs the spare its life, and the generation only the time
 * that another loader takes to start. 0, or -errno with a sentence. */
int generation_link_replace(struct generation *generation, const char *why,
                            struct err *err);

/* Reads what has come until now. */
void generation_link_read(struct generation *generation);
/* False: the loader does not read its channel. */
bool generation_link_send(struct generation *generation, enum proto_type type,
                          const char *payload, const int *fds, size_t n_fds);
/* Nothing is read or sent any more. */
void generation_link_close(struct generation *generation);
/* Kills and reaps a process that still lives. */
void generation_link_fini(struct generation *generation);
