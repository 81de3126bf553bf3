/* SPDX-License-Identifier: Apache-2.0 */

/*
 * moultctl(1): one command to a running moultd, its answer as text or JSON. Every wait
 * has a deadline; the exit code tells a script what happened.
 */

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "supervisor/ctl_print.h"
#include "supervisor/ctl_record.h"

#define CTL_SOCKET    "/run/moult/moultd.sock"
#define CTL_TIMEOUT_S 30
#define CTL_WAIT_TIMEOUT_S                                                               \
	900 /* of reload --wait: as long as the unit's start may last */
#define CTL_TIMEOUT_MAX_S  86400
#define CTL_GRACE_S        5 /* for moultd to say that a time is over */
#define CTL_RECORD_COUNT   10
#define CTL_LINE_BYTES_MAX ((size_t)8 << 20)

enum ctl_exit {
	CTL_EXIT_OK = 0,
	CTL_EXIT_FAILED = 1,
	CTL_EXIT_USAGE = 2,
	CTL_EXIT_UNREACHABLE = 3,
};

enum ctl_option {
	CTL_OPTION_JSON = 256,
	CTL_OPTION_WAIT,
	CTL_OPTION_EXPLAIN,
	CTL_OPTION_DIRECTORY,
	CTL_OPTION_VERSION,
};

struct ctl_command {
	const char *name;
	const char *argument; /* the key that its argument goes by, or NULL: takes none */
	bool needs_argument;
	bool may_wait;
};

struct ctl {
	const char *socket;
	const struct ctl_command *row;
	const char *command;  /* its name */
	const char *argument; /* a model's name, or a level; or NULL */
	bool is_json;
	bool is_waiting;
	bool is_explaining;
	struct ctl_record *record; /* NULL: another command */
	const char *directory;     /* for golden requests; NULL: the model's */
	long count;                /* of receipts or requests; 0: the default */
	long timeout_s;            /* 0: the command's default */
	uint64_t deadline_ns;
	int fd;
};

static const struct ctl_command ctl_commands[] = {
	{ .name = "status", .argument = "model" },
	{ .name = "reload", .argument = "model", .may_wait = true },
	{ .name = "rollback",
	  .argument = "model",
	  .needs_argument = true,
	  .may_wait = true },
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
		"  receipts [MODEL] [-n N]  how the last reloads went\n"
		"  record-golden MODEL [-n N] [--directory D]\n"
		"                           the next requests and answers as golden "
		"ones\n"
		"  show-config              the configuration in use\n"
		"  log LEVEL                err, warning, notice, info or debug\n"
		"  dump                     everything that moultd believes, as JSON\n"
		"  version                  of moultctl and of moultd\n");
}

static enum ctl_exit fail_usage(const char *what, const char *text)
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

/* The command and its argument, from what is left behind the options. */
static enum ctl_exit read_words(struct ctl *ctl, int n_words, char **words)
{
	const struct ctl_command *command;
	bool is_recording;
	int max;

	if (n_words == 0)
		return fail_usage("which command?", NULL);
	command = find_command(words[0]);
	if (!command)
		return fail_usage("no such command", words[0]);
	is_recording = strcmp(words[0], "record-golden") == 0;
	max = command->argument ? 2 : 1;
	if (n_words > max)
		return fail_usage("not expected", words[max]);
	if (command->needs_argument && n_words == 1)
		return fail_usage("it needs a", command->argument);
	if (ctl->is_waiting && !command->may_wait)
		return fail_usage("--wait is for reload and rollback", NULL);
	if (ctl->is_explaining && (strcmp(words[0], "reload") != 0 || ctl->is_waiting))
		return fail_usage("--explain is for reload without --wait", NULL);
	if (ctl->count && strcmp(words[0], "receipts") != 0 && !is_recording)
		return fail_usage("-n is for receipts and record-golden", NULL);
	if (ctl->directory && !is_recording)
		return fail_usage("--directory is for record-golden", NULL);
	if (!is_recording)
		ctl->record = NULL;
	ctl->row = command;
	ctl->command = command->name;
	ctl->argument = n_words > 1 ? words[1] : NULL;
	return CTL_EXIT_OK;
}

/* Sets @ctl. CTL_EXIT_OK, or the exit code; with *ret_is_done also when all is said. */
static enum ctl_exit read_arguments(struct ctl *ctl, int argc, char **argv,
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
			ctl->socket = optarg;
			break;
		case 'n':
			if (!read_number(optarg, 500, &ctl->count))
				return fail_usage("-n takes 1 to 500, not", optarg);
			break;
		case 't':
			if (!read_number(optarg, CTL_TIMEOUT_MAX_S, &ctl->timeout_s))
				return fail_usage(
					"--timeout takes 1 to 86400 seconds, not",
					optarg);
			break;
		case CTL_OPTION_JSON:
			ctl->is_json = true;
			break;
		case CTL_OPTION_WAIT:
			ctl->is_waiting = true;
			break;
		case CTL_OPTION_DIRECTORY:
			ctl->directory = optarg;
			break;
		case CTL_OPTION_EXPLAIN:
			ctl->is_explaining = true;
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
	return read_words(ctl, argc - optind, argv + optind);
}

static enum ctl_exit fail_unreachable(const struct ctl *ctl, int error)
{
	const char *remedy =
		"is moultd running? If its socket is elsewhere, name it with -s "
		"or in MOULT_CONTROL";

	if (error == EACCES || error == EPERM)
		remedy = "be root, or a member of the socket's group";
	else if (error == EAGAIN || error == EINPROGRESS)
		remedy = "moultd is too busy to answer: try again";
	(void)fprintf(stderr, "moultctl: no moultd answers at %s: %s: %s\n", ctl->socket,
	              strerror(error), remedy);
	return CTL_EXIT_UNREACHABLE;
}

static enum ctl_exit fail_timeout(const struct ctl *ctl)
{
	(void)fprintf(stderr, "moultctl: no answer within %ld s%s\n", ctl->timeout_s,
	              ctl->is_waiting ? "; the reload goes on, moultctl status shows it"
	                              : "");
	return CTL_EXIT_FAILED;
}

static enum ctl_exit fail_closed(const struct ctl *ctl)
{
	(void)fprintf(stderr,
	              "moultctl: %s was closed before the answer was whole: was moultd "
	              "stopped?\n",
	              ctl->socket);
	return CTL_EXIT_UNREACHABLE;
}

static enum ctl_exit open_socket(struct ctl *ctl)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(ctl->socket) >= sizeof(address.sun_path))
		return fail_unreachable(ctl, ENAMETOOLONG);
	memcpy(address.sun_path, ctl->socket, strlen(ctl->socket));
	ctl->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ctl->fd < 0 ||
	    connect(ctl->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return fail_unreachable(ctl, errno);
	return CTL_EXIT_OK;
}

static json_t *make_request(const struct ctl *ctl)
{
	json_t *request = json_pack("{s:s}", "command", ctl->command);
	int failed = 0;

	if (ctl->argument)
		failed |= json_object_set_new(request, ctl->row->argument,
		                              json_string(ctl->argument));
	if (ctl->count)
		failed |= json_object_set_new(request, "n", json_integer(ctl->count));
	if (ctl->record)
		failed |= json_object_set_new(request, "timeout_s",
		                              json_integer(ctl->timeout_s));
	if (ctl->is_waiting)
		failed |= json_object_set_new(request, "wait", json_true());
	if (ctl->is_explaining)
		failed |= json_object_set_new(request, "explain", json_true());
	if (!failed)
		return request;
	json_decref(request);
	return NULL;
}

static enum ctl_exit send_request(const struct ctl *ctl)
{
	json_t *request = make_request(ctl);
	FREE char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
	size_t bytes;

	json_decref(request);
	if (!line)
		return fail_usage("the argument is no UTF-8 text", NULL);
	/* A fresh socket has room for it; the terminator becomes the line's end. */
	bytes = strlen(line);
	line[bytes++] = '\n';
	if (send(ctl->fd, line, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		return fail_closed(ctl);
	return CTL_EXIT_OK;
}

/* Waits for input until the deadline. False when it passed. */
static bool wait_readable(const struct ctl *ctl)
{
	struct pollfd ready = { .fd = ctl->fd, .events = POLLIN };

	for (;;) {
		uint64_t now_ns = clock_now_ns();
		uint64_t left_ms;

		if (now_ns >= ctl->deadline_ns)
			return false;
		left_ms = (ctl->deadline_ns - now_ns) / CLOCK_NS_PER_MS + 1;
		if (poll(&ready, 1, (int)left_ms) > 0)
			return true;
	}
}

/* What clients said is for the files alone. False, with a word about it, when it cannot
 * be recorded. */
static bool take_recording(const struct ctl *ctl, const json_t *recording,
                           const json_t *sample)
{
	struct err err = ERR_NULL;
	int r;

	if (recording)
		r = ctl_record_open(ctl->record, recording, ctl->fd, &err);
	else
		r = ctl_record_take(ctl->record, sample, &err);
	if (r < 0)
		(void)fprintf(stderr, "moultctl: %s\n", err.text);
	return r == 0;
}

/* The last line, when it is a good one. */
static void print_answer(const struct ctl *ctl, json_t *answer)
{
	if (strcmp(ctl->command, "status") == 0 && ctl->argument)
		ctl_print_details(stdout, answer);
	else if (strcmp(ctl->command, "status") == 0)
		ctl_print_status(stdout, answer);
	else if (strcmp(ctl->command, "show-config") == 0)
		ctl_print_config(stdout, json_object_get(answer, "config"));
	else if (strcmp(ctl->command, "version") == 0)
		ctl_print_supervisor(stdout, json_object_get(answer, "supervisor"));
	else if (strcmp(ctl->command, "dump") == 0 &&
	         json_dumpf(answer, stdout, JSON_INDENT(2)) == 0)
		(void)putchar('\n');
	else if (ctl->record)
		ctl_record_print(stdout, ctl->record, answer);
	else if (ctl->row->may_wait && !ctl->is_waiting && !ctl->is_explaining)
		(void)printf("reload begun; moultctl receipts will tell how it went\n");
}

/* One line of the answer. True when it was the last; then *ret_exit is set. */
static bool take_line(const struct ctl *ctl, const char *line, size_t bytes,
                      enum ctl_exit *ret_exit)
{
	json_t *answer = json_loadb(line, bytes, 0, NULL);
	const json_t *ok = json_object_get(answer, "ok");
	json_t *receipt = json_object_get(answer, "receipt");
	const json_t *decision = json_object_get(answer, "decision");
	const json_t *recording = json_object_get(answer, "recording");
	const json_t *sample = json_object_get(answer, "sample");
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (!json_is_object(answer)) {
		(void)fprintf(stderr, "moultctl: %s does not speak moultd's language\n",
		              ctl->socket);
		json_decref(answer);
		*ret_exit = CTL_EXIT_UNREACHABLE;
		return true;
	}
	if (ctl->record && (recording || sample)) {
		bool is_good = take_recording(ctl, recording, sample);

		json_decref(answer);
		*ret_exit = CTL_EXIT_FAILED;
		return !is_good;
	}
	if (ctl->is_json)
		(void)printf("%.*s\n", (int)bytes, line);
	else if (json_is_object(receipt))
		ctl_print_receipt(stdout, receipt);
	else if (json_is_object(decision))
		ctl_print_decision(stdout, answer);
	else if (json_is_true(ok))
		print_answer(ctl, answer);
	(void)fflush(stdout); /* a receipt is news: main() looks for errors */
	if (ok && !json_is_true(ok)) {
		(void)fprintf(stderr, "moultctl: ");
		ctl_print_text(stderr,
		               error ? error : "failed, and moultd does not say why");
		(void)fputc('\n', stderr);
	}
	*ret_exit = json_is_true(ok) ? CTL_EXIT_OK : CTL_EXIT_FAILED;
	json_decref(answer);
	return ok != NULL;
}

/* Takes the whole lines out of @buffer. True when the last was among them. */
static bool take_lines(const struct ctl *ctl, char *buffer, size_t *bytes,
                       enum ctl_exit *ret_exit)
{
	char *start = buffer;
	char *end;
	bool is_last = false;

	while (!is_last && (end = memchr(start, '\n', *bytes)) != NULL) {
		is_last = take_line(ctl, start, (size_t)(end - start), ret_exit);
		*bytes -= (size_t)(end + 1 - start);
		start = end + 1;
	}
	memmove(buffer, start, *bytes);
	return is_last;
}

static enum ctl_exit read_answer(const struct ctl *ctl)
{
	FREE char *buffer = NULL;
	size_t capacity = 0;
	size_t bytes = 0;
	enum ctl_exit result = CTL_EXIT_FAILED;

	for (;;) {
		ssize_t n;

		if (bytes == capacity) {
			char *larger = NULL;

			capacity = capacity ? capacity * 2 : 65536;
			if (capacity <= CTL_LINE_BYTES_MAX)
				larger = realloc(buffer, capacity);
			if (!larger) {
				(void)fprintf(stderr,
				              "moultctl: the answer is too long\n");
				return CTL_EXIT_FAILED;
			}
			buffer = larger;
		}
		if (!wait_readable(ctl))
			return fail_timeout(ctl);
		n = recv(ctl->fd, buffer + bytes, capacity - bytes, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return fail_closed(ctl);
		bytes += (size_t)n;
		if (take_lines(ctl, buffer, &bytes, &result))
			return result;
	}
}

static enum ctl_exit run(struct ctl *ctl)
{
	enum ctl_exit result;

	if (!ctl->timeout_s)
		ctl->timeout_s = ctl->is_waiting || ctl->record ? CTL_WAIT_TIMEOUT_S
		                                                : CTL_TIMEOUT_S;
	if (ctl->record && !ctl->count)
		ctl->count = CTL_RECORD_COUNT;
	if (ctl->record)
		*ctl->record = (struct ctl_record){
			.model = ctl->argument,
			.directory = ctl->directory,
			.count = (unsigned int)ctl->count,
			.is_json = ctl->is_json,
			.dir_fd = -1,
		};
	ctl->deadline_ns = clock_now_ns() +
	                   (uint64_t)(ctl->timeout_s + (ctl->record ? CTL_GRACE_S : 0)) *
	                           CLOCK_NS_PER_SEC;
	if (strcmp(ctl->command, "version") == 0 && !ctl->is_json)
		(void)printf("moultctl %s\n", MOULT_VERSION);
	result = open_socket(ctl);
	if (result == CTL_EXIT_OK)
		result = send_request(ctl);
	if (result == CTL_EXIT_OK)
		result = read_answer(ctl);
	close_fd(&ctl->fd);
	if (ctl->record)
		ctl_record_close(ctl->record);
	return result;
}

int main(int argc, char **argv)
{
	struct ctl_record record;
	struct ctl ctl = { .socket = getenv("MOULT_CONTROL"),
		           .record = &record,
		           .fd = -1 };
	enum ctl_exit result;
	bool is_done = false;

	if (!ctl.socket || !*ctl.socket)
		ctl.socket = CTL_SOCKET;
	result = read_arguments(&ctl, argc, argv, &is_done);
	if (result == CTL_EXIT_OK && !is_done)
		result = run(&ctl);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		(void)fprintf(stderr, "moultctl: the answer cannot be written\n");
		if (result == CTL_EXIT_OK)
			result = CTL_EXIT_FAILED;
	}
	return (int)result;
}
