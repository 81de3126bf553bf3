/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The commands of the control socket, and the clients and signals that wait for reloads.
 */

#include "supervisor/control/control.h"
#include "supervisor/model/model.h"
#include "supervisor/model/receipt.h"

struct supervisor;
struct commands;

/* The table for control_new(); its context is the struct commands. */
extern const struct control_command commands_table[];

/* Borrows @supervisor. 0 or -ENOMEM. */
int commands_new(struct commands **ret_commands, struct supervisor *supervisor);
/* Ends all waits without an answer. Accepts NULL. */
void commands_free(struct commands *commands);

/* Reloads every model without a client, as SIGHUP asks. */
void commands_reload_all(struct commands *commands, enum model_cause cause);

/* Passes @receipt on to everybody who waits for it. @json, the same as JSON, is
 * borrowed. */
void commands_on_receipt(struct commands *commands, const struct receipt *receipt,
                         json_t *json);
/* Fails every wait for a reload of @model, which is taken out of service. */
void commands_on_removed(struct commands *commands, const char *model);
