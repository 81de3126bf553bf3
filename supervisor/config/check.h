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
int config_check_access_log(const char *text, struct err *err);
int config_check_device(const char *text, struct err *err);
int config_check_socket(const char *text, struct err *err);
