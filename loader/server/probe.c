/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/server/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/server/ready.h"
#include "shared/clock.h"
#include "shared/log.h"

/* An answer may take as long as an interval, in these bounds. */
#define PROBE_ANSWER_MIN_NS CLOCK_NS_PER_SEC
#define PROBE_ANSWER_MAX_NS (10 * CLOCK_NS_PER_SEC)
#define PROBE_WORDS_MAX     120

struct server_probe {
	struct server_watch watch;
	CURLM *multi;
	const struct server_place *place;
	CURL *easy; /* of the question under way, or of the last one */
	bool is_asking;
	uint64_t due_ns;
	unsigned int n_failed; /* in a row */
	size_t n_words;
	char words[PROBE_WORDS_MAX]; /* how the answer's body begins */
	char curl_why[CURL_ERROR_SIZE];
};

static size_t probe_on_body(char *data, size_t one, size_t bytes, void *context)
{
	struct server_probe *probe = context;

	(void)one;
	for (size_t i = 0; i < bytes && probe->n_words < PROBE_WORDS_MAX - 1; i++)
		probe->words[probe->n_words++] =
			(unsigned char)data[i] < ' ' ? ' ' : data[i];
	probe->words[probe->n_words] = '\0';
	return bytes;
}

static long probe_answer_ms(uint64_t interval_ns)
{
	uint64_t ns = interval_ns;

	if (ns < PROBE_ANSWER_MIN_NS)
		ns = PROBE_ANSWER_MIN_NS;
	if (ns > PROBE_ANSWER_MAX_NS)
		ns = PROBE_ANSWER_MAX_NS;
	return (long)(ns / CLOCK_NS_PER_MS);
}

int server_probe_new(struct server_probe **ret_probe, const struct server_watch *watch,
                     const struct server_place *place, CURLM *multi)
{
	struct server_probe *probe;

	*ret_probe = NULL;
	if (watch->interval_ns == 0)
		return 0;
	probe = calloc(1, sizeof(*probe));
	if (!probe)
		return -ENOMEM;
	probe->watch = *watch;
	probe->place = place;
	probe->multi = multi;
	probe->due_ns = clock_now_ns() + watch->interval_ns;
	*ret_probe = probe;
	return 0;
}

void server_probe_free(struct server_probe *probe)
{
	if (!probe)
		return;
	if (probe->is_asking)
		(void)curl_multi_remove_handle(probe->multi, probe->easy);
	curl_easy_cleanup(probe->easy);
	free(probe);
}

/* Prepares a question. Each has a handle of its own: see server_reset() in transfer.c. */
static bool probe_prepare(struct server_probe *probe)
{
	const struct server_question question = {
		.place = probe->place,
		.ready = probe->watch.ready,
		.timeout_ms = probe_answer_ms(probe->watch.interval_ns),
		.on_body = probe_on_body,
		.context = probe,
		.curl_why = probe->curl_why,
	};

	probe->n_words = 0;
	*probe->words = *probe->curl_why = '\0';
	curl_easy_cleanup(probe->easy);
	probe->easy = server_ready_question(&question);
	return probe->easy != NULL;
}

void server_probe_look(struct server_probe *probe)
{
	if (!probe || probe->is_asking || clock_now_ns() < probe->due_ns ||
	    !probe_prepare(probe))
		return;
	probe->is_asking = curl_multi_add_handle(probe->multi, probe->easy) == CURLM_OK;
}

int server_probe_poll_ms(const struct server_probe *probe, int most_ms)
{
	uint64_t now_ns = clock_now_ns();
	uint64_t left_ms;

	if (!probe || probe->is_asking)
		return most_ms;
	left_ms = probe->due_ns > now_ns ? (probe->due_ns - now_ns) / CLOCK_NS_PER_MS + 1
	                                 : 0;
	return left_ms < (uint64_t)most_ms ? (int)left_ms : most_ms;
}

/* Writes what the last question came to. */
static void probe_tell(const struct server_probe *probe, CURLcode result, long status,
                       struct err *ret_text)
{
	const struct ready *ready = probe->watch.ready;
	struct err wanted;

	server_ready_print_wanted(ready, &wanted);
	if (result == CURLE_OK)
		(void)err_set(ret_text, 0,
		              "answered %s %.200s %u times in a row not as ready wants, "
		              "at last with status %ld (%s) in place of %s",
		              ready->method, ready->target, probe->n_failed, status,
		              probe->words, wanted.text);
	else
		(void)err_set(
			ret_text, 0,
			"did not answer %s %.200s as ready wants %u times in a row, "
			"at last: %s",
			ready->method, ready->target, probe->n_failed,
			*probe->curl_why ? probe->curl_why : curl_easy_strerror(result));
}

bool server_probe_on_done(struct server_probe *probe, CURLcode result, bool is_busy,
                          struct err *ret_why)
{
	struct err text;
	long status = 0;

	(void)curl_easy_getinfo(probe->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_multi_remove_handle(probe->multi, probe->easy);
	probe->is_asking = false;
	probe->due_ns = clock_now_ns() + probe->watch.interval_ns;
	if (result == CURLE_OK && server_ready_is_right(probe->watch.ready, status)) {
		probe->n_failed = 0;
		return false;
	}
	if (result != CURLE_OK && is_busy)
		return false;
	probe->n_failed++;
	probe_tell(probe, result, status, &text);
	log_event(LOG_LEVEL_WARNING, "server_unready", "failures=%u of=%u why=%s",
	          probe->n_failed, probe->watch.n_failures, LOG_QUOTED(text.text));
	if (probe->n_failed < probe->watch.n_failures)
		return false;
	(void)err_set(ret_why, 0, "the server %s", text.text);
	return true;
}
