/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The extension module _moult_loader: run() is the main() of a loader inside an interpreter. It
 * lies in the file of the engine python, so that engine_host_open() finds it opened already.
 *
 * moult-loader has made this process what it has to be (loader/main.c); what does not outlive an
 * exec, or what the interpreter has changed since, is done once more here.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "loader/engine.h"
#include "loader/loader.h"
#include "shared/log.h"
#include "shared/proto.h"

PyMODINIT_FUNC PyInit__moult_loader(void);

/* moult._ahead, in a spare: loader_run() calls back. */
static PyObject *module_ahead;

/* Calls moult._ahead.FUNCTION(@argument), which gives a sentence, or "". An exception is one,
 * too. */
static void module_ask(const char *function, bool argument, struct err *ret_sentence)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *text = PyObject_CallMethod(module_ahead, function, "O",
	                                     argument ? Py_True : Py_False);
	PyObject *bytes = text ? PyUnicode_AsUTF8String(text) : NULL;

	if (bytes)
		(void)err_set(ret_sentence, 0, "%s", PyBytes_AsString(bytes));
	else
		(void)err_set(ret_sentence, 0, "moult._ahead.%s() failed", function);
	PyErr_Clear();
	Py_XDECREF(bytes);
	Py_XDECREF(text);
	PyGILState_Release(state);
}

static int module_prepare(struct err *err)
{
	module_ask("prepare", false, err);
	return *err->text ? ENGINE_E_CONFIG : 0;
}

static bool module_is_outdated(bool is_taken, struct err *ret_why)
{
	module_ask("find_outdated", is_taken, ret_why);
	return *ret_why->text != '\0';
}

/* Signals that end a process stay moultd's affair: the interpreter would make exceptions of
 * them. What it ignores stays ignored, SIGPIPE above all. */
static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

/* May leave an exception. The directory's text is the argument's. */
static struct loader_start module_read_start(PyObject *arguments)
{
	static const struct loader_ahead ahead = {
		.prepare = module_prepare,
		.is_outdated = module_is_outdated,
	};
	unsigned long long generation = 0;
	const char *engine_dir = NULL;

	if (!PyArg_ParseTuple(arguments, "K|sO", &generation, &engine_dir, &module_ahead))
		module_ahead = NULL;
	Py_XINCREF(module_ahead);
	return (struct loader_start){
		.generation = generation,
		.engine_dir = engine_dir,
		.engine = module_ahead ? "python" : NULL,
		.ahead = module_ahead ? &ahead : NULL,
	};
}

static PyObject *run(PyObject *module, PyObject *arguments)
{
	const struct loader_start start = module_read_start(arguments);
	int r;

	(void)module;
	if (PyErr_Occurred())
		return NULL;
	if (fcntl(PROTO_CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	reset_signals();
	log_init(LOG_LEVEL_NOTICE);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	Py_BEGIN_ALLOW_THREADS;
	r = loader_run(PROTO_CONTROL_FD, &start);
	/* The interpreter is not taken down: libraries crash or hang there, and the end of the
	 * process is the cleanup. */
	_exit(r);
	Py_END_ALLOW_THREADS;
}

PyMODINIT_FUNC PyInit__moult_loader(void)
{
	static PyMethodDef methods[] = {
		{ "run", run, METH_VARARGS,
		  "Runs a loader to its end, run(generation), or a spare, "
		  "run(0, engine_dir, moult._ahead). Never returns." },
		{ NULL, NULL, 0, NULL },
	};
	static struct PyModuleDef definition = {
		PyModuleDef_HEAD_INIT,
		.m_name = "_moult_loader",
		.m_size = -1,
		.m_methods = methods,
	};

	return PyModule_Create(&definition);
}
