/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/process/programs.h"

#include <stdio.h>

#include "shared/cleanup.h"
#include "shared/file.h"
#include "shared/proto.h"

void programs_look(struct programs *ret_programs, const struct config *config,
                   const char *engine)
{
	FREE char *path = NULL;

	*ret_programs = (struct programs){ 0 };
	(void)stat(config->loader, &ret_programs->loader);
	if (asprintf(&path, "%s/" PROTO_ENGINE_PREFIX "%s" PROTO_ENGINE_SUFFIX,
	             config->engine_dir, engine) < 0) {
		path = NULL;
		return;
	}
	(void)stat(path, &ret_programs->engine);
}

const char *programs_replaced(const struct programs *then, const struct programs *now)
{
	if (!file_is_same(&then->loader, &now->loader))
		return "moult-loader was replaced";
	if (!file_is_same(&then->engine, &now->engine))
		return "the engine was replaced";
	return NULL;
}
