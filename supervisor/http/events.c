/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The page of a listener for administration, and the events that keep it up to date. The status
 * is made once a second for all who listen, and not at all while nobody does. A listener waits
 * suspended between two messages; while one is on its way, the deadline of SEND counts, and whoever
 * falls behind by all that page/feed.h keeps is hung up on. When moultd stops, streams end at once.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "supervisor/http/conn.h"
#include "supervisor/page/html.h"
#include "supervisor/page/view.h"

/* Pages in browsers of the few who look after one moultd. */
#define HTTP_LISTENERS 8
#define HTTP_TICK_NS   CLOCK_NS_PER_SEC
#define HTTP_EVENTS    "text/event-stream"
/* Bytes of the stream that are handed to libmicrohttpd at once. */
#define HTTP_EVENTS_BLOCK 32768
/* Of the kernel, for one that does not read: it would take megabytes. */
#define HTTP_EVENTS_SEND_BYTES 65536

static json_t *http_events_status(const struct http *http)
{
	return view_status(http->models.list, http->models.devices,
	                   http->models.config_error);
}

/* There is news. Who has fallen behind is not asked for more by libmicrohttpd as long as the socket
 * is full, and so would never be told. */
static void http_events_wake(struct http *http)
{
	struct http_conn *conn;

	LIST_FOREACH (conn, &http->events.listeners, listener.link)
		if (conn->phase == HTTP_PHASE_GONE ||
		    !feed_has_lost(&http->events.feed, &conn->listener.reader))
			http_conn_resume(conn);
		else
			http_conn_evict(conn);
}

static void http_events_push(struct http *http)
{
	struct http_events *events = &http->events;
	json_t *status = http_events_status(http);

	/* Without memory this second is left out. */
	(void)feed_push(&events->feed, "status", status);
	json_decref(status);
	events->pushed_ns = http->conns.now_ns;
	http_events_wake(http);
}

static void http_on_tick(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;

	(void)loop;
	(void)revents;
	http_conns_tick(http);
	http_events_push(http);
}

void http_events_init(struct http *http)
{
	struct http_events *events = &http->events;

	LIST_INIT(&events->listeners);
	events->receipts = json_array();
	html_policy(events->policy);
	ev_timer_init(&events->tick, http_on_tick, 0., (double)HTTP_TICK_NS / 1e9);
	events->tick.data = http;
}

void http_events_fini(struct http *http)
{
	struct http_events *events = &http->events;

	ev_timer_stop(http->loop, &events->tick);
	feed_fini(&events->feed);
	json_decref(events->receipts);
}

void http_events_end(struct http *http)
{
	struct http_events *events = &http->events;

	events->is_over = true;
	http_events_wake(http);
}

void http_note_receipt(struct http *http, const json_t *receipt)
{
	struct http_events *events = &http->events;
	json_t *shown;

	view_add_receipt(events->receipts, receipt);
	if (events->n_listeners == 0)
		return;
	shown = view_receipt(receipt);
	(void)feed_push(&events->feed, "receipt", shown);
	json_decref(shown);
	http_events_wake(http);
}

/* The stream */

static ssize_t http_on_events(void *context, uint64_t position, char *buffer, size_t size)
{
	struct http_conn *conn = context;
	struct http_listener *listener = &conn->listener;
	ssize_t n;

	(void)position;
	if (conn->phase == HTTP_PHASE_GONE)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (conn->http->events.is_over)
		return MHD_CONTENT_READER_END_OF_STREAM;
	n = feed_read(&conn->http->events.feed, &listener->reader, buffer, size);
	if (n < 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n == 0) {
		http_conn_wait(conn);
		http_conn_suspend(conn);
	} else if (conn->phase != HTTP_PHASE_SEND) {
		/* Each message has its own time to be sent. */
		http_conn_enter(conn, HTTP_PHASE_SEND);
	}
	return n;
}

/* False: there is no memory. */
static bool http_events_add(struct http_conn *conn)
{
	struct http_events *events = &conn->http->events;
	struct http_listener *listener = &conn->listener;

	if (feed_open(&events->feed, &listener->reader, "receipts", events->receipts) < 0)
		return false;
	(void)setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF,
	                 &(int){ HTTP_EVENTS_SEND_BYTES }, sizeof(int));
	listener->is_listed = true;
	LIST_INSERT_HEAD(&events->listeners, conn, listener.link);
	events->n_listeners++;
	/* Who comes again and again gets no more than who stays. */
	if (events->pushed_ns + HTTP_TICK_NS <= conn->http->conns.now_ns)
		http_events_push(conn->http);
	if (!ev_is_active(&events->tick))
		ev_timer_again(conn->http->loop, &events->tick);
	return true;
}

void http_events_forget(struct http_conn *conn)
{
	struct http_events *events = &conn->http->events;
	struct http_listener *listener = &conn->listener;

	if (!listener->is_listed)
		return;
	listener->is_listed = false;
	LIST_REMOVE(conn, listener.link);
	feed_close(&listener->reader);
	if (--events->n_listeners > 0)
		return;
	ev_timer_stop(conn->http->loop, &events->tick);
	feed_fini(&events->feed);
}

/* Answers */

/* Adds what keeps other pages and old copies away, and queues @response, which it takes. */
static enum MHD_Result http_events_send(struct http_conn *conn, unsigned int status,
                                        const char *content_type,
                                        struct MHD_Response *response)
{
	const char *const fields[][2] = {
		{ MHD_HTTP_HEADER_CONTENT_TYPE, content_type },
		{ MHD_HTTP_HEADER_CACHE_CONTROL, "no-store" },
		{ "Content-Security-Policy", conn->http->events.policy },
		{ "X-Content-Type-Options", "nosniff" },
		{ "Referrer-Policy", "no-referrer" },
	};

	if (!response)
		return MHD_NO;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		(void)MHD_add_response_header(response, fields[i][0], fields[i][1]);
	return http_answer_made(conn, status, response);
}

static enum MHD_Result http_answer_html(struct http_conn *conn, unsigned int status,
                                        char *page)
{
	struct MHD_Response *response = NULL;

	if (page)
		response = MHD_create_response_from_buffer(strlen(page), page,
		                                           MHD_RESPMEM_MUST_FREE);
	if (!response)
		free(page);
	return http_events_send(conn, status, "text/html; charset=utf-8", response);
}

enum MHD_Result http_answer_front(struct http_conn *conn)
{
	json_t *status = http_events_status(conn->http);
	char *page = status ? html_page(status, conn->http->events.receipts) : NULL;

	json_decref(status);
	return http_answer_html(conn, 200, page);
}

enum MHD_Result http_answer_closed_front(struct http_conn *conn)
{
	return http_answer_html(conn, conn->refusal.status, html_page(NULL, NULL));
}

enum MHD_Result http_answer_events(struct http_conn *conn)
{
	bool is_head = strcmp(conn->ask.method, MHD_HTTP_METHOD_HEAD) == 0;
	static char nothing[] = "";

	if (is_head)
		return http_events_send(conn, 200, HTTP_EVENTS,
		                        MHD_create_response_from_buffer(
						0, nothing, MHD_RESPMEM_PERSISTENT));
	if (conn->http->events.n_listeners >= HTTP_LISTENERS ||
	    conn->http->events.is_over) {
		(void)request_refuse(&conn->refusal, 503, HTTP_RETRY_S, "%s",
		                     conn->http->events.is_over
		                             ? "moultd is about to stop"
		                             : "as many pages listen as may: close one");
		return http_answer_refusal(conn);
	}
	if (!http_events_add(conn))
		return MHD_NO;
	return http_events_send(conn, 200, HTTP_EVENTS,
	                        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN,
	                                                          HTTP_EVENTS_BLOCK,
	                                                          http_on_events, conn,
	                                                          NULL));
}
