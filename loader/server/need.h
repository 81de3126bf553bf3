/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a command takes of the machine's files.
 */

#include "loader/engine.h"
#include "shared/command.h"

/* Lets the walls have the program of @command, what runs it, and the files that it names. What is
 * not there is left out. */
void server_need_program(const struct command *command, struct engine_walls *walls);
