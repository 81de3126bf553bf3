/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command line is read against ctl_commands: one row has all that moultctl knows of a
 * command, from its arguments and options to the function that prints its answer. Options may
 * stand anywhere; the other words are the command, its argument and its number.
 */

#include "supervisor/ctl/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/ctl/inspect/inspect.h"
#include "supervisor/ctl/print.h"

#define CTL_TIMEOUT_MAX_S  86400
#define CTL_INTERVAL_S     1
#define CTL_INTERVAL_MAX_S 3600

enum ctl_option {
	CTL_OPTION_JSON = 256,
	CTL_OPTION_WAIT,
	CTL_OPTION_EXPLAIN,
	CTL_OPTION_DIRECTORY,
	CTL_OPTION_WATCH,
	CTL_OPTION_ONCE,
	CTL_OPTION_VERSION,
};

/* clang-format would break the lines of the usage elsewhere. */
/* clang-format off */
const struct ctl_command ctl_commands[] = {
	{ .name = "status", .argument = "model", .takes = CTL_TAKES_WATCH,
	  .print = ctl_print_status, .print_one = ctl_print_details,
	  .show = ctl_print_watch,
	  .usage = "  status [MODEL]           what serves, and what is wrong\n"
		   "  status [MODEL] --watch[=SECONDS]\n"
		   "                           the same again and again, trouble and loads first\n" },
	{ .name = "top", .takes = CTL_TAKES_WATCH | CTL_TAKES_ONCE, .show = ctl_print_top,
	  .usage = "  top [--watch=SECONDS] [--once]\n"
		   "                           rates, waiting times and memory of all models\n" },
	{ .name = "reload", .argument = "model", .takes = CTL_TAKES_WAIT | CTL_TAKES_EXPLAIN,
	  .usage = "  reload [MODEL] [--wait]  a new generation of one model, or of all\n"
		   "  reload [MODEL] --explain the way it would take and why; nothing is done\n" },
	{ .name = "rollback", .argument = "model", .needs_argument = true,
	  .takes = CTL_TAKES_WAIT,
	  .usage = "  rollback MODEL [--wait]  back to what served before\n" },
	{ .name = "scale", .argument = "model", .number = "replicas", .needs_argument = true,
	  .usage = "  scale MODEL N            so many loaders, until the configuration changes\n" },
	{ .name = "receipts", .argument = "model", .takes = CTL_TAKES_COUNT,
	  .usage = "  receipts [MODEL] [-n N]  how the last reloads went\n" },
	{ .name = "record-golden", .argument = "model", .needs_argument = true,
	  .is_recording = true, .takes = CTL_TAKES_COUNT | CTL_TAKES_DIRECTORY,
	  .usage = "  record-golden MODEL [-n N] [--directory D]\n"
		   "                           the next requests and answers as golden ones\n" },
	{ .name = "inspect", .argument = "file", .needs_argument = true, .run = ctl_inspect,
	  .usage = "  inspect FILE             what a model file is, and the section for it\n" },
	{ .name = "show-config", .print = ctl_print_config,
	  .usage = "  show-config              the configuration in use\n" },
	{ .name = "log", .argument = "level", .needs_argument = true,
	  .usage = "  log LEVEL                err, warning, notice, info or debug\n" },
	{ .name = "dump", .print = ctl_print_dump,
	  .usage = "  dump                     everything that moultd believes, as JSON\n" },
	{ .name = "version", .print = ctl_print_version,
	  .usage = "  version                  of moultctl and of moultd\n" },
	{ .name = NULL },
};
/* clang-format on */

const struct option ctl_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "json", no_argument, NULL, CTL_OPTION_JSON },
	{ "wait", no_argument, NULL, CTL_OPTION_WAIT },
	{ "explain", no_argument, NULL, CTL_OPTION_EXPLAIN },
	{ "count", required_argument, NULL, 'n' },
	{ "directory", required_argument, NULL, CTL_OPTION_DIRECTORY },
	{ "watch", optional_argument, NULL, CTL_OPTION_WATCH },
	{ "once", no_argument, NULL, CTL_OPTION_ONCE },
	{ "timeout", required_argument, NULL, 't' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, CTL_OPTION_VERSION },
	{ NULL, 0, NULL, 0 },
};

unsigned int ctl_option_takes(const struct option *option)
{
	switch (option->val) {
	case CTL_OPTION_WAIT:
		return CTL_TAKES_WAIT;
	case CTL_OPTION_EXPLAIN:
		return CTL_TAKES_EXPLAIN;
	case CTL_OPTION_DIRECTORY:
		return CTL_TAKES_DIRECTORY;
	case CTL_OPTION_WATCH:
		return CTL_TAKES_WATCH;
	case CTL_OPTION_ONCE:
		return CTL_TAKES_ONCE;
	case 'n':
		return CTL_TAKES_COUNT;
	default:
		return 0;
	}
}

static void print_usage(FILE *out)
{
	(void)fputs("usage: moultctl [-s SOCKET] [--json] [--timeout SECONDS] COMMAND\n",
	            out);
	for (size_t i = 0; ctl_commands[i].name; i++)
		(void)fputs(ctl_commands[i].usage, out);
}

enum ctl_exit ctl_arguments_refuse(const char *what, const char *text)
{
	(void)fprintf(stderr, "moultctl: %s%s%s\n", what, text ? ": " : "",
	              text ? text : "");
	print_usage(stderr);
	return CTL_EXIT_USAGE;
}

static bool read_number(const char *text, long max, long *ret_number)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (end == text || *end || errno || number < 1 || number > max)
		return false;
	*ret_number = number;
	return true;
}

const struct ctl_command *ctl_command_find(const char *name)
{
	for (size_t i = 0; ctl_commands[i].name; i++)
		if (strcmp(ctl_commands[i].name, name) == 0)
			return &ctl_commands[i];
	return NULL;
}

/* Refuses options that @command does not take. */
static enum ctl_exit check_options(const struct ctl_arguments *arguments,
                                   const struct ctl_command *command)
{
	const struct {
		bool is_given;
		unsigned int option;
		const char *rule;
	} rows[] = {
		{ arguments->is_waiting, CTL_TAKES_WAIT,
		  "--wait is for reload and rollback" },
		{ arguments->is_explaining, CTL_TAKES_EXPLAIN,
		  "--explain is for reload without --wait" },
		{ arguments->count > 0, CTL_TAKES_COUNT,
		  "-n is for receipts and record-golden" },
		{ arguments->directory != NULL, CTL_TAKES_DIRECTORY,
		  "--directory is for record-golden" },
		{ arguments->interval_s > 0, CTL_TAKES_WATCH,
		  "--watch is for status and top" },
		{ arguments->is_once, CTL_TAKES_ONCE, "--once is for top" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].is_given &&
		    (!(command->takes & rows[i].option) ||
		     (rows[i].option == CTL_TAKES_EXPLAIN && arguments->is_waiting)))
			return ctl_arguments_refuse(rows[i].rule, NULL);
	return CTL_EXIT_OK;
}

/* Reads the command and its argument, which are left behind the options. */
static enum ctl_exit read_words(struct ctl_arguments *arguments, int n_words,
                                char **words)
{
	const struct ctl_command *command;
	int max;

	if (n_words == 0)
		return ctl_arguments_refuse("which command?", NULL);
	command = ctl_command_find(words[0]);
	if (!command)
		return ctl_arguments_refuse("no such command", words[0]);
	max = command->number ? 3 : command->argument ? 2 : 1;
	if (n_words > max)
		return ctl_arguments_refuse("not expected", words[max]);
	if (command->needs_argument && n_words == 1)
		return ctl_arguments_refuse("it needs a", command->argument);
	if (command->number && n_words == 2)
		return ctl_arguments_refuse("it needs a number of", command->number);
	if (command->number && !read_number(words[2], INT_MAX, &arguments->number))
		return ctl_arguments_refuse("no number that makes sense", words[2]);
	arguments->command = command;
	arguments->argument = n_words > 1 ? words[1] : NULL;
	/* It has nothing to say about one look. */
	if (!command->print && command->show && !arguments->interval_s)
		arguments->interval_s = CTL_INTERVAL_S;
	return check_options(arguments, command);
}

enum ctl_exit ctl_arguments_read(struct ctl_arguments *arguments, int argc, char **argv,
                                 bool *ret_is_done)
{
	int c;

	while ((c = getopt_long(argc, argv, "s:n:t:h", ctl_options, NULL)) != -1) {
		switch (c) {
		case 's':
			arguments->socket = optarg;
			break;
		case 'n':
			if (read_number(optarg, 500, &arguments->count))
				break;
			return ctl_arguments_refuse("-n takes 1 to 500, not", optarg);
		case 't':
			if (read_number(optarg, CTL_TIMEOUT_MAX_S, &arguments->timeout_s))
				break;
			return ctl_arguments_refuse(
				"--timeout takes 1 to 86400 seconds, not", optarg);
		case CTL_OPTION_JSON:
			arguments->is_json = true;
			break;
		case CTL_OPTION_WAIT:
			arguments->is_waiting = true;
			break;
		case CTL_OPTION_ONCE:
			arguments->is_once = true;
			break;
		case CTL_OPTION_WATCH:
			arguments->interval_s = CTL_INTERVAL_S;
			if (!optarg || read_number(optarg, CTL_INTERVAL_MAX_S,
			                           &arguments->interval_s))
				break;
			return ctl_arguments_refuse(
				"--watch takes 1 to 3600 seconds, not", optarg);
		case CTL_OPTION_DIRECTORY:
			arguments->directory = optarg;
			break;
		case CTL_OPTION_EXPLAIN:
			arguments->is_explaining = true;
			break;
		case CTL_OPTION_VERSION:
			(void)printf("moultctl %s\n", MOULT_VERSION);
			*ret_is_done = true;
			return CTL_EXIT_OK;
		case 'h':
			print_usage(stdout);
			*ret_is_done = true;
			return CTL_EXIT_OK;
		default:
			print_usage(stderr);
			return CTL_EXIT_USAGE;
		}
	}
	return read_words(arguments, argc - optind, argv + optind);
}
