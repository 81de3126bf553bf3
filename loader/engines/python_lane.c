/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The module moult._lane: struct engine_host for Python. A request is a number for Python, its
 * address; the package never uses one whose last part was answered.
 *
 * An application's thread may live longer than the loader's host. So each call counts itself, and
 * python_lane_end() waits until none is left; the host ends all waits by then. The GIL guards the
 * pointer and the count. A call that does not wait keeps the GIL: the host's lock is never held
 * for long, and never by whoever wants the GIL.
 */
#include "loader/engines/python.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "shared/log.h"
#include "shared/server_folder.h"

/* Fields of an answer; the loader refuses so many long before. */
#define LANE_FIELDS_MAX 1024
/* Copying so many bytes takes less time than it takes to get the GIL back from a thread that
 * computes: 5 ms. */
#define LANE_SHORT_BYTES (256 * 1024)

static struct {
	const struct engine_host *host; /* NULL: has not begun, or has ended */
	int n_inside;
} lane;

void python_lane_begin(const struct engine_host *host)
{
	lane.host = host;
}

void python_lane_end(void)
{
	lane.host = NULL;
	while (lane.n_inside > 0) {
		Py_BEGIN_ALLOW_THREADS;
		(void)sched_yield();
		Py_END_ALLOW_THREADS;
	}
}

static struct engine_request *to_request(unsigned long long number)
{
	return (struct engine_request *)(uintptr_t)number;
}

static PyObject *latin1(struct engine_text text)
{
	return PyUnicode_DecodeLatin1(text.data, (Py_ssize_t)text.bytes, NULL);
}

static PyObject *raw(struct engine_text text)
{
	return PyBytes_FromStringAndSize(text.data, (Py_ssize_t)text.bytes);
}

/* A list of pairs (name, value), of bytes or of text. NULL with an exception. */
static PyObject *fields_to_list(const struct engine_request *request, bool is_raw)
{
	PyObject *(*make)(struct engine_text) = is_raw ? raw : latin1;
	PyObject *list = PyList_New((Py_ssize_t)request->n_fields);

	for (size_t i = 0; list && i < request->n_fields; i++) {
		PyObject *pair = Py_BuildValue("(NN)", make(request->fields[i].name),
		                               make(request->fields[i].value));

		if (!pair || PyList_SetItem(list, (Py_ssize_t)i, pair) < 0)
			Py_CLEAR(list);
	}
	return list;
}

/* (address, port), or None. */
static PyObject *client_to_object(const struct engine_request *request)
{
	if (request->client.bytes == 0) {
		Py_INCREF(Py_None);
		return Py_None;
	}
	return Py_BuildValue("(NI)", latin1(request->client), request->client_port);
}

/* (number, method, target, fields, body, client); NULL with an exception. */
static PyObject *request_to_tuple(const struct engine_request *request, bool is_raw)
{
	/* The body is copied: an application may keep it longer than the request lives. */
	PyObject *body =
		PyBytes_FromStringAndSize(request->body_bytes > 0 ? request->body : "",
	                                  (Py_ssize_t)request->body_bytes);

	return Py_BuildValue("(KNNNNN)", (unsigned long long)(uintptr_t)request,
	                     latin1(request->method), latin1(request->target),
	                     fields_to_list(request, is_raw), body,
	                     client_to_object(request));
}

/* Ends a request that there is no memory for. */
static void lane_refuse(const struct engine_host *host, struct engine_request *request)
{
	const struct engine_part part = { .flags = ENGINE_PART_LAST | ENGINE_PART_FAULT,
		                          .status = 500 };

	Py_BEGIN_ALLOW_THREADS;
	(void)host->answer(host->host, request, &part, NULL);
	Py_END_ALLOW_THREADS;
}

/* take(waits, is_raw): (number, method, target, fields, body, client); None: nothing now; False: no more. */
static PyObject *lane_take(PyObject *module, PyObject *arguments)
{
	const struct engine_host *host = lane.host;
	struct engine_request *request;
	PyObject *taken;
	int is_raw;
	int waits;
	int r;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "pp", &waits, &is_raw))
		return NULL;
	if (!host)
		Py_RETURN_FALSE;
	lane.n_inside++;
	if (waits) {
		Py_BEGIN_ALLOW_THREADS;
		r = host->take(host->host, UINT64_MAX, &request);
		Py_END_ALLOW_THREADS;
	} else {
		r = host->take(host->host, 0, &request);
	}
	lane.n_inside--;
	if (r == ENGINE_HOST_E_AGAIN)
		Py_RETURN_NONE;
	if (r)
		Py_RETURN_FALSE;
	taken = request_to_tuple(request, is_raw);
	if (!taken)
		lane_refuse(host, request);
	return taken;
}

/* Reads text of str or bytes; *ret_owner keeps it. Returns false with an exception. */
static bool to_text(PyObject *object, struct engine_text *ret_text, PyObject **ret_owner)
{
	Py_ssize_t bytes;
	char *data;

	if (PyUnicode_Check(object)) {
		*ret_owner = PyUnicode_AsLatin1String(object);
	} else {
		*ret_owner = object;
		Py_INCREF(object);
	}
	if (!*ret_owner || PyBytes_AsStringAndSize(*ret_owner, &data, &bytes) < 0)
		return false;
	*ret_text = (struct engine_text){ data, (size_t)bytes };
	return true;
}

struct fields {
	struct engine_field *rows;
	PyObject **owners; /* two for each row; may be NULL */
	size_t n;
};

static void fields_fini(struct fields *fields)
{
	for (size_t i = 0; fields->owners && i < 2 * fields->n; i++)
		Py_XDECREF(fields->owners[i]);
	free(fields->owners);
	free(fields->rows);
}

/* Reads a list of pairs. Returns false with an exception. */
static bool fields_init(struct fields *fields, PyObject *list)
{
	Py_ssize_t n = PySequence_Size(list);

	if (n < 0)
		return false;
	if (n > LANE_FIELDS_MAX) {
		(void)PyErr_Format(PyExc_ValueError, "an answer has %zd header fields",
		                   n);
		return false;
	}
	fields->rows = calloc((size_t)n + 1, sizeof(*fields->rows));
	fields->owners = calloc(2 * (size_t)n + 1, sizeof(PyObject *));
	if (!fields->rows || !fields->owners) {
		(void)PyErr_NoMemory();
		return false;
	}
	fields->n = (size_t)n;
	for (size_t i = 0; i < fields->n; i++) {
		PyObject *pair = PySequence_GetItem(list, (Py_ssize_t)i);
		PyObject *name = pair ? PySequence_GetItem(pair, 0) : NULL;
		PyObject *value = name ? PySequence_GetItem(pair, 1) : NULL;
		bool is_read =
			value &&
			to_text(name, &fields->rows[i].name, &fields->owners[2 * i]) &&
			to_text(value, &fields->rows[i].value,
		                &fields->owners[2 * i + 1]);

		Py_XDECREF(pair);
		Py_XDECREF(name);
		Py_XDECREF(value);
		if (!is_read)
			return false;
	}
	return true;
}

/* answer(number, flags, status, fields, body): 0, AGAIN, GONE or END. ValueError: such an answer
 * cannot be sent. */
static PyObject *lane_answer(PyObject *module, PyObject *arguments)
{
	const struct engine_host *host = lane.host;
	struct engine_part part = { .flags = 0 };
	struct fields fields = { 0 };
	struct err err = ERR_NULL;
	unsigned long long number;
	Py_ssize_t body_bytes;
	PyObject *list;
	const char *body;
	int r = ENGINE_HOST_E_END;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "KIIOy#", &number, &part.flags, &part.status,
	                      &list, &body, &body_bytes))
		return NULL;
	if (!fields_init(&fields, list)) {
		fields_fini(&fields);
		return NULL;
	}
	part.fields = fields.rows;
	part.n_fields = fields.n;
	part.body = body;
	part.body_bytes = (size_t)body_bytes;
	if (host) {
		lane.n_inside++;
		if ((part.flags & ENGINE_PART_NOWAIT) && body_bytes <= LANE_SHORT_BYTES) {
			r = host->answer(host->host, to_request(number), &part, &err);
		} else {
			Py_BEGIN_ALLOW_THREADS;
			r = host->answer(host->host, to_request(number), &part, &err);
			Py_END_ALLOW_THREADS;
		}
		lane.n_inside--;
	}
	fields_fini(&fields);
	if (r == ENGINE_HOST_E_INVALID) {
		PyErr_SetString(PyExc_ValueError, err.text);
		return NULL;
	}
	return PyLong_FromLong(r);
}

/* is_gone(number): whether nobody waits for the answer any more. */
static PyObject *lane_is_gone(PyObject *module, PyObject *arguments)
{
	const struct engine_host *host = lane.host;
	unsigned long long number;
	bool is_gone;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "K", &number))
		return NULL;
	is_gone = !host || host->is_gone(host->host, to_request(number));
	return PyBool_FromLong(is_gone);
}

/* bell(): the descriptor of the bell; -1: the lane has ended. */
static PyObject *lane_bell(PyObject *module, PyObject *arguments)
{
	(void)module;
	(void)arguments;
	return PyLong_FromLong(lane.host ? lane.host->bell : -1);
}

/* part_bytes(): the largest body that NOWAIT never waits for. */
static PyObject *lane_part_bytes(PyObject *module, PyObject *arguments)
{
	(void)module;
	(void)arguments;
	return PyLong_FromSize_t(lane.host ? lane.host->part_bytes : 0);
}

/* forget(): this process is a child that was forked, and no loader. */
static PyObject *lane_forget(PyObject *module, PyObject *arguments)
{
	(void)module;
	(void)arguments;
	lane.host = NULL;
	Py_RETURN_NONE;
}

/* fail(why): the process must be replaced. */
static PyObject *lane_fail(PyObject *module, PyObject *arguments)
{
	const char *why;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "s", &why))
		return NULL;
	if (lane.host)
		lane.host->fail(lane.host->host, why);
	Py_RETURN_NONE;
}

/* log(level, event, what): one line of the loader's log. */
static PyObject *lane_log(PyObject *module, PyObject *arguments)
{
	const char *event;
	const char *what;
	int level;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "iss", &level, &event, &what))
		return NULL;
	log_event((enum log_level)level, event, "what=%s", LOG_QUOTED(what));
	Py_RETURN_NONE;
}

/* make_folder(): (path, descriptor) of a folder that is removed with the loader, at the latest. */
static PyObject *lane_make_folder(PyObject *module, PyObject *arguments)
{
	char path[SERVER_FOLDER_MAX];
	int fd;
	int r;

	(void)module;
	(void)arguments;
	r = server_folder_make(SERVER_FOLDER_LARGE, path, &fd);
	if (r < 0) {
		errno = -r;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	return Py_BuildValue("(Ni)", PyUnicode_DecodeFSDefault(path), fd);
}

/* remove_folder(path) */
static PyObject *lane_remove_folder(PyObject *module, PyObject *arguments)
{
	PyObject *path = NULL;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "O&", PyUnicode_FSConverter, &path))
		return NULL;
	server_folder_remove(PyBytes_AsString(path));
	Py_DECREF(path);
	Py_RETURN_NONE;
}

PyObject *python_lane_new(void)
{
	static PyMethodDef methods[] = {
		{ "take", lane_take, METH_VARARGS, NULL },
		{ "answer", lane_answer, METH_VARARGS, NULL },
		{ "is_gone", lane_is_gone, METH_VARARGS, NULL },
		{ "bell", lane_bell, METH_NOARGS, NULL },
		{ "part_bytes", lane_part_bytes, METH_NOARGS, NULL },
		{ "forget", lane_forget, METH_NOARGS, NULL },
		{ "fail", lane_fail, METH_VARARGS, NULL },
		{ "log", lane_log, METH_VARARGS, NULL },
		{ "make_folder", lane_make_folder, METH_NOARGS, NULL },
		{ "remove_folder", lane_remove_folder, METH_VARARGS, NULL },
		{ NULL, NULL, 0, NULL },
	};
	static struct PyModuleDef definition = {
		PyModuleDef_HEAD_INIT,
		.m_name = "moult._lane",
		.m_size = -1,
		.m_methods = methods,
	};

	return PyModule_Create(&definition);
}
