/* SPDX-License-Identifier: Apache-2.0 */

/*
 * moultd(8). Arguments and configuration are read first; the arguments of one application become
 * its configuration (start/quick.c). With -t the configuration is
 * then checked (config_exists.c) and, with --load, tried (proof.c). Otherwise the limits
 * of the process are raised, and a supervisor runs until a signal ends it. The exit code
 * says how that went.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/log.h"
#include "shared/proto.h"
#include "shared/standard.h"
#include "supervisor/commands.h"
#include "supervisor/config/config.h"
#include "supervisor/config/check.h"
#include "supervisor/gate/gate.h"
#include "supervisor/inputs/config_exists.h"
#include "supervisor/keep/config_kept.h"
#include "supervisor/process/privileges.h"
#include "supervisor/proof.h"
#include "supervisor/loop/signals.h"
#include "supervisor/start/quick.h"
#include "supervisor/start/quick_check.h"
#include "supervisor/supervisor.h"

#define MAIN_EXIT_USAGE 2
#define MAIN_CONFIG     "/etc/moult/moult.conf"

enum main_option {
	MAIN_OPTION_VERSION = 256,
	MAIN_OPTION_PRINT_OPTIONS,
	MAIN_OPTION_LOAD,
	MAIN_OPTION_WATCH_CODE,
	MAIN_OPTION_QUICK /* and those after it: quick_options */
};

struct main_arguments {
	const char *file; /* NULL: none was named */
	struct quick quick;
	bool only_checks;
	bool loads; /* the checks load every model, too */
};

static void main_print_usage(FILE *stream)
{
	(void)fprintf(
		stream,
		"usage: moultd [-t [--load]] [-c FILE]\n"
		"       moultd --wsgi MODULE:APP [--python PYTHON] [OPTIONS]\n"
		"       moultd --asgi MODULE:APP [--python PYTHON] [OPTIONS]\n"
		"       moultd --model MODULE:CLASS [--python PYTHON] [OPTIONS]\n"
		"       moultd --command 'PROGRAM ... {port}' [--ready 'GET /PATH "
		"200'] [OPTIONS]\n"
		"       moultd --model-repository DIRECTORY [--model-name NAME] "
		"[OPTIONS]\n"
		"       moultd --version | --help\n"
		"  -c FILE  configuration (default " MAIN_CONFIG ")\n"
		"  -t       check the configuration and what it names, and exit\n"
		"  --load   with -t: load each model, too, up to its warm-up\n"
		"an application without a configuration file:\n"
		"  --listen ADDRESS:PORT (127.0.0.1:8080), --grpc-listen ADDRESS:PORT,\n"
		"  --route /PREFIX/ (/),\n"
		"  --secrets DIRECTORY, --threads N, --replicas N,\n"
		"  --sandbox strict|net|open|off (open), --sandbox-read PATH,\n"
		"  --watch-code (a changed source file makes a reload)\n");
}

/* The value that one of quick's options sets; NULL: @c is none of them. */
static const char **main_quick_value(struct quick *quick, int c)
{
	const char **const values[] = {
		&quick->wsgi,         &quick->asgi,       &quick->model,
		&quick->command,      &quick->python,     &quick->ready,
		&quick->listen,       &quick->secrets,    &quick->route,
		&quick->threads,      &quick->replicas,   &quick->sandbox,
		&quick->sandbox_read, &quick->repository, &quick->model_name,
		&quick->grpc_listen,
	};
	int i = c - MAIN_OPTION_QUICK;

	return i >= 0 && i < (int)(sizeof(values) / sizeof(values[0])) ? values[i] : NULL;
}

/* Whether the arguments go together. Returns the exit code, or -1 to go on. */
static int main_check_arguments(const struct main_arguments *arguments)
{
	if (arguments->file && quick_is_asked(&arguments->quick)) {
		(void)fprintf(stderr, "moultd: -c FILE says what to serve: leave the "
		                      "options of an application out\n");
		return MAIN_EXIT_USAGE;
	}
	if (arguments->loads && !arguments->only_checks) {
		(void)fprintf(stderr,
		              "moultd: --load is a part of the checks: -t --load\n");
		main_print_usage(stderr);
		return MAIN_EXIT_USAGE;
	}
	return -1;
}

/* Returns the exit code, or -1 to go on. */
static int main_parse(int argc, char **argv, struct main_arguments *arguments)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "test", no_argument, NULL, 't' },
		{ "load", no_argument, NULL, MAIN_OPTION_LOAD },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, MAIN_OPTION_VERSION },
		{ "print-options", no_argument, NULL, MAIN_OPTION_PRINT_OPTIONS },
		/* In the order of main_quick_value(). */
		{ "wsgi", required_argument, NULL, MAIN_OPTION_QUICK },
		{ "asgi", required_argument, NULL, MAIN_OPTION_QUICK + 1 },
		{ "model", required_argument, NULL, MAIN_OPTION_QUICK + 2 },
		{ "command", required_argument, NULL, MAIN_OPTION_QUICK + 3 },
		{ "python", required_argument, NULL, MAIN_OPTION_QUICK + 4 },
		{ "ready", required_argument, NULL, MAIN_OPTION_QUICK + 5 },
		{ "listen", required_argument, NULL, MAIN_OPTION_QUICK + 6 },
		{ "secrets", required_argument, NULL, MAIN_OPTION_QUICK + 7 },
		{ "route", required_argument, NULL, MAIN_OPTION_QUICK + 8 },
		{ "threads", required_argument, NULL, MAIN_OPTION_QUICK + 9 },
		{ "replicas", required_argument, NULL, MAIN_OPTION_QUICK + 10 },
		{ "sandbox", required_argument, NULL, MAIN_OPTION_QUICK + 11 },
		{ "sandbox-read", required_argument, NULL, MAIN_OPTION_QUICK + 12 },
		{ "model-repository", required_argument, NULL, MAIN_OPTION_QUICK + 13 },
		{ "model-name", required_argument, NULL, MAIN_OPTION_QUICK + 14 },
		{ "grpc-listen", required_argument, NULL, MAIN_OPTION_QUICK + 15 },
		{ "watch-code", no_argument, NULL, MAIN_OPTION_WATCH_CODE },
		{ NULL, 0, NULL, 0 },
	};
	const char **value;
	int c;

	while ((c = getopt_long(argc, argv, "c:th", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			arguments->file = optarg;
			break;
		case 't':
			arguments->only_checks = true;
			break;
		case MAIN_OPTION_LOAD:
			arguments->loads = true;
			break;
		case MAIN_OPTION_WATCH_CODE:
			arguments->quick.watch_code = true;
			break;
		case 'h':
			main_print_usage(stdout);
			return 0;
		case MAIN_OPTION_VERSION:
			(void)printf("moultd %s, protocol %d\n", MOULT_VERSION,
			             PROTO_VERSION);
			return 0;
		case MAIN_OPTION_PRINT_OPTIONS:
			return config_print_mdoc(STDOUT_FILENO) < 0 ? 1 : 0;
		default:
			value = main_quick_value(&arguments->quick, c);
			if (!value) {
				main_print_usage(stderr);
				return MAIN_EXIT_USAGE;
			}
			*value = optarg;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "moultd: '%s' is not expected\n", argv[optind]);
		main_print_usage(stderr);
		return MAIN_EXIT_USAGE;
	}
	return main_check_arguments(arguments);
}

/* Tells the way on to somebody who has installed moult and configured nothing. */
static void main_print_first_steps(void)
{
	FREE char *path = NULL;
	char example[PATH_MAX];

	if (config_find_helper(MAIN_EXAMPLE, &path) == 0 && realpath(path, example))
		(void)fprintf(
			stderr,
			"moultd: an example is %s: copy it, say in the copy where to "
			"listen and what to serve, and name it with -c FILE; "
			"moult.conf(5) has every key\n",
			example);
	else
		(void)fprintf(stderr,
		              "moultd: -c FILE names another; moult.conf(5) tells "
		              "what a configuration says\n");
}

/* Every connection and every generation needs descriptors: take all that are allowed. */
static void main_raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/*
 * Asks the kernel to spare moultd when memory runs out. In a full control group, the
 * kernel takes a process of several threads for gone as soon as its first thread is,
 * although the memory is still on its way back, and kills another process as well
 * (mem_cgroup_scan_tasks()). A value that somebody has set stays, and so does 0 where
 * CAP_SYS_RESOURCE is missing.
 */
static void main_stay(void)
{
	CLOSE_FD int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char before[8] = "";

	if (fd >= 0 && read(fd, before, sizeof(before) - 1) > 0 && atoi(before) == 0)
		(void)!pwrite(fd, "-1000", 5, 0);
}

/* Reads the configuration files. Where they are refused, @refused says why, and what an
 * earlier run served with is taken instead. */
static int main_load(struct config **ret_config, const struct main_arguments *arguments,
                     struct err *refused)
{
	struct err why = ERR_NULL;
	struct config *read = NULL;
	struct config *kept = NULL;
	int r = config_load(&read, arguments->file, refused);
	const char *folder;
	int r_kept;

	*ret_config = read;
	/* Good as read, unless a folder of models is empty: its volume may be mounted later. */
	if (arguments->only_checks || (read && !config_empty_folder(read, &folder)))
		return r;
	r_kept = config_kept_load(&kept, arguments->file, &why);
	if (r_kept < 0 && r_kept != -ENOENT)
		log_event(LOG_LEVEL_WARNING, "last_good_useless", "reason=%s",
		          LOG_QUOTED(why.text));
	if (r_kept < 0 || (read && !config_is_emptied(kept, read, refused))) {
		config_unref(kept);
		return r;
	}
	config_unref(read);
	*ret_config = kept;
	log_event(LOG_LEVEL_ERR, "config_refused",
	          "reason=%s action=\"serving with the configuration that was kept of an "
	          "earlier run until it is corrected\"",
	          LOG_QUOTED(refused->text));
	return 0;
}

static void main_warn(void *context, const char *why)
{
	(void)fprintf(stderr, "%s: warning: %s\n", (const char *)context, why);
}

static void main_print_doubts(const struct config *config)
{
	struct err why = ERR_NULL;

	if (config->user && privileges_check(config->user, &why) < 0)
		(void)fprintf(stderr, "%s: warning: %s\n", config->file, why.text);

	config_check_places(config, main_warn, (void *)(uintptr_t)config->file);
	for (size_t i = 0; i < config->n_models; i++)
		if (config_model_is_doubtful(config->models[i], &why))
			(void)fprintf(stderr, "%s:%u: warning: [model %s]: %s\n",
			              config->models[i]->file, config->models[i]->line,
			              config->models[i]->name, why.text);
}

static void main_say(void *context, const char *why)
{
	(void)context;
	(void)fprintf(stderr, "moultd: %s\n", why);
}

/* Whether who asks could start moultd, too: root has to have said as whom. */
static bool main_check_user(const struct config *config)
{
	struct err why = ERR_NULL;

	if (config->user || privileges_check(NULL, &why) == 0)
		return true;
	(void)fprintf(stderr, "moultd: %s: %s\n", config->file, why.text);
	return false;
}

/* Whether everything that @config names is there. */
static bool main_check_exists(const struct config *config)
{
	size_t n_missing;

	main_print_doubts(config);
	n_missing = config_check_exists(config, main_say, NULL);
	n_missing += gate_check(config, main_say, NULL);
	if (n_missing > 0)
		(void)fprintf(stderr,
		              "moultd: %s: can be read, but %zu of what it names "
		              "is missing or of no use\n",
		              config->file, n_missing);
	return n_missing == 0;
}

static void main_say_outcome(void *context, const char *line)
{
	(void)context;
	(void)printf("%s\n", line);
	(void)fflush(stdout); /* the next line may be minutes away */
}

/* Whether every model can be loaded. The log, which is about serving, is silent here
 * unless log_level is debug. */
static bool main_prove(struct config *config)
{
	struct proof_result result;
	struct err err = ERR_NULL;
	int r;

	log_set_level(config->log_level == LOG_LEVEL_DEBUG ? LOG_LEVEL_DEBUG
	                                                   : LOG_LEVEL_NONE);
	main_raise_limits();
	privileges_close();
	r = proof_run(&result, config, main_say_outcome, NULL, &err);
	if (r < 0) {
		(void)fprintf(stderr, "moultd: %s\n", err.text);
		return false;
	}
	if (result.n_failed == 0 && result.n_not_tried == 0)
		return true;
	(void)fprintf(stderr,
	              "moultd: %s: %s%zu models are good, %zu failed, %zu were not "
	              "tried\n",
	              config->file, result.is_interrupted ? "interrupted: " : "",
	              result.n_good, result.n_failed, result.n_not_tried);
	return false;
}

/* Returns the exit code. */
static int main_check(struct config *config, bool loads)
{
	bool may_start = main_check_user(config);
	bool is_good = main_check_exists(config) && may_start;

	if (loads && may_start && !main_prove(config))
		is_good = false;
	if (!is_good)
		return 1;
	(void)printf("%s: good, %zu models%s%s\n", config->file, config->n_models,
	             loads ? ", all loaded" : "",
	             strcmp(config->listen, "systemd") == 0
	                     ? "; a socket unit has to hand the listener over"
	                     : "");
	return 0;
}

/* Serves with @config, which it takes, until a signal ends that. 0 or -errno with a
 * sentence; *ret_is_started is set where it served. */
static int main_serve(struct config *config, const struct err *refused,
                      bool *ret_is_started, struct err *err)
{
	struct supervisor_listener listener;
	struct supervisor *supervisor;
	struct commands *commands;
	int r = commands_new(&commands);

	if (r < 0) {
		config_unref(config);
		return err_set(err, r, "out of memory");
	}
	listener = commands_listener(commands);
	r = supervisor_new(&supervisor, config, *refused->text ? refused : NULL,
	                   &listener, err);
	if (r == 0) {
		commands_set_supervisor(commands, supervisor);
		*ret_is_started = true;
		r = supervisor_run(supervisor);
		supervisor_free(supervisor);
	}
	commands_free(commands);
	return r;
}

/* Checks or serves what the configuration says. Returns the exit code. */
static int main_run(const struct main_arguments *arguments)
{
	struct config *config;
	struct err refused = ERR_NULL;
	struct err err = ERR_NULL;
	bool is_started = false;
	int r = main_load(&config, arguments, &refused);

	if (r < 0) {
		(void)fprintf(stderr, "moultd: %s\n", refused.text);
		if (strcmp(arguments->file, MAIN_CONFIG) == 0 &&
		    access(MAIN_CONFIG, F_OK) < 0 && errno == ENOENT)
			main_print_first_steps();
		return 1;
	}
	if (arguments->only_checks) {
		r = main_check(config, arguments->loads);
		config_unref(config);
		return r;
	}
	log_set_level(config->log_level);
	main_raise_limits();
	/* Before the next line: files of a closed process in /proc are root's. */
	main_stay();
	privileges_close();
	r = main_serve(config, &refused, &is_started, &err);
	if (is_started)
		log_event(LOG_LEVEL_NOTICE, "stopped", "result=%d", r);
	else
		log_event(LOG_LEVEL_ERR, "start_failed", "reason=%s",
		          LOG_QUOTED(err.text));
	return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct main_arguments arguments = { .file = NULL };
	char *quick_file = NULL;
	struct err err = ERR_NULL;
	int r;

	standard_fds_take();
	r = main_parse(argc, argv, &arguments);
	if (r >= 0)
		return r;
	signals_ignore();
	log_init(LOG_LEVEL_INFO);
	r = 0;
	if (quick_is_asked(&arguments.quick)) {
		arguments.quick.is_root = geteuid() == 0;
		r = quick_begin(&arguments.quick, &quick_file, &err);
		if (r == 0)
			r = quick_check(quick_file, &err);
		if (r < 0)
			(void)fprintf(stderr, "moultd: %s\n", err.text);
		else
			quick_show(&arguments.quick, quick_file);
		arguments.file = quick_file;
	}
	if (!arguments.file)
		arguments.file = MAIN_CONFIG;
	r = r < 0 ? MAIN_EXIT_USAGE : main_run(&arguments);
	quick_end(quick_file);
	return r;
}
