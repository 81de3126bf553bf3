/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* All that an engine needs: the interface, sentences of errors, tensors, options. */
#include "loader/engine.h"
#include "shared/engine_options.h"
#include "shared/err.h"
#include "shared/tensor.h"
