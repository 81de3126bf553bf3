/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One request on its way to the server and its answer on the way back, over a handle of libcurl.
 *
 * The answer is gathered while libcurl works and given to the host afterwards, head and body in
 * one part where they came together. What the host has no room for stays, and libcurl is paused
 * until server_transfer_flush() has been told to try again.
 */

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "loader/engine.h"
#include "loader/server/head.h"
#include "loader/server/place.h"

#define SERVER_BODY_BYTES ((size_t)65536) /* the most that libcurl hands over at once */

struct server_transfer {
	LIST_ENTRY(server_transfer) link;
	CURL *easy; /* of the last request */
	struct curl_slist *fields;
	struct engine_request *request; /* NULL: idle */
	const struct server_place *place;
	const struct engine_host *host;
	const char *replay; /* further methods that may be repeated */
	struct err why;     /* of an answer that is refused */
	char curl_why[CURL_ERROR_SIZE];
	CURLcode result;
	unsigned int n_sent;  /* times that the request went out, or may have */
	unsigned int n_tries; /* the same, of all tries that failed */
	uint64_t retry_ns;    /* when it is tried again; 0: it is under way */
	uint64_t hold_ns;     /* until then the head waits for the body */
	uint64_t patience_ns; /* until then the server may refuse connections */
	bool may_repeat;      /* its method is idempotent */
	bool is_over;         /* libcurl has done its part, @result says how */
	bool is_paused;       /* libcurl holds back what there is no room for */
	bool is_refused;      /* the server's answer is not used, @why says why */
	bool is_told;         /* the log has it */
	bool has_begun;       /* the head was given to the host */
	bool has_ended;       /* the last part was given */
	size_t body_bytes;
	struct server_head head;
	char body[SERVER_BODY_BYTES];
};

/* Makes one for servers at @place; requests of methods in @replay may be repeated, as those
 * may that always are. The texts are borrowed. NULL: out of memory. */
struct server_transfer *server_transfer_new(const struct server_place *place,
                                            const struct engine_host *host,
                                            const char *replay);
void server_transfer_free(struct server_transfer *transfer); /* accepts NULL */

/* Prepares a handle for @request, which it keeps until has_ended. 0 or -ENOMEM. */
int server_transfer_begin(struct server_transfer *transfer,
                          struct engine_request *request);
/* Gives to the host what has come. False: there was no room, the bell tells. */
bool server_transfer_flush(struct server_transfer *transfer);
/* True: what has come waits a moment for more. */
bool server_transfer_is_held(const struct server_transfer *transfer);
/* Gives what need not wait, and lets libcurl go on after a pause if there was room. */
void server_transfer_resume(struct server_transfer *transfer);
/* Has the next flush end the request without more of the server's answer: with status 502 and @why
 * if nothing of it was given, or else cut so that the client sees it. */
void server_transfer_refuse(struct server_transfer *transfer, const char *why);
/* Gives handle and request back after has_ended. */
void server_transfer_end(struct server_transfer *transfer);

/* libcurl has done its part. */
void server_transfer_finish(struct server_transfer *transfer, CURLcode result);
/* Nobody waits for the answer: the next flush ends the request. */
void server_transfer_drop(struct server_transfer *transfer);
/* True: it was refused, and nobody was told yet; now he is. */
bool server_transfer_is_news(struct server_transfer *transfer);
/* True: the server took no connection, so that the request never went out. */
bool server_transfer_is_unsent(const struct server_transfer *transfer);
/* Says why it failed. */
void server_transfer_tell(const struct server_transfer *transfer, struct err *ret_why);
/* After a failure: true, and retry_ns says until when, if it waits for another try. */
bool server_transfer_wait(struct server_transfer *transfer);
/* After that wait: prepares the same request once more. False: it must not be repeated, and is
 * refused. */
bool server_transfer_again(struct server_transfer *transfer);
