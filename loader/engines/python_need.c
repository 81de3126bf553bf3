/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/engines/python.h"

#include <stdlib.h>
#include <string.h>

/* What lies at these names of the module sys. */
static const char *const python_prefixes[] = { "prefix",           "exec_prefix",
	                                       "base_prefix",      "base_exec_prefix",
	                                       "_base_executable", "executable" };

/* @path is a text of Python's, borrowed; NULL: none. */
static void python_need_path(PyObject *path, struct engine_walls *walls)
{
	PyObject *bytes =
		path && PyUnicode_Check(path) ? PyUnicode_EncodeFSDefault(path) : NULL;
	const char *text = bytes ? PyBytes_AsString(bytes) : NULL;

	if (text && *text == '/')
		walls->read(walls, text);
	Py_XDECREF(bytes);
	PyErr_Clear();
}

/* The class of "file.py:Class" has its modules beside its file. */
static void python_need_class(const char *text, struct engine_walls *walls)
{
	const char *colon = strrchr(text, ':');
	char *file = colon ? strndup(text, (size_t)(colon - text)) : NULL;
	char *slash = file ? strrchr(file, '/') : NULL;

	if (slash && slash != file && strcmp(file + strlen(file) - 3, ".py") == 0) {
		*slash = '\0';
		walls->read(walls, file);
	}
	free(file);
}

int python_need(const struct engine_config *config, struct engine_walls *walls,
                struct err *err)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *list = PySys_GetObject("path");

	(void)err;
	walls->has_processes = true;
	for (size_t i = 0; i < sizeof(python_prefixes) / sizeof(python_prefixes[0]); i++)
		python_need_path(PySys_GetObject(python_prefixes[i]), walls);
	for (Py_ssize_t i = 0; list && PyList_Check(list) && i < PyList_Size(list); i++)
		python_need_path(PyList_GetItem(list, i), walls);
	PyGILState_Release(state);
	for (size_t i = 0; i < config->n_options; i++)
		if (strcmp(config->options[i].name, "model") == 0)
			python_need_class(config->options[i].value, walls);
	return 0;
}
