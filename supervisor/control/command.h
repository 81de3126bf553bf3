/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Members that a command of the control socket may have: each row names them with their
 * types, and every other member that a client sends is refused by name. A member that
 * is null counts as left out.
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
	/* Runs the command. Must call control_reply(..., last) or control_fail() once,
	 * now or later, unless on_gone comes first. @args is the object that the client
	 * sent, checked against @members, borrowed for the length of this call. */
	void (*handle)(void *context, struct control_call *call, const json_t *args);
	bool is_read_only; /* the log keeps it at level debug */
	struct control_member members[CONTROL_MEMBERS_MAX + 1];
};

/* Finds the row of @table (NULL name: its end) that @args asks for, and checks its
 * members. NULL with the reason in @err. */
const struct control_command *control_command_find(const struct control_command *table,
                                                   const json_t *args, struct err *err);
