/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Checks of single texts in a configuration. Syntax only: whether a file is there or an
 * address can be bound shows when it is used. Each config_check_...() returns 0, or
 * -EINVAL with a sentence that says what is allowed.
 */

#include <stdbool.h>

#include "shared/err.h"

/* True: @text is a name of a model, version, secret or option: 1 to 63 of A-Z a-z 0-9 _
 * . -, and no dot or dash in front. */
bool config_is_name(const char *text);

/* True, with a sentence: @model may be meant as it is, and is more likely a mistake. */
struct config_model;
bool config_model_is_doubtful(const struct config_model *model, struct err *err);

int config_check_name(const char *text, struct err *err);
int config_check_listen(const char *text, struct err *err);
/* The same without "systemd". */
int config_check_own_listen(const char *text, struct err *err);
int config_check_access_log(const char *text, struct err *err);
/* Names of hosts, separated by commas. */
int config_check_hosts(const char *text, struct err *err);
/* Addresses and ADDRESS/BITS, separated by commas. */
int config_check_proxies(const char *text, struct err *err);
int config_check_users(const char *text, struct err *err);
int config_check_device(const char *text, struct err *err);
int config_check_socket(const char *text, struct err *err);
/* Prefixes of paths, separated by commas. */
int config_check_route(const char *text, struct err *err);
/* Absolute paths, separated by commas. */
int config_check_paths(const char *text, struct err *err);
/* Methods of HTTP, separated by commas. */
int config_check_methods(const char *text, struct err *err);
/* "MODULE:NAME". */
int config_check_object(const char *text, struct err *err);
/* The same, or a file of Python. */
int config_check_class(const char *text, struct err *err);
/* A command line, as shared/command.h reads it, with one placeholder. */
int config_check_command(const char *text, struct err *err);
/* "METHOD PATH STATUS", as shared/ready.h reads it. */
int config_check_ready(const char *text, struct err *err);

/* What must hold between the keys of a model, which @label names for people ("[model NAME]"). 0,
 * or -EINVAL with a sentence and, in *ret_key, the key that is at fault; NULL there: one is
 * missing (rules.c). */
int config_rules_check(const struct config_model *model, const char *label,
                       const char **ret_key, struct err *err);
/* Sets what the section of a model whose engine hosts does not say; @has_threads: it says
 * threads. */
void config_complete_hosting(struct config_model *model, bool has_threads);
