/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * ONNX Runtime's library: found, opened, and asked for its interface. It is looked for in
 * option.library, in the virtual environment of the key python, and where the system has its
 * libraries. Once opened it stays for the life of the process.
 */

#include "loader/engine.h"
#include "loader/onnx/account.h"
#include "loader/onnx/options.h"
#include "loader/onnx/ort.h"
#include "shared/err.h"

struct runtime {
	const struct ort_api *api;       /* NULL: not opened */
	const struct ort_editor *editor; /* NULL: it is too old */
	char version[32];
	account_throw *throw;
	char *folder; /* of the library; NULL: the system's */
};

/* Opens it. 0, or ENGINE_E_CONFIG with a sentence that says where it was looked for. */
int runtime_open(struct runtime *runtime, const struct onnx_options *options,
                 struct err *err);
/* Lets the engine read what the runtime's provider of CUDA opens: NVIDIA's wheels, beside its own. */
void runtime_need_cuda(const struct runtime *runtime, struct engine_walls *walls);
