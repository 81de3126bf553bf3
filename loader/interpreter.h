/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Hands this process over to an interpreter of Python, which then runs the loader itself:
 * moult-engine-python.so has all of it, and is an extension module, too
 * (loader/interpreter_module.c).
 */

#include <stdint.h>

struct interpreter {
	const char *python;     /* the program */
	const char *engine_dir; /* where the extension module lies */
	uint64_t generation;    /* 0: a spare, to which alone belongs what follows */
	const char *directory;  /* to work in; or NULL */
	const char *file;       /* of the application, from there; or NULL */
	const char *preload; /* modules to import ahead, separated by commas; or NULL */
};

/* Replaces this process by the interpreter, which gets @control_fd. Returns only on failure, with
 * the exit code; the supervisor has been told why then. */
int interpreter_run(int control_fd, const struct interpreter *interpreter);
