/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The command line of moultctl, and its exit codes. */

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct ctl_looks;

enum ctl_exit {
	CTL_EXIT_OK = 0,
	CTL_EXIT_FAILED = 1,
	CTL_EXIT_USAGE = 2,
	CTL_EXIT_UNREACHABLE = 3,
	CTL_EXIT_FILES = 4, /* to a shell that completes: by names of files */
};

/* Options that not every command takes. */
enum {
	CTL_TAKES_WAIT = 1 << 0,
	CTL_TAKES_EXPLAIN = 1 << 1,
	CTL_TAKES_COUNT = 1 << 2,
	CTL_TAKES_DIRECTORY = 1 << 3,
	CTL_TAKES_WATCH = 1 << 4,
	CTL_TAKES_ONCE = 1 << 5,
};

struct ctl_arguments;

struct ctl_command {
	const char *name;
	const char *argument; /* the key that its argument goes by, or NULL: takes none */
	const char *number; /* the key of the number behind it, or NULL: there is none */
	bool needs_argument;
	bool is_recording;
	/* Does the work without a moultd; NULL: it is sent there. */
	enum ctl_exit (*run)(const struct ctl_arguments *arguments);
	unsigned int takes; /* bits */
	/* Prints the last line, when it is a good one; NULL: there is nothing in it. */
	void (*print)(FILE *out, json_t *answer);
	void (*print_one)(FILE *out, json_t *answer); /* of the argument alone; or NULL */
	/* Shows what was asked for again and again; NULL: it cannot be. */
	void (*show)(FILE *out, const struct ctl_looks *looks);
	const char *usage;
};

/* All commands; the last has no name. */
extern const struct ctl_command ctl_commands[];
const struct ctl_command *ctl_command_find(const char *name); /* or NULL */
/* All options; the last has no name. Below 256, val is the letter that stands for it, too. */
extern const struct option ctl_options[];
/* The CTL_TAKES_ of @option, or 0: every command takes it. */
unsigned int ctl_option_takes(const struct option *option);

/* Text is borrowed from argv. */
struct ctl_arguments {
	const char *socket;
	const struct ctl_command *command;
	const char *argument; /* a model's name, a level or a file; or NULL */
	long number;          /* behind it; 0: there is none */
	bool is_json;
	bool is_waiting;
	bool is_explaining;
	bool is_once;
	const char *directory; /* for golden requests; NULL: the model's */
	long count;            /* of receipts or requests; 0: the default */
	long timeout_s;        /* 0: the command's default */
	long interval_s;       /* between two looks; 0: one look is all */
};

/* Fills in what the command line says; the rest stays. CTL_EXIT_OK, or the exit code
 * after a sentence on stderr. *ret_is_done is set where nothing is left to do. */
enum ctl_exit ctl_arguments_read(struct ctl_arguments *arguments, int argc, char **argv,
                                 bool *ret_is_done);

/* Says on stderr @what is wrong, about which @text (or NULL). Returns CTL_EXIT_USAGE. */
enum ctl_exit ctl_arguments_refuse(const char *what, const char *text);
