/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tensors between struct engine_tensor and moult._engine, as (shape, data). Python gets a copy of
 * each input, as a class may write to it and keep it; the loader's memory is used again. Outputs
 * stay in the objects that Python has made, until the next ones are there.
 */
#include "loader/engines/python.h"

#include <string.h>

/* PyBUF_READ and PyBUF_WRITE, which the headers of the limited API have from 3.11 on. */
enum {
	MEMORY_READ = 0x100,
	MEMORY_WRITE = 0x200,
};

PyObject *python_weights(const struct engine_config *config)
{
	if (config->weights)
		/* Shared ones may be written to, which makes the page private. */
		return PyMemoryView_FromMemory((char *)(uintptr_t)config->weights,
		                               (Py_ssize_t)config->weights_bytes,
		                               config->is_shared ? MEMORY_WRITE
		                                                 : MEMORY_READ);
	if (config->weights_fd >= 0)
		return Py_BuildValue("(in)", config->weights_fd,
		                     (Py_ssize_t)config->weights_bytes);
	Py_RETURN_NONE;
}

static PyObject *shape_to_tuple(const struct tensor_shape *shape)
{
	PyObject *tuple = PyTuple_New((Py_ssize_t)shape->rank);

	for (uint32_t i = 0; tuple && i < shape->rank; i++) {
		PyObject *dim = PyLong_FromLongLong(shape->dims[i]);

		if (!dim || PyTuple_SetItem(tuple, (Py_ssize_t)i, dim) < 0)
			Py_CLEAR(tuple);
	}
	return tuple;
}

PyObject *python_specs(const struct tensor_spec *specs, size_t n)
{
	PyObject *list = PyList_New((Py_ssize_t)n);

	for (size_t i = 0; list && i < n; i++) {
		PyObject *row = Py_BuildValue("(ssN)", specs[i].name,
		                              tensor_dtype_name(specs[i].dtype),
		                              shape_to_tuple(&specs[i].shape));

		if (!row || PyList_SetItem(list, (Py_ssize_t)i, row) < 0)
			Py_CLEAR(list);
	}
	return list;
}

PyObject *python_inputs(const struct engine_tensor *inputs, size_t n)
{
	PyObject *list = PyList_New((Py_ssize_t)n);

	for (size_t i = 0; list && i < n; i++) {
		PyObject *data =
			PyByteArray_FromStringAndSize(inputs[i].data,
		                                      (Py_ssize_t)inputs[i].bytes);
		PyObject *row =
			Py_BuildValue("(NN)", shape_to_tuple(&inputs[i].shape), data);

		if (!row || PyList_SetItem(list, (Py_ssize_t)i, row) < 0)
			Py_CLEAR(list);
	}
	return list;
}

/* Reads a tuple of dims. Returns false with an exception. */
static bool tuple_to_shape(PyObject *tuple, struct tensor_shape *shape)
{
	Py_ssize_t rank = PyTuple_Size(tuple);

	if (rank > TENSOR_RANK_MAX) {
		PyErr_SetString(PyExc_ValueError, "a tensor has too many dims");
		return false;
	}
	shape->rank = rank < 0 ? 0 : (uint32_t)rank;
	for (Py_ssize_t i = 0; i < rank; i++)
		shape->dims[i] = PyLong_AsLongLong(PyTuple_GetItem(tuple, i));
	return !PyErr_Occurred();
}

/* Reads a bytes object, or (address, bytes, owner). Returns false with an exception. */
static bool data_of(PyObject *data, struct engine_tensor *output)
{
	unsigned long long address;
	PyObject *owner;
	Py_ssize_t bytes;
	char *start;

	if (PyTuple_Check(data)) {
		if (!PyArg_ParseTuple(data, "KnO", &address, &bytes, &owner))
			return false;
		start = (char *)(uintptr_t)address;
	} else if (PyBytes_AsStringAndSize(data, &start, &bytes) < 0) {
		return false;
	}
	output->data = start;
	output->bytes = (size_t)bytes;
	return true;
}

bool python_outputs(PyObject *list, const struct tensor_spec *specs, size_t n,
                    struct engine_tensor *outputs)
{
	if (PyList_Size(list) != (Py_ssize_t)n) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError, "outputs are missing");
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		struct engine_tensor *output = &outputs[i];
		PyObject *shape;
		PyObject *data;

		if (!PyArg_ParseTuple(PyList_GetItem(list, (Py_ssize_t)i), "OO", &shape,
		                      &data) ||
		    !tuple_to_shape(shape, &output->shape) || !data_of(data, output))
			return false;
		output->dtype = specs[i].dtype;
	}
	return true;
}

bool python_read_specs(PyObject *list, struct tensor_spec *specs, size_t *ret_n)
{
	Py_ssize_t n = PyList_Size(list);

	if (n < 0 || n > ENGINE_TENSORS_MAX) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError, "there are too many tensors");
		return false;
	}
	for (Py_ssize_t i = 0; i < n; i++) {
		const char *name;
		const char *dtype;
		PyObject *shape;

		if (!PyArg_ParseTuple(PyList_GetItem(list, i), "ssO", &name, &dtype,
		                      &shape) ||
		    !tuple_to_shape(shape, &specs[i].shape))
			return false;
		if (strlen(name) >= sizeof(specs[i].name) ||
		    tensor_dtype_from_name(dtype, &specs[i].dtype) < 0) {
			PyErr_SetString(PyExc_ValueError,
			                "a name is too long, or there is no such "
			                "datatype");
			return false;
		}
		(void)strcpy(specs[i].name, name);
	}
	*ret_n = (size_t)n;
	return true;
}
