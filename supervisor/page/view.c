/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The status is model_to_json() with most of its members left out: what is shown here and by
 * moultctl is the same.
 */

#include "supervisor/page/view.h"

#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/figures/histogram.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Moves the members @keys of @from, where they are there, into a new object. */
static json_t *view_pick(const json_t *from, const char *const *keys, size_t n)
{
	json_t *picked = json_object();

	for (size_t i = 0; i < n; i++) {
		json_t *value = json_object_get(from, keys[i]);

		if (value)
			(void)json_object_set(picked, keys[i], value);
	}
	return picked;
}

static json_t *view_model(struct model *model)
{
	static const char *const keys[] = {
		"name",           "state",     "generation", "since_ms",
		"load",           "candidate", "retiring",   "memory",
		"latency_counts", "requests",  "replicas",   "weights_sha256",
	};
	json_t *all = model_to_json(model);
	json_t *picked = view_pick(all, keys, COUNT(keys));

	json_decref(all);
	(void)json_object_set_new(picked, "is_stale",
	                          json_boolean(model_is_stale(model)));
	(void)json_object_set_new(picked, "trouble",
	                          json_string(model_public_error(model)));
	return picked;
}

static bool view_shares(const json_t *model, const json_t *other)
{
	return json_integer_value(json_object_get(json_object_get(other, "memory"),
	                                          "shared_bytes")) > 0 &&
	       json_is_string(json_object_get(model, "weights_sha256")) &&
	       json_equal(json_object_get(model, "weights_sha256"),
	                  json_object_get(other, "weights_sha256"));
}

/* Notes at each model whose copy of the weights is that of one before it: a sum has to count the
 * copy once. The hashes have done their part then. */
static void view_note_sharing(json_t *list)
{
	json_t *model;
	size_t i;

	json_array_foreach(list, i, model) for (size_t j = 0; j < i; j++)
	{
		const json_t *other = json_array_get(list, j);

		if (!view_shares(model, other))
			continue;
		(void)json_object_set(model, "shares_with",
		                      json_object_get(other, "name"));
		break;
	}
	json_array_foreach(list, i, model)(void) json_object_del(model, "weights_sha256");
}

json_t *view_status(struct model *const *models, struct devices *devices,
                    const struct err *config_error)
{
	json_t *list = json_array();
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	for (; *models; models++)
		(void)json_array_append_new(list, view_model(*models));
	view_note_sharing(list);
	return json_pack("{s:s,s:i,s:I,s:b,s:o,s:o,s:o,s:o}", "version", MOULT_VERSION,
	                 "pid", (int)getpid(), "time_ms",
	                 (json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
	                 "config_refused", *config_error->text != '\0',
	                 "latency_bounds_ms", histogram_bounds_to_json(), "memory",
	                 devices_memory_to_json(devices), "devices",
	                 devices_to_json(devices), "models", list);
}

json_t *view_receipt(const json_t *receipt)
{
	static const char *const keys[] = {
		"number",  "time_ms", "model", "cause",     "strategy",
		"outcome", "from",    "to",    "phases_ms",
	};

	return view_pick(receipt, keys, COUNT(keys));
}

void view_add_receipt(json_t *receipts, const json_t *receipt)
{
	(void)json_array_append_new(receipts, view_receipt(receipt));
	while (json_array_size(receipts) > VIEW_RECEIPTS)
		(void)json_array_remove(receipts, 0);
}
