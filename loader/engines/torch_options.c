/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/engines/torch_options.h"

#include <string.h>

#include "shared/engine_options.h"

ENGINE_OPTIONS(torch_options, "executor");

int torch_options_read(const struct engine_config *config, bool *ret_is_profiling,
                       struct err *err)
{
	/* Specialising costs the first runs dearly and pays for few models. */
	*ret_is_profiling = false;
	for (size_t i = 0; i < config->n_options; i++) {
		const struct engine_option *option = &config->options[i];

		if (engine_options_check("torch", torch_options, option->name, err))
			return ENGINE_E_CONFIG;
		*ret_is_profiling = strcmp(option->value, "profiling") == 0;
		if (!*ret_is_profiling && strcmp(option->value, "simple") != 0)
			return err_set(err, ENGINE_E_CONFIG,
			               "option.executor must be simple or profiling, not "
			               "'%s'",
			               option->value);
	}
	return 0;
}
