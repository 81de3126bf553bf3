/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * moultctl looking again and again: asks for the status at an interval and shows what came, drawn
 * over what was there on a terminal, one below the other elsewhere. Ends at SIGINT, SIGTERM and
 * SIGHUP. A moultd that goes away is waited for, with one line about it.
 */

#include <stdbool.h>

#include "supervisor/ctl/arguments.h"
#include "supervisor/ctl/print.h"

struct ctl_live {
	const struct ctl_arguments *arguments; /* borrowed */
	bool is_once; /* two looks, of which the second is shown */
	void (*show)(FILE *out, const struct ctl_looks *looks);
	/* Says on stderr why moultd cannot be reached. Returns the exit code. */
	enum ctl_exit (*on_unreachable)(const struct ctl_arguments *arguments, int error);
};

/* Returns when it was told to end (CTL_EXIT_OK), when the first look fails, or when moultd refuses
 * the question; all but the first after a sentence on stderr. */
enum ctl_exit ctl_live_run(const struct ctl_live *live);
