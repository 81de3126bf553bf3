/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The life of one loader, as seen from inside: the control messages of shared/proto.h in
 * their order. Any doubt ends the process; the supervisor replays the requests that it held.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"

/* What a spare does beside opening its engine. */
struct loader_ahead {
	/* Does it, at idle priority. 0 or an outcome of enum engine_outcome with a sentence. */
	int (*prepare)(struct err *err);
	/* True: it is not what would be done now, for @ret_why. Asked for now and then, and
	 * @is_taken once more, when it is to count. */
	bool (*is_outdated)(bool is_taken, struct err *ret_why);
};

struct loader_start {
	uint64_t generation;    /* 0: a spare, which learns it from TAKE */
	const char *engine_dir; /* a spare opens this engine and waits; else NULL */
	const char *engine;
	const struct loader_ahead *ahead; /* of a spare; or NULL */
};

/* Runs to the end of the generation. Takes @control_fd. Returns the process' exit code, one
 * of enum proto_exit; the caller has nothing left to do but _exit(). Blocks, and changes the
 * scheduling and the environment of the process. */
int loader_run(int control_fd, const struct loader_start *start);
