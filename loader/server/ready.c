/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One question after the other, each with a connection and a deadline of its own, until an answer
 * is the right one. A server that has ended, or whose port is somebody else's, ends the wait at
 * once; everything else may pass, and is told when the time is over.
 */
#include "loader/server/ready.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "shared/clock.h"

/* The pause before the next question grows from one to the other. */
#define READY_PAUSE_MIN_MS 10
#define READY_PAUSE_MAX_MS 250
/* An answer that takes longer is asked for once more. */
#define READY_ANSWER_MS 10000L
#define READY_WORDS_MAX 120

struct server_ready {
	struct server_process *process;
	const struct server_place *place;
	const struct ready *ready;
	int quit_fd; /* readable: nobody waits for the server any more */
	bool is_quit;
	CURL *easy;
	CURLM *multi;
	CURLcode result;
	long status;           /* of the last answer; 0: none yet */
	unsigned int n_wrong;  /* answers with another status than wanted */
	unsigned int n_silent; /* connections without an answer */
	char curl_why[CURL_ERROR_SIZE];
	char words[READY_WORDS_MAX]; /* how the body of the last answer begins */
	char fresh[READY_WORDS_MAX]; /* the same of one that is still coming */
	size_t n_fresh;
};

static size_t ready_on_body(char *data, size_t one, size_t bytes, void *context)
{
	struct server_ready *state = context;

	(void)one;
	for (size_t i = 0; i < bytes && state->n_fresh < READY_WORDS_MAX - 1; i++)
		state->fresh[state->n_fresh++] =
			(unsigned char)data[i] < ' ' ? ' ' : data[i];
	state->fresh[state->n_fresh] = '\0';
	return bytes;
}

CURL *server_ready_question(const struct server_question *question)
{
	const struct ready *ready = question->ready;
	char url[64];
	CURL *easy = curl_easy_init();

	if (!easy)
		return NULL;
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/",
	               question->place->port ? question->place->port : 80);
	if (question->place->port == 0)
		(void)curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH,
		                       question->place->socket);
	(void)curl_easy_setopt(easy, CURLOPT_URL, url);
	(void)curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, ready->target);
	(void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, ready->method);
	if (strcmp(ready->method, "HEAD") == 0)
		(void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
	(void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, question->timeout_ms);
	(void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, question->curl_why);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, question->on_body);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, question->context);
	return easy;
}

bool server_ready_is_right(const struct ready *ready, long status)
{
	return status >= (long)ready->status_min && status <= (long)ready->status_max;
}

/* Prepares a question. Each has a handle of its own: see server_reset() in transfer.c. */
static bool ready_prepare(struct server_ready *state)
{
	const struct server_question question = {
		.place = state->place,
		.ready = state->ready,
		.timeout_ms = READY_ANSWER_MS,
		.on_body = ready_on_body,
		.context = state,
		.curl_why = state->curl_why,
	};

	curl_easy_cleanup(state->easy);
	state->easy = server_ready_question(&question);
	return state->easy != NULL;
}

/* Waits for libcurl or the server, @most_ns at most, and not for long. */
static void ready_wait(struct server_ready *state, uint64_t most_ns)
{
	uint64_t most_ms = most_ns / CLOCK_NS_PER_MS + 1;
	int ms = most_ms < READY_PAUSE_MAX_MS ? (int)most_ms : READY_PAUSE_MAX_MS;
	struct server_process *process = state->process;
	struct curl_waitfd fds[3] = { { .fd = state->quit_fd,
		                        .events = CURL_WAIT_POLLIN } };
	unsigned int n = 1;

	if (process->log_fd >= 0)
		fds[n++] = (struct curl_waitfd){ .fd = process->log_fd,
			                         .events = CURL_WAIT_POLLIN };
	if (process->pidfd >= 0)
		fds[n++] = (struct curl_waitfd){ .fd = process->pidfd,
			                         .events = CURL_WAIT_POLLIN };
	(void)curl_multi_poll(state->multi, fds, n, ms, NULL);
	state->is_quit |= fds[0].revents != 0;
	server_process_read_log(process);
}

/* Keeps what is to be told of a question that nobody answered in time. */
static void ready_note_silence(struct server_ready *state)
{
	curl_off_t connected_us = 0;

	(void)curl_easy_getinfo(state->easy, CURLINFO_CONNECT_TIME_T, &connected_us);
	if (connected_us == 0 || state->n_wrong > 0)
		return;
	state->n_silent++;
	state->result = CURLE_OPERATION_TIMEDOUT;
	(void)snprintf(state->curl_why, sizeof(state->curl_why), "no answer came");
}

/* Asks once. False: the server has ended, or the time is over, or nobody waits any more. */
static bool ready_ask(struct server_ready *state, uint64_t until_ns)
{
	const CURLMsg *message = NULL;
	uint64_t now_ns;
	int n = 0;

	state->n_fresh = 0;
	*state->fresh = '\0';
	if (!ready_prepare(state))
		return false; /* the next one may find memory */
	(void)curl_multi_add_handle(state->multi, state->easy);
	while (!state->is_quit && !server_process_look(state->process) &&
	       (now_ns = clock_now_ns()) < until_ns) {
		(void)curl_multi_perform(state->multi, &n);
		message = curl_multi_info_read(state->multi, &n);
		if (message)
			break;
		ready_wait(state, until_ns - now_ns);
	}
	if (message) {
		state->result = message->data.result;
		(void)curl_easy_getinfo(state->easy, CURLINFO_RESPONSE_CODE,
		                        &state->status);
	} else {
		ready_note_silence(state);
	}
	(void)curl_multi_remove_handle(state->multi, state->easy);
	return message;
}

/* True: the answer is the right one. Otherwise keeps what is to be told of it. */
static bool ready_judge(struct server_ready *state)
{
	if (state->result == CURLE_OK &&
	    server_ready_is_right(state->ready, state->status))
		return true;
	if (state->result == CURLE_OK) {
		state->n_wrong++;
		memcpy(state->words, state->fresh, sizeof(state->words));
	} else if (state->result != CURLE_COULDNT_CONNECT) {
		state->n_silent++;
	}
	return false;
}

void server_ready_print_wanted(const struct ready *ready, struct err *ret_text)
{
	if (ready->status_min == ready->status_max)
		(void)err_set(ret_text, 0, "%u", ready->status_min);
	else
		(void)err_set(ret_text, 0, "%u to %u", ready->status_min,
		              ready->status_max);
}

static int ready_tell_late(const struct server_ready *state, double waited_s,
                           struct err *err)
{
	const struct ready *ready = state->ready;
	const char *last =
		*state->process->last_line ? state->process->last_line : "nothing";
	struct err wanted;

	server_ready_print_wanted(ready, &wanted);
	if (state->result == CURLE_OK && state->n_wrong > 0)
		return err_set(
			err, ENGINE_E_FAILED,
			"the server answered %s %s %u times within %.1f s, at last with "
			"status %ld (%s), and ready wants %s: mend the server or ready",
			ready->method, ready->target, state->n_wrong, waited_s,
			state->status, state->words, wanted.text);
	if (state->n_silent > 0)
		return err_set(
			err, ENGINE_E_FAILED,
			"the server listens, and did not answer %s %s as HTTP wants it "
			"within %.1f s: %s; it said last: %s",
			ready->method, ready->target, waited_s,
			*state->curl_why ? state->curl_why
					 : curl_easy_strerror(state->result),
			last);
	if (state->place->port == 0)
		return err_set(
			err, ENGINE_E_FAILED,
			"the server did not listen on {socket} within %.1f s: does it "
			"take that option, or need more commit_timeout? it said last: "
			"%s",
			waited_s, last);
	return err_set(
		err, ENGINE_E_FAILED,
		"the server did not listen on port %u of 127.0.0.1 ({port}) within "
		"%.1f s: does it take that option, or need more commit_timeout? it "
		"said last: %s",
		state->place->port, waited_s, last);
}

static int ready_tell_end(const struct server_ready *state, struct err *err)
{
	struct err how;

	server_process_tell(state->process, &how);
	return err_set(err, ENGINE_E_FAILED, "before it was ready the server %s",
	               how.text);
}

static int ready_run(struct server_ready *state, uint64_t until_ns, struct err *err)
{
	uint64_t begin_ns = clock_now_ns();
	int pause_ms = READY_PAUSE_MIN_MS;

	for (;;) {
		bool has_asked = ready_ask(state, until_ns);

		if (server_process_look(state->process))
			return ready_tell_end(state, err);
		if (state->is_quit)
			return err_set(err, ENGINE_E_FAILED,
			               "before it was ready the loader was to end");
		if (has_asked && state->result == CURLE_OK &&
		    server_place_is_taken(state->place, err))
			return ENGINE_E_FAILED;
		if (has_asked && ready_judge(state))
			return 0;
		if (clock_now_ns() >= until_ns)
			return ready_tell_late(state,
			                       clock_ns_to_ms(clock_now_ns() - begin_ns) /
			                               1000,
			                       err);
		ready_wait(state, (uint64_t)pause_ms * CLOCK_NS_PER_MS);
		if (pause_ms < READY_PAUSE_MAX_MS)
			pause_ms += pause_ms / 2;
	}
}

int server_ready_await(struct server_process *process, const struct server_place *place,
                       const struct ready *ready, int quit_fd, uint64_t until_ns,
                       struct err *err)
{
	struct server_ready state = {
		.process = process, .place = place, .ready = ready, .quit_fd = quit_fd
	};
	int r;

	state.multi = curl_multi_init();
	if (!state.multi)
		r = err_set(err, ENGINE_E_FAILED, "out of memory");
	else
		r = ready_run(&state, until_ns, err);
	curl_easy_cleanup(state.easy);
	(void)curl_multi_cleanup(state.multi);
	return r;
}
