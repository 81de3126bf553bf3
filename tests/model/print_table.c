/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Prints the tables of a generation and of a reload as Promela, so that the model runs on
 * the very rows that moultd runs on: the names, and
 *
 *	inline generation_next(from, event, to)
 *	inline reload_do(from, event, to)
 *	RELOAD_MAY_FOLLOW(from, next)
 *	RELOAD_HAS_CANDIDATE(step)
 */

#include <ctype.h>
#include <stdio.h>

#include "supervisor/loaders/generation.h"
#include "supervisor/parts/reload_table.h"

/* One of the enumerations: how many names, their prefix, the name of each. */
struct names {
	const char *type;
	const char *prefix;
	unsigned int count;
	const char *(*name)(unsigned int value);
};

static const char *state_name(unsigned int value)
{
	return generation_state_name((enum generation_state)value);
}

static const char *event_name(unsigned int value)
{
	return generation_event_name((enum generation_event)value);
}

static const char *step_name(unsigned int value)
{
	return reload_step_name((enum reload_step)value);
}

static const char *reload_event(unsigned int value)
{
	return reload_event_name((enum reload_event)value);
}

static const char *action_name(unsigned int value)
{
	return reload_action_name((enum reload_action)value);
}

static const struct names states = { "generation_state", "GENERATION_",
	                             GENERATION_STATE_COUNT, state_name };
static const struct names events = { "generation_event", "GENERATION_EV_",
	                             GENERATION_EVENT_COUNT, event_name };
static const struct names steps = { "reload_step", "RELOAD_", RELOAD_STEP_COUNT,
	                            step_name };
static const struct names reload_events = { "reload_event", "RELOAD_EV_",
	                                    RELOAD_EVENT_COUNT, reload_event };
static const struct names actions = { "reload_action", "RELOAD_DO_", RELOAD_ACTION_COUNT,
	                              action_name };

static void print_name(const struct names *names, unsigned int value)
{
	(void)fputs(names->prefix, stdout);
	for (const char *name = names->name(value); *name; name++)
		(void)putchar(toupper((unsigned char)*name));
}

static void print_names(const struct names *names)
{
	(void)printf("mtype:%s = {\n", names->type);
	for (unsigned int value = 0; value < names->count; value++) {
		print_name(names, value);
		(void)puts(value + 1 < names->count ? "," : "\n};");
	}
}

static unsigned int next_state(unsigned int state, unsigned int event)
{
	return generation_next((enum generation_state)state,
	                       (enum generation_event)event);
}

static unsigned int next_action(unsigned int step, unsigned int event)
{
	return reload_action((enum reload_step)step, (enum reload_event)event);
}

/* The cells of a table of @rows and @columns that hold another value than 0. */
static void print_table(const char *head, const struct names *rows,
                        const struct names *columns, const struct names *values,
                        unsigned int (*cell)(unsigned int row, unsigned int column))
{
	(void)printf("inline %s\n{\n\td_step {\n\tif\n", head);
	for (unsigned int row = 0; row < rows->count; row++) {
		(void)fputs("\t:: from == ", stdout);
		print_name(rows, row);
		(void)puts(" ->\n\t\tif");
		for (unsigned int column = 0; column < columns->count; column++) {
			unsigned int value = cell(row, column);

			if (value == 0)
				continue;
			(void)fputs("\t\t:: event == ", stdout);
			print_name(columns, column);
			(void)fputs(" -> to = ", stdout);
			print_name(values, value);
			(void)putchar('\n');
		}
		(void)fputs("\t\t:: else -> to = ", stdout);
		print_name(values, 0);
		(void)puts("\n\t\tfi");
	}
	(void)puts("\tfi\n\t}\n}");
}

/* Expressions: @next may come after @from; there is a candidate in @step. */
static void print_order(void)
{
	(void)puts("#define RELOAD_MAY_FOLLOW(from, next) (false \\");
	for (unsigned int from = 0; from < RELOAD_STEP_COUNT; from++) {
		for (unsigned int next = 0; next < RELOAD_STEP_COUNT; next++) {
			if (!reload_may_follow((enum reload_step)from,
			                       (enum reload_step)next))
				continue;
			(void)fputs("\t|| (from == ", stdout);
			print_name(&steps, from);
			(void)fputs(" && next == ", stdout);
			print_name(&steps, next);
			(void)puts(") \\");
		}
	}
	(void)puts("\t)");
	(void)puts("#define RELOAD_HAS_CANDIDATE(step) (false \\");
	for (unsigned int step = 0; step < RELOAD_STEP_COUNT; step++) {
		if (!reload_has_candidate((enum reload_step)step))
			continue;
		(void)fputs("\t|| step == ", stdout);
		print_name(&steps, step);
		(void)puts(" \\");
	}
	(void)puts("\t)");
}

int main(void)
{
	print_names(&states);
	print_names(&events);
	print_names(&steps);
	print_names(&reload_events);
	print_names(&actions);
	print_table("generation_next(from, event, to)", &states, &events, &states,
	            next_state);
	print_table("reload_do(from, event, to)", &steps, &reload_events, &actions,
	            next_action);
	print_order();
	return 0;
}
