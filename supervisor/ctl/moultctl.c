/* SPDX-License-Identifier: Apache-2.0 */

/*
 * moultctl(1): one command to a running moultd, its answer as text or JSON. The command
 * is one line. The answer is as many lines as there is news, and ends with the one that
 * has the member ok (supervisor/control/control.h). Every wait has a deadline; the exit
 * code tells a script what happened.
 */

#include <errno.h>
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

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/standard.h"
#include "supervisor/ctl/arguments.h"
#include "supervisor/ctl/complete.h"
#include "supervisor/ctl/print.h"
#include "supervisor/ctl/record.h"

#define CTL_SOCKET    "/run/moult/moultd.sock"
#define CTL_TIMEOUT_S 30
/* For a shell whose user has pressed a key. */
#define CTL_COMPLETE_TIMEOUT_S 2
/* For reload --wait: as long as the unit's start may last. */
#define CTL_WAIT_TIMEOUT_S 900
#define CTL_GRACE_S        5 /* for moultd to say that a time is over */
#define CTL_RECORD_COUNT   10
#define CTL_LINE_BYTES_MAX ((size_t)8 << 20)

struct ctl {
	struct ctl_arguments arguments;
	struct ctl_record *record; /* NULL: another command */
	const char *begun;         /* a model's name that a shell completes; or NULL */
	uint64_t deadline_ns;
	int fd;
};

static enum ctl_exit fail_unreachable(const struct ctl *ctl, int error)
{
	const char *remedy =
		"is moultd running? If its socket is elsewhere, name it with -s "
		"or in MOULT_CONTROL";

	if (error == EACCES || error == EPERM)
		remedy = "be root, or a member of the socket's group";
	else if (error == EAGAIN || error == EINPROGRESS)
		remedy = "moultd is too busy to answer: try again";
	(void)fprintf(stderr, "moultctl: no moultd answers at %s: %s: %s\n",
	              ctl->arguments.socket,
	              access_why(&(struct err)ERR_NULL, ctl->arguments.socket, W_OK,
	                         error),
	              remedy);
	return CTL_EXIT_UNREACHABLE;
}

static enum ctl_exit fail_timeout(const struct ctl *ctl)
{
	(void)fprintf(stderr, "moultctl: no answer within %ld s%s\n",
	              ctl->arguments.timeout_s,
	              ctl->arguments.is_waiting
	                      ? "; the reload goes on, moultctl status shows it"
	                      : "");
	return CTL_EXIT_FAILED;
}

static enum ctl_exit fail_closed(const struct ctl *ctl)
{
	(void)fprintf(stderr,
	              "moultctl: %s was closed before the answer was whole: was moultd "
	              "stopped?\n",
	              ctl->arguments.socket);
	return CTL_EXIT_UNREACHABLE;
}

static enum ctl_exit open_socket(struct ctl *ctl)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(ctl->arguments.socket) >= sizeof(address.sun_path))
		return fail_unreachable(ctl, ENAMETOOLONG);
	memcpy(address.sun_path, ctl->arguments.socket, strlen(ctl->arguments.socket));
	ctl->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ctl->fd < 0 ||
	    connect(ctl->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return fail_unreachable(ctl, errno);
	return CTL_EXIT_OK;
}

static json_t *make_request(const struct ctl *ctl)
{
	json_t *request = json_pack("{s:s}", "command", ctl->arguments.command->name);
	int failed = 0;

	if (ctl->arguments.argument)
		failed |= json_object_set_new(request, ctl->arguments.command->argument,
		                              json_string(ctl->arguments.argument));
	if (ctl->arguments.number)
		failed |= json_object_set_new(request, ctl->arguments.command->number,
		                              json_integer(ctl->arguments.number));
	if (ctl->arguments.count)
		failed |= json_object_set_new(request, "n",
		                              json_integer(ctl->arguments.count));
	if (ctl->record)
		failed |= json_object_set_new(request, "timeout_s",
		                              json_integer(ctl->arguments.timeout_s));
	if (ctl->arguments.is_waiting)
		failed |= json_object_set_new(request, "wait", json_true());
	if (ctl->arguments.is_explaining)
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
		return ctl_arguments_refuse("the argument is no UTF-8 text", NULL);
	/* A fresh socket has room for the line; the terminator becomes the line's end. */
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

/* Records what clients said, which is for the files alone. False: that failed, which was
 * said on stderr. */
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

/* Prints the last line, when it is a good one. */
static void print_answer(const struct ctl *ctl, json_t *answer)
{
	const struct ctl_command *command = ctl->arguments.command;

	if (ctl->record)
		ctl_record_print(stdout, ctl->record, answer);
	else if (ctl->begun)
		ctl_complete_models(stdout, answer, ctl->begun);
	else if (command->print_one && ctl->arguments.argument)
		command->print_one(stdout, answer);
	else if (command->print)
		command->print(stdout, answer);
	else if ((command->takes & CTL_TAKES_WAIT) && !ctl->arguments.is_waiting &&
	         !ctl->arguments.is_explaining)
		(void)printf("reload begun; moultctl receipts will tell how it went\n");
}

/* Takes one line of the answer. True when it was the last; then *ret_exit is set. */
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
		              ctl->arguments.socket);
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
	if (ctl->arguments.is_json)
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
	struct ctl_arguments *arguments = &ctl->arguments;
	bool is_long = arguments->is_waiting || ctl->record;
	enum ctl_exit result;

	if (!arguments->timeout_s)
		arguments->timeout_s = is_long ? CTL_WAIT_TIMEOUT_S : CTL_TIMEOUT_S;
	if (ctl->record && !arguments->count)
		arguments->count = CTL_RECORD_COUNT;
	if (ctl->record)
		*ctl->record = (struct ctl_record){
			.model = arguments->argument,
			.directory = arguments->directory,
			.count = (unsigned int)arguments->count,
			.is_json = arguments->is_json,
			.dir_fd = -1,
		};
	ctl->deadline_ns = clock_now_ns() + (uint64_t)(arguments->timeout_s +
	                                               (ctl->record ? CTL_GRACE_S : 0)) *
	                                            CLOCK_NS_PER_SEC;
	if (strcmp(arguments->command->name, "version") == 0 && !arguments->is_json)
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

/* Answers a shell that asks how its line may go on. */
static enum ctl_exit complete(struct ctl *ctl, int n_words, char **words)
{
	switch (ctl_complete(stdout, n_words, words, &ctl->arguments)) {
	case CTL_OFFER_MODELS:
		ctl->arguments.command = ctl_command_find("status");
		ctl->arguments.timeout_s = CTL_COMPLETE_TIMEOUT_S;
		ctl->begun = words[n_words - 1];
		return run(ctl);
	case CTL_OFFER_FILES:
		return CTL_EXIT_FILES;
	case CTL_OFFER_PRINTED:
	default:
		return CTL_EXIT_OK;
	}
}

int main(int argc, char **argv)
{
	struct ctl_record record;
	struct ctl ctl = { .arguments.socket = getenv("MOULT_CONTROL"), .fd = -1 };
	enum ctl_exit result;
	bool is_done = false;

	standard_fds_take();
	if (!ctl.arguments.socket || !*ctl.arguments.socket)
		ctl.arguments.socket = CTL_SOCKET;
	if (argc > 1 && strcmp(argv[1], "--complete") == 0) {
		result = complete(&ctl, argc - 2, argv + 2);
		is_done = true;
	} else {
		result = ctl_arguments_read(&ctl.arguments, argc, argv, &is_done);
	}
	if (result == CTL_EXIT_OK && !is_done) {
		ctl.record = ctl.arguments.command->is_recording ? &record : NULL;
		result = run(&ctl);
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		(void)fprintf(stderr, "moultctl: the answer cannot be written\n");
		if (result == CTL_EXIT_OK)
			result = CTL_EXIT_FAILED;
	}
	return (int)result;
}
