/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The endpoint from the inside, for http.c (daemon, loop, deadlines) and http_conn.c
 * (what happens on one connection) only.
 *
 * libmicrohttpd calls back from MHD_run(), which only http.c calls, from the loop.
 */

#include <microhttpd.h>
#include <sys/queue.h>

#include "supervisor/http.h"
#include "supervisor/http_route.h"

/* What a connection does now decides which absolute deadline it has. */
enum http_phase {
	HTTP_PHASE_NEW,     /* connected: the first head is due */
	HTTP_PHASE_IDLE,    /* between requests */
	HTTP_PHASE_HEAD,    /* the request line has come */
	HTTP_PHASE_BODY,    /* the head has come */
	HTTP_PHASE_WORKING, /* the request's own deadline counts */
	HTTP_PHASE_COUNT
};

struct http_conn {
	TAILQ_ENTRY(http_conn) link; /* in the list of its phase, by deadline */
	struct http *http;
	struct MHD_Connection *connection;
	int fd; /* borrowed from libmicrohttpd */
	enum http_phase phase;
	uint64_t deadline_ns;
	bool is_suspended;
	bool is_gone; /* the client has closed its side */
	bool is_submitted;
	bool has_answer;
	char *target; /* of the current request, as sent; owned */
	struct http_route route;
	struct request *request; /* owned until request_release() */
	struct request_part *part; /* of a streamed answer: being sent */
	size_t part_sent;
	unsigned int refused_status; /* decided while the body still comes in */
	struct request_refusal refusal;
};

TAILQ_HEAD(http_conn_list, http_conn);

struct http {
	struct ev_loop *loop;
	struct http_models models;
	struct MHD_Daemon *daemon;
	ev_io daemon_io;
	ev_timer daemon_timer;
	ev_prepare prepare;
	ev_idle again;
	bool must_run;
	int gone_fd; /* epoll set of all sockets, for hang-ups only */
	ev_io gone_io;
	ev_timer sweep; /* looks at deadlines while there are connections */
	uint64_t timeout_ns[HTTP_PHASE_COUNT];
	struct http_conn_list phases[HTTP_PHASE_COUNT];
	unsigned int n_connections;
	bool is_draining;
	void (*on_idle)(void *context);
	void *on_idle_context;
	uint64_t n_accepted;
	uint64_t n_by_class[6]; /* by first digit of the status */
	char scratch[PROTO_HEAD_MAX];
};

/* Moves to a phase and sets its deadline. */
void http_conn_enter(struct http_conn *conn, enum http_phase phase);
/* The client is gone or must go: gives its request back and lets libmicrohttpd close. */
void http_conn_hang_up(struct http_conn *conn);

/* Callbacks of libmicrohttpd. */
enum MHD_Result http_conn_handle(void *context, struct MHD_Connection *connection,
				 const char *url, const char *method, const char *version,
				 const char *upload_data, size_t *upload_data_size,
				 void **request_context);
void http_conn_on_completed(void *context, struct MHD_Connection *connection,
			    void **request_context, enum MHD_RequestTerminationCode code);
void *http_conn_on_line(void *context, const char *uri, struct MHD_Connection *connection);
