/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An engine that tries to reach what is not its own, as a model with native code would, and says on
 * stderr what came of it: "breakout NAME=done" or "breakout NAME=refused". Then it serves as
 * engine identity does.
 *
 * Options: secret = a file of moultd's, folder = one that moultd reads its configuration from,
 * control = moultd's control socket, port = where moultd listens. A thread that the library starts
 * when it is opened, before any wall stands, tries to read the secret as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/engine.h"
#include "shared/cleanup.h"
#include "shared/engine_options.h"

ENGINE_OPTIONS(breakout_options, "secret, folder, control, port");

struct engine {
	const struct engine_config *config;
};

static const char *breakout_option(const struct engine_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_options; i++)
		if (strcmp(config->options[i].name, name) == 0)
			return config->options[i].value;
	return "";
}

static bool breakout_opens(const char *path, int flags)
{
	CLOSE_FD int fd = open(path, flags | O_CLOEXEC, 0600);

	return fd >= 0;
}

/* The early thread */

static struct {
	sem_t begin;
	sem_t end;
	const char *path;
	bool was_read;
} early;

static void *early_run(void *unused)
{
	(void)sem_wait(&early.begin);
	early.was_read = breakout_opens(early.path, O_RDONLY);
	(void)sem_post(&early.end);
	return unused;
}

__attribute__((constructor)) static void early_start(void)
{
	pthread_t thread;

	(void)sem_init(&early.begin, 0, 0);
	(void)sem_init(&early.end, 0, 0);
	if (pthread_create(&thread, NULL, early_run, NULL) == 0)
		(void)pthread_detach(thread);
}

/* Attacks: true is success. */

static bool try_secret(const struct engine_config *config)
{
	return breakout_opens(breakout_option(config, "secret"), O_RDONLY);
}

static bool try_early_thread(const struct engine_config *config)
{
	early.path = breakout_option(config, "secret");
	(void)sem_post(&early.begin);
	(void)sem_wait(&early.end);
	return early.was_read;
}

static bool try_configuration(const struct engine_config *config)
{
	FREE char *path = NULL;
	bool is_written;

	if (asprintf(&path, "%s/breakout", breakout_option(config, "folder")) < 0)
		return false;
	is_written = breakout_opens(path, O_WRONLY | O_CREAT);
	(void)unlink(path);
	return is_written;
}

static bool try_mode(const struct engine_config *config)
{
	return chmod(breakout_option(config, "secret"), 0600) == 0;
}

static bool try_passwd(const struct engine_config *config)
{
	(void)config;
	return breakout_opens("/etc/passwd", O_RDONLY);
}

static bool breakout_opens_of_parent(const char *name, int flags)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)getppid(), name);
	return breakout_opens(path, flags);
}

static bool try_environ(const struct engine_config *config)
{
	(void)config;
	return breakout_opens_of_parent("environ", O_RDONLY);
}

static bool try_memory(const struct engine_config *config)
{
	(void)config;
	return breakout_opens_of_parent("mem", O_RDWR);
}

static bool try_descriptors(const struct engine_config *config)
{
	(void)config;
	return breakout_opens_of_parent("fd/0", O_RDONLY);
}

static bool try_ptrace(const struct engine_config *config)
{
	pid_t parent = getppid();

	(void)config;
	if (ptrace(PTRACE_SEIZE, parent, NULL, NULL) < 0)
		return false;
	/* Who stands still can be let go of again. */
	(void)ptrace(PTRACE_INTERRUPT, parent, NULL, NULL);
	(void)waitpid(parent, NULL, __WALL);
	(void)ptrace(PTRACE_DETACH, parent, NULL, NULL);
	return true;
}

static bool try_vm_read(const struct engine_config *config)
{
	char byte;
	const struct iovec here = { &byte, 1 };
	const struct iovec there = { (void *)(uintptr_t)config, 1 };

	/* EFAULT: allowed, and nothing lies at that address. */
	return process_vm_readv(getppid(), &here, 1, &there, 1, 0) >= 0 ||
	       errno == EFAULT;
}

static bool try_take_descriptor(const struct engine_config *config)
{
	CLOSE_FD int process = pidfd_open(getppid(), 0);
	CLOSE_FD int fd = process < 0 ? -1 : pidfd_getfd(process, 0, 0);

	(void)config;
	return fd >= 0;
}

static bool try_kill(const struct engine_config *config)
{
	(void)config;
	return kill(getppid(), 0) == 0;
}

static bool try_kill_all(const struct engine_config *config)
{
	(void)config;
	/* SIGCONT changes nothing for whoever runs. */
	return kill(-getpgid(getppid()), SIGCONT) == 0;
}

static bool try_limits(const struct engine_config *config)
{
	struct rlimit limit;

	(void)config;
	return prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit) == 0;
}

static bool try_control(const struct engine_config *config)
{
	CLOSE_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s",
	               breakout_option(config, "control"));
	return fd >= 0 &&
	       connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

static bool try_network(const struct engine_config *config)
{
	CLOSE_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(breakout_option(config, "port"))),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	return fd >= 0 &&
	       connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

/* A fork bomb and an orphan begin with this. */
static bool try_fork(const struct engine_config *config)
{
	pid_t pid = fork();

	(void)config;
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
	return pid > 0;
}

static bool try_exec(const struct engine_config *config)
{
	/* Without a program nothing is replaced where it is allowed: ENOENT. */
	(void)config;
	(void)execl("/usr/bin/there-is-no-such-program", "none", (char *)NULL);
	return errno == ENOENT;
}

static bool try_namespace(const struct engine_config *config)
{
	pid_t pid;
	int status = 1;

	(void)config;
	/* A process with threads may not: in a child, and where there is none by itself. */
	pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : 1);
	if (pid < 0)
		return unshare(CLONE_NEWNS) == 0;
	(void)waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* What a framework does, and has to be able to. */

static void *legit_run(void *unused)
{
	return unused;
}

static bool try_legit(const struct engine_config *config)
{
	pthread_t thread;
	void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	                  -1, 0);
	CLOSE_FD int memory = memfd_create("breakout", MFD_CLOEXEC);
	int pair[2];

	(void)config;
	if (code == MAP_FAILED || mprotect(code, 4096, PROT_READ | PROT_EXEC) < 0 ||
	    memory < 0 || pthread_create(&thread, NULL, legit_run, NULL) != 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	(void)pthread_join(thread, NULL);
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)munmap(code, 4096);
	return breakout_opens("/dev/null", O_RDWR) &&
	       breakout_opens("/proc/self/maps", O_RDONLY) &&
	       breakout_opens("/proc/cpuinfo", O_RDONLY) && kill(getpid(), 0) == 0;
}

static const struct {
	const char *name;
	bool (*try)(const struct engine_config *config);
} breakout_rows[] = {
	{ "secret", try_secret },
	{ "early_thread", try_early_thread },
	{ "configuration", try_configuration },
	{ "mode", try_mode },
	{ "passwd", try_passwd },
	{ "environ", try_environ },
	{ "memory", try_memory },
	{ "descriptors", try_descriptors },
	{ "vm_read", try_vm_read },
	{ "take_descriptor", try_take_descriptor },
	{ "kill", try_kill },
	{ "kill_group", try_kill_all },
	{ "limits", try_limits },
	{ "control", try_control },
	{ "network", try_network },
	{ "fork", try_fork },
	{ "exec", try_exec },
	{ "namespace", try_namespace },
	{ "legit", try_legit },
	{ "ptrace", try_ptrace },
};

static int breakout_stage(const struct engine_config *config, struct engine **ret_engine,
                          struct err *err)
{
	struct engine *engine;

	for (size_t i = 0; i < config->n_options; i++)
		if (engine_options_check("breakout", breakout_options,
		                         config->options[i].name, err))
			return ENGINE_E_CONFIG;
	engine = calloc(1, sizeof(*engine));
	*ret_engine = engine;
	if (!engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	engine->config = config;
	for (size_t i = 0; i < sizeof(breakout_rows) / sizeof(breakout_rows[0]); i++)
		(void)fprintf(stderr, "breakout %s=%s\n", breakout_rows[i].name,
		              breakout_rows[i].try(config) ? "done" : "refused");
	return 0;
}

static int breakout_commit(struct engine *engine, struct err *err)
{
	(void)engine;
	(void)err;
	return 0;
}

static int breakout_infer(struct engine *engine, const struct engine_tensor *inputs,
                          struct engine_tensor *outputs, struct err *err)
{
	(void)err;
	for (size_t i = 0; i < engine->config->n_inputs; i++)
		outputs[i] = inputs[i];
	return 0;
}

static void breakout_close(struct engine *engine)
{
	free(engine);
}

__attribute__((visibility("default"))) const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "breakout",
		.version = "1",
		.stage = breakout_stage,
		.commit = breakout_commit,
		.infer = breakout_infer,
		.close = breakout_close,
	};

	return &api;
}
