/* SPDX-License-Identifier: Apache-2.0 */
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
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <dirent.h>

#include "shared/cleanup.h"
#include "supervisor/commands.h"
#include "supervisor/control/control.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static char folder[] = "/tmp/moult-control-XXXXXX";
static char socket_path[64];

/* The loop's clock runs ahead by so much: a deadline comes without waiting for it. */
static time_t clock_ahead_s;

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, clock, now);

	now->tv_sec += clock_ahead_s;
	return r;
}

struct fixture {
	struct ev_loop *loop;
	struct control *control;
	struct control_call *waiting; /* the call of "wait", not answered yet */
	unsigned int n_gone;
	unsigned int n_handled;
	size_t n_fds;
};

static size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	(void)closedir(dir);
	return count;
}

static void handle_echo(void *context, struct control_call *call, const json_t *args)
{
	struct fixture *fixture = context;

	fixture->n_handled++;
	control_reply(call, json_pack("{s:O}", "got", json_object_get(args, "value")),
	              true);
}

static void handle_lines(void *context, struct control_call *call, const json_t *args)
{
	(void)context;
	(void)args;
	control_reply(call, json_pack("{s:i}", "line", 1), false);
	control_reply(call, json_pack("{s:i}", "line", 2), false);
	control_reply(call, json_pack("{s:i, s:b}", "line", 3, "ok", 1), true);
}

static void handle_fail(void *context, struct control_call *call, const json_t *args)
{
	(void)context;
	(void)args;
	control_fail(call, "no model '%s'\xff", "x");
}

static void handle_null(void *context, struct control_call *call, const json_t *args)
{
	(void)context;
	(void)args;
	control_reply(call, NULL, true);
}

static void on_gone(void *context, struct control_call *call)
{
	struct fixture *fixture = context;

	assert_ptr_equal(fixture->waiting, call);
	fixture->waiting = NULL;
	fixture->n_gone++;
}

static void handle_wait(void *context, struct control_call *call, const json_t *args)
{
	struct fixture *fixture = context;

	(void)args;
	fixture->waiting = call;
	control_call_watch(call, on_gone, fixture);
}

/* Answers with 256 KiB in one line. */
static void handle_large(void *context, struct control_call *call, const json_t *args)
{
	size_t bytes = 256 * 1024;
	FREE char *text = malloc(bytes);

	(void)context;
	(void)args;
	assert_non_null(text);
	memset(text, 'x', bytes);
	control_reply(call, json_pack("{s:s%}", "text", text, bytes), true);
}

/* clang-format off */
static const struct control_command commands[] = {
	{ "echo", handle_echo, false,
	  { { "value", CONTROL_TYPE_NATURAL },
	    { "text", CONTROL_TYPE_TEXT },
	    { "wait", CONTROL_TYPE_BOOL } } },
	{ "lines", handle_lines, true, { { 0 } } },
	{ "fail", handle_fail, true, { { 0 } } },
	{ "null", handle_null, true, { { 0 } } },
	{ "wait", handle_wait, true, { { 0 } } },
	{ "large", handle_large, true, { { 0 } } },
	{ 0 },
};
/* clang-format on */

static int connect_client(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void send_bytes(int fd, const char *text, size_t bytes)
{
	assert_int_equal(send(fd, text, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
}

/* Runs the loop until it has nothing to do. */
static void settle(struct fixture *fixture)
{
	for (int i = 0; i < 8; i++)
		(void)ev_run(fixture->loop, EVRUN_NOWAIT);
}

/* Reads everything until the server closes; the caller frees it. */
static char *read_all(struct fixture *fixture, int fd)
{
	size_t capacity = (size_t)2 << 20;
	char *text = malloc(capacity);
	size_t used = 0;

	assert_non_null(text);
	for (int rounds = 0; rounds < 5000; rounds++) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		ssize_t n;

		(void)ev_run(fixture->loop, EVRUN_NOWAIT);
		if (poll(&ready, 1, 1) == 0)
			continue;
		n = recv(fd, text + used, capacity - used - 1, 0);
		/* A reset means that the server had not read everything when it closed. */
		if (n == 0 || (n < 0 && errno == ECONNRESET)) {
			text[used] = '\0';
			return text;
		}
		assert_true(n > 0);
		used += (size_t)n;
	}
	fail_msg("no end after 5 s");
	return text;
}

static char *ask(struct fixture *fixture, const char *text, size_t bytes)
{
	CLOSE_FD int fd = connect_client();

	send_bytes(fd, text, bytes);
	return read_all(fixture, fd);
}

static const struct {
	const char *text;
	const char *want;
} exchanges[] = {
	{ "{\"command\":\"echo\",\"value\":7}\n", "{\"got\":7,\"ok\":true}\n" },
	{ "{\"command\":\"lines\"}\r\n",
	  "{\"line\":1}\n{\"line\":2}\n{\"line\":3,\"ok\":true}\n" },
	{ "{\"command\":\"fail\"}\n", "{\"ok\":false,\"error\":\"no model 'x'?\"}\n" },
	{ "{\"command\":\"null\"}\n", "{\"ok\":false,\"error\":\"out of memory\"}\n" },
	{ "{\"command\":\"nope\"}\n", "{\"ok\":false,\"error\":\"'nope' is no command: "
	                              "known are echo, lines, fail, null, "
	                              "wait, large\"}\n" },
	{ "{\"command\":7}\n", "{\"ok\":false,\"error\":\"the command must be an object "
	                       "with \\\"command\\\": NAME\"}\n" },
	{ "{\"command\":\"echo\",\"value\":null}\n", "{\"got\":null,\"ok\":true}\n" },
	{ "{\"command\":\"echo\",\"generation\":-5}\n",
	  "{\"ok\":false,\"error\":\"echo: 'generation' is not expected: it takes value, "
	  "text, wait\"}\n" },
	{ "{\"command\":\"lines\",\"wait\":true}\n",
	  "{\"ok\":false,\"error\":\"lines: 'wait' is not expected: it takes "
	  "nothing\"}\n" },
	{ "{\"command\":\"echo\",\"value\":-5}\n",
	  "{\"ok\":false,\"error\":\"echo: 'value' must be a whole number of at least "
	  "1\"}\n" },
	{ "{\"command\":\"echo\",\"value\":\"7\"}\n",
	  "{\"ok\":false,\"error\":\"echo: 'value' must be a whole" },
	{ "{\"command\":\"echo\",\"text\":7}\n",
	  "{\"ok\":false,\"error\":\"echo: 'text' must be a text\"}\n" },
	{ "{\"command\":\"echo\",\"wait\":\"yes\"}\n",
	  "{\"ok\":false,\"error\":\"echo: 'wait' must be true or false\"}\n" },
	{ "[]\n", "{\"ok\":false,\"error\":\"the command must be an object with "
	          "\\\"command\\\": NAME\"}\n" },
	{ "\n", "{\"ok\":false,\"error\":\"the command is no JSON: " },
	{ "{\"command\":\"echo\"\n",
	  "{\"ok\":false,\"error\":\"the command is no JSON: " },
	{ "{\"command\":\"a\",\"command\":\"b\"}\n",
	  "{\"ok\":false,\"error\":\"the command is no" },
	{ "{\"command\":\"\xff\"}\n",
	  "{\"ok\":false,\"error\":\"the command is no JSON: " },
	{ "{\"command\":\"lines\"}\n{\"command\":\"lines\"}\n",
	  "{\"ok\":false,\"error\":\"one line, one command: nothing may follow it\"}\n" },
};

static void test_exchanges(void **state)
{
	for (size_t i = 0; i < COUNT_OF(exchanges); i++) {
		FREE char *got =
			ask(*state, exchanges[i].text, strlen(exchanges[i].text));
		size_t bytes = strlen(exchanges[i].want);

		if (strncmp(got, exchanges[i].want, bytes) != 0)
			fail_msg("%s: wanted %s, got %s", exchanges[i].text,
			         exchanges[i].want, got);
		/* Each reply is one line; nothing follows the last one. */
		assert_int_equal(got[strlen(got) - 1], '\n');
	}
}

/* Each command takes the members that moultctl sends, and refuses an unknown one. */
static void test_commands_of_moultd(void **state)
{
	static const char *const taken[] = {
		"{\"command\":\"status\"}",
		"{\"command\":\"status\",\"model\":\"m\"}",
		"{\"command\":\"reload\",\"model\":null,\"wait\":true,\"explain\":false}",
		"{\"command\":\"rollback\",\"model\":\"m\",\"wait\":true}",
		"{\"command\":\"scale\",\"model\":\"m\",\"replicas\":2}",
		"{\"command\":\"receipts\",\"model\":\"m\",\"n\":3}",
		"{\"command\":\"record-golden\",\"model\":\"m\",\"n\":1,\"timeout_s\":9}",
		"{\"command\":\"log\",\"level\":\"debug\"}",
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(taken); i++) {
		json_t *args = json_loads(taken[i], 0, NULL);
		struct err err = ERR_NULL;

		if (!control_command_find(commands_table, args, &err))
			fail_msg("%s: %s", taken[i], err.text);
		json_decref(args);
	}
	for (const struct control_command *row = commands_table; row->name; row++) {
		json_t *args =
			json_pack("{s:s,s:i}", "command", row->name, "generation", -5);
		struct err err = ERR_NULL;

		assert_null(control_command_find(commands_table, args, &err));
		assert_non_null(strstr(err.text, "'generation' is not expected"));
		json_decref(args);
	}
}

static void test_long_command(void **state)
{
	size_t bytes = CONTROL_LINE_BYTES_MAX;
	FREE char *text = malloc(bytes);
	FREE char *got = NULL;

	assert_non_null(text);
	memset(text, ' ', bytes);
	got = ask(*state, text, bytes);
	assert_string_equal(
		got,
		"{\"ok\":false,\"error\":\"the command is longer than 65535 bytes\"}\n");
}

static void test_longest_command(void **state)
{
	static const char command[] = "{\"command\":\"echo\",\"value\":1}";
	size_t bytes = CONTROL_LINE_BYTES_MAX;
	FREE char *text = malloc(bytes);
	FREE char *got = NULL;

	assert_non_null(text);
	memset(text, ' ', bytes);
	memcpy(text, command, sizeof(command) - 1);
	text[bytes - 1] = '\n';
	got = ask(*state, text, bytes);
	assert_string_equal(got, "{\"got\":1,\"ok\":true}\n");
}

static void test_byte_by_byte(void **state)
{
	static const char command[] = "{\"command\":\"echo\",\"value\":null}\n";
	struct fixture *fixture = *state;
	CLOSE_FD int fd = connect_client();
	FREE char *got = NULL;

	for (size_t i = 0; i + 1 < sizeof(command); i++) {
		assert_int_equal(fixture->n_handled, 0);
		send_bytes(fd, &command[i], 1);
		settle(fixture);
	}
	got = read_all(fixture, fd);
	assert_string_equal(got, "{\"got\":null,\"ok\":true}\n");
}

static void test_large_reply(void **state)
{
	static const char command[] = "{\"command\":\"large\"}\n";
	FREE char *got = ask(*state, command, sizeof(command) - 1);

	assert_true(strlen(got) > 256 * 1024);
	assert_non_null(strstr(got, "x\",\"ok\":true}\n"));
}

static int start_wait(struct fixture *fixture)
{
	static const char command[] = "{\"command\":\"wait\"}\n";
	int fd = connect_client();

	send_bytes(fd, command, sizeof(command) - 1);
	settle(fixture);
	assert_non_null(fixture->waiting);
	return fd;
}

static void test_late_reply(void **state)
{
	struct fixture *fixture = *state;
	CLOSE_FD int fd = start_wait(fixture);
	FREE char *got = NULL;

	/* The deadline of a connection does not end a running command. */
	clock_ahead_s += 3600;
	settle(fixture);
	assert_int_equal(fixture->n_gone, 0);
	control_reply(fixture->waiting, json_pack("{s:i}", "part", 1), false);
	settle(fixture);
	control_reply(fixture->waiting, json_object(), true);
	got = read_all(fixture, fd);
	assert_string_equal(got, "{\"part\":1}\n{\"ok\":true}\n");
	assert_int_equal(fixture->n_gone, 0);
}

static void test_client_leaves(void **state)
{
	struct fixture *fixture = *state;
	int fd = start_wait(fixture);

	(void)close(fd);
	settle(fixture);
	assert_int_equal(fixture->n_gone, 1);
	assert_null(fixture->waiting);
}

static void test_client_leaves_before_reply_is_sent(void **state)
{
	struct fixture *fixture = *state;
	int fd = start_wait(fixture);

	control_reply(fixture->waiting, json_object(), true);
	(void)close(fd);
	settle(fixture);
	assert_int_equal(fixture->n_gone, 0);
}

static void test_half_close(void **state)
{
	struct fixture *fixture = *state;
	CLOSE_FD int fd = start_wait(fixture);
	FREE char *got = NULL;

	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	settle(fixture);
	assert_int_equal(fixture->n_gone, 0);
	control_fail(fixture->waiting, "late");
	got = read_all(fixture, fd);
	assert_string_equal(got, "{\"ok\":false,\"error\":\"late\"}\n");
}

static void test_talks_while_waiting(void **state)
{
	struct fixture *fixture = *state;
	CLOSE_FD int fd = start_wait(fixture);
	FREE char *got = NULL;

	send_bytes(fd, "x", 1);
	got = read_all(fixture, fd);
	assert_string_equal(got, "");
	assert_int_equal(fixture->n_gone, 1);
}

/* Replies that nobody reads are bounded. */
static void test_deaf_client(void **state)
{
	struct fixture *fixture = *state;
	CLOSE_FD int fd = start_wait(fixture);
	FREE char *text = malloc(65536);
	int n = 0;

	assert_non_null(text);
	memset(text, 'x', 65536);
	for (; fixture->waiting && n < 100; n++) {
		control_reply(fixture->waiting,
		              json_pack("{s:s%}", "t", text, (size_t)65536), false);
		settle(fixture);
	}
	assert_int_equal(fixture->n_gone, 1);
	assert_in_range(n, 10, 40);
}

static void test_deaf_client_last_line(void **state)
{
	struct fixture *fixture = *state;
	CLOSE_FD int fd = start_wait(fixture);
	size_t bytes = (size_t)2 << 20;
	FREE char *text = malloc(bytes);
	FREE char *got = NULL;

	assert_non_null(text);
	memset(text, 'x', bytes);
	control_reply(fixture->waiting, json_pack("{s:s%}", "t", text, bytes), true);
	got = read_all(fixture, fd);
	assert_string_equal(got, "");
	assert_int_equal(fixture->n_gone, 0);
}

static void test_deadlines(void **state)
{
	static const char command[] = "{\"command\":\"large\"}\n";
	struct fixture *fixture = *state;
	CLOSE_FD int mute = connect_client();
	CLOSE_FD int deaf = connect_client();
	FREE char *got = NULL;

	send_bytes(deaf, command, sizeof(command) - 1);
	settle(fixture);
	clock_ahead_s += 9;
	settle(fixture);
	send_bytes(mute, "{", 1);
	settle(fixture);
	clock_ahead_s += 2;
	settle(fixture);
	got = read_all(fixture, mute);
	assert_string_equal(got, "");
	free(got);
	got = read_all(fixture, deaf);
	assert_null(strstr(got, "\"ok\":true"));
}

static void test_too_many(void **state)
{
	static const char command[] = "{\"command\":\"echo\",\"value\":1}\n";
	struct fixture *fixture = *state;
	int fds[CONTROL_CALLS_MAX];
	CLOSE_FD int one_more = -1;
	FREE char *got = NULL;

	for (size_t i = 0; i < COUNT_OF(fds); i++) {
		fds[i] = connect_client();
		settle(fixture);
	}
	one_more = connect_client();
	got = read_all(fixture, one_more);
	assert_non_null(strstr(got, "{\"ok\":false,\"error\":\"too many"));
	free(got);
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		(void)close(fds[i]);
	settle(fixture);
	settle(fixture);
	got = ask(fixture, command, sizeof(command) - 1);
	assert_string_equal(got, "{\"got\":1,\"ok\":true}\n");
}

static void test_freed_under_calls(void **state)
{
	struct fixture *fixture = *state;
	CLOSE_FD int waiting = start_wait(fixture);
	CLOSE_FD int silent = connect_client();
	char byte;

	settle(fixture);
	control_free(fixture->control);
	fixture->control = NULL;
	assert_int_equal(recv(waiting, &byte, 1, 0), 0);
	assert_int_equal(recv(silent, &byte, 1, 0), 0);
	assert_int_equal(access(socket_path, F_OK), -1);
	assert_int_equal(fixture->n_gone, 0);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct err err = ERR_NULL;

	assert_non_null(fixture);
	fixture->n_fds = count_fds();
	fixture->loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(fixture->loop);
	assert_int_equal(control_new(&fixture->control, fixture->loop, socket_path,
	                             commands, fixture, &err),
	                 0);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	control_free(fixture->control);
	ev_loop_destroy(fixture->loop);
	assert_int_equal(count_fds(), fixture->n_fds);
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
		TEST(test_exchanges),
		cmocka_unit_test(test_commands_of_moultd),
		TEST(test_long_command),
		TEST(test_longest_command),
		TEST(test_byte_by_byte),
		TEST(test_large_reply),
		TEST(test_late_reply),
		TEST(test_client_leaves),
		TEST(test_client_leaves_before_reply_is_sent),
		TEST(test_half_close),
		TEST(test_talks_while_waiting),
		TEST(test_deaf_client),
		TEST(test_deaf_client_last_line),
		TEST(test_deadlines),
		TEST(test_too_many),
		TEST(test_freed_under_calls),
	};

	return cmocka_run_group_tests(tests, set_up_folder, tear_down_folder);
}
