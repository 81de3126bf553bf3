/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control socket: moultctl's way in. A unix stream socket, mode 0600 plus group;
 * one call per connection: the client sends one line of JSON, {"command":NAME,...}, and
 * reads lines of JSON until the server closes. The last line has "ok": true or false, and
 * "error" when false. Knows calls, not their meaning.
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>

#include "shared/err.h"

struct control;
struct control_call;

struct control_command {
	const char *name;
	/* Must see to it that control_reply(..., last) or control_fail() is called once,
	 * now or later. @args is borrowed for the length of this call. */
	void (*handle)(void *context, struct control_call *call, const json_t *args);
};

/* @commands ends with a NULL name and lives as long as the control. Removes a stale socket
 * of a dead supervisor; refuses when a live one answers there. 0 or -errno. */
int control_new(struct control **ret_control, struct ev_loop *loop, const char *path,
		const struct control_command *commands, void *context, struct err *err);
/* Ends all calls without a reply and removes the socket. */
void control_free(struct control *control);

/* Queues one line. Steals @object. After the @is_last one the call is gone. */
void control_reply(struct control_call *call, json_t *object, bool is_last);
/* Last line {"ok":false,"error":...}. */
void control_fail(struct control_call *call, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* @on_gone is called when the client leaves before the last line; the call is invalid
 * afterwards. NULL: none. */
void control_call_watch(struct control_call *call,
			void (*on_gone)(void *context, struct control_call *call),
			void *context);
