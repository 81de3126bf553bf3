/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Prints the state table of a generation as Promela, so that the model runs on the very
 * table that moultd runs on: the names of states and events, and
 *
 *	inline generation_next(from, event, to)
 */

#include <ctype.h>
#include <stdio.h>

#include "supervisor/loaders/generation.h"

static void print_name(const char *prefix, const char *name)
{
	(void)fputs(prefix, stdout);
	for (; *name; name++)
		(void)putchar(toupper((unsigned char)*name));
}

static void print_state(unsigned int state)
{
	print_name("GENERATION_", generation_state_name((enum generation_state)state));
}

static void print_event(unsigned int event)
{
	print_name("GENERATION_EV_", generation_event_name((enum generation_event)event));
}

static void print_names(void)
{
	(void)fputs("mtype:generation_state = {\n", stdout);
	for (unsigned int state = 0; state < GENERATION_STATE_COUNT; state++) {
		print_state(state);
		(void)puts(state + 1 < GENERATION_STATE_COUNT ? "," : "\n};");
	}
	(void)fputs("mtype:generation_event = {\n", stdout);
	for (unsigned int event = 0; event < GENERATION_EVENT_COUNT; event++) {
		print_event(event);
		(void)puts(event + 1 < GENERATION_EVENT_COUNT ? "," : "\n};");
	}
}

static void print_row(unsigned int from)
{
	(void)fputs("\t:: from == ", stdout);
	print_state(from);
	(void)puts(" ->\n\t\tif");
	for (unsigned int event = 0; event < GENERATION_EVENT_COUNT; event++) {
		enum generation_state to = generation_next((enum generation_state)from,
		                                           (enum generation_event)event);

		if (to == GENERATION_NONE)
			continue;
		(void)fputs("\t\t:: event == ", stdout);
		print_event(event);
		(void)fputs(" -> to = ", stdout);
		print_state(to);
		(void)putchar('\n');
	}
	(void)puts("\t\t:: else -> to = GENERATION_NONE\n\t\tfi");
}

int main(void)
{
	print_names();
	(void)puts("inline generation_next(from, event, to)\n{\n\td_step {\n\tif");
	for (unsigned int from = 0; from < GENERATION_STATE_COUNT; from++)
		print_row(from);
	(void)puts("\tfi\n\t}\n}");
	return 0;
}
