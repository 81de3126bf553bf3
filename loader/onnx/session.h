/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A session of ONNX Runtime: what a model file becomes. Built by the configuration's threads and
 * device over the file's bytes, which the session goes on using where they are shared.
 */

#include <stdbool.h>
#include <stddef.h>

#include "loader/engine.h"
#include "loader/onnx/account.h"
#include "loader/onnx/initializers.h"
#include "loader/onnx/options.h"
#include "loader/onnx/ort.h"
#include "shared/err.h"

struct session {
	const struct ort_api *api;
	const struct ort_editor *editor; /* or NULL */
	const char *version;             /* of the runtime */
	const struct engine_config *config;
	const struct onnx_options *options;
	account_throw *throw;
	struct ort_memory *memory; /* of the host */
	struct ort_env *env;
	struct ort_session *ort; /* NULL: not built */
	/* Of a file that lasts, and is no .ort. */
	struct initializers initializers;
};

struct session_file {
	const void *data;
	size_t bytes;
	bool is_lasting; /* the bytes stay as long as the process */
	bool is_host;    /* builds for the host, whatever the device is */
};

/* Makes the runtime's surroundings, of which a process has one. @account takes the memory of the
 * host. 0, or an outcome of stage. */
int session_init(struct session *session, struct account *account, struct err *err);
/* Looks whether the runtime has the configuration's device, without touching that. 0, or
 * ENGINE_E_CONFIG with a sentence. */
int session_check_device(const struct session *session, struct err *err);
/* Sees to weights that are shared. 0; ENGINE_E_PRIVATE with a sentence: they would be copied; or
 * ENGINE_E_FAILED. */
int session_share(struct session *session, const struct session_file *file,
                  struct err *err);
/* Builds the model. An outcome of stage, or of commit. */
int session_build(struct session *session, const struct session_file *file,
                  struct err *err);
/* Releases what session_build() has built. */
void session_drop(struct session *session);
void session_fini(struct session *session);
