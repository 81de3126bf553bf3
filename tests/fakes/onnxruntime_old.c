/* SPDX-License-Identifier: Apache-2.0 */

/* An ONNX Runtime of before the interface that engine onnx calls. The wheels of those times have no
 * library of their own that a test could take. */
#include "loader/onnx/ort.h"

const struct ort_api_base *OrtGetApiBase(void);

static const struct ort_api *old_api(uint32_t version)
{
	static const struct ort_api api;

	return version < ORT_API ? &api : NULL;
}

static const char *old_version(void)
{
	return "1.16.3";
}

const struct ort_api_base *OrtGetApiBase(void)
{
	static const struct ort_api_base base = { old_api, old_version };

	return &base;
}
