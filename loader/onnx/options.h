/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The options of engine onnx. */

#include "loader/engine.h"
#include "shared/err.h"

enum onnx_prepack {
	ONNX_PREPACK_AUTO, /* no for weights that can be shared, yes for others */
	ONNX_PREPACK_NO,
	ONNX_PREPACK_YES,
};

struct onnx_options {
	const char *library; /* borrowed, as all; NULL: not named */
	const char *python;  /* the key python of the section */
	enum onnx_prepack prepack;
};

/* 0, or ENGINE_E_CONFIG with a sentence. */
int onnx_options_read(const struct engine_config *config,
                      struct onnx_options *ret_options, struct err *err);
