/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The loader's end of the control channel (shared/proto.h): JSON messages out, and the one that
 * is waited for in. Functions return CONTROL_GO_ON or the exit code of the process.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/chan.h"
#include "shared/err.h"
#include "shared/proto.h"

/* Go on; no exit code has this number. */
#define CONTROL_GO_ON (-1)

struct control {
	uint64_t generation; /* that messages are about; 0: a spare's, which has none */
	struct chan chan;
	struct chan_message *message; /* the last that came */
};

/* Logs @what and @why. Returns the exit code of an internal fault. */
int control_fail(const char *what, const char *why);
/* Takes @payload; NULL is out of memory. Descriptors stay the caller's. */
int control_send_fds(struct control *control, enum proto_type type, json_t *payload,
                     const int *fds, size_t n_fds);
int control_send(struct control *control, enum proto_type type, json_t *payload);
/* The same, with the memory that this process has now. */
int control_send_memory(struct control *control, enum proto_type type, json_t *payload);
/* Sends REFUSED with the sentence in @err. @outcome is of enum engine_outcome. Returns the exit
 * code that goes with it. */
int control_refuse(struct control *control, int outcome, const struct err *err);
/* Makes JSON of a sentence. An engine may have written one that is not UTF-8. NULL: out of
 * memory. */
json_t *control_text(const struct err *err);
/* Waits for any message, without a deadline: the supervisor keeps the states' deadlines, and its
 * end closes the channel. */
int control_wait(struct control *control);
/* True: a message has come, or the supervisor's end is closed. */
bool control_has_news(const struct control *control);
/* The same, after at most @timeout_ms; -1: no limit. */
bool control_await_news(const struct control *control, int timeout_ms);
/* Waits for @wanted or QUIT; at QUIT the caller ends the loader. */
int control_receive(struct control *control, enum proto_type wanted, bool *ret_is_quit);
