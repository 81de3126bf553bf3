/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The gRPC endpoint from the inside, for the files of grpc/ only. Each file calls those before
 * it, and owns the struct in braces, to which no other file writes:
 *
 *	conn.c      {grpc_conn, grpc_call, grpc_conns} connections and the calls on them
 *	io.c        {grpc_io} a connection's bytes, under TLS or in the clear
 *	head.c      {grpc_head} what the head of a call says
 *	reply.c     {grpc_sending, grpc_answers} everything that is sent
 *	ask.c       {grpc_ask, grpc_asks} a request for inference: its message into the arena
 *	loading.c   {grpc_loading} models that are loaded and unloaded
 *	cold.c      all other methods
 *	call.c      what is done with a call
 *	session.c   libnghttp2's callbacks
 *	deadline.c  who is late, and what becomes of them
 *	grpc.c      {grpc} the listener on the loop; birth, drain and death
 *
 * libnghttp2 calls back while it reads or is asked for output, both in session.c. A connection
 * is freed there, after such a call and never in it.
 */

#include <gnutls/gnutls.h>
#include <nghttp2/nghttp2.h>
#include <sys/queue.h>

#include "shared/clock.h"
#include "supervisor/gate/gate.h"
#include "supervisor/gate/measure.h"
#include "supervisor/gate/permit.h"
#include "supervisor/messages/answer.h"
#include "supervisor/grpc/grpc.h"
#include "supervisor/messages/infer.h"
#include "supervisor/messages/split.h"
#include "supervisor/model/repository.h"
#include "supervisor/messages/status.h"

/* Seconds until a client may ask again, where there is nothing to reckon with. */
#define GRPC_RETRY_S 1
/* Header fields of a call, and bytes of them: more is refused, and announced as
 * SETTINGS_MAX_HEADER_LIST_SIZE, which counts 32 bytes more for each field. */
#define GRPC_FIELDS_MAX 48
#define GRPC_HEAD_BYTES 8192
/* Bytes that are read from a connection at once, and gathered for one. */
#define GRPC_IO_BYTES 65536
/* JSON of a request: names, shapes and parameters. */
#define GRPC_JSON_BYTES ((size_t)256 * 1024)

/* What a call is at. */
enum grpc_phase {
	GRPC_PHASE_HEAD,    /* its header fields are coming */
	GRPC_PHASE_MESSAGE, /* its message is coming */
	GRPC_PHASE_WAIT,    /* the request's own deadline counts */
	GRPC_PHASE_SEND,    /* the answer goes out */
};

/* Methods that are served. */
enum grpc_method {
	GRPC_METHOD_NONE,
	GRPC_METHOD_INFER,
	GRPC_METHOD_SERVER_LIVE,
	GRPC_METHOD_SERVER_READY,
	GRPC_METHOD_MODEL_READY,
	GRPC_METHOD_SERVER_METADATA,
	GRPC_METHOD_MODEL_METADATA,
	GRPC_METHOD_INDEX,
	GRPC_METHOD_LOAD,
	GRPC_METHOD_UNLOAD,
	GRPC_METHOD_HEALTH,
	GRPC_METHOD_COUNT
};

/* Header fields, each text terminated. */
struct grpc_head {
	char text[GRPC_HEAD_BYTES];
	size_t used;
	struct {
		uint16_t name;
		uint16_t value;
		uint16_t value_bytes;
	} fields[GRPC_FIELDS_MAX]; /* offsets in text */
	size_t n_fields;
	bool is_too_much;
};

/* A request for inference while it comes. */
struct grpc_ask {
	unsigned char *fields; /* of the message, but raw_input_contents; owned */
	size_t fields_bytes;
	size_t fields_room;
	uint64_t raw_bytes[CONFIG_TENSORS_MAX]; /* of each of raw_input_contents */
	size_t n_raw;
	size_t json_room; /* at the beginning of the request's body */
};

/* A model that is loaded or unloaded for a call. */
struct grpc_loading {
	struct repository_call *call; /* NULL: none */
};

/* The answer. */
struct grpc_sending {
	struct answer answer;
	size_t piece;
	size_t piece_sent;
	struct request_part *part; /* in which the pieces lie; or NULL */
	enum grpc_code code;
	bool is_noted; /* in the access log */
};

struct grpc_call {
	TAILQ_ENTRY(grpc_call) link;  /* of its connection */
	TAILQ_ENTRY(grpc_call) ready; /* among those that a part has come for */
	struct grpc_conn *conn;
	int32_t stream;
	enum grpc_phase phase;
	uint64_t begun_ns;
	uint64_t since_ns; /* in this phase */
	bool is_ready;
	bool has_ended; /* the client sends no more */
	uint64_t received_bytes;
	enum grpc_method method;
	struct http_route route; /* what is asked for, in HTTP's words */
	uint64_t timeout_ns;
	struct request *request; /* ours until request_release() */
	struct request_refusal refusal;
	struct permission permission;
	struct measure measure;
	struct split split;
	struct grpc_head *head; /* until it was read */
	struct grpc_ask ask;
	struct grpc_loading loading;
	struct grpc_sending sending;
};

TAILQ_HEAD(grpc_call_list, grpc_call);

/* A connection's bytes. */
struct grpc_io {
	int fd;                   /* owned */
	gnutls_session_t session; /* NULL: in the clear */
	struct tls_pair *pair;    /* of the session; a reference */
	struct peer *peer;        /* owned; NULL: proxy_protocol is off */
	bool has_shaken;          /* the handshake is over */
	unsigned char *rest;      /* that the socket had no room for; owned */
	size_t rest_bytes;
	size_t rest_sent;
	bool has_record; /* GnuTLS keeps one that the socket had no room for */
};

struct grpc_conn {
	TAILQ_ENTRY(grpc_conn) link;
	TAILQ_ENTRY(grpc_conn) dirty; /* among those that have output */
	struct grpc *grpc;
	struct grpc_io io;
	ev_io readable;
	ev_io writable;
	ev_timer
		later; /* without delay: more is to be read that the socket does not show */
	nghttp2_session *session;
	struct grpc_call_list calls;
	unsigned int n_calls;
	struct client_address address; /* all zero: none */
	uint64_t since_ns;             /* without a call */
	uint64_t stuck_ns;     /* since when output has not moved; 0: there is none */
	uint64_t left_ns;      /* when the client was told to go */
	uint64_t fault_ns;     /* since when n_faults counts */
	unsigned int n_faults; /* that the client has made, less what time has forgiven */
	bool has_asked;        /* a call has come */
	bool is_dirty;
	bool is_deaf;    /* nothing is read: too much waits to be sent */
	bool is_calmed;  /* was told that it gets too much wrong */
	bool is_dead;    /* to be closed */
	bool is_leaving; /* was told to go */
	bool is_final;   /* and nothing is read of calls that it still makes */
};

TAILQ_HEAD(grpc_conn_list, grpc_conn);

struct grpc_conns {
	struct grpc_conn_list list;
	struct grpc_conn_list dirty;
	struct grpc_call_list ready;
	unsigned int n_connections;
	unsigned int n_calls;
	uint64_t n_accepted;
	uint64_t n_expired; /* connections and calls ended at a deadline */
	uint64_t n_refused; /* connections that were not served */
	uint64_t said_ns;   /* when one was last told of, by proxy_protocol */
};

struct grpc_answers {
	uint64_t n_by_code[GRPC_CODE_COUNT];
};

struct grpc_asks {
	size_t fields_bytes; /* that all calls hold */
};

struct grpc {
	struct ev_loop *loop;
	struct grpc_models models;
	const struct config *config; /* the newest; borrowed */
	struct access_log *access;   /* NULL: calls are not noted */
	int listen_fd;               /* -1: accepts nobody */
	ev_io listener;
	ev_timer deaf;    /* waits for descriptors */
	ev_timer sweep;   /* active while there are connections */
	ev_prepare flush; /* answers and sends, once in a round */
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *options;
	bool is_local; /* nothing but this machine reaches it */
	bool is_guarded; /* a browser on this machine reaches it, and nothing else keeps it out */
	bool is_draining;
	void (*on_idle)(void *context);
	void *on_idle_context;
	struct grpc_conns conns;
	struct grpc_answers answers;
	struct grpc_asks asks;
	unsigned char input[GRPC_IO_BYTES];
	unsigned char output[GRPC_IO_BYTES];
	char json[GRPC_JSON_BYTES];
};

/* conn.c */

void grpc_conns_init(struct grpc *grpc);
/* Takes @io. NULL: out of memory. */
struct grpc_conn *grpc_conn_new(struct grpc *grpc, const struct grpc_io *io,
                                const struct client_address *address);
/* No call may be left. Frees the session; the io is ended already. */
void grpc_conn_free(struct grpc_conn *conn);
/* Has @on_io called for the connection, their data; @on_later after grpc_conn_read_later(). */
void grpc_conn_watch(struct grpc_conn *conn,
                     void (*on_io)(struct ev_loop *loop, ev_io *io, int revents),
                     void (*on_later)(struct ev_loop *loop, ev_timer *timer,
                                      int revents));
/* Goes on in the next round of the loop. */
void grpc_conn_read_later(struct grpc_conn *conn);
/* Reads nothing of the connection, or reads again. */
void grpc_conn_set_deaf(struct grpc_conn *conn, bool is_deaf);
/* Notes something that the client got wrong. False, once: there was too much of it. */
bool grpc_conn_bears_fault(struct grpc_conn *conn);
void grpc_conn_unwatch(struct grpc_conn *conn);
/* Has output sent before the loop waits again. */
void grpc_conn_touch(struct grpc_conn *conn);
/* Takes @conn off the list of those with output. */
void grpc_conn_clean(struct grpc_conn *conn);
void grpc_conn_kill(struct grpc_conn *conn);
void grpc_conn_expire(struct grpc_conn *conn);
void grpc_conn_refuse(struct grpc *grpc);
/* The same, and logs why: @end has its reason. */
void grpc_conn_refuse_peer(struct grpc *grpc, struct peer_end end);
/* A proxy has named the client. False: that has as many connections as it may. */
bool grpc_conn_name(struct grpc_conn *conn);
/* Connections of @address. */
unsigned int grpc_conns_of(const struct grpc *grpc, const struct client_address *address);
/* Tells the client to go; @is_final: nothing that it may still send is read. */
void grpc_conn_leave(struct grpc_conn *conn, bool is_final);
/* Output is left for the socket, and some of it has moved or not; or none is left. */
void grpc_conn_set_stuck(struct grpc_conn *conn, bool is_stuck, bool has_moved);
/* NULL: out of memory. */
struct grpc_call *grpc_call_new(struct grpc_conn *conn, int32_t stream);
void grpc_call_free(struct grpc_call *call);
void grpc_call_enter(struct grpc_call *call, enum grpc_phase phase);
/* Ends a call that is late: RST_STREAM. */
void grpc_call_reset(struct grpc_call *call);
/* A part of the answer for @context, a call, or its failure has arrived. */
void grpc_call_on_part(struct request *request, void *context);
/* The next call that has an answer, which is no longer ready then; or NULL. */
struct grpc_call *grpc_call_next_ready(struct grpc *grpc);
/* The client sends no more. */
void grpc_call_set_ended(struct grpc_call *call);
void grpc_call_drop_head(struct grpc_call *call);
/* What the head has said. */
void grpc_call_set_method(struct grpc_call *call, enum grpc_method method,
                          enum http_route_kind kind);
void grpc_call_set_timeout(struct grpc_call *call, uint64_t timeout_ns);
/* The model that is asked for. False, with a refusal: its name cannot be one. */
bool grpc_call_set_model(struct grpc_call *call, struct pb_text model,
                         struct pb_text version);
void grpc_call_receive(struct grpc_call *call, size_t bytes);
void grpc_call_take(struct grpc_call *call, struct request *request);
/* Gives the request back, if there is one. */
void grpc_call_release(struct grpc_call *call);

/* io.c */

/* Takes @fd and @peer. 0 or -errno, and then they are gone. */
int grpc_io_init(struct grpc_io *io, int fd, struct peer *peer, struct tls *tls);
void grpc_io_fini(struct grpc_io *io, struct tls *tls);
/* Reads. Bytes; 0 at the end; -EAGAIN; another -errno. */
ssize_t grpc_io_read(struct grpc_io *io, void *data, size_t size);
/* Who is at the other end. */
struct peer_end grpc_io_end(const struct grpc_io *io);
/* Reads what a proxy says before anything else. 0: the client is known, or refused; -EAGAIN;
 * another -errno. */
int grpc_io_read_peer(struct grpc_io *io);
/* Whether there is something to read that the socket does not show. */
bool grpc_io_has_input(const struct grpc_io *io);
/* Sends @data, or keeps what there is no room for. 0; 1: some is kept; -errno. */
int grpc_io_write(struct grpc_io *io, const void *data, size_t bytes);
/* Sends what was kept. 0: nothing is left; 1; -errno. */
int grpc_io_flush(struct grpc_io *io);

/* head.c */

void grpc_head_init(struct grpc_head *head);
void grpc_head_add(struct grpc_head *head, struct pb_text name, struct pb_text value);
/* Reads the head of @call. False, with a refusal; or with an answer of HTTP in *ret_status. */
bool grpc_head_read(struct grpc_call *call, unsigned int *ret_status);
/* The listener, as it is now. */
struct permit_place grpc_place(const struct grpc *grpc);
/* The path that is asked for; "": it was not read. */
const char *grpc_head_path(const struct grpc_call *call);

/* reply.c */

/* Sends @call->refusal. */
void grpc_reply_refusal(struct grpc_call *call);
/* Sends a status of HTTP to a client that does not speak gRPC. */
void grpc_reply_http(struct grpc_call *call, unsigned int status);
/* Room for a message of @bytes, which grpc_reply_message() sends; NULL: out of memory, and that was
 * sent. */
unsigned char *grpc_reply_room(struct grpc_call *call, size_t bytes);
void grpc_reply_message(struct grpc_call *call);
/* Sends the answer of the request, which is released. */
void grpc_reply_request(struct grpc_call *call);
/* The call is over, answered or not. */
void grpc_reply_forget(struct grpc_call *call);

/* ask.c */

/* Adds bytes of the message's fields. False, with a refusal. */
bool grpc_ask_fields(struct grpc_call *call, const void *data, size_t bytes);
/* One of raw_input_contents begins, of @bytes. False, with a refusal. */
bool grpc_ask_raw(struct grpc_call *call, uint64_t bytes);
/* The message is whole. False, with a refusal. */
bool grpc_ask_end(struct grpc_call *call);
void grpc_ask_forget(struct grpc_call *call);

/* loading.c */

/* Loads or unloads @model, borrowed for the call, and answers when that is over. */
void grpc_loading_begin(struct grpc_call *call, enum repository_verb verb,
                        const char *model);
/* Nobody waits for it any more. */
void grpc_loading_forget(struct grpc_call *call);

/* cold.c */

/* Answers @call, of another method than ModelInfer, whose message is whole. */
void grpc_cold_answer(struct grpc_call *call, struct pb_text message);

/* call.c: each of them answers where that is due */

void grpc_call_begin(struct grpc_call *call);
void grpc_call_data(struct grpc_call *call, struct pb_text data);
void grpc_call_end(struct grpc_call *call);
/* Refuses a call whose message is late. */
void grpc_call_late(struct grpc_call *call, const char *why);
/* Lets go of everything, and of @call itself. */
void grpc_call_over(struct grpc_call *call);

/* session.c */

/* What all sessions share; the caller owns both. 0 or -ENOMEM. */
int grpc_session_init(nghttp2_session_callbacks **ret_callbacks,
                      nghttp2_option **ret_options);
/* Serves a client that has connected. Takes @fd and @peer. */
void grpc_session_open(struct grpc *grpc, int fd, struct peer *peer,
                       const struct client_address *address);
/* Answers and sends what is due; closes connections that have ended. */
void grpc_session_flush(struct grpc *grpc);
/* Closes every connection, whatever is on it. */
void grpc_session_close_all(struct grpc *grpc);

/* deadline.c */

void grpc_deadline_sweep(struct grpc *grpc);
