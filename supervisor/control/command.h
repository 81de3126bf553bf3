/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a command of the control socket may carry: each row names its members and their
 * types, and whatever else a client sends is refused by name. A member that is null counts
 * as left out.
 */

#include <jansson.h>
#include <stdbool.h>

#include "shared/err.h"

#define CONTROL_MEMBERS_MAX 4

struct control_call;

enum control_type {
	CONTROL_TYPE_TEXT,
	CONTROL_TYPE_NATURAL, /* a whole number, at least 1 */
	CONTROL_TYPE_BOOL,
};

struct control_member {
	const char *name; /* NULL ends the list */
	enum control_type type;
};

struct control_command {
	const char *name;
	/* Must see to it that control_reply(..., last) or control_fail() is called once,
	 * now or later, unless on_gone comes first. @args is the object that the client
	 * sent, checked against @members, borrowed for the length of this call. */
	void (*handle)(void *context, struct control_call *call, const json_t *args);
	bool is_read_only; /* who asked is then of no interest to the log */
	struct control_member members[CONTROL_MEMBERS_MAX + 1];
};

/* The row of @table (NULL name: its end) that @args asks for, whose members it keeps to.
 * NULL with the reason in @err. */
const struct control_command *control_command_find(const struct control_command *table,
                                                   const json_t *args, struct err *err);
