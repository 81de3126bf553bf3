/* SPDX-License-Identifier: Apache-2.0 */

/*
 * moultctl(1): one command to a running moultd, its answer as text or JSON. The command
 * is one line. The answer is as many lines as there is news, and ends with the one that
 * has the member ok (supervisor/control/control.h). Every wait has a deadline; the exit
 * code tells a script what happened.
 */

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/clock.h"
#include "shared/standard.h"
#include "supervisor/ctl/arguments.h"
#include "supervisor/ctl/call.h"
#include "supervisor/ctl/complete.h"
#include "supervisor/ctl/live.h"
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

struct ctl {
	struct ctl_arguments arguments;
	struct ctl_record *record; /* NULL: another command */
	const char *begun;         /* a model's name that a shell completes; or NULL */
	struct ctl_call call;
};

static enum ctl_exit fail_unreachable(const struct ctl_arguments *arguments, int error)
{
	const char *remedy =
		"is moultd running? If its socket is elsewhere, name it with -s "
		"or in MOULT_CONTROL";

	if (error == EACCES || error == EPERM)
		remedy = "be root, or a member of the socket's group";
	else if (error == EAGAIN || error == EINPROGRESS || error == ETIMEDOUT)
		remedy = "moultd is too busy to answer: try again";
	(void)fprintf(stderr, "moultctl: no moultd answers at %s: %s: %s\n",
	              arguments->socket,
	              access_why(&(struct err)ERR_NULL, arguments->socket, W_OK, error),
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
	long timeout_s = ctl->arguments.timeout_s + (ctl->record ? CTL_GRACE_S : 0);
	int r = ctl_call_open(&ctl->call, ctl->arguments.socket,
	                      clock_now_ns() + (uint64_t)timeout_s * CLOCK_NS_PER_SEC,
	                      -1);

	return r < 0 ? fail_unreachable(&ctl->arguments, -r) : CTL_EXIT_OK;
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

static enum ctl_exit send_request(struct ctl *ctl)
{
	json_t *request = make_request(ctl);
	int r = ctl_call_send(&ctl->call, request);

	json_decref(request);
	if (r == -EILSEQ)
		return ctl_arguments_refuse("the argument is no UTF-8 text", NULL);
	return r < 0 ? fail_closed(ctl) : CTL_EXIT_OK;
}

/* Records what clients said, which is for the files alone. False: that failed, which was
 * said on stderr. */
static bool take_recording(const struct ctl *ctl, const json_t *recording,
                           const json_t *sample)
{
	struct err err = ERR_NULL;
	int r;

	if (recording)
		r = ctl_record_open(ctl->record, recording, ctl->call.fd, &err);
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

static enum ctl_exit read_answer(struct ctl *ctl)
{
	enum ctl_exit result = CTL_EXIT_FAILED;
	char *line;
	size_t bytes;
	int r;

	while ((r = ctl_call_line(&ctl->call, &line, &bytes)) == 0)
		if (take_line(ctl, line, bytes, &result))
			return result;
	if (r == -ETIMEDOUT)
		return fail_timeout(ctl);
	if (r == -EPIPE)
		return fail_closed(ctl);
	(void)fprintf(stderr, "moultctl: the answer is too long\n");
	return CTL_EXIT_FAILED;
}

static enum ctl_exit run(struct ctl *ctl)
{
	struct ctl_arguments *arguments = &ctl->arguments;
	bool is_long = arguments->is_waiting || ctl->record;
	enum ctl_exit result;

	if (!arguments->timeout_s)
		arguments->timeout_s = is_long ? CTL_WAIT_TIMEOUT_S : CTL_TIMEOUT_S;
	if (arguments->interval_s)
		return ctl_live_run(&(struct ctl_live){
			.arguments = arguments,
			.is_once = arguments->is_once,
			.show = arguments->command->show,
			.on_unreachable = fail_unreachable,
		});
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
	if (strcmp(arguments->command->name, "version") == 0 && !arguments->is_json)
		(void)printf("moultctl %s\n", MOULT_VERSION);
	result = open_socket(ctl);
	if (result == CTL_EXIT_OK)
		result = send_request(ctl);
	if (result == CTL_EXIT_OK)
		result = read_answer(ctl);
	ctl_call_close(&ctl->call);
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
	struct ctl ctl = { .arguments.socket = getenv("MOULT_CONTROL"),
		           .call = CTL_CALL_NULL };
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
	if (result == CTL_EXIT_OK && !is_done && ctl.arguments.command->run) {
		result = ctl.arguments.command->run(&ctl.arguments);
	} else if (result == CTL_EXIT_OK && !is_done) {
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
