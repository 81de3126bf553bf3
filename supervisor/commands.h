/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The commands of the control socket, and the clients and signals that wait for reloads.
 */

#include "supervisor/control/control.h"
#include "supervisor/supervisor.h"

struct commands;

/* The table for control_new(); its context is the struct commands. */
extern const struct control_command commands_table[];

/* For supervisor_new(); commands_set_supervisor() is due before any command. 0 or
 * -ENOMEM. */
int commands_new(struct commands **ret_commands);
/* Borrows @supervisor, which may be gone when the commands are freed. */
void commands_set_supervisor(struct commands *commands, struct supervisor *supervisor);
/* Ends all waits without an answer, when nobody serves any more. */
void commands_free(struct commands *commands);

/* Hears the supervisor: receipts reach everybody who waits for them, and a model that is
 * taken out of service fails every wait for it. */
struct supervisor_listener commands_listener(struct commands *commands);
