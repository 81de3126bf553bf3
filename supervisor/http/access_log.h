/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The access log: one line for each request that is over, into a file or among moultd's
 * own lines. A process, moult-log, writes the file and gets the lines through a pipe: a
 * disk that hangs stops no request. A line that does not fit into the pipe and a buffer
 * is dropped and counted.
 */

#include <ev.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/gate/peer.h"

#define ACCESS_LOG_OFF    "off"
#define ACCESS_LOG_STDERR "stderr"

struct access_log;

struct access_log_entry {
	struct peer_end end; /* the client's */
	const char *method;
	const char *target;      /* NULL: none could be read */
	const char *model;       /* that the target names; "": none */
	const char *token;       /* the name of the client's; "": none */
	unsigned int status;     /* 0: the client left before there was an answer */
	uint64_t received_bytes; /* of the body */
	uint64_t took_ns;    /* from the request line on to the beginning of the answer */
	uint64_t generation; /* that answered; 0: none */
};

/* Opens the log that @config names; NULL in *ret_access: none. 0 or -errno. */
int access_log_new(struct access_log **ret_access, struct ev_loop *loop,
                   const struct config *config, struct err *err);
/* Gives the writer a second to take what is left. Accepts NULL. */
void access_log_free(struct access_log *access);

/* Adds a line for @entry, without blocking. @access may be NULL. */
void access_log_note(struct access_log *access, const struct access_log_entry *entry);
/* Number of lines that were dropped. */
uint64_t access_log_dropped(const struct access_log *access);
