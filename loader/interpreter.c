/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The program goes along as an argument (-c) and not as a file: children that multiprocessing
 * spawns would run a file once more. The interpreter is the user's, found by its path alone, so
 * that it has the modules that the user knows it to have.
 */
#include "loader/interpreter.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader/control.h"
#include "loader/engine.h"
#include "shared/cleanup.h"
#include "shared/file.h"
#include "shared/log.h"
#include "shared/proto.h"

#define INTERPRETER_PROGRAM_MAX ((size_t)65536)
#define INTERPRETER_NUMBER_MAX  24

/* Reads the program's text. The caller frees it. */
static int interpreter_read_program(const char *engine_dir, char **ret_text,
                                    struct err *err)
{
	FREE char *path = NULL;
	CLOSE_FD int fd = -1;
	char *text = calloc(1, INTERPRETER_PROGRAM_MAX + 1);
	ssize_t n;

	*ret_text = text;
	if (!text || asprintf(&path, "%s/python/bootstrap.py", engine_dir) < 0) {
		path = NULL;
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -errno : file_read_at(fd, text, INTERPRETER_PROGRAM_MAX, 0);
	if (n <= 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine 'python' lacks its file '%s' (%s): install moult "
		               "wholly",
		               path, n < 0 ? strerror((int)-n) : "it is empty");
	return 0;
}

static const char *interpreter_remedy(int error)
{
	switch (error) {
	case ENOENT:
		return "there is no such program, or what its first line names is not "
		       "there: give the path of a Python from 3.9 on, or make the "
		       "virtual environment again";
	case EACCES:
	case ENOEXEC:
		return "it is no program that moultd may run: give the path of a Python "
		       "from 3.9 on, as venv/bin/python is";
	default:
		return "give the path of a Python from 3.9 on";
	}
}

static int interpreter_tell(const struct interpreter *interpreter, int error,
                            struct err *err)
{
	return err_set(err, err_is_shortage(error) ? ENGINE_E_FAILED : ENGINE_E_CONFIG,
	               "python = %s cannot be started (%s): %s", interpreter->python,
	               strerror(error), interpreter_remedy(error));
}

/* A word for execv(), which changes none. */
static char *interpreter_text(const char *text)
{
	return (char *)(uintptr_t)(text ? text : "");
}

static int interpreter_exec(int control_fd, const struct interpreter *interpreter,
                            char *program, struct err *err)
{
	char generation[INTERPRETER_NUMBER_MAX];
	char protocol[INTERPRETER_NUMBER_MAX];
	char *argv[] = {
		interpreter_text(interpreter->python),
		interpreter_text("-u"),
		interpreter_text("-c"),
		program,
		interpreter_text(interpreter->engine_dir),
		generation,
		protocol,
		/* For a spare alone (engines/python/moult/_ahead.py). */
		interpreter->generation == 0 ? interpreter_text(interpreter->preload)
					     : NULL,
		interpreter_text(interpreter->file),
		NULL,
	};

	(void)snprintf(generation, sizeof(generation), "%" PRIu64,
	               interpreter->generation);
	(void)snprintf(protocol, sizeof(protocol), "%d", PROTO_VERSION);
	/* The program closes it on exec again. */
	if (fcntl(control_fd, F_SETFD, 0) < 0)
		return err_set(err, ENGINE_E_FAILED, "fcntl: %s", strerror(errno));
	(void)execv(interpreter->python, argv);
	return interpreter_tell(interpreter, errno, err);
}

int interpreter_run(int control_fd, const struct interpreter *interpreter)
{
	struct control control = {
		.generation = interpreter->generation,
		.chan = { .fd = control_fd },
	};
	struct err err = ERR_NULL;
	FREE char *program = NULL;
	int r;

	r = interpreter_read_program(interpreter->engine_dir, &program, &err);
	if (r == 0 && interpreter->directory && chdir(interpreter->directory) < 0)
		r = err_set(&err, ENGINE_E_CONFIG,
		            "working_directory '%s' cannot be entered: %s",
		            interpreter->directory, strerror(errno));
	if (r == 0) {
		/* The last words of a program that is no Python and says nothing. */
		log_event(LOG_LEVEL_NOTICE, "interpreter_starts",
		          "python=%s hint=\"if nothing follows, this is no Python\"",
		          LOG_QUOTED(interpreter->python));
		r = interpreter_exec(control_fd, interpreter, program, &err);
	}
	return control_refuse(&control, r, &err);
}
