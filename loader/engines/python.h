/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the engine python's C consists of: python.c calls the package moult, which is written in
 * Python (engines/python/moult), python_lane.c is what that package calls, and python_tensors.c
 * brings tensors to it and back.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include <stdbool.h>

#include "loader/engine.h"

/* Makes the module moult._lane; NULL with an exception. */
PyObject *python_lane_new(void);
/* Lends the lane to the module's functions, until python_lane_end(). */
void python_lane_begin(const struct engine_host *host);
/* Waits until no thread is inside the lane any more; later calls say that it has ended. Called
 * with the GIL, and gives it away meanwhile. */
void python_lane_end(void);

/* The bytes of the model file: a memoryview, (descriptor, bytes), or None; NULL with an exception. */
PyObject *python_weights(const struct engine_config *config);
/* A list of (name, datatype, shape); NULL with an exception. */
PyObject *python_specs(const struct tensor_spec *specs, size_t n);
/* A list of (shape, data), copied; NULL with an exception. */
PyObject *python_inputs(const struct engine_tensor *inputs, size_t n);
/* Reads a list of (shape, data) into @outputs, whose data stays that of @list. Returns false with
 * an exception. */
bool python_outputs(PyObject *list, const struct tensor_spec *specs, size_t n,
                    struct engine_tensor *outputs);

/* Reads a list of (name, datatype, shape), of ENGINE_TENSORS_MAX at most. Returns false with an
 * exception. */
bool python_read_specs(PyObject *list, struct tensor_spec *specs, size_t *ret_n);

/* engine_api.need: what the interpreter, its modules and the class's file take. */
int python_need(const struct engine_config *config, struct engine_walls *walls,
                struct err *err);
