/* SPDX-License-Identifier: Apache-2.0 */

/* Where a control socket may be opened, and whose it is. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/control/control.h"

static char folder[] = "/tmp/moult-control-XXXXXX";
static char socket_path[64];

static const struct control_command no_commands[] = { { 0 } };

struct fixture {
	struct ev_loop *loop;
	struct control *control;
};

static void test_mode(void **state)
{
	struct stat status;

	(void)state;
	assert_int_equal(lstat(socket_path, &status), 0);
	assert_true(S_ISSOCK(status.st_mode));
	assert_int_equal(status.st_mode & 07777, 0660);
}

static void test_live_one_is_there(void **state)
{
	struct fixture *fixture = *state;
	struct control *second = NULL;
	struct err err = ERR_NULL;

	assert_int_equal(control_new(&second, fixture->loop, socket_path, no_commands,
	                             NULL, &err),
	                 -EADDRINUSE);
	assert_non_null(strstr(err.text, "another moultd answers there"));
	assert_int_equal(access(socket_path, F_OK), 0);
}

static void test_stale_socket(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct control *control = NULL;
	struct err err = ERR_NULL;
	char path[80];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(path, sizeof(path), "%s/stale", folder);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	(void)close(fd);
	assert_int_equal(control_new(&control, fixture->loop, path, no_commands, NULL,
	                             &err),
	                 0);
	control_free(control);
	assert_int_equal(access(path, F_OK), -1);
}

/* A child of a dead supervisor has its listener until it gets to run. */
static void test_held_socket(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct control *control = NULL;
	struct pollfd pollfd = { .events = POLLIN };
	struct err err = ERR_NULL;
	pid_t pid;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/held", folder);
	pollfd.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(pollfd.fd, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	assert_int_equal(listen(pollfd.fd, 1), 0);
	pid = fork();
	assert_true(pid >= 0);
	/* It ends when somebody asks whether anybody is there. */
	if (pid == 0)
		_exit(poll(&pollfd, 1, 60000) == 1 ? 0 : 1);
	(void)close(pollfd.fd);
	assert_int_equal(control_new(&control, fixture->loop, address.sun_path,
	                             no_commands, NULL, &err),
	                 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	control_free(control);
}

/* The server leaves a file alone that has taken its socket's place. */
static void test_replaced_socket(void **state)
{
	struct fixture *fixture = *state;
	struct control *first = NULL;
	struct control *second = NULL;
	char path[80];

	(void)snprintf(path, sizeof(path), "%s/replaced", folder);
	assert_int_equal(control_new(&first, fixture->loop, path, no_commands, NULL,
	                             NULL),
	                 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(control_new(&second, fixture->loop, path, no_commands, NULL,
	                             NULL),
	                 0);
	control_free(first);
	assert_int_equal(access(path, F_OK), 0);
	control_free(second);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_refused_paths(void **state)
{
	struct fixture *fixture = *state;
	struct control *control = NULL;
	struct err err = ERR_NULL;
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/file", folder);
	file = fopen(path, "we");
	assert_non_null(file);
	(void)fclose(file);
	assert_int_equal(control_new(&control, fixture->loop, path, no_commands, NULL,
	                             &err),
	                 -EEXIST);
	assert_non_null(strstr(err.text, "is there and is no socket"));
	assert_int_equal(unlink(path), 0);

	(void)snprintf(path, sizeof(path), "%s/none/sock", folder);
	assert_int_equal(control_new(&control, fixture->loop, path, no_commands, NULL,
	                             &err),
	                 -ENOENT);
	assert_non_null(strstr(err.text, "create its directory"));

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(control_new(&control, fixture->loop, path, no_commands, NULL,
	                             &err),
	                 -ENAMETOOLONG);
	assert_null(control);
	control_free(NULL);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct err err = ERR_NULL;

	assert_non_null(fixture);
	fixture->loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(fixture->loop);
	assert_int_equal(control_new(&fixture->control, fixture->loop, socket_path,
	                             no_commands, NULL, &err),
	                 0);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	control_free(fixture->control);
	ev_loop_destroy(fixture->loop);
	free(fixture);
	return 0;
}

static int set_up_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(socket_path, sizeof(socket_path), "%s/sock", folder);
	return 0;
}

static int tear_down_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mode),
		TEST(test_live_one_is_there),
		TEST(test_stale_socket),
		TEST(test_held_socket),
		TEST(test_replaced_socket),
		TEST(test_refused_paths),
	};

	return cmocka_run_group_tests(tests, set_up_folder, tear_down_folder);
}
