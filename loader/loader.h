/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The life of one generation, as seen from inside: the control messages of shared/proto.h
 * in their order. Any doubt ends the process; the supervisor replays what it held.
 */

#include <stdint.h>

struct loader_start {
	uint64_t generation;    /* 0: a spare, which learns it when it is taken */
	const char *engine_dir; /* of a spare: opens this engine and waits */
	const char *engine;
};

/* Runs to the end of the generation. Takes @control_fd. Returns the process' exit code,
 * one of enum proto_exit; nothing is left to do then but _exit(). Needs its own process:
 * it changes scheduling and environment. Blocks. */
int loader_run(int control_fd, const struct loader_start *start);
