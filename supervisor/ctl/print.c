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

/* "cuda:0 (GPU-...): 320.0 MiB of 448.0 MiB in use, 64.0 MiB by loaders" */
static void print_device(FILE *out, const json_t *device)
{
	print_form(out, device, "{name}[ ({uuid})]");
	if (json_is_true(json_object_get(device, "known")))
		print_form(out, device,
		           ": {used_bytes} of {total_bytes} in use, {loaders_bytes} by "
		           "loaders");
	else
		(void)fputs(": the driver does not say what is in use", out);
	if (print_find_number(device, "xids") > 0)
		print_form(out, device,
		           "; {xids} critical errors, the last of them Xid {last_xid}");
	(void)fputc('\n', out);
}

static void print_supervisor(FILE *out, const json_t *supervisor)
{
	const json_t *spare;
	const json_t *name;
	size_t i;

	print_form(out, supervisor,
	           "moultd [{version}|of unknown version][, pid {pid}][, up for "
	           "{uptime_s}]\n");
	json_array_foreach(json_object_get(supervisor, "spares"), i, spare) print_form(
		out, spare,
		"spare loader of engine {engine}[, {python}][ with {preload}]: "
		"{state}, pid {pid}, "
		"{anon_bytes}, taken {taken} times, lost {lost} times"
		"[; last error: {last_error}]\n");
	json_array_foreach(json_object_get(supervisor, "unloaded"), i, name)
	{
		(void)fputs("unloaded by request: model ", out);
		print_cell(out, json_string_value(name), 0);
		(void)fputc('\n', out);
	}
	print_form(out, supervisor,
	           "[TLS certificate of {tls.subject}, good until {tls.not_after}\n]"
	           "[{tokens.count} tokens of {tokens.path}\n]");
}

static void print_supervisor_troubles(FILE *out, const json_t *supervisor)
{
	bool is_kept = json_is_true(json_object_get(supervisor, "config_kept"));

	print_form(out, supervisor,
	           "[loaders have no control groups: {no_loader_groups}\n]"
	           "[open to everybody: {http.open}\n]"
	           "[open to everybody: {admin.open}\n]"
	           "[TLS certificate: {tls.late}\n]"
	           "[TLS certificate refused, the last good one is in use: {tls.error}\n]"
	           "[tokens refused, the last good ones are in use: {tokens.error}\n]");
	print_form(
		out, supervisor,
		is_kept ? "[configuration refused, the last good one of an earlier run "
			  "is in use: {config_error}\n]"
			: "[configuration refused, the last good one is in use: "
			  "{config_error}\n]");
}

void ctl_print_version(FILE *out, json_t *answer)
{
	const json_t *supervisor = json_object_get(answer, "supervisor");

	print_supervisor(out, supervisor);
	print_supervisor_troubles(out, supervisor);
}

/* Walls that stand need no line. */
static void print_walls(FILE *out, const json_t *walls, const json_t *model)
{
	const char *sandbox = json_string_value(json_object_get(walls, "sandbox"));
	const char *missing = json_string_value(json_object_get(walls, "missing"));

	if (sandbox && strcmp(sandbox, "off") == 0)
		print_form(out, model,
		           "{name}: SANDBOX IS OFF: the model may do whatever moultd "
		           "may\n");
	else if (missing && strstr(missing, "kernel"))
		print_form(out, model, "{name}: walls are missing: {walls.missing}\n");
}

/* Prints what an operator may have to do something about. */
static void print_troubles(FILE *out, const json_t *model)
{
	const json_t *stuck;
	size_t i;

	print_walls(out, json_object_get(model, "walls"), model);
	json_array_foreach(json_object_get(model, "stuck"), i, stuck)
	{
		print_form(out, model, "{name}");
		print_form(out, stuck, ": stuck generation {generation} is {state}\n");
	}
	if (print_find_number(model, "requests.failures.poison") > 0)
		print_form(out, model,
		           "{name}: {requests.failures.poison} requests ended loaders, "
		           "{poison.remembered} bodies are remembered, {poison.refused} "
		           "refused\n");
	print_form(out, model,
	           print_find_number(model, "generation") > 0
	                   ? "[{name}: an input is stale, the last good one is in use: "
	                     "{stale}\n]"
	                   : "[{name}: an input is of no use, and nothing serves: "
	                     "{stale}\n]");
	print_form(out, model,
	           "[{name}: does not serve: {not_serving}\n]"
	           "[{name}: skipped among the secrets: {secrets_skipped}\n]"
	           "[{name}: last error: {last_error}\n]");
}

/* "echo: generation 8 has been loading for 3.20 s: read, 310.0 MiB of 512.0 MiB, 60 %" */
static void print_load(FILE *out, const json_t *model)
{
	const json_t *load = json_object_get(model, "load");

	if (!json_is_object(load))
		return;
	print_form(out, model, "{name}: ");
	print_form(out, load,
	           print_has(load, "window_ms")
	                   ? "generation {generation} has been on trial for {elapsed_ms} "
	                     "of {window_ms}\n"
	                   : "generation {generation} has been loading for {elapsed_ms}: "
	                     "{phase}[, {read_bytes} of {total_bytes}][, {percent} %]\n");
}

/* Prints the lines for which a row of the table has no room. */
static void print_notes(FILE *out, const json_t *model)
{
	if (print_find_number(model, "replicas.wanted") > 1 ||
	    print_find_number(model, "replicas.serving") > 1)
		print_form(out, model,
		           "{name}: {replicas.serving} of {replicas.wanted} loaders "
		           "serve\n");
	if (print_has(model, "weights.why_private"))
		print_form(out, model,
		           "{name}: weights are private to each loader: "
		           "{weights.why_private}\n");
	else if (print_find_number(model, "weights.device_bytes") > 0)
		print_form(
			out, model,
			"{name}: {weights.device_bytes} of weights on the GPU, shared by "
			"its loaders\n");
	else if (print_find_number(model, "weights.shared_bytes") > 0)
		print_form(out, model,
		           "{name}: {weights.shared_bytes} of weights, shared by its "
		           "loaders\n");
	print_load(out, model);
	print_form(out, model,
	           "[{name}: candidate generation {candidate.generation} is "
	           "{candidate.state}\n]"
	           "[{name}: retiring generation {retiring.generation} is "
	           "{retiring.state}\n]"
	           "[{name}: no rollback: {rollback_off}\n]");
}

static void print_count(FILE *out, const json_t *object, const char *key, int width)
{
	const json_t *value = json_object_get(object, key);

	if (json_is_integer(value))
		(void)fprintf(out, "  %*lld", width,
		              (long long)json_integer_value(value));
	else
		(void)fprintf(out, "  %*s", width, "-");
}

static void print_row(FILE *out, const json_t *model, int name_width)
{
	const json_t *requests = json_object_get(model, "requests");
	const char *name = json_string_value(json_object_get(model, "name"));
	const char *state = json_string_value(json_object_get(model, "state"));
	double since_ms = print_find_number(model, "since_ms");
	char age[PRINT_CELL_MAX] = "-";

	print_cell(out, name ? name : "?", name_width);
	(void)fputs("  ", out);
	print_cell(out, state ? state : "?", 10);
	print_count(out, model, "generation", 10);
	print_count(out, model, "pid", 8);
	if (since_ms > 0)
		print_duration(age, sizeof(age), since_ms);
	(void)fprintf(out, "  %8s", age);
	print_count(out, requests, "answered", 10);
	print_count(out, requests, "failed", 7);
	print_count(out, requests, "held", 6);
	print_count(out, requests, "leased", 6);
	(void)fputc('\n', out);
}

/* Whether it is among the first that somebody who looks has to see. */
static bool print_is_troubled(const json_t *model)
{
	const char *state = json_string_value(json_object_get(model, "state"));

	return !state || strcmp(state, "ready") != 0 || print_has(model, "stale") ||
	       print_has(model, "not_serving") || print_has(model, "last_error") ||
	       json_array_size(json_object_get(model, "stuck")) > 0;
}

/* Prints the row of each model: with @is_sorted, those in trouble before the others. */
static void print_table(FILE *out, const json_t *models, bool is_sorted)
{
	const json_t *model;
	int name_width = 5;
	size_t i;

	json_array_foreach(models, i, model)
	{
		int bytes = (int)json_string_length(json_object_get(model, "name"));

		name_width = bytes > name_width ? bytes : name_width;
	}
	if (json_array_size(models) > 0)
		(void)fprintf(out, "%-*s  %-10s  %10s  %8s  %8s  %10s  %7s  %6s  %6s\n",
		              name_width, "MODEL", "STATE", "GENERATION", "PID", "FOR",
		              "ANSWERED", "FAILED", "HELD", "LEASED");
	else
		(void)fprintf(out, "no models\n");
	for (int pass = 0; pass < (is_sorted ? 2 : 1); pass++)
		json_array_foreach(models, i,
		                   model) if (!is_sorted ||
		                              print_is_troubled(model) == (pass == 0))
			print_row(out, model, name_width);
}

void ctl_print_status(FILE *out, json_t *answer)
{
	const json_t *models = json_object_get(answer, "models");
	const json_t *supervisor = json_object_get(answer, "supervisor");
	const json_t *model;
	const json_t *device;
	size_t i;

	print_table(out, models, false);
	json_array_foreach(models, i, model)
	{
		print_notes(out, model);
		print_troubles(out, model);
	}
	json_array_foreach(json_object_get(supervisor, "devices"), i, device)
		print_device(out, device);
	print_supervisor(out, supervisor);
	print_supervisor_troubles(out, supervisor);
}

void ctl_print_watch(FILE *out, const struct ctl_looks *looks)
{
	const json_t *models = json_object_get(looks->answer, "models");
	const json_t *supervisor = json_object_get(looks->answer, "supervisor");
	const json_t *model;
	const json_t *device;
	size_t n_ready = 0;
	size_t i;

	json_array_foreach(models, i, model) n_ready += !print_is_troubled(model);
	print_form(out, supervisor, "moultd {version}, pid {pid}, up for {uptime_s}");
	(void)fprintf(out, ", at %s: %zu of %zu models are well\n", looks->time, n_ready,
	              json_array_size(models));
	print_supervisor_troubles(out, supervisor);
	json_array_foreach(models, i, model) print_troubles(out, model);
	json_array_foreach(models, i, model) print_load(out, model);
	(void)fputc('\n', out);
	print_table(out, models, true);
	json_array_foreach(json_object_get(supervisor, "devices"), i, device)
		print_device(out, device);
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
		/* Lists are for programs, or have lines of their own. */
		if (json_array_size(value) > 0)
			continue;
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

void ctl_print_config(FILE *out, json_t *answer)
{
	const json_t *config = json_object_get(answer, "config");
	const char *name;
	json_t *model;

	print_form(out, config, "[# {file}]\n");
	(void)fputs("[supervisor]\n", out);
	print_keys(out, json_object_get(config, "supervisor"));
	json_object_foreach(json_object_get(config, "models"), name, model)
	{
		print_form(out, model, "\n[# {file}]\n");
		(void)fputs("[model ", out);
		ctl_print_text(out, name);
		(void)fputs("]\n", out);
		print_keys(out, model);
	}
}

void ctl_print_dump(FILE *out, json_t *answer)
{
	if (json_dumpf(answer, out, JSON_INDENT(2)) == 0)
		(void)fputc('\n', out);
}
