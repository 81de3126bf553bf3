/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The end of a key's name tells the unit of its value (_bytes, _ms, _s), and is left out
 * where the value shows it. Objects are printed member by member where their order is
 * good enough, so that a new key of moultd needs no change here. First come the helpers,
 * then moultd and its devices, models, receipts, decisions, and the configuration.
 */

#include "supervisor/ctl/print.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#define CELL_MAX 80

void ctl_print_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		(void)fputc(c < 0x20 || c == 0x7f ? '?' : c, out);
	}
}

static void print_duration(char *text, size_t size, double ms)
{
	if (ms < 10)
		(void)snprintf(text, size, "%.1f ms", ms);
	else if (ms < 1000)
		(void)snprintf(text, size, "%.0f ms", ms);
	else if (ms < 120e3)
		(void)snprintf(text, size, "%.2f s", ms / 1e3);
	else if (ms < 7200e3)
		(void)snprintf(text, size, "%.0f min", ms / 60e3);
	else if (ms < 48 * 3600e3)
		(void)snprintf(text, size, "%.0f h", ms / 3600e3);
	else
		(void)snprintf(text, size, "%.0f days", ms / 86400e3);
}

static void print_bytes(char *text, size_t size, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t i = 0;

	while (bytes >= 1024 && i + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		i++;
	}
	(void)snprintf(text, size, i < 2 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
}

static bool has_suffix(const char *text, const char *suffix)
{
	size_t bytes = strlen(text);
	size_t tail = strlen(suffix);

	return bytes > tail && strcmp(text + bytes - tail, suffix) == 0;
}

/* Length of @key without its unit, which the printed value shows. */
static size_t bare_bytes(const char *key)
{
	static const char *const units[] = { "_bytes", "_ms", "_s" };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (has_suffix(key, units[i]))
			return strlen(key) - strlen(units[i]);
	return strlen(key);
}

/* Whether @key without its unit is the name of another member, as of "held_bytes" and
 * "held". */
static bool has_bare(json_t *object, const char *key)
{
	size_t bytes = bare_bytes(key);
	const char *other;
	json_t *value;

	if (key[bytes] == '\0')
		return false;
	json_object_foreach(object, other,
	                    value) if (strlen(other) == bytes &&
	                               strncmp(other, key, bytes) == 0) return true;
	return false;
}

/* Prints a scalar in the unit that its key's name tells. */
static void print_scalar(FILE *out, const char *key, const json_t *value)
{
	char text[CELL_MAX];

	if (json_is_string(value)) {
		ctl_print_text(out, json_string_value(value));
		return;
	}
	if (json_is_number(value) && has_suffix(key, "_bytes"))
		print_bytes(text, sizeof(text), json_number_value(value));
	else if (json_is_number(value) && has_suffix(key, "_ms"))
		print_duration(text, sizeof(text), json_number_value(value));
	else if (json_is_number(value) && has_suffix(key, "_s"))
		print_duration(text, sizeof(text), json_number_value(value) * 1e3);
	else if (json_is_integer(value))
		(void)snprintf(text, sizeof(text), "%lld",
		               (long long)json_integer_value(value));
	else if (json_is_real(value))
		(void)snprintf(text, sizeof(text), "%.3f", json_real_value(value));
	else if (json_is_boolean(value))
		(void)snprintf(text, sizeof(text), "%s",
		               json_is_true(value) ? "yes" : "no");
	else
		(void)snprintf(text, sizeof(text), "-");
	(void)fputs(text, out);
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text && *text ? text : NULL;
}

/* A number right-aligned in a column; a dash where there is none. */
static void print_count(FILE *out, const json_t *value, int width)
{
	if (json_is_integer(value))
		(void)fprintf(out, "  %*lld", width,
		              (long long)json_integer_value(value));
	else
		(void)fprintf(out, "  %*s", width, "-");
}

/* @text without its control characters, padded. */
static void print_cell(FILE *out, const char *text, int width)
{
	int bytes = (int)strlen(text);

	ctl_print_text(out, text);
	(void)fprintf(out, "%*s", bytes < width ? width - bytes : 0, "");
}

static void print_spares(FILE *out, const json_t *spares)
{
	const json_t *spare;
	size_t i;

	json_array_foreach(spares, i, spare)
	{
		const char *engine = text_of(spare, "engine");
		const char *state = text_of(spare, "state");
		const char *error = text_of(spare, "last_error");
		char bytes[CELL_MAX];

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
	const char *name = text_of(device, "name");
	json_int_t xids = json_integer_value(json_object_get(device, "xids"));
	char used[CELL_MAX];
	char total[CELL_MAX];
	char loaders[CELL_MAX];

	ctl_print_text(out, name ? name : "?");
	if (text_of(device, "uuid")) {
		(void)fputs(" (", out);
		ctl_print_text(out, text_of(device, "uuid"));
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
	const char *version = text_of(supervisor, "version");
	const char *config_error = text_of(supervisor, "config_error");
	const char *no_groups = text_of(supervisor, "no_loader_groups");
	char text[CELL_MAX];

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
	const char *name = text_of(model, "name");
	const char *text = text_of(model, key);

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
	const char *name = text_of(model, "name");
	const char *state = text_of(other, "state");

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
	const char *name = text_of(model, "name");

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
	const char *why_private = text_of(weights, "why_private");
	const char *name = text_of(model, "name");
	char text[CELL_MAX];

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
	const char *name = text_of(model, "name");

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
	const char *name = text_of(model, "name");
	const char *state = text_of(model, "state");
	char age[CELL_MAX] = "-";

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
		const char *name = text_of(json_array_get(models, i), "name");

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
		char label[CELL_MAX];

		int bytes = (int)(has_bare(object, key) ? strlen(key) : bare_bytes(key));
		bool has_unit = key[bare_bytes(key)] != '\0';

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

static void print_time(FILE *out, const json_t *time_ms)
{
	time_t seconds = (time_t)(json_integer_value(time_ms) / 1000);
	struct tm local;
	char text[CELL_MAX];

	if (json_is_integer(time_ms) && localtime_r(&seconds, &local) &&
	    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local) > 0)
		(void)fprintf(out, "%s  ", text);
}

static void print_side(FILE *out, json_t *side)
{
	const json_t *generation = json_object_get(side, "generation");
	const json_t *pid = json_object_get(side, "pid");

	if (!json_is_object(side)) {
		(void)fputs("none", out);
		return;
	}
	(void)fprintf(out, "generation %lld (pid %lld)",
	              (long long)json_integer_value(generation),
	              (long long)json_integer_value(pid));
}

/* "  phases    spawn 3.1 ms, stage 410 ms": every number of @object that is not zero. */
static void print_phases(FILE *out, json_t *object)
{
	const char *join = "  phases    ";
	char text[CELL_MAX];
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		if (json_number_value(value) <= 0)
			continue;
		print_duration(text, sizeof(text), json_number_value(value));
		(void)fputs(join, out);
		ctl_print_text(out, key);
		(void)fprintf(out, " %s", text);
		join = ", ";
	}
	if (strcmp(join, ", ") == 0)
		(void)fputc('\n', out);
}

/* "available 7.1 GiB before, 6.6 GiB at the peak, 7.1 GiB after", when it is known. */
static void print_measure(FILE *out, const json_t *memory, const char *key)
{
	static const struct {
		const char *key;
		const char *label;
	} samples[] = { { "before", "before" },
		        { "peak", "at the peak" },
		        { "after", "after" } };
	char text[CELL_MAX];
	bool is_known = false;

	/* A candidate that failed has no peak, a first one no before. */
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		const json_t *sample = json_object_get(memory, samples[i].key);
		double bytes = json_number_value(json_object_get(sample, key));

		if (bytes <= 0)
			continue;
		if (!is_known)
			(void)fprintf(out, "  memory    %-11.*s", (int)bare_bytes(key),
			              key);
		print_bytes(text, sizeof(text), bytes);
		(void)fprintf(out, "%s %s %s", is_known ? "," : "", text,
		              samples[i].label);
		is_known = true;
	}
	if (is_known)
		(void)fputc('\n', out);
}

static void print_memory(FILE *out, const json_t *memory)
{
	const char *key;
	json_t *value;

	json_object_foreach(json_object_get(memory, "before"), key, value)
		print_measure(out, memory, key);
}

static void print_field(FILE *out, const char *label, json_t *object, const char *key)
{
	const char *text = text_of(object, key);

	if (!text)
		return;
	(void)fputs(label, out);
	ctl_print_text(out, text);
}

static void print_gpu_time(FILE *out, const char *label, const json_t *ms)
{
	char text[CELL_MAX];

	if (!json_is_number(ms))
		return;
	print_duration(text, sizeof(text), json_number_value(ms));
	(void)fprintf(out, "%s%s", label, text);
}

/* "  gpu       cuda:0 in use: 4.0 GiB before, 8.0 GiB at the peak, 4.0 GiB after" and, on a
 * line of its own, what became of the memory of the loader that went. */
static void print_gpu(FILE *out, json_t *gpu)
{
	static const struct {
		const char *key;
		const char *label;
	} rows[] = { { "before_bytes", "before" },
		     { "peak_bytes", "at the peak" },
		     { "after_bytes", "after" } };
	json_t *reclaim = json_object_get(gpu, "reclaim");
	const char *verdict = text_of(reclaim, "verdict");
	const char *device = text_of(gpu, "device");
	const json_t *xid = json_object_get(reclaim, "xid");
	double prefilled = json_number_value(json_object_get(gpu, "prefilled_bytes"));

	if (!device)
		return;
	(void)fputs("  gpu       ", out);
	ctl_print_text(out, device);
	(void)fputs(" in use:", out);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const json_t *bytes = json_object_get(gpu, rows[i].key);
		char text[CELL_MAX] = "unknown";

		if (json_is_number(bytes))
			print_bytes(text, sizeof(text), json_number_value(bytes));
		(void)fprintf(out, "%s %s %s", i ? "," : "", text, rows[i].label);
	}
	if (prefilled > 0) {
		char text[CELL_MAX];

		print_bytes(text, sizeof(text), prefilled);
		(void)fprintf(out, "; %s of weights came before the pause", text);
	}
	(void)fputc('\n', out);
	if (!verdict || strcmp(verdict, "none") == 0)
		return;
	print_field(out, "  reclaim   ", reclaim, "verdict");
	print_gpu_time(out, "; reaped after ", json_object_get(reclaim, "reaped_ms"));
	print_gpu_time(out, ", off the driver's list after ",
	               json_object_get(reclaim, "unlisted_ms"));
	print_gpu_time(out, ", bytes back after ", json_object_get(reclaim, "freed_ms"));
	if (json_is_integer(xid))
		(void)fprintf(out, "; the card had Xid %lld",
		              (long long)json_integer_value(xid));
	print_field(out, ": ", reclaim, "residue");
	(void)fputc('\n', out);
}

static void print_orphans(FILE *out, json_t *orphans)
{
	json_int_t n = json_integer_value(json_object_get(orphans, "processes"));
	json_int_t alive = json_integer_value(json_object_get(orphans, "alive"));
	char text[CELL_MAX];

	if (n == 0)
		return;
	print_bytes(text, sizeof(text),
	            json_number_value(json_object_get(orphans, "anon_bytes")));
	(void)fprintf(out, "  orphans   %lld left by loaders, with %s, and killed",
	              (long long)n, text);
	if (alive > 0)
		(void)fprintf(out, "; %lld survive that", (long long)alive);
	print_field(out, ": ", orphans, "who");
	(void)fputc('\n', out);
}

static void print_requests(FILE *out, json_t *requests)
{
	const char *join = "  requests  ";
	const char *key;
	json_t *value;

	json_object_foreach(requests, key, value)
	{
		(void)fprintf(out, "%s%lld ", join, (long long)json_integer_value(value));
		ctl_print_text(out, key);
		join = ", ";
	}
	if (strcmp(join, ", ") == 0)
		(void)fputc('\n', out);
}

/* "  memory    need 64 MiB, old 64 MiB": every size of @decision that is known. */
static void print_sizes(FILE *out, const char *label, json_t *decision)
{
	const char *join = label;
	const char *key;
	json_t *value;

	json_object_foreach(decision, key, value)
	{
		char text[CELL_MAX];

		if (!json_is_integer(value))
			continue;
		print_bytes(text, sizeof(text), json_number_value(value));
		(void)fprintf(out, "%s%.*s %s", join, (int)bare_bytes(key), key, text);
		join = ", ";
	}
	(void)fputc('\n', out);
}

void ctl_print_decision(FILE *out, json_t *answer)
{
	json_t *decision = json_object_get(answer, "decision");
	json_t *gpu = json_object_get(answer, "gpu_decision");

	print_field(out, "", answer, "model");
	print_field(out, ": ", decision, "strategy");
	print_field(out, ": ", decision, "why");
	(void)fputc('\n', out);
	print_sizes(out, "  memory    ", decision);
	if (json_is_object(gpu))
		print_sizes(out, "  gpu       ", gpu);
}

void ctl_print_receipt(FILE *out, json_t *receipt)
{
	json_int_t golden = json_integer_value(json_object_get(receipt, "golden"));
	json_t *phases = json_object_get(receipt, "phases_ms");
	const char *model = text_of(receipt, "model");
	const char *outcome = text_of(receipt, "outcome");
	char total[CELL_MAX];

	print_time(out, json_object_get(receipt, "time_ms"));
	ctl_print_text(out, model ? model : "?");
	(void)fputs(": ", out);
	print_side(out, json_object_get(receipt, "from"));
	(void)fputs(" -> ", out);
	print_side(out, json_object_get(receipt, "to"));
	(void)fputs(": ", out);
	ctl_print_text(out, outcome ? outcome : "?");
	if (json_number_value(json_object_get(phases, "total")) > 0) {
		print_duration(total, sizeof(total),
		               json_number_value(json_object_get(phases, "total")));
		(void)fprintf(out, " after %s", total);
	}
	(void)fputc('\n', out);
	print_field(out, "  cause     ", receipt, "cause");
	print_field(out, ", strategy ", receipt, "strategy");
	print_field(out, ": ", json_object_get(receipt, "decision"), "why");
	(void)fputc('\n', out);
	if (text_of(receipt, "reason")) {
		print_field(out, "  reason    ", receipt, "reason");
		(void)fputc('\n', out);
	}
	if (json_is_true(json_object_get(receipt, "spare")))
		(void)fputs("  spare     the loader had been started ahead\n", out);
	if (golden > 0)
		(void)fprintf(out, "  golden    %lld requests answered as expected\n",
		              (long long)golden);
	print_phases(out, phases);
	print_memory(out, json_object_get(receipt, "memory"));
	print_gpu(out, json_object_get(receipt, "gpu"));
	if (text_of(receipt, "death")) {
		print_field(out, "  before    ", receipt, "death");
		(void)fputc('\n', out);
	}
	print_orphans(out, json_object_get(receipt, "orphans"));
	print_requests(out, json_object_get(receipt, "requests"));
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
