/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Bodies of the answers that the supervisor gives itself: metadata, health, statistics.
 * Each function returns malloc'ed text, or NULL without memory.
 */

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/http/http.h"

/* {"error":@text} */
char *http_meta_error(const char *text);
char *http_meta_server(void);
/* Says whether moultd is ready, as the key ready has it, and if not which models are
 * why. */
char *http_meta_ready(const struct http *http, bool *ret_is_ready);
char *http_meta_model(const struct model *model, const struct declared_view *view);
/* Says whether @model is ready, and if not its state and the reason. */
char *http_meta_model_ready(struct model *model);
/* @model's configuration in Triton's form. */
char *http_meta_model_config(const struct model *model, const struct declared_view *view);
struct http_meta_index_of {
	struct model *const *models;
	const struct repository *repository; /* those that were unloaded */
	bool only_ready;
	bool (*shows)(const void *context, const char *model);
	const void *context;
};

/* Every model that is to be shown, with its state. */
char *http_meta_index(const struct http_meta_index_of *of);
/* stats.c: of @only, or of all when it is NULL. */
char *http_meta_stats(struct model *const *models, const struct model *only);
