/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/control/command.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define NAMES_BYTES_MAX 512

struct names {
	char text[NAMES_BYTES_MAX];
	size_t used;
};

static void names_add(struct names *names, const char *name)
{
	int n = snprintf(names->text + names->used, sizeof(names->text) - names->used,
	                 "%s%s", names->used ? ", " : "", name);

	if (n > 0 && names->used + (size_t)n < sizeof(names->text))
		names->used += (size_t)n;
}

static int refuse_command(const struct control_command *table, const char *name,
                          struct err *err)
{
	struct names known = { .used = 0 };

	for (; table->name; table++)
		names_add(&known, table->name);
	return err_set(err, -ENOENT, "'%.60s' is no command: known are %s", name,
	               known.text);
}

static int refuse_member(const struct control_command *command, const char *name,
                         struct err *err)
{
	struct names known = { .used = 0 };

	for (const struct control_member *member = command->members; member->name;
	     member++)
		names_add(&known, member->name);
	if (known.used == 0)
		return err_set(err, -EINVAL,
		               "%s: '%.60s' is not expected: it takes nothing",
		               command->name, name);
	return err_set(err, -EINVAL, "%s: '%.60s' is not expected: it takes %s",
	               command->name, name, known.text);
}

static bool is_of_type(const json_t *value, enum control_type type)
{
	switch (type) {
	case CONTROL_TYPE_TEXT:
		return json_is_string(value);
	case CONTROL_TYPE_NATURAL:
		return json_is_integer(value) && json_integer_value(value) >= 1;
	case CONTROL_TYPE_BOOL:
		return json_is_boolean(value);
	}
	return false;
}

static int check_member(const struct control_command *command, const char *name,
                        const json_t *value, struct err *err)
{
	static const char *const wanted[] = {
		[CONTROL_TYPE_TEXT] = "a text",
		[CONTROL_TYPE_NATURAL] = "a whole number of at least 1",
		[CONTROL_TYPE_BOOL] = "true or false",
	};
	const struct control_member *member = command->members;

	while (member->name && strcmp(member->name, name) != 0)
		member++;
	if (!member->name)
		return refuse_member(command, name, err);
	if (json_is_null(value) || is_of_type(value, member->type))
		return 0;
	return err_set(err, -EINVAL, "%s: '%s' must be %s", command->name, name,
	               wanted[member->type]);
}

const struct control_command *control_command_find(const struct control_command *table,
                                                   const json_t *args, struct err *err)
{
	const char *asked = json_string_value(json_object_get(args, "command"));
	const struct control_command *command = table;
	const char *name;
	json_t *value;

	if (!asked) {
		(void)err_set(err, -EINVAL,
		              "the command must be an object with \"command\": NAME");
		return NULL;
	}
	while (command->name && strcmp(command->name, asked) != 0)
		command++;
	if (!command->name) {
		(void)refuse_command(table, asked, err);
		return NULL;
	}
	/* The cast: the loop of jansson takes no const object, although it changes
	 * nothing. */
	json_object_foreach((json_t *)(uintptr_t)args, name, value)
	{
		if (strcmp(name, "command") != 0 &&
		    check_member(command, name, value, err) < 0)
			return NULL;
	}
	return command;
}
