/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Becomes a proper child of the supervisor, then runs the loader. The order matters: the
 * death signal first, then the check that the parent had not died before the signal was set.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loader/interpreter.h"
#include "loader/loader.h"
#include "loader/load/memory.h"
#include "shared/cleanup.h"
#include "shared/log.h"
#include "shared/proto.h"
#include "shared/user.h"

struct arguments {
	uint64_t parent;
	uint64_t user;                  /* that it becomes; 0: it stays who it is */
	struct interpreter interpreter; /* runs the loader; without a python: none does */
	struct loader_start start;
};

static int read_number(const char *text, uint64_t *ret_number)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || end == text || *end != '\0' || number == 0 || text[0] == '-')
		return -EINVAL;
	*ret_number = number;
	return 0;
}

static int usage(FILE *stream)
{
	(void)fprintf(stream, "usage: moult-loader --parent=PID --generation=NUMBER "
	                      "[--model=NAME]\n"
	                      "       moult-loader --parent=PID --generation=NUMBER "
	                      "[--model=NAME]\n"
	                      "                    --python=INTERPRETER "
	                      "--engine-dir=DIRECTORY\n"
	                      "       moult-loader --parent=PID --spare=ENGINE "
	                      "--engine-dir=DIRECTORY\n"
	                      "                    [--python=INTERPRETER "
	                      "[--directory=DIRECTORY] [--file=FILE]\n"
	                      "                     [--preload=MODULE,...]]\n"
	                      "each with [--user=NUMBER]\n"
	                      "moultd starts it; see moult-loader(8).\n");
	return stream == stdout ? PROTO_EXIT_OK : PROTO_EXIT_CONFIG;
}

/* Returns -1 to go on, else the exit code. */
static int read_arguments(int argc, char **argv, struct arguments *arguments)
{
	static const struct option options[] = {
		{ "parent", required_argument, NULL, 'p' },
		{ "generation", required_argument, NULL, 'g' },
		{ "model", required_argument, NULL, 'm' },
		{ "spare", required_argument, NULL, 's' },
		{ "engine-dir", required_argument, NULL, 'd' },
		{ "python", required_argument, NULL, 'i' },
		{ "directory", required_argument, NULL, 'w' },
		{ "file", required_argument, NULL, 'f' },
		{ "preload", required_argument, NULL, 'l' },
		{ "user", required_argument, NULL, 'u' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	bool is_spare;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option == 'h')
			return usage(stdout);
		if (option == 'V') {
			(void)printf("moult-loader %s, protocol %d\n", MOULT_VERSION,
			             PROTO_VERSION);
			return PROTO_EXIT_OK;
		}
		if (option == '?' ||
		    (option == 'p' && read_number(optarg, &arguments->parent) < 0) ||
		    (option == 'u' && (read_number(optarg, &arguments->user) < 0 ||
		                       arguments->user >= UINT32_MAX)) ||
		    (option == 'g' &&
		     read_number(optarg, &arguments->start.generation) < 0))
			return usage(stderr);
		if (option == 's')
			arguments->start.engine = optarg;
		if (option == 'd')
			arguments->start.engine_dir = optarg;
		if (option == 'i')
			arguments->interpreter.python = optarg;
		if (option == 'w')
			arguments->interpreter.directory = optarg;
		if (option == 'f')
			arguments->interpreter.file = optarg;
		if (option == 'l')
			arguments->interpreter.preload = optarg;
	}
	is_spare = arguments->start.engine && arguments->start.engine_dir;
	if (optind != argc || arguments->parent == 0 ||
	    (arguments->start.generation == 0) != is_spare ||
	    (arguments->interpreter.python && !arguments->start.engine_dir))
		return usage(stderr);
	return -1;
}

static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	/* SIGKILL, SIGSTOP and glibc's own refuse; they have nothing to reset. */
	for (int number = 1; number < NSIG; number++)
		(void)sigaction(number, &action, NULL);
	/* Without SIGXFSZ a file that grows too large is an error (EFBIG) that can be told. */
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool is_control_channel(int fd)
{
	int type = 0;
	socklen_t size = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
	       type == SOCK_SEQPACKET && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* Enters this loader's own control group, before any memory of a model is charged. */
static void enter_group(void)
{
	const char *path = getenv(PROTO_CGROUP_VARIABLE);
	CLOSE_FD int group = -1;
	CLOSE_FD int fd = -1;

	if (!path)
		return;
	group = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = group < 0 ? -1 : openat(group, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		log_event(LOG_LEVEL_WARNING, "no_loader_group", "cgroup=%s error=%s",
		          LOG_QUOTED(path), LOG_QUOTED(strerror(errno)));
	(void)unsetenv(PROTO_CGROUP_VARIABLE);
}

/* Dies with the supervisor, if that lives. */
static bool stay_with_parent(const struct arguments *arguments)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
	       (uint64_t)getppid() == arguments->parent;
}

/* Becomes the model's user, which takes the death signal away, and the own files in /proc. */
static bool become_user(const struct arguments *arguments)
{
	int r = user_become((uid_t)arguments->user);

	if (r == 0 && prctl(PR_SET_DUMPABLE, 1) < 0)
		r = -errno;
	if (r < 0)
		log_event(LOG_LEVEL_ERR, "no_loader_user", "uid=%llu error=%s",
		          (unsigned long long)arguments->user, LOG_QUOTED(strerror(-r)));
	return r == 0;
}

int main(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	int r;

	r = read_arguments(argc, argv, &arguments);
	if (r >= 0)
		return r;
	if (!stay_with_parent(&arguments))
		return PROTO_EXIT_ORPHAN;
	/* Orphans of the model's processes become children of this process, and at its end
	 * children of moultd. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* Here, because threads that libraries start have it then. */
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)close_range(PROTO_CONTROL_FD + 1, ~0U, 0);
	reset_signals();
	memory_offer(arguments.start.engine ? MEMORY_OFFER_SPARE : MEMORY_OFFER_LOADER);
	log_init(LOG_LEVEL_NOTICE);
	/* stdout is a pipe: a model's lines would wait for a full buffer, and be lost in a
	 * crash. */
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	enter_group();
	if (arguments.user && !become_user(&arguments))
		return PROTO_EXIT_INTERNAL;
	if (!stay_with_parent(&arguments))
		return PROTO_EXIT_ORPHAN;
	if (!is_control_channel(PROTO_CONTROL_FD)) {
		log_event(LOG_LEVEL_ERR, "no_control_channel",
		          "fd=%d hint=\"moult-loader is started by moultd\"",
		          PROTO_CONTROL_FD);
		return PROTO_EXIT_INTERNAL;
	}
	if (arguments.interpreter.python) {
		arguments.interpreter.engine_dir = arguments.start.engine_dir;
		arguments.interpreter.generation = arguments.start.generation;
		return interpreter_run(PROTO_CONTROL_FD, &arguments.interpreter);
	}
	/* _exit() runs no destructors: a framework's may hang or crash, and the end of the
	 * process is the cleanup. */
	_exit(loader_run(PROTO_CONTROL_FD, &arguments.start));
}
