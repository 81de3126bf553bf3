/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The walls as kernels of several ages have them: Debian 12's landlock has version 2, without rules
 * for ports, truncation and signals. Each case is a process of its own, which reports by its exit
 * status; walls cannot be taken down.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/walls/landlock.h"
#include "loader/walls/threads.h"
#include "loader/walls/walls.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/kernel.h"

/* In the child: ends it with the line that fails. */
#define MUST(condition)                                                                  \
	do {                                                                             \
		if (!(condition)) {                                                      \
			(void)fprintf(stderr, "line %d: %s\n", __LINE__, #condition);    \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

static char file[] = "/tmp/moult-walls-XXXXXX";

static bool opens(const char *path, int flags)
{
	CLOSE_FD int fd = open(path, flags | O_CLOEXEC);

	return fd >= 0;
}

static struct {
	sem_t begin;
	sem_t end;
	bool has_opened;
} other;

static void *run_other(void *unused)
{
	(void)sem_wait(&other.begin);
	other.has_opened = opens("/etc/passwd", O_RDONLY);
	(void)sem_post(&other.end);
	return unused;
}

static void put_up(struct walls *walls, enum walls_mode mode, int version,
                   bool has_processes, unsigned int port)
{
	struct err err = ERR_NULL;

	walls_begin(walls, mode, version);
	walls->said.has_processes = has_processes;
	walls->said.port = port;
	walls_read(walls, file);
	if (walls_up(walls, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		_exit(1);
	}
}

static void check_computing(int version)
{
	struct walls walls;
	pthread_t thread;

	MUST(sem_init(&other.begin, 0, 0) == 0 && sem_init(&other.end, 0, 0) == 0);
	MUST(pthread_create(&thread, NULL, run_other, NULL) == 0);
	put_up(&walls, WALLS_STRICT, version, false, 0);
	MUST(strstr(walls.on.text, "landlock") && strstr(walls.on.text, "seccomp"));
	MUST(!*walls.missing.text);
	MUST(opens(file, O_RDONLY) && !opens(file, O_WRONLY));
	MUST(opens("/dev/null", O_RDWR) && opens("/proc/self/status", O_RDONLY));
	MUST(!opens("/etc/passwd", O_RDONLY) && errno == EACCES);
	MUST(sem_post(&other.begin) == 0 && sem_wait(&other.end) == 0);
	MUST(!other.has_opened);
	MUST(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
	MUST(fork() < 0 && errno == EPERM);
	MUST(kill(getppid(), 0) < 0 && errno == EPERM);
	MUST(kill(getpid(), 0) == 0);
	MUST(pthread_join(thread, NULL) == 0);
}

static bool may_connect(unsigned int port)
{
	CLOSE_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	/* Nobody listens: a connection that is allowed is refused by the other end. */
	MUST(fd >= 0);
	return connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ||
	       errno == ECONNREFUSED;
}

static void check_hosting(int version)
{
	struct walls walls;
	bool has_ports = version == 0 ? kernel_landlock() >= 4 : version >= 4;
	pid_t pid;

	put_up(&walls, WALLS_STRICT, version, true, 2);
	MUST(may_connect(2));
	MUST(may_connect(3) == !has_ports);
	MUST((strstr(walls.missing.text, "ports") == NULL) == has_ports);
	MUST(socket(AF_INET, SOCK_DGRAM, 0) < 0 && socket(AF_UNIX, SOCK_STREAM, 0) < 0);
	/* moultd, in the place of which the test stands, and everybody at once. */
	MUST(kill(getppid(), 0) < 0 && errno == EPERM);
	pid = fork();
	if (pid == 0)
		_exit(opens(file, O_RDONLY) && opens("/etc/passwd", O_RDONLY) &&
		                      !opens("/etc/shadow", O_RDONLY)
		              ? 0
		              : 1);
	MUST(pid > 0 && kill(pid, 0) == 0);
	MUST(waitpid(pid, &(int){ 0 }, 0) == pid);
}

static void check_net(int version)
{
	struct walls walls;

	put_up(&walls, WALLS_NET, version, false, 0);
	MUST(may_connect(2) && may_connect(3));
	MUST(!opens("/etc/passwd", O_RDONLY));
	MUST(socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EPERM);
}

static void check_off(int version)
{
	struct walls walls;

	put_up(&walls, WALLS_OFF, version, false, 0);
	MUST(strcmp(walls.on.text, "no_new_privs, no_core") == 0);
	MUST(strstr(walls.missing.text, "landlock: sandbox = off"));
	MUST(opens("/etc/passwd", O_RDONLY) && may_connect(2));
}

/* Runs @check in a process of its own, for each version that this kernel can stand for. */
static void run(void (*check)(int version))
{
	static const int versions[] = { 0, 1, 2, 3, 4, 5, 6 };

	if (kernel_landlock() == 0)
		skip();
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		int status = -1;
		pid_t pid;

		if (versions[i] > kernel_landlock())
			break;
		pid = fork();
		if (pid == 0) {
			check(versions[i]);
			_exit(0);
		}
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status != 0)
			print_error("version %d\n", versions[i]);
		assert_int_equal(status, 0);
	}
}

static void test_computing(void **state)
{
	(void)state;
	run(check_computing);
}

static void test_hosting(void **state)
{
	(void)state;
	run(check_hosting);
}

static void test_net(void **state)
{
	(void)state;
	run(check_net);
}

static void test_off(void **state)
{
	(void)state;
	run(check_off);
}

static int call_nothing(const void *unused)
{
	(void)unused;
	return 0;
}

static void *run_end(void *unused)
{
	return unused;
}

/* A thread that ends takes no signal any more, and nobody says so. */
static void test_threads_that_end(void **state)
{
	(void)state;
	for (int i = 0; i < 3000; i++) {
		pthread_t threads[3];

		for (size_t j = 0; j < 3; j++)
			assert_int_equal(pthread_create(&threads[j], NULL, run_end, NULL),
			                 0);
		assert_int_equal(threads_run(call_nothing, NULL), 0);
		for (size_t j = 0; j < 3; j++)
			assert_int_equal(pthread_join(threads[j], NULL), 0);
	}
}

static void *run_deaf(void *go)
{
	(void)sem_wait(go);
	return NULL;
}

/* Starts a thread that blocks all signals. */
static pthread_t start_deaf(void *(*body)(void *), void *argument)
{
	sigset_t all;
	sigset_t before;
	pthread_t thread;

	assert_int_equal(sigfillset(&all), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
	assert_int_equal(pthread_create(&thread, NULL, body, argument), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
	return thread;
}

/* A thread that sleeps and blocks all signals is told of, and not waited for. */
static void test_a_deaf_thread(void **state)
{
	pthread_t thread;
	sem_t go;

	(void)state;
	assert_int_equal(sem_init(&go, 0, 0), 0);
	thread = start_deaf(run_deaf, &go);
	assert_int_equal(threads_run(call_nothing, NULL), -EBUSY);
	assert_int_equal(sem_post(&go), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(threads_run(call_nothing, NULL), 0);
}

static void *run_late(void *go)
{
	uint64_t end_ns = clock_now_ns() + CLOCK_NS_PER_SEC;
	sigset_t none;

	while (clock_now_ns() < end_ns)
		continue;
	(void)sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
	return run_deaf(go);
}

/* One that blocks signals and is not asleep is waited for: it may be about to begin, or to end, where
 * others have the processor. */
static void test_a_late_thread(void **state)
{
	pthread_t thread;
	sem_t go;

	(void)state;
	assert_int_equal(sem_init(&go, 0, 0), 0);
	thread = start_deaf(run_late, &go);
	assert_int_equal(threads_run(call_nothing, NULL), 0);
	assert_int_equal(sem_post(&go), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_that_end),
		cmocka_unit_test(test_a_deaf_thread),
		cmocka_unit_test(test_a_late_thread),
		cmocka_unit_test(test_computing),
		cmocka_unit_test(test_hosting),
		cmocka_unit_test(test_net),
		cmocka_unit_test(test_off),
	};
	int fd = mkstemp(file);
	int r;

	if (fd < 0)
		return 1;
	(void)close(fd);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	(void)unlink(file);
	return r;
}
