/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What moultctl may ask for, and who waits for which reload.
 */

#include "supervisor/control/control.h"
#include "supervisor/model/model.h"
#include "supervisor/model/receipt.h"

struct supervisor;
struct commands;

/* The table for control_new(); its context is the struct commands. */
extern const struct control_command commands_table[];

int commands_new(struct commands **ret_commands, struct supervisor *supervisor);
void commands_free(struct commands *commands);

/* Reloads every model without a client, as SIGHUP asks. */
void commands_reload_all(struct commands *commands, enum model_cause cause);

/* News from a model: answers who waits for it. @json is borrowed. */
void commands_on_receipt(struct commands *commands, const struct receipt *receipt,
                         json_t *json);
/* @model leaves: who waits for a reload of it waits in vain. */
void commands_on_removed(struct commands *commands, const char *model);
