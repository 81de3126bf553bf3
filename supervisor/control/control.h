/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control socket: moultctl's way in. A unix stream socket of mode 0660 with one
 * call per connection: the client sends one line of JSON, {"command":NAME,...}, and
 * reads lines of JSON until the server closes. The last line has "ok": true or false,
 * and "error" when false. This module knows calls, not their meaning, and logs which
 * process asked.
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>

#include "shared/err.h"
#include "supervisor/control/command.h"

#define CONTROL_CALLS_MAX       16
#define CONTROL_LINE_BYTES_MAX  65536     /* of a command */
#define CONTROL_QUEUE_BYTES_MAX (1 << 20) /* of replies that the client has not read */
#define CONTROL_IDLE_S          10.0      /* for the command, and for the last line */

/* Flags for printing answers, and receipts: 15 digits show a number as it was rounded. */
#define CONTROL_JSON (JSON_COMPACT | JSON_REAL_PRECISION(15))

struct control;
struct control_call;

/* Listens at @path. @commands ends with a NULL name and lives as long as the control.
 * Removes a stale socket of a dead supervisor; refuses when a live one answers there.
 * 0, or -errno with a sentence. */
int control_new(struct control **ret_control, struct ev_loop *loop, const char *path,
                const struct control_command *commands, void *context, struct err *err);
/* Ends all calls without a reply and without on_gone, and removes the socket. */
void control_free(struct control *control);

/* Queues one line, to be sent from the loop. Steals @object; NULL counts as out of
 * memory, which the client is told. The last line gets "ok": true unless it has "ok";
 * after it the call is gone. A client that lets too much pile up is dropped. */
void control_reply(struct control_call *call, json_t *object, bool is_last);
/* Queues {"ok":true} as the last line. */
void control_done(struct control_call *call);
/* Queues {"ok":false,"error":...} as the last line. */
void control_fail(struct control_call *call, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Bytes that may be queued now without losing the client. */
size_t control_call_room(const struct control_call *call);
/* Calls @on_gone, from the loop, when the client leaves before the last line; the call
 * is invalid afterwards. NULL: none. */
void control_call_watch(struct control_call *call,
                        void (*on_gone)(void *context, struct control_call *call),
                        void *context);
