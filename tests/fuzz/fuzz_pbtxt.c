/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A config.pbtxt, from whoever fills a model repository. What is taken becomes lines of a section
 * that cannot be anything else: no line is without a key, and none begins another section.
 */
#include <assert.h>
#include <string.h>

#include "supervisor/repository/model_config.h"
#include "supervisor/repository/pbtxt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lines(const char *keys)
{
	while (*keys) {
		size_t bytes = strcspn(keys, "\n");

		assert(keys[bytes] == '\n' && bytes > 0);
		assert(keys[0] >= 'a' && keys[0] <= 'z');
		assert(memchr(keys, '=', bytes));
		keys += bytes + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model_config config = { .engine = NULL };
	struct pbtxt *pbtxt = NULL;
	struct err err = ERR_NULL;
	int r = pbtxt_read(&pbtxt, (const char *)data, size, &err);

	if (r == 0)
		r = model_config_read(&config, pbtxt_root(pbtxt), &err);
	assert(r == 0 || *err.text);
	if (r == 0 && config.keys)
		check_lines(config.keys);
	model_config_fini(&config);
	pbtxt_free(pbtxt);
	return 0;
}
