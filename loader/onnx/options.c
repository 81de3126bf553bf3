/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/onnx/options.h"

#include <string.h>

#include "shared/engine_options.h"

ENGINE_OPTIONS(onnx_options_all, "library, prepack");

static int onnx_options_prepack(const char *value, enum onnx_prepack *ret_prepack,
                                struct err *err)
{
	*ret_prepack = strcmp(value, "yes") == 0 ? ONNX_PREPACK_YES : ONNX_PREPACK_NO;
	if (*ret_prepack == ONNX_PREPACK_YES || strcmp(value, "no") == 0)
		return 0;
	return err_set(err, ENGINE_E_CONFIG, "option.prepack must be yes or no, not '%s'",
	               value);
}

int onnx_options_read(const struct engine_config *config,
                      struct onnx_options *ret_options, struct err *err)
{
	int r = 0;

	*ret_options = (struct onnx_options){ 0 };
	for (size_t i = 0; i < config->n_options && r == 0; i++) {
		const struct engine_option *option = &config->options[i];

		/* moultd puts the key python among the options. */
		if (strcmp(option->name, "python") == 0) {
			ret_options->python = option->value;
			continue;
		}
		if (engine_options_check("onnx", onnx_options_all, option->name, err))
			return ENGINE_E_CONFIG;
		if (strcmp(option->name, "library") == 0)
			ret_options->library = option->value;
		else if (strcmp(option->name, "prepack") == 0)
			r = onnx_options_prepack(option->value, &ret_options->prepack,
			                         err);
	}
	if (r == 0 && ret_options->library && *ret_options->library != '/')
		r = err_set(err, ENGINE_E_CONFIG,
		            "option.library must be an absolute path, not '%s'",
		            ret_options->library);
	return r;
}
