/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model's tensors as JSON, as the protocol's metadata has them:
 * [{"name":TEXT,"datatype":"FP32","shape":[-1,64]}, ...].
 */

#include <jansson.h>
#include <stddef.h>

#include "shared/err.h"
#include "shared/tensor.h"

/* A new reference; NULL: out of memory. */
json_t *tensors_to_json(const struct tensor_spec *specs, size_t n);

/* Reads @json, which may be anything: up to @max tensors whose names differ and have no control
 * characters. Other members of a tensor are left alone. @what names the list in sentences. 0, or
 * -EINVAL with a sentence. */
int tensors_from_json(const json_t *json, const char *what, struct tensor_spec *ret_specs,
                      size_t max, size_t *ret_n, struct err *err);
