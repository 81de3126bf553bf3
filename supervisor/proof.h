/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The proof of a configuration, for `moultd -t --load`: every model is built as a start
 * would build it, in a loader, up to its warm-up and golden requests, and ended again.
 *
 * A proof opens no port, no socket and no state directory, tells systemd nothing, watches
 * nothing and keeps nothing: nobody can send it a request, and a moultd may run with the
 * same configuration meanwhile. Memory that the loaders of that moultd hold counts as
 * taken.
 */

#include <stddef.h>

#include "supervisor/config/config.h"

struct proof_result {
	size_t n_good;
	size_t n_failed;    /* refused, died, too late */
	size_t n_not_tried; /* no memory for them, or interrupted before */
	bool is_interrupted;
};

/* Builds the models of @config, loads_at_once of them at a time, and calls @say with the
 * outcome of each. Changes @config for that. Ends early at SIGTERM, SIGINT, SIGQUIT or
 * SIGHUP. 0 with *ret_result when every loader is gone, or -errno with a sentence. */
int proof_run(struct proof_result *ret_result, struct config *config,
              void (*say)(void *context, const char *line), void *context,
              struct err *err);
