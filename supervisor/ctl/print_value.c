/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/ctl/print_value.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "supervisor/ctl/print.h"

void ctl_print_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		(void)fputc(c < 0x20 || c == 0x7f ? '?' : c, out);
	}
}

void print_duration(char *text, size_t size, double ms)
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

void print_bytes(char *text, size_t size, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t i = 0;

	while (bytes >= 1024 && i + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		i++;
	}
	(void)snprintf(text, size, i < 2 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
}

static bool print_ends_in(const char *text, const char *suffix)
{
	size_t bytes = strlen(text);
	size_t tail = strlen(suffix);

	return bytes > tail && strcmp(text + bytes - tail, suffix) == 0;
}

size_t print_bare_bytes(const char *key)
{
	static const char *const units[] = { "_bytes", "_ms", "_s" };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (print_ends_in(key, units[i]))
			return strlen(key) - strlen(units[i]);
	return strlen(key);
}

bool print_has_bare(json_t *object, const char *key)
{
	size_t bytes = print_bare_bytes(key);
	const char *other;
	json_t *value;

	if (key[bytes] == '\0')
		return false;
	json_object_foreach(object, other,
	                    value) if (strlen(other) == bytes &&
	                               strncmp(other, key, bytes) == 0) return true;
	return false;
}

void print_scalar(FILE *out, const char *key, const json_t *value)
{
	char text[PRINT_CELL_MAX];

	if (json_is_string(value)) {
		ctl_print_text(out, json_string_value(value));
		return;
	}
	if (json_is_number(value) && print_ends_in(key, "_bytes"))
		print_bytes(text, sizeof(text), json_number_value(value));
	else if (json_is_number(value) && print_ends_in(key, "_ms"))
		print_duration(text, sizeof(text), json_number_value(value));
	else if (json_is_number(value) && print_ends_in(key, "_s"))
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

static const json_t *find_member(const json_t *object, const char *path, size_t bytes)
{
	const char *dot = memchr(path, '.', bytes);
	size_t n = dot ? (size_t)(dot - path) : bytes;
	const json_t *member = json_object_getn(object, path, n);

	return dot ? find_member(member, dot + 1, bytes - n - 1) : member;
}

static bool is_there(const json_t *member)
{
	return member && !json_is_null(member) &&
	       !(json_is_string(member) && json_string_length(member) == 0);
}

bool print_has(const json_t *object, const char *path)
{
	return is_there(find_member(object, path, strlen(path)));
}

double print_find_number(const json_t *object, const char *path)
{
	return json_number_value(find_member(object, path, strlen(path)));
}

/* Prints the member that "{PATH}" at @form names. Returns the end of that. */
static const char *print_member(FILE *out, const json_t *object, const char *form)
{
	size_t bytes = strcspn(form, "}");
	char path[PRINT_CELL_MAX];
	char *dot;

	(void)snprintf(path, sizeof(path), "%.*s", (int)bytes - 1, form + 1);
	object = find_member(object, path, strlen(path));
	/* A member without a unit has that of the object around it. */
	while (path[print_bare_bytes(path)] == '\0' && (dot = strrchr(path, '.')))
		*dot = '\0';
	print_scalar(out, path, object);
	return form + bytes;
}

/* Whether @object has all that is named between @form and @end. */
static bool has_members(const json_t *object, const char *form, const char *end)
{
	while ((form = memchr(form, '{', (size_t)(end - form))) != NULL) {
		form++;
		if (!is_there(find_member(object, form, strcspn(form, "}"))))
			return false;
	}
	return true;
}

void print_form(FILE *out, const json_t *object, const char *form)
{
	for (; *form; form++) {
		const char *end = form + strcspn(form, "]|");

		if (*form == '{') {
			form = print_member(out, object, form);
		} else if (*form == '[' && !has_members(object, form, end)) {
			/* Goes on behind the bar, if there is one. */
			form = end;
		} else if (*form == '|') {
			/* The half before the bar was printed. */
			form = strchr(form, ']');
		} else if (*form != '[' && *form != ']') {
			(void)fputc(*form, out);
		}
	}
}

void print_cell(FILE *out, const char *text, int width)
{
	int bytes = (int)strlen(text);

	ctl_print_text(out, text);
	(void)fprintf(out, "%*s", bytes < width ? width - bytes : 0, "");
}
