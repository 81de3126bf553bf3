/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/aoti/options.h"

#include <string.h>

#include "shared/engine_options.h"

ENGINE_OPTIONS(aoti_options_all, "library, model");

int aoti_options_read(const struct engine_config *config,
                      struct aoti_options *ret_options, struct err *err)
{
	*ret_options = (struct aoti_options){ 0 };
	for (size_t i = 0; i < config->n_options; i++) {
		const struct engine_option *option = &config->options[i];

		/* moultd puts the key python among the options. */
		if (strcmp(option->name, "python") == 0) {
			ret_options->python = option->value;
			continue;
		}
		if (engine_options_check("aoti", aoti_options_all, option->name, err))
			return ENGINE_E_CONFIG;
		if (strcmp(option->name, "library") == 0)
			ret_options->library = option->value;
		else
			ret_options->model = option->value;
	}
	if (ret_options->library && *ret_options->library != '/')
		return err_set(err, ENGINE_E_CONFIG,
		               "option.library must be an absolute path, not '%s'",
		               ret_options->library);
	return 0;
}
