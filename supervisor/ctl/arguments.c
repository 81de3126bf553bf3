/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/ctl/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CTL_TIMEOUT_MAX_S 86400

enum ctl_option {
	CTL_OPTION_JSON = 256,
	CTL_OPTION_WAIT,
	CTL_OPTION_EXPLAIN,
	CTL_OPTION_DIRECTORY,
	CTL_OPTION_VERSION,
};

static const struct ctl_command ctl_commands[] = {
	{ .name = "status", .argument = "model" },
	{ .name = "reload", .argument = "model", .may_wait = true },
	{ .name = "rollback",
	  .argument = "model",
	  .needs_argument = true,
	  .may_wait = true },
	{ .name = "scale",
	  .argument = "model",
	  .number = "replicas",
	  .needs_argument = true },
	{ .name = "receipts", .argument = "model" },
	{ .name = "record-golden", .argument = "model", .needs_argument = true },
	{ .name = "show-config" },
	{ .name = "log", .argument = "level", .needs_argument = true },
	{ .name = "dump" },
	{ .name = "version" },
};

static void print_usage(FILE *out)
{
	(void)fprintf(
		out,
		"usage: moultctl [-s SOCKET] [--json] [--timeout SECONDS] COMMAND\n"
		"  status [MODEL]           what serves, and what is wrong\n"
		"  reload [MODEL] [--wait]  a new generation of one model, or of all\n"
		"  reload [MODEL] --explain the way it would take and why; nothing is "
		"done\n"
		"  rollback MODEL [--wait]  back to what served before\n"
		"  scale MODEL N            so many loaders, until the configuration "
		"changes\n"
		"  receipts [MODEL] [-n N]  how the last reloads went\n"
		"  record-golden MODEL [-n N] [--directory D]\n"
		"                           the next requests and answers as golden "
		"ones\n"
		"  show-config              the configuration in use\n"
		"  log LEVEL                err, warning, notice, info or debug\n"
		"  dump                     everything that moultd believes, as JSON\n"
		"  version                  of moultctl and of moultd\n");
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

static const struct ctl_command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(ctl_commands) / sizeof(ctl_commands[0]); i++)
		if (strcmp(ctl_commands[i].name, name) == 0)
			return &ctl_commands[i];
	return NULL;
}

/* Reads the command and its argument, which are left behind the options. */
static enum ctl_exit read_words(struct ctl_arguments *arguments, int n_words,
                                char **words)
{
	const struct ctl_command *command;
	bool is_recording;
	int max;

	if (n_words == 0)
		return ctl_arguments_refuse("which command?", NULL);
	command = find_command(words[0]);
	if (!command)
		return ctl_arguments_refuse("no such command", words[0]);
	is_recording = strcmp(words[0], "record-golden") == 0;
	max = command->number ? 3 : command->argument ? 2 : 1;
	if (n_words > max)
		return ctl_arguments_refuse("not expected", words[max]);
	if (command->needs_argument && n_words == 1)
		return ctl_arguments_refuse("it needs a", command->argument);
	if (command->number && n_words == 2)
		return ctl_arguments_refuse("it needs a number of", command->number);
	if (command->number && !read_number(words[2], INT_MAX, &arguments->number))
		return ctl_arguments_refuse("no number that makes sense", words[2]);
	if (arguments->is_waiting && !command->may_wait)
		return ctl_arguments_refuse("--wait is for reload and rollback", NULL);
	if (arguments->is_explaining &&
	    (strcmp(words[0], "reload") != 0 || arguments->is_waiting))
		return ctl_arguments_refuse("--explain is for reload without --wait",
		                            NULL);
	if (arguments->count && strcmp(words[0], "receipts") != 0 && !is_recording)
		return ctl_arguments_refuse("-n is for receipts and record-golden", NULL);
	if (arguments->directory && !is_recording)
		return ctl_arguments_refuse("--directory is for record-golden", NULL);
	arguments->is_recording = is_recording;
	arguments->row = command;
	arguments->command = command->name;
	arguments->argument = n_words > 1 ? words[1] : NULL;
	return CTL_EXIT_OK;
}

enum ctl_exit ctl_arguments_read(struct ctl_arguments *arguments, int argc, char **argv,
                                 bool *ret_is_done)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, CTL_OPTION_JSON },
		{ "wait", no_argument, NULL, CTL_OPTION_WAIT },
		{ "explain", no_argument, NULL, CTL_OPTION_EXPLAIN },
		{ "count", required_argument, NULL, 'n' },
		{ "directory", required_argument, NULL, CTL_OPTION_DIRECTORY },
		{ "timeout", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, CTL_OPTION_VERSION },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "s:n:t:h", options, NULL)) != -1) {
		switch (c) {
		case 's':
			arguments->socket = optarg;
			break;
		case 'n':
			if (!read_number(optarg, 500, &arguments->count))
				return ctl_arguments_refuse("-n takes 1 to 500, not",
				                            optarg);
			break;
		case 't':
			if (!read_number(optarg, CTL_TIMEOUT_MAX_S,
			                 &arguments->timeout_s))
				return ctl_arguments_refuse(
					"--timeout takes 1 to 86400 seconds, not",
					optarg);
			break;
		case CTL_OPTION_JSON:
			arguments->is_json = true;
			break;
		case CTL_OPTION_WAIT:
			arguments->is_waiting = true;
			break;
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
