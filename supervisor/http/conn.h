/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The endpoint from the inside, for the files of http/ only. Each file calls those before
 * it, and owns the struct in braces, to which no other file writes:
 *
 *	conn.c      {http_conn, http_conns} connections: phases, deadlines, the way out
 *	answer.c    {http_sending, http_answers} everything that is sent
 *	turn.c      {http_turn, http_turns} how much of the loop's time metrics and
 *	            statistics get
 *	permit.c    asks gate/ who may have what, and how much
 *	body.c      {http_body} a request's body, as it comes
 *	recv.c      {http_ready} puts the strict reader (wire/) in front of libmicrohttpd
 *	events.c    {http_listener, http_events} the page for administration, kept up to date
 *	deadline.c  who is late, or makes room, and what becomes of them
 *	handler.c   {http_ask} what a request asks for, and its end
 *	http.c      {http} the daemon on the loop; birth, drain and death
 *
 * libmicrohttpd calls back from MHD_run() alone, which only http.c calls, from the loop.
 * So nothing here is entered twice, and a connection is freed nowhere else.
 */

#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <sys/queue.h>

#include "shared/clock.h"
#include "supervisor/gate/gate.h"
#include "supervisor/gate/measure.h"
#include "supervisor/gate/peer.h"
#include "supervisor/gate/permit.h"
#include "supervisor/http/http.h"
#include "supervisor/wire/head.h"
#include "supervisor/wire/route.h"
#include "supervisor/wire/wire.h"
#include "supervisor/metrics/all.h"
#include "supervisor/loop/turns.h"
#include "supervisor/page/feed.h"
#include "supervisor/page/html.h"

/* Seconds until a client may ask again, where there is nothing to reckon with. */
#define HTTP_RETRY_S 1
/* A body's rate counts from its fifth second on. */
#define HTTP_RATE_GRACE_NS (5 * CLOCK_NS_PER_SEC)

/* Phases of a connection. Each phase has one absolute deadline. The order counts: up to
 * LINGER, bytes of a request are to come; up to SWALLOW, no byte of its answer was
 * sent. */
enum http_phase {
	HTTP_PHASE_NEW,     /* connected: the first head is due */
	HTTP_PHASE_IDLE,    /* between requests */
	HTTP_PHASE_HEAD,    /* the request line has come */
	HTTP_PHASE_BODY,    /* the body goes into the request */
	HTTP_PHASE_SWALLOW, /* the body is dropped; an answer of our own follows it */
	HTTP_PHASE_LINGER,  /* answered while the body comes: dropped until it closes */
	HTTP_PHASE_WAIT,    /* the request's own deadline counts */
	HTTP_PHASE_HALF,    /* waits for a client that has closed its sending side */
	HTTP_PHASE_SEND,    /* an answer goes out */
	HTTP_PHASE_TURN,    /* waits for a turn to be answered: turn.c */
	HTTP_PHASE_LOAD,    /* waits for a model to be loaded or unloaded: repository.c */
	HTTP_PHASE_GONE,    /* the client is gone: about to be closed */
	HTTP_PHASE_COUNT
};

struct http_page;
struct repository_call;

/* A byte that http_wire has read, for libmicrohttpd's next read. */
struct http_ready {
	bool is_there;
	char byte;
	bool has_read; /* under TLS: the handshake is over */
	int code;      /* under TLS: what GnuTLS said when errno is EIO */
};

/* What the current request asks for. */
struct http_ask {
	uint64_t begun_ns; /* when the request line came; 0: none has */
	char method[16];   /* "": not known yet */
	char *target;      /* as sent; owned */
	size_t target_size;
	const char *path; /* in it */
	struct http_route route;
	const char *allow;   /* for a 405 */
	bool has_continue;   /* the client waits for a 100 before it sends the body */
	uint64_t body_bytes; /* announced; UINT64_MAX: chunked */
	unsigned int looks;  /* at a request that waits, before it is suspended */
};

/* Its body. */
struct http_body {
	uint64_t received_bytes;
	uint64_t swallow_bytes; /* received before the connection is given up */
};

/* The answer to it. */
struct http_sending {
	bool is_noted;             /* the request, in the access log */
	bool has_said_close;       /* in the answer */
	size_t answer_bytes;       /* of the body of an answer of our own */
	struct request_part *part; /* of a streamed answer: being sent */
	size_t part_sent;
	struct lane *
		lane; /* in whose arena lies what is being sent: lives as long; or NULL */
};

/* Its turn, where its answer has to wait for one. */
struct http_turn {
	struct turn turn;
	bool is_due;   /* waited long enough */
	bool is_taken; /* an answer that had its turn is on its way */
};

/* A model that is being loaded or unloaded for it. */
struct http_loading {
	struct repository_call *call; /* NULL: none */
	bool is_done;
	char *body; /* owned */
	size_t body_bytes;
};

/* A client that listens to events. */
struct http_listener {
	LIST_ENTRY(http_conn) link;
	bool is_listed;
	struct feed_reader reader;
};

/* "ADDRESS PORT" of IPv6, with the zone. */
#define HTTP_CLIENT_MAX 72

struct http_conn {
	TAILQ_ENTRY(http_conn) link; /* in the list of its phase, oldest first */
	struct http *http;
	struct MHD_Connection *connection;
	int fd;                   /* borrowed from libmicrohttpd */
	gnutls_session_t session; /* likewise; NULL: plain HTTP */
	struct tls_pair *pair;    /* of the session; a reference */
	struct peer *peer;        /* owned; NULL: proxy_protocol is off */
	/* PROTO_CLIENT_FIELD; empty: nobody has asked. */
	char client[HTTP_CLIENT_MAX];
	enum http_phase phase;
	uint64_t since_ns; /* in this phase */
	bool is_suspended;
	bool is_half_closed;
	bool has_begun;  /* NEW: a part of the head has been seen to come */
	uint64_t n_done; /* requests that are over, answered or not */
	struct http_wire wire;
	struct http_ready ready;

	/* Of the current request. */
	struct request *request; /* ours until request_release() */
	bool has_answer;         /* a part of the answer, or its failure, has arrived */
	bool must_close;         /* after the answer */
	struct request_refusal refusal; /* status 0: none */
	struct http_ask ask;
	struct http_body body;
	struct permission permission;
	struct measure measure;
	struct http_sending sending;
	struct http_turn turn;
	struct http_loading loading;
	struct http_listener listener;
};

TAILQ_HEAD(http_conn_list, http_conn);

/* What is done about connections that are late: deadline.c. */
struct http_lateness {
	uint64_t (*sweep)(struct http *http); /* returns when to look again */
	bool (*hurry)(struct http *http);     /* false: nobody is to be watched */
};

/* All connections. */
struct http_conns {
	struct ev_loop *loop;
	const struct http_lateness *lateness;
	uint64_t now_ns; /* of this MHD_run() */
	bool must_run;   /* libmicrohttpd has something to do */
	bool has_output; /* an answer was queued in this run: the next one sends it */
	ev_timer sweep;  /* set for the earliest deadline, or earlier */
	uint64_t sweep_ns;
	ev_timer readers; /* active while answers that nobody reads may be in the way */
	struct http_conn_list phases[HTTP_PHASE_COUNT];
	unsigned int n_connections;
	unsigned int n_busy; /* of these, those with a request: BODY up to SEND */
	uint64_t n_accepted;
	uint64_t n_expired; /* connections closed at a deadline */
	uint64_t n_evicted; /* connections closed to make room */
	uint64_t
		n_refused; /* connections closed before their first byte: proxy_protocol */
	uint64_t said_ns;  /* when one of them was last told of */
	uint64_t n_runs;
};

struct http_turns {
	struct turns turns;
	ev_timer timer;       /* active while somebody waits for a turn */
	unsigned int n_taken; /* answers that had their turn and are on their way */
	uint64_t refused_ns;  /* when waiting clients were last refused */
	uint64_t n_refused;   /* to make room */
	uint64_t n_waited;    /* requests that waited for a turn */
};

/* Of a listener for administration; the endpoint has none that listen. */
struct http_events {
	struct feed feed;
	LIST_HEAD(http_listeners, http_conn) listeners;
	unsigned int n_listeners;
	ev_timer tick; /* active while there are any */
	uint64_t pushed_ns;
	json_t *receipts; /* the last ones, as view.h has them */
	char policy[HTML_POLICY_MAX];
	bool is_over; /* moultd stops */
};

struct http_answers {
	uint64_t n_by_class[6]; /* by the first digit of the status */
};

struct http {
	struct ev_loop *loop;
	struct http_models models;
	const struct config *config; /* the newest; borrowed */
	struct access_log *access;   /* NULL: requests are not noted */
	struct MHD_Daemon *daemon;
	unsigned int max_connections; /* with a request, and before others make room */
	unsigned int reserve; /* connections beyond that, for what is answered at once */
	uint64_t body_rate_min;         /* bytes per second; 0: none */
	size_t connection_memory_bytes; /* for the heads of a request and its answer */
	uint64_t timeout_ns[HTTP_PHASE_COUNT];
	ev_io daemon_io;
	ev_prepare prepare;
	ev_timer deaf; /* libmicrohttpd found no descriptor and does not listen */
	ev_idle again; /* makes the loop go round once more */
	int gone_fd;   /* epoll set of all sockets, for clients that leave */
	ev_io gone_io;
	bool is_full;
	bool is_open; /* others than this machine reach it, and nobody is asked who they are */
	bool is_local; /* nothing but this machine reaches it */
	bool is_guarded; /* a browser on this machine reaches it, and nothing else keeps it out */
	bool is_draining;
	bool is_leaving; /* serves on, and says that it is not ready */
	void (*on_idle)(void *context);
	void *on_idle_context;
	struct http_conns conns;
	struct http_answers answers;
	struct http_turns turns;
	struct http_events events;
	struct metrics_state metrics;
	struct http_page *pages[METRICS_FORMAT_COUNT]; /* the last of each; or NULL */
	char names[PROTO_HEAD_MAX]; /* header names in lower case, during one call */
};

/* conn.c: all connections */

void http_conns_init(struct http *http, const struct http_lateness *lateness);
void http_conns_fini(struct http *http);
/* Takes the time, for all that happens from now on. */
void http_conns_tick(struct http *http);
/* An MHD_run() begins. */
void http_conns_begin_run(struct http *http);
/* libmicrohttpd has something to do. */
void http_conns_want_run(struct http *http);
/* An answer was queued. */
void http_conns_want_output(struct http *http);
/* Has the sweep done at @at_ns, or earlier. */
void http_conns_sweep_at(struct http *http, uint64_t at_ns);
/* The timeouts have changed: looks at all deadlines soon. */
void http_conns_touch(struct http *http);
/* Has those who read answers watched: while unread answers keep a loader from answering
 * others, the reader that has taken longest is hung up. */
void http_conns_watch_readers(struct http *http);

/* conn.c: one connection */

/* In phase NEW; or NULL. */
struct http_conn *http_conn_new(struct http *http, struct MHD_Connection *connection);
/* Due after http_conn_forget(). */
void http_conn_free(struct http_conn *conn);
/* Moves @conn to @phase, whose time begins now. */
void http_conn_enter(struct http_conn *conn, enum http_phase phase);
uint64_t http_conn_deadline(const struct http_conn *conn);
/* Whether the client, by whatever address, may have this connection. False: with a sentence. */
bool http_conn_admit(struct http_conn *conn);
/* True when something has arrived since the phase began, NEW or IDLE. */
bool http_conn_has_begun(struct http_conn *conn);
void http_conn_suspend(struct http_conn *conn);
/* Has the handler called again, also where @conn is not suspended. */
void http_conn_resume(struct http_conn *conn);
/* libmicrohttpd reads once more: it takes what it got for all that there is. Inside its
 * handler only. */
void http_conn_read_on(struct http_conn *conn);
/* Who is at the other end; likewise as PROTO_CLIENT_FIELD has it. */
struct peer_end http_conn_end(const struct http_conn *conn);
const char *http_conn_client(struct http_conn *conn);
/* Takes @request, whose body is due now. */
void http_conn_take(struct http_conn *conn, struct request *request);
/* Gives the request back, if there is one. */
void http_conn_release(struct http_conn *conn);
/* A part of the answer for @context, a connection, or its failure has arrived. */
void http_conn_on_part(struct request *request, void *context);
/* The connection ends after this answer. */
void http_conn_must_close(struct http_conn *conn);
/* Lets go of what belongs to the current request. */
void http_conn_forget(struct http_conn *conn);
/* Due after that: the next request may come. */
void http_conn_next(struct http_conn *conn);
/* Waits for an answer, or its next part. */
void http_conn_wait(struct http_conn *conn);
/* The client has closed its sending side. */
void http_conn_half_close(struct http_conn *conn);
/* Parts with a client: gives its request back and makes libmicrohttpd close. */
void http_conn_hang_up(struct http_conn *conn);
/* The same, and counts it: at a deadline, to make room; before the first byte. */
void http_conn_expire(struct http_conn *conn);
void http_conn_evict(struct http_conn *conn);
void http_conn_refuse(struct http_conn *conn);

/* answer.c: each queues a response; MHD_NO: out of memory, the connection closes. */

/* Takes @body, malloc'ed; NULL: out of memory. */
enum MHD_Result http_answer_json(struct http_conn *conn, unsigned int status, char *body);
/* Takes @page; NULL: out of memory. */
enum MHD_Result http_answer_page(struct http_conn *conn, const char *content_type,
                                 struct http_page *page);
/* conn->refusal as {"error":...}. */
enum MHD_Result http_answer_refusal(struct http_conn *conn);
/* Answers with the request's first part; further parts are streamed. */
enum MHD_Result http_answer_request(struct http_conn *conn);
/* Takes @response, whose header is complete but for fields of the connection. */
enum MHD_Result http_answer_made(struct http_conn *conn, unsigned int status,
                                 struct MHD_Response *response);
/* Sends conn->refusal past libmicrohttpd, which cannot answer before the end of a body,
 * straight to the socket. Nothing else is on its way there in the phases up to
 * SWALLOW. */
void http_answer_raw(struct http_conn *conn);
/* Answers likewise a client that keeps sending what nobody wants, and gives it a moment
 * to read. */
enum MHD_Result http_answer_linger(struct http_conn *conn);
/* Answers the fault that conn->wire has found, once the requests before it are over. */
void http_answer_fault(struct http_conn *conn);
/* Notes the current request in the access log; @status 0: over without an answer. Further
 * calls do nothing. */
void http_answer_note(struct http_conn *conn, unsigned int status);
/* The current request is over, answered or not. */
void http_answer_forget(struct http_conn *conn);

/* turn.c */

void http_turn_init(struct http *http);
void http_turn_fini(struct http *http);
/* Whether what @conn asks for is answered in turns. */
bool http_turn_counts(const struct http_conn *conn);
/* True: @conn must wait; it is suspended now, and its handler is called again. */
bool http_turn_wait(struct http_conn *conn);
/* Charges the @took_ns that making @conn's answer took, once it is queued. */
void http_turn_charge(struct http_conn *conn, uint64_t took_ns);
/* Gives up @conn's turn: its request is over, answered or not. */
void http_turn_forget(struct http_conn *conn);
/* Answers @conn, which waits for a turn, with 503 and @why instead. */
void http_turn_refuse(struct http_conn *conn, const char *why);
/* Makes room at the connection limit: refuses up to @most waiting clients, of addresses
 * with many of them. Returns how many; 0 when some were refused a moment ago, as they may
 * come back. */
unsigned int http_turn_make_room(struct http *http, unsigned int most);

/* repository.c */

/* Whether the body of what @conn asks for is read by what follows. */
bool http_repository_counts(const struct http_conn *conn);
/* Takes a part of that body. False, with a refusal. */
bool http_repository_take(struct http_conn *conn, const char *data, size_t bytes);
/* Reads the body of the index. False, with a refusal. */
bool http_repository_index(struct http_conn *conn, bool *ret_only_ready);
/* Loads or unloads a model; @conn is suspended until that is over, and its handler is called
 * again. */
enum MHD_Result http_repository_run(struct http_conn *conn);
/* The current request is over, answered or not. */
void http_repository_forget(struct http_conn *conn);

/* permit.c */

/* Whether the client may have what conn->ask.route names; @head loses the token then. False, with
 * a refusal and a challenge. */
bool http_permit(struct http_conn *conn, struct http_head *head);
/* The model that the route names, or NULL with a refusal. */
struct model *http_permit_model(struct http_conn *conn);
/* Whether the model @name is to be listed for the client. */
bool http_permit_shows(const struct http_conn *conn, const char *name);
/* The current request is over, answered or not. */
void http_permit_forget(struct http_conn *conn);

/* events.c */

void http_events_init(struct http *http);
void http_events_fini(struct http *http);
/* Ends all streams, now and for good. */
void http_events_end(struct http *http);
/* The current request is over, answered or not. */
void http_events_forget(struct http_conn *conn);
/* The page; the page of somebody who may not see it, by conn->refusal; the stream of events. */
enum MHD_Result http_answer_front(struct http_conn *conn);
enum MHD_Result http_answer_closed_front(struct http_conn *conn);
enum MHD_Result http_answer_events(struct http_conn *conn);

/* Counts a request for the client's address. False, with a refusal: it has had its share. */
bool http_measure(struct http_conn *conn, const struct http_head *head);
/* Counts the @bytes of its body that have come. */
void http_measure_body(struct http_conn *conn, size_t bytes);

/* body.c */

/* Drops the body, if any, from now on; the answer comes behind it. */
enum MHD_Result http_body_swallow(struct http_conn *conn);
/* Refuses the request, whose body is on its way: conn->refusal comes behind the body, or past
 * libmicrohttpd where that is long. */
enum MHD_Result http_body_refuse(struct http_conn *conn);
/* Takes bytes that have come by libmicrohttpd. */
enum MHD_Result http_body_take(struct http_conn *conn, const char *data, size_t bytes);
/* What is announced and has not come; UINT64_MAX: nobody knows. */
uint64_t http_body_left(const struct http_conn *conn);
/* True: what comes next goes past libmicrohttpd, which has handed on all that came before. */
bool http_body_is_aside(const struct http_conn *conn);
/* Where to read it to, at most @most bytes; NULL: the client was answered, and the rest is of no
 * use. http_body_came() is due after a read that brought some. */
void *http_body_place(struct http_conn *conn, size_t most, size_t *ret_bytes);
void http_body_came(struct http_conn *conn, size_t bytes);
/* The current request is over, answered or not. */
void http_body_forget(struct http_conn *conn);

/* recv.c */

/* Sends what is read from conn->fd through conn->wire from now on. 0 or -ENOMEM. */
int http_recv_add(struct http_conn *conn);
/* Ends that; due before conn->fd is closed. */
void http_recv_remove(struct http_conn *conn);
/* Frees the table of connections, when it is empty. */
void http_recv_fini(void);

/* deadline.c */

extern const struct http_lateness http_deadline_lateness;
/* Makes room at the connection limit: closes some connections over which no whole head
 * has come, the longest idle first, then those whose heads have been due for longest, and
 * looks again soon. A connection with a request stays. In the reserve's last quarter,
 * answered clients that do not leave go, too. Due after MHD_run(), which has read what
 * had arrived. */
void http_deadline_make_room(struct http *http);
/* Makes room at the limit of requests: closes the connection whose body comes slowest.
 * False: no body comes that slowly. */
bool http_deadline_evict_body(struct http *http);

/* handler.c: callbacks of libmicrohttpd */

enum MHD_Result http_handler_run(void *context, struct MHD_Connection *connection,
                                 const char *url, const char *method, const char *version,
                                 const char *upload_data, size_t *upload_data_size,
                                 void **request_context);
void http_handler_on_completed(void *context, struct MHD_Connection *connection,
                               void **request_context,
                               enum MHD_RequestTerminationCode code);
void *http_handler_on_line(void *context, const char *uri,
                           struct MHD_Connection *connection);
/* Lets go of @conn, which has closed, and frees it. */
void http_handler_on_closed(struct http_conn *conn);

/* metrics.c */

/* The page /metrics, made anew when it is old. A new reference; NULL: out of memory. */
struct http_page *http_metrics_page(struct http *http, enum metrics_format format);
/* Borrowed as long as the reference to @page. */
const char *http_page_text(const struct http_page *page, size_t *ret_bytes);
void http_page_unref(struct http_page *page); /* accepts NULL */
