/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A round of the thread: libcurl works (server_perform()), what it has gathered is given to the
 * host, what has failed is judged (server_judge()), new requests are taken, and then it waits for
 * libcurl's sockets, the host's bell, the server's end and what the server prints.
 *
 * A request that failed before its answer began waits for a moment: when the server's end follows,
 * moultd is to ask it again, and no client shall hear of it. Otherwise it is tried again if the
 * server cannot have begun it, or if its method may be repeated.
 *
 * A server that somebody killed takes the loader along, by the same signal: moultd tells a kill
 * from outside, which is no request's fault, from a crash.
 */
#include "loader/server/proxy.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "loader/server/transfer.h"
#include "shared/clock.h"
#include "shared/log.h"

#define SERVER_POLL_MS 1000
#define SERVER_IDLE_MS 60000
#define SERVER_SOON_MS 10
/* What a server has that is not ready any more has so long. */
#define SERVER_DRAIN_NS (10 * CLOCK_NS_PER_SEC)
/* Lines about requests that failed: one in so long. */
#define SERVER_SAY_NS (10 * CLOCK_NS_PER_SEC)

LIST_HEAD(server_list, server_transfer);

struct server_proxy {
	const struct engine_host *host;
	const struct server_place *place;
	const char *replay;
	struct server_process *process;
	CURLM *multi;
	struct server_probe *probe; /* NULL: it is not asked */
	pthread_t thread;
	bool has_thread;
	struct server_list busy;
	struct server_list idle;
	uint32_t n_idle; /* that may be made, or wait in @idle */
	bool is_over;    /* no request comes any more */
	bool has_failed; /* the loader is about to end */
	/* Not 0: the server is not ready any more, for @unready. It gets no request, and has until
	 * then for those that it has. */
	uint64_t drain_ns;
	struct err unready;
	atomic_bool is_told; /* to end */
	uint64_t say_ns;     /* when the next line may be written */
	unsigned int silent; /* failures since the last one */
};

/* The failure of all */

static void server_fail(struct server_proxy *proxy, const char *why)
{
	if (proxy->has_failed)
		return;
	proxy->has_failed = true;
	/* The loader ends without a close. */
	server_place_clear(proxy->place);
	proxy->host->fail(proxy->host->host, why);
}

static void server_on_end(struct server_proxy *proxy)
{
	int killer = server_process_was_killed(proxy->process);
	struct err how = ERR_NULL;
	struct err why;

	if (proxy->has_failed)
		return;
	server_process_tell(proxy->process, &how);
	(void)err_set(&why, 0, "the server %s", how.text);
	if (killer) {
		log_event(LOG_LEVEL_ERR, "server_killed", "why=%s", LOG_QUOTED(why.text));
		server_place_clear(proxy->place);
		(void)kill(getpid(), killer);
	}
	server_fail(proxy, why.text);
}

/* The failure of one request */

static void server_say(struct server_proxy *proxy, const struct server_transfer *transfer)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns < proxy->say_ns) {
		proxy->silent++;
		return;
	}
	log_event(LOG_LEVEL_WARNING, "server_answer_failed", "why=%s not_told=%u",
	          LOG_QUOTED(transfer->why.text), proxy->silent);
	proxy->say_ns = now_ns + SERVER_SAY_NS;
	proxy->silent = 0;
}

/* Decides about a request that failed: it waits for another try, or is refused. */
static void server_judge(struct server_proxy *proxy, struct server_transfer *transfer)
{
	struct err why;

	if (server_transfer_wait(transfer))
		return;
	server_transfer_tell(transfer, &why);
	if (server_transfer_is_unsent(transfer)) {
		struct err text;

		(void)err_set(&text, 0, "the server does not listen any more: %s",
		              why.text);
		server_fail(proxy, text.text);
		return;
	}
	server_transfer_refuse(transfer, why.text);
}

/* The moment is over, and the server lives. */
static void server_retry(struct server_proxy *proxy, struct server_transfer *transfer)
{
	if (server_transfer_again(transfer))
		(void)curl_multi_add_handle(proxy->multi, transfer->easy);
}

/* Rounds */

/* Takes a transfer off libcurl, which closes its connection unless its answer is complete. */
static void server_detach(struct server_proxy *proxy, struct server_transfer *transfer,
                          CURLcode result)
{
	(void)curl_multi_remove_handle(proxy->multi, transfer->easy);
	server_transfer_finish(transfer, result);
}

static void server_recycle(struct server_proxy *proxy, struct server_transfer *transfer)
{
	LIST_REMOVE(transfer, link);
	server_transfer_end(transfer);
	LIST_INSERT_HEAD(&proxy->idle, transfer, link);
	proxy->n_idle++;
}

static void server_on_probe(struct server_proxy *proxy, CURLcode result)
{
	struct err why;

	if (server_probe_on_done(proxy->probe, result, !LIST_EMPTY(&proxy->busy), &why) &&
	    proxy->drain_ns == 0) {
		proxy->drain_ns = clock_now_ns() + SERVER_DRAIN_NS;
		proxy->unready = why;
	}
}

/* Ends the loader of a server that is not ready, once that has answered what it has. */
static void server_look_ready(struct server_proxy *proxy)
{
	if (proxy->drain_ns == 0)
		server_probe_look(proxy->probe);
	else if (LIST_EMPTY(&proxy->busy) || clock_now_ns() >= proxy->drain_ns)
		server_fail(proxy, proxy->unready.text);
}

static void server_perform(struct server_proxy *proxy)
{
	const CURLMsg *message;
	int n;

	(void)curl_multi_perform(proxy->multi, &n);
	while ((message = curl_multi_info_read(proxy->multi, &n))) {
		CURLcode result = message->data.result;
		struct server_transfer *transfer;
		char *private = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		if (!private) {
			server_on_probe(proxy, result);
			continue;
		}
		transfer = (struct server_transfer *)(void *)private;
		server_detach(proxy, transfer, result);
		if (transfer->result != CURLE_OK)
			server_judge(proxy, transfer);
	}
}

/* Gives what has come to the host, tries again what is due, and ends what has been answered or is
 * not waited for. */
static void server_settle(struct server_proxy *proxy)
{
	const struct engine_host *host = proxy->host;
	uint64_t now_ns = clock_now_ns();
	struct server_transfer *next;

	for (struct server_transfer *transfer = LIST_FIRST(&proxy->busy); transfer;
	     transfer = next) {
		next = LIST_NEXT(transfer, link);
		if (!transfer->is_refused &&
		    host->is_gone(host->host, transfer->request)) {
			server_detach(proxy, transfer, CURLE_ABORTED_BY_CALLBACK);
			server_transfer_drop(transfer);
		}
		if (transfer->retry_ns && transfer->retry_ns <= now_ns)
			server_retry(proxy, transfer);
		if (transfer->is_refused && !transfer->is_over)
			server_detach(proxy, transfer, CURLE_ABORTED_BY_CALLBACK);
		if (server_transfer_is_news(transfer))
			server_say(proxy, transfer);
		if (!transfer->retry_ns)
			server_transfer_resume(transfer);
		if (server_transfer_is_news(transfer))
			server_say(proxy, transfer);
		if (transfer->has_ended)
			server_recycle(proxy, transfer);
	}
}

static struct server_transfer *server_take_idle(struct server_proxy *proxy)
{
	struct server_transfer *transfer = LIST_FIRST(&proxy->idle);

	if (transfer)
		LIST_REMOVE(transfer, link);
	else
		transfer = server_transfer_new(proxy->place, proxy->host, proxy->replay);
	if (transfer)
		proxy->n_idle--;
	return transfer;
}

static void server_begin(struct server_proxy *proxy, struct server_transfer *transfer,
                         struct engine_request *request)
{
	int r = server_transfer_begin(transfer, request);

	LIST_INSERT_HEAD(&proxy->busy, transfer, link);
	if (r == 0 && curl_multi_add_handle(proxy->multi, transfer->easy) == CURLM_OK)
		return;
	server_transfer_finish(transfer, CURLE_OUT_OF_MEMORY);
	server_transfer_refuse(transfer, "out of memory");
}

/* Takes requests while there is room for them. True: some have come. */
static bool server_take(struct server_proxy *proxy)
{
	bool has_taken = false;

	while (proxy->n_idle > 0 && !proxy->is_over && proxy->drain_ns == 0) {
		struct server_transfer *transfer = server_take_idle(proxy);
		struct engine_request *request;
		int r;

		if (!transfer)
			break; /* out of memory: the next round tries again */
		r = proxy->host->take(proxy->host->host, 0, &request);
		if (r == 0) {
			server_begin(proxy, transfer, request);
			has_taken = true;
			continue;
		}
		LIST_INSERT_HEAD(&proxy->idle, transfer, link);
		proxy->n_idle++;
		if (r == ENGINE_HOST_E_AGAIN)
			break;
		proxy->is_over = true;
	}
	return has_taken;
}

static int server_poll_ms(const struct server_proxy *proxy)
{
	const struct server_transfer *transfer;

	if (proxy->is_over)
		return 0;
	LIST_FOREACH (transfer, &proxy->busy, link)
		if (transfer->retry_ns || server_transfer_is_held(transfer))
			return SERVER_SOON_MS;
	return LIST_EMPTY(&proxy->busy) ? SERVER_IDLE_MS : SERVER_POLL_MS;
}

static void server_wait(struct server_proxy *proxy)
{
	struct server_process *process = proxy->process;
	/* A descriptor of -1 is passed over, as in poll(2). */
	struct curl_waitfd fds[] = {
		{ .fd = proxy->host->bell, .events = CURL_WAIT_POLLIN },
		{ .fd = process->log_fd, .events = CURL_WAIT_POLLIN },
		{ .fd = process->pidfd, .events = CURL_WAIT_POLLIN },
	};
	uint64_t rings;

	(void)curl_multi_poll(proxy->multi, fds, sizeof(fds) / sizeof(fds[0]),
	                      server_probe_poll_ms(proxy->probe, server_poll_ms(proxy)),
	                      NULL);
	if (fds[0].revents)
		(void)!read(proxy->host->bell, &rings, sizeof(rings));
	if (fds[1].revents)
		server_process_read_log(process);
	if (fds[2].revents && server_process_look(process))
		server_on_end(proxy);
}

static void *server_run(void *context)
{
	struct server_proxy *proxy = context;

	while (!proxy->is_over || !LIST_EMPTY(&proxy->busy)) {
		server_perform(proxy);
		if (!proxy->has_failed) {
			server_settle(proxy);
			server_look_ready(proxy);
			if (server_take(proxy))
				continue;
		} else if (atomic_load(&proxy->is_told)) {
			break;
		}
		server_wait(proxy);
	}
	return NULL;
}

int server_proxy_new(struct server_proxy **ret_proxy, const struct engine_host *host,
                     const struct server_place *place, const char *replay,
                     struct server_process *process, const struct server_watch *watch,
                     uint32_t n_transfers, struct err *err)
{
	struct server_proxy *proxy = calloc(1, sizeof(*proxy));
	int r;

	*ret_proxy = proxy;
	if (!proxy)
		return err_set(err, -ENOMEM, "out of memory");
	proxy->host = host;
	proxy->place = place;
	proxy->replay = replay;
	proxy->process = process;
	proxy->n_idle = n_transfers;
	proxy->multi = curl_multi_init();
	if (!proxy->multi ||
	    server_probe_new(&proxy->probe, watch, place, proxy->multi) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	(void)curl_multi_setopt(proxy->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	(void)curl_multi_setopt(proxy->multi, CURLMOPT_MAXCONNECTS, (long)n_transfers);
	r = pthread_create(&proxy->thread, NULL, server_run, proxy);
	proxy->has_thread = r == 0;
	if (r == 0)
		return 0;
	server_probe_free(proxy->probe);
	(void)curl_multi_cleanup(proxy->multi);
	proxy->probe = NULL;
	proxy->multi = NULL;
	return err_set(err, -r, "no thread: %s", strerror(r));
}

static void server_list_free(struct server_proxy *proxy, struct server_list *list)
{
	struct server_transfer *transfer;

	while ((transfer = LIST_FIRST(list))) {
		LIST_REMOVE(transfer, link);
		(void)curl_multi_remove_handle(proxy->multi, transfer->easy);
		server_transfer_free(transfer);
	}
}

void server_proxy_free(struct server_proxy *proxy)
{
	if (!proxy)
		return;
	if (proxy->multi) {
		atomic_store(&proxy->is_told, true);
		(void)curl_multi_wakeup(proxy->multi);
		if (proxy->has_thread)
			(void)pthread_join(proxy->thread, NULL);
		server_probe_free(proxy->probe);
		server_list_free(proxy, &proxy->busy);
		server_list_free(proxy, &proxy->idle);
		(void)curl_multi_cleanup(proxy->multi);
	}
	free(proxy);
}
