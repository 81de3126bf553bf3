/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Objects are printed member by member where their order is good enough, so that a new key
 * of moultd needs no change here. First come moultd and its devices, then models, and the
 * configuration. print_receipt.c has receipts and decisions.
 */

#include "supervisor/ctl/print.h"

#include <stdbool.h>
#include <string.h>

#include "supervisor/ctl/print_value.h"

static void print_spares(FILE *out, const json_t *spares)
{
	const json_t *spare;
	size_t i;

	json_array_foreach(spares, i, spare)
	{
		const char *engine = print_find_text(spare, "engine");
		const char *state = print_find_text(spare, "state");
		const char *error = print_find_text(spare, "last_error");
		char bytes[PRINT_CELL_MAX];

		print_bytes(bytes, sizeof(bytes),
		            json_number_value(json_object_get(spare, "anon_bytes")));
		(void)fputs("spare loader of engine ", out);
		ctl_print_text(out, engine ? engine : "?");
		(void)fputs(": ", out);
		ctl_print_text(out, state ? state : "?");
		(void)fprintf(
			out, ", pid %lld, %s, taken %lld times, lost %lld times",
			(long long)json_integer_value(json_object_get(spare, "pid")),
			bytes,
			(long long)json_integer_value(json_object_get(spare, "taken")),
			(long long)json_integer_value(json_object_get(spare, "lost")));
		if (error) {
			(void)fputs("; last error: ", out);
			ctl_print_text(out, error);
		}
		(void)fputc('\n', out);
	}
}

/* "cuda:0 (GPU-...): 320.0 MiB of 448.0 MiB in use, 64.0 MiB by loaders" */
static void print_device(FILE *out, json_t *device)
{
	const char *name = print_find_text(device, "name");
	json_int_t xids = json_integer_value(json_object_get(device, "xids"));
	char used[PRINT_CELL_MAX];
	char total[PRINT_CELL_MAX];
	char loaders[PRINT_CELL_MAX];

	ctl_print_text(out, name ? name : "?");
	if (print_find_text(device, "uuid")) {
		(void)fputs(" (", out);
		ctl_print_text(out, print_find_text(device, "uuid"));
		(void)fputc(')', out);
	}
	print_bytes(used, sizeof(used),
	            json_number_value(json_object_get(device, "used_bytes")));
	print_bytes(total, sizeof(total),
	            json_number_value(json_object_get(device, "total_bytes")));
	print_bytes(loaders, sizeof(loaders),
	            json_number_value(json_object_get(device, "loaders_bytes")));
	if (json_is_true(json_object_get(device, "known")))
		(void)fprintf(out, ": %s of %s in use, %s by loaders", used, total,
		              loaders);
	else
		(void)fprintf(out, ": the driver does not say what is in use");
	if (xids > 0)
		(void)fprintf(out, "; %lld critical errors, the last of them Xid %lld",
		              (long long)xids,
		              (long long)json_integer_value(json_object_get(device,
		                                                            "last_xid")));
	(void)fputc('\n', out);
}

void ctl_print_supervisor(FILE *out, json_t *supervisor)
{
	const json_t *uptime = json_object_get(supervisor, "uptime_s");
	const json_t *pid = json_object_get(supervisor, "pid");
	const char *version = print_find_text(supervisor, "version");
	const char *config_error = print_find_text(supervisor, "config_error");
	const char *no_groups = print_find_text(supervisor, "no_loader_groups");
	char text[PRINT_CELL_MAX];

	(void)fprintf(out, "moultd ");
	ctl_print_text(out, version ? version : "of unknown version");
	if (json_is_integer(pid))
		(void)fprintf(out, ", pid %lld", (long long)json_integer_value(pid));
	if (json_is_number(uptime)) {
		print_duration(text, sizeof(text), json_number_value(uptime) * 1e3);
		(void)fprintf(out, ", up for %s", text);
	}
	(void)fputc('\n', out);
	print_spares(out, json_object_get(supervisor, "spares"));
	if (no_groups) {
		(void)fprintf(out, "loaders have no control groups: ");
		ctl_print_text(out, no_groups);
		(void)fputc('\n', out);
	}
	if (config_error) {
		(void)fprintf(out,
		              "configuration refused, the last good one%s is in use: ",
		              json_is_true(json_object_get(supervisor, "config_kept"))
		                      ? " of an earlier run"
		                      : "");
		ctl_print_text(out, config_error);
		(void)fputc('\n', out);
	}
}

static void print_note(FILE *out, json_t *model, const char *key, const char *label)
{
	const char *name = print_find_text(model, "name");
	const char *text = print_find_text(model, key);

	if (!text)
		return;
	ctl_print_text(out, name ? name : "?");
	(void)fprintf(out, ": %s: ", label);
	ctl_print_text(out, text);
	(void)fputc('\n', out);
}

/* "digits: candidate generation 8 is staging", for a generation beside the active one. */
static void print_other(FILE *out, json_t *model, const char *key, const json_t *other)
{
	const json_t *generation = json_object_get(other, "generation");
	const char *name = print_find_text(model, "name");
	const char *state = print_find_text(other, "state");

	if (!json_is_object(other))
		return;
	ctl_print_text(out, name ? name : "?");
	(void)fprintf(out, ": %s generation %lld is ", key,
	              (long long)json_integer_value(generation));
	ctl_print_text(out, state ? state : "there");
	(void)fputc('\n', out);
}

/* "digits: 2 of 3 loaders serve", where more than one is wanted. */
static void print_replicas(FILE *out, json_t *model)
{
	const json_t *replicas = json_object_get(model, "replicas");
	json_int_t wanted = json_integer_value(json_object_get(replicas, "wanted"));
	json_int_t serving = json_integer_value(json_object_get(replicas, "serving"));
	const char *name = print_find_text(model, "name");

	if (wanted < 2 && serving < 2)
		return;
	ctl_print_text(out, name ? name : "?");
	(void)fprintf(out, ": %lld of %lld loaders serve\n", (long long)serving,
	              (long long)wanted);
}

/* "digits: 20.6 MiB of weights, shared by its loaders", or why they are not. */
static void print_weights(FILE *out, json_t *model)
{
	json_t *weights = json_object_get(model, "weights");
	double bytes = json_number_value(json_object_get(weights, "shared_bytes"));
	double on_gpu = json_number_value(json_object_get(weights, "device_bytes"));
	const char *why_private = print_find_text(weights, "why_private");
	const char *name = print_find_text(model, "name");
	char text[PRINT_CELL_MAX];

	if (why_private) {
		ctl_print_text(out, name ? name : "?");
		(void)fputs(": weights are private to each loader: ", out);
		ctl_print_text(out, why_private);
		(void)fputc('\n', out);
	} else if (bytes > 0 || on_gpu > 0) {
		print_bytes(text, sizeof(text), on_gpu > 0 ? on_gpu : bytes);
		ctl_print_text(out, name ? name : "?");
		(void)fprintf(out, ": %s of weights%s, shared by its loaders\n", text,
		              on_gpu > 0 ? " on the GPU" : "");
	}
}

static void print_poison(FILE *out, json_t *model)
{
	json_t *failures =
		json_object_get(json_object_get(model, "requests"), "failures");
	json_t *poison = json_object_get(model, "poison");
	json_int_t poisoned = json_integer_value(json_object_get(failures, "poison"));
	const char *name = print_find_text(model, "name");

	if (poisoned == 0)
		return;
	ctl_print_text(out, name ? name : "?");
	(void)fprintf(out,
	              ": %lld requests ended loaders, %lld bodies are remembered, %lld "
	              "refused\n",
	              (long long)poisoned,
	              (long long)json_integer_value(json_object_get(poison,
	                                                            "remembered")),
	              (long long)json_integer_value(json_object_get(poison, "refused")));
}

static void print_row(FILE *out, json_t *model, int name_width)
{
	json_t *requests = json_object_get(model, "requests");
	const json_t *since = json_object_get(model, "since_ms");
	const char *name = print_find_text(model, "name");
	const char *state = print_find_text(model, "state");
	char age[PRINT_CELL_MAX] = "-";

	print_cell(out, name ? name : "?", name_width);
	(void)fputs("  ", out);
	print_cell(out, state ? state : "?", 10);
	print_count(out, json_object_get(model, "generation"), 10);
	print_count(out, json_object_get(model, "pid"), 8);
	if (json_number_value(since) > 0)
		print_duration(age, sizeof(age), json_number_value(since));
	(void)fprintf(out, "  %8s", age);
	print_count(out, json_object_get(requests, "answered"), 10);
	print_count(out, json_object_get(requests, "failed"), 7);
	print_count(out, json_object_get(requests, "held"), 6);
	print_count(out, json_object_get(requests, "leased"), 6);
	(void)fputc('\n', out);
}

void ctl_print_status(FILE *out, json_t *answer)
{
	json_t *models = json_object_get(answer, "models");
	json_t *device;
	int name_width = 5;
	size_t i;

	for (i = 0; i < json_array_size(models); i++) {
		const char *name = print_find_text(json_array_get(models, i), "name");

		if (name && (int)strlen(name) > name_width)
			name_width = (int)strlen(name);
	}
	if (json_array_size(models) > 0)
		(void)fprintf(out, "%-*s  %-10s  %10s  %8s  %8s  %10s  %7s  %6s  %6s\n",
		              name_width, "MODEL", "STATE", "GENERATION", "PID", "FOR",
		              "ANSWERED", "FAILED", "HELD", "LEASED");
	else
		(void)fprintf(out, "no models\n");
	for (i = 0; i < json_array_size(models); i++)
		print_row(out, json_array_get(models, i), name_width);
	for (i = 0; i < json_array_size(models); i++) {
		json_t *model = json_array_get(models, i);
		json_t *stuck;
		size_t j;

		print_replicas(out, model);
		print_weights(out, model);
		print_other(out, model, "candidate", json_object_get(model, "candidate"));
		print_other(out, model, "retiring", json_object_get(model, "retiring"));
		json_array_foreach(json_object_get(model, "stuck"), j, stuck)
			print_other(out, model, "stuck", stuck);
		print_poison(out, model);
		print_note(out, model, "stale",
		           json_integer_value(json_object_get(model, "generation")) > 0
		                   ? "an input is stale, the last good one is in use"
		                   : "an input is of no use, and nothing serves");
		print_note(out, model, "rollback_off", "no rollback");
		print_note(out, model, "secrets_skipped", "skipped among the secrets");
		print_note(out, model, "last_error", "last error");
	}
	json_array_foreach(json_object_get(json_object_get(answer, "supervisor"),
	                                   "devices"),
	                   i, device) print_device(out, device);
	ctl_print_supervisor(out, json_object_get(answer, "supervisor"));
}

/* Prints a line for each scalar; members of members are named "requests.answered". A key
 * without a unit has that of @outer, the object's name. */
static void print_members(FILE *out, const char *prefix, const char *outer,
                          json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		char label[PRINT_CELL_MAX];

		int bytes = (int)(print_has_bare(object, key) ? strlen(key)
		                                              : print_bare_bytes(key));
		bool has_unit = key[print_bare_bytes(key)] != '\0';

		(void)snprintf(label, sizeof(label), "%s%s%.*s", prefix,
		               *prefix ? "." : "", bytes, key);
		if (json_is_object(value)) {
			print_members(out, label, key, value);
			continue;
		}
		print_cell(out, label, 26);
		(void)fputs("  ", out);
		print_scalar(out, has_unit ? key : outer, value);
		(void)fputc('\n', out);
	}
}

void ctl_print_details(FILE *out, json_t *answer)
{
	json_t *models = json_object_get(answer, "models");

	for (size_t i = 0; i < json_array_size(models); i++)
		print_members(out, "", "", json_array_get(models, i));
}

static void print_keys(FILE *out, json_t *section)
{
	const char *key;
	json_t *value;

	json_object_foreach(section, key, value)
	{
		size_t n = json_is_array(value) ? json_array_size(value) : 1;

		if (json_is_null(value) || strcmp(key, "file") == 0)
			continue;
		for (size_t i = 0; i < n; i++) {
			ctl_print_text(out, key);
			(void)fputs(" = ", out);
			/* Without the units of print_scalar(): texts have theirs. */
			print_scalar(out, "",
			             json_is_array(value) ? json_array_get(value, i)
			                                  : value);
			(void)fputc('\n', out);
		}
	}
}

void ctl_print_config(FILE *out, json_t *config)
{
	const char *name;
	json_t *model;

	print_field(out, "# ", config, "file");
	(void)fputs("\n[supervisor]\n", out);
	print_keys(out, json_object_get(config, "supervisor"));
	json_object_foreach(json_object_get(config, "models"), name, model)
	{
		(void)fputc('\n', out);
		print_field(out, "# ", model, "file");
		(void)fputs("\n[model ", out);
		ctl_print_text(out, name);
		(void)fputs("]\n", out);
		print_keys(out, model);
	}
}
