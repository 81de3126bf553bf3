/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the extension model_repository of the protocol asks of the supervisor: models that are
 * loaded and unloaded by name. Its words are those of Triton's protocol/extension_model_repository.
 * A header alone: supervisor_repository.c does it, and whoever speaks the protocol calls it.
 */

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/config/config.h"
#include "supervisor/traffic/request.h"

struct repository_call;

enum repository_verb {
	REPOSITORY_LOAD,  /* also anew, where it is loaded */
	REPOSITORY_UNLOAD /* over when its memory is free */
};

struct repository_ask {
	enum repository_verb verb;
	const char *model; /* borrowed for the call of begin() */
	/* The end, once, never inside begin(); @refusal: NULL when all went well. */
	void (*on_done)(void *context, const struct request_refusal *refusal);
	void *context;
};

/* A model that is configured and was unloaded. */
struct repository_unloaded {
	const struct config_model *section;
	bool is_leaving; /* some of it is still there */
};

struct repository {
	/* 0 with *ret_call, and on_done follows, at a deadline at the latest; *ret_call is NULL
	 * where nothing is to be done. Else a positive outcome with @refusal filled. */
	int (*begin)(void *context, const struct repository_ask *ask,
	             struct repository_call **ret_call, struct request_refusal *refusal);
	/* Nobody waits for @call any more. What was asked for goes on. */
	void (*drop)(struct repository_call *call);
	/* The @i-th of them. False: there are no more. */
	bool (*unloaded)(void *context, size_t i, struct repository_unloaded *ret_one);
	void *context;
};
