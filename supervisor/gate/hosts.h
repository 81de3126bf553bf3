/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Names by which the endpoint lets itself be called. A page in a browser whose name was made to
 * lead here (DNS rebinding) gives itself away by that name; one that has another origin, by
 * that. Pure.
 */

#include <stdbool.h>

#include "shared/proto.h"

/* Whether @host, the value of Host, may be. @list: names and "*.name", separated by commas, or
 * "any"; NULL: names without a dot, and those that end in .localhost. Addresses in numbers and
 * localhost may always be: no such name can be made to lead elsewhere. */
bool hosts_allow(const char *list, struct proto_text host);

/* Whether @origin, the value of Origin, is the one that @host is of, whatever the port; or is on
 * @list, if that is not NULL. */
bool hosts_allow_origin(const char *list, struct proto_text origin,
                        struct proto_text host);
