/* SPDX-License-Identifier: Apache-2.0 */

/*
 * libcurl repeats a request by itself when a connection that was kept turns out to be closed. Of a
 * request that must not be repeated nobody knows then whether the server has begun it. So such a
 * request gets a connection of its own, which no server closes as an idle one, and should libcurl
 * go for a second one nevertheless, server_on_send() stops it.
 */
#include "loader/server/transfer.h"

#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/clock.h"

/* A kept connection that was idle for longer is not used any more: servers close them after some
 * seconds (2 is gunicorn's), and a request that meets this has to be refused. */
#define SERVER_IDLE_S     1L
#define SERVER_CONNECT_MS 5000L
/* A head waits so long for its body: what is whole then goes out in one part, and can be asked for
 * again until then if the server dies. */
#define SERVER_HOLD_NS        (20 * CLOCK_NS_PER_MS)
#define SERVER_REPEATABLE     "GET, HEAD, OPTIONS, PUT, DELETE, TRACE"
#define SERVER_STATUS_BAD     502
#define SERVER_STATUS_FAILURE 500

/* A request that failed waits so long for the news that the server has ended. */
#define SERVER_RETRY_NS (100 * CLOCK_NS_PER_MS)
/* The same after its last try: a process that was killed closes its sockets first, and on a busy
 * machine its end may be long in coming. */
#define SERVER_LAST_NS (2 * CLOCK_NS_PER_SEC)
/* The times that one request may have been begun. */
#define SERVER_TRIES_MAX 3
/* So long a server that lives may refuse connections, as one does that restarts a worker. */
#define SERVER_REFUSED_NS (5 * CLOCK_NS_PER_SEC)

/* Calls of libcurl */

static size_t server_on_head(char *line, size_t one, size_t bytes, void *context)
{
	struct server_transfer *transfer = context;

	(void)one;
	if (server_head_take(&transfer->head, line, bytes, &transfer->why) < 0)
		return 0;
	if (transfer->head.is_whole && transfer->hold_ns == 0)
		transfer->hold_ns = clock_now_ns() + SERVER_HOLD_NS;
	return bytes;
}

static size_t server_on_body(char *data, size_t one, size_t bytes, void *context)
{
	struct server_transfer *transfer = context;

	(void)one;
	if (bytes > SERVER_BODY_BYTES - transfer->body_bytes &&
	    !server_transfer_flush(transfer)) {
		transfer->is_paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (bytes > SERVER_BODY_BYTES - transfer->body_bytes)
		return 0; /* nobody waits any more */
	memcpy(transfer->body + transfer->body_bytes, data, bytes);
	transfer->body_bytes += bytes;
	return bytes;
}

static int server_on_send(void *context, char *remote, char *local, int remote_port,
                          int local_port)
{
	struct server_transfer *transfer = context;

	(void)remote;
	(void)local;
	(void)remote_port;
	(void)local_port;
	if (++transfer->n_sent > 1 && !transfer->may_repeat)
		return CURL_PREREQFUNC_ABORT;
	return CURL_PREREQFUNC_OK;
}

/* A handle */

/* What every request has. */
static bool server_set_up(struct server_transfer *transfer)
{
	const struct server_place *place = transfer->place;
	CURL *easy = transfer->easy;
	char url[64];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/",
	               place->port ? place->port : 80);
	if (place->port == 0 &&
	    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, place->socket) != CURLE_OK)
		return false;
	(void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
	(void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	(void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, SERVER_CONNECT_MS);
	(void)curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, SERVER_IDLE_S);
	(void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)SERVER_BODY_BYTES);
	(void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->curl_why);
	(void)curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, server_on_head);
	(void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, server_on_body);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, server_on_send);
	(void)curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
	return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK;
}

struct server_transfer *server_transfer_new(const struct server_place *place,
                                            const struct engine_host *host,
                                            const char *replay)
{
	struct server_transfer *transfer = malloc(sizeof(*transfer));

	if (!transfer)
		return NULL;
	memset(transfer, 0, offsetof(struct server_transfer, head));
	server_head_reset(&transfer->head);
	transfer->place = place;
	transfer->host = host;
	transfer->replay = replay;
	return transfer;
}

void server_transfer_free(struct server_transfer *transfer)
{
	if (!transfer)
		return;
	curl_slist_free_all(transfer->fields);
	curl_easy_cleanup(transfer->easy);
	free(transfer);
}

/* A request */

/* Whether @list, separated by commas and blanks, has @method. */
static bool server_lists(const char *list, struct engine_text method)
{
	for (size_t bytes; *list; list += bytes + strspn(list + bytes, ", \t")) {
		bytes = strcspn(list, ", \t");
		if (bytes == method.bytes && memcmp(list, method.data, bytes) == 0)
			return true;
	}
	return false;
}

/* 0 or -ENOMEM. */
static int server_add_field(struct server_transfer *transfer, const char *text)
{
	struct curl_slist *list = curl_slist_append(transfer->fields, text);

	if (!list)
		return -ENOMEM;
	transfer->fields = list;
	return 0;
}

static bool server_has_field(const struct engine_request *request, const char *name)
{
	for (size_t i = 0; i < request->n_fields; i++)
		if (server_head_is(request->fields[i].name, name))
			return true;
	return false;
}

/* The client's fields, and none of libcurl's own: "NAME:" takes one out, "NAME;" is an empty
 * one. */
static int server_add_fields(struct server_transfer *transfer,
                             const struct engine_request *request)
{
	static const char *const own[] = { "accept", "content-type", "user-agent" };
	char text[64];
	int r = server_add_field(transfer, "Expect:");

	for (size_t i = 0; r == 0 && i < sizeof(own) / sizeof(own[0]); i++) {
		(void)snprintf(text, sizeof(text), "%s:", own[i]);
		if (!server_has_field(request, own[i]))
			r = server_add_field(transfer, text);
	}
	for (size_t i = 0; r == 0 && i < request->n_fields; i++) {
		const struct engine_field *field = &request->fields[i];
		FREE char *line = NULL;

		if (server_head_is_own(field->name))
			continue;
		if (asprintf(&line, "%.*s%s%.*s", (int)field->name.bytes,
		             field->name.data, field->value.bytes > 0 ? ": " : ";",
		             (int)field->value.bytes, field->value.data) < 0) {
			line = NULL;
			return -ENOMEM;
		}
		r = server_add_field(transfer, line);
	}
	return r;
}

/* Whether the request says that it has a body: even an empty one has a length then. */
static bool server_has_body(const struct engine_request *request)
{
	return request->body_bytes > 0 || server_has_field(request, "content-length") ||
	       server_has_field(request, "transfer-encoding");
}

static int server_set_request(struct server_transfer *transfer)
{
	const struct engine_request *request = transfer->request;
	CURL *easy = transfer->easy;
	FREE char *method = strndup(request->method.data, request->method.bytes);
	FREE char *target = strndup(request->target.data, request->target.bytes);

	if (!method || !target)
		return -ENOMEM;
	(void)curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	if (strcmp(method, "HEAD") == 0) {
		(void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (server_has_body(request) || strcmp(method, "POST") == 0) {
		(void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
		(void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
		                       request->body_bytes > 0 ? request->body : "");
		(void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
		                       (curl_off_t)request->body_bytes);
	}
	(void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->fields);
	if (curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, target) != CURLE_OK)
		return -ENOMEM;
	return 0;
}

/* Gets a new handle, also for another try: libcurl before 8.1.1 (its #11103) appends to the last
 * header field that a handle has ever seen, freed or not, where an answer begins with a blank. The
 * connections are the multi handle's and stay. 0 or -ENOMEM. */
static int server_reset(struct server_transfer *transfer)
{
	server_head_reset(&transfer->head);
	transfer->body_bytes = 0;
	transfer->n_sent = 0;
	transfer->retry_ns = transfer->hold_ns = 0;
	transfer->is_over = transfer->is_paused = false;
	*transfer->curl_why = *transfer->why.text = '\0';
	curl_easy_cleanup(transfer->easy);
	transfer->easy = curl_easy_init();
	if (!transfer->easy || !server_set_up(transfer))
		return -ENOMEM;
	(void)curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT,
	                       transfer->n_tries > 0 || !transfer->may_repeat ? 1L : 0L);
	(void)curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE,
	                       transfer->may_repeat ? 0L : 1L);
	return server_set_request(transfer);
}

int server_transfer_begin(struct server_transfer *transfer,
                          struct engine_request *request)
{
	transfer->request = request;
	transfer->n_tries = 0;
	transfer->patience_ns = 0;
	transfer->is_refused = transfer->is_told = false;
	transfer->has_begun = transfer->has_ended = false;
	transfer->may_repeat = server_lists(SERVER_REPEATABLE, request->method) ||
	                       server_lists(transfer->replay, request->method);
	return server_add_fields(transfer, request) < 0 ? -ENOMEM
	                                                : server_reset(transfer);
}

void server_transfer_end(struct server_transfer *transfer)
{
	curl_slist_free_all(transfer->fields);
	transfer->fields = NULL;
	transfer->request = NULL;
}

/* The answer */

/* Gives a part; what it was made of is given away then. False: there was no room. */
static bool server_give(struct server_transfer *transfer, struct engine_part *part)
{
	struct err why = ERR_NULL;
	int r;

	part->flags |= ENGINE_PART_NOWAIT;
	r = transfer->host->answer(transfer->host->host, transfer->request, part, &why);
	if (r == ENGINE_HOST_E_AGAIN)
		return false;
	if (r == ENGINE_HOST_E_INVALID) {
		struct err text;

		(void)err_set(&text, 0, "the server's answer cannot be passed on: %s",
		              why.text);
		server_transfer_refuse(transfer, text.text);
		return server_transfer_flush(transfer);
	}
	/* GONE without LAST: the proxy sees that nobody waits, and ends it. */
	transfer->body_bytes = 0;
	transfer->has_begun = true;
	transfer->has_ended = part->flags & ENGINE_PART_LAST;
	return true;
}

/* Gives the refusal, as moult's own answers have it. */
static bool server_give_refusal(struct server_transfer *transfer)
{
	static const struct engine_field type = { { "content-type", 12 },
		                                  { "application/json", 16 } };
	struct engine_part part = { .flags = ENGINE_PART_LAST | ENGINE_PART_FAULT };
	json_t *json = NULL;
	FREE char *text = NULL;

	if (!transfer->has_begun) {
		json = json_pack("{s:s}", "error", transfer->why.text);
		text = json ? json_dumps(json, JSON_COMPACT) : NULL;
		json_decref(json);
		part.status = SERVER_STATUS_BAD;
		part.fields = &type;
		part.n_fields = 1;
		part.body = text;
		part.body_bytes = text ? strlen(text) : 0;
	}
	return server_give(transfer, &part);
}

bool server_transfer_is_held(const struct server_transfer *transfer)
{
	uint64_t length = server_head_length(&transfer->head);

	return !transfer->has_begun && !transfer->is_over && !transfer->is_paused &&
	       transfer->head.is_whole && clock_now_ns() < transfer->hold_ns &&
	       (transfer->body_bytes == 0 || length <= SERVER_BODY_BYTES);
}

bool server_transfer_flush(struct server_transfer *transfer)
{
	struct engine_part part = { .body = transfer->body,
		                    .body_bytes = transfer->body_bytes };

	if (transfer->has_ended)
		return true;
	if (transfer->is_refused)
		return server_give_refusal(transfer);
	if (transfer->is_over && transfer->result == CURLE_OK)
		part.flags = ENGINE_PART_LAST;
	if (!transfer->has_begun) {
		if (!transfer->head.is_whole)
			return true;
		server_head_drop_hops(&transfer->head);
		part.status = transfer->head.status;
		part.fields = transfer->head.fields;
		part.n_fields = transfer->head.n_fields;
		/* What an application that failed is answered for with. */
		if (part.status == SERVER_STATUS_FAILURE)
			part.flags |= ENGINE_PART_FAULT;
	} else if (part.body_bytes == 0 && part.flags == 0) {
		return true;
	}
	return server_give(transfer, &part);
}

void server_transfer_resume(struct server_transfer *transfer)
{
	if (server_transfer_is_held(transfer) || !server_transfer_flush(transfer) ||
	    !transfer->is_paused)
		return;
	transfer->is_paused = false;
	(void)curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
}

void server_transfer_refuse(struct server_transfer *transfer, const char *why)
{
	transfer->is_refused = true;
	transfer->body_bytes = 0;
	(void)err_set(&transfer->why, 0, "%s", why);
}

void server_transfer_drop(struct server_transfer *transfer)
{
	transfer->retry_ns = 0;
	server_transfer_refuse(transfer, "nobody waits for the answer");
	transfer->is_told = true;
}

bool server_transfer_is_news(struct server_transfer *transfer)
{
	bool is_news = transfer->is_refused && !transfer->is_told;

	transfer->is_told = transfer->is_refused;
	return is_news;
}

/* Failures */

void server_transfer_finish(struct server_transfer *transfer, CURLcode result)
{
	transfer->is_over = true;
	transfer->is_paused = false;
	/* Of a HEAD request libcurl takes a head that was cut for an answer. */
	transfer->result = result == CURLE_OK && !transfer->head.is_whole
	                           ? CURLE_GOT_NOTHING
	                           : result;
}

bool server_transfer_is_unsent(const struct server_transfer *transfer)
{
	return transfer->n_sent == 0 && transfer->result == CURLE_COULDNT_CONNECT;
}

void server_transfer_tell(const struct server_transfer *transfer, struct err *ret_why)
{
	const char *curl_why = *transfer->curl_why ? transfer->curl_why
	                                           : curl_easy_strerror(transfer->result);

	if (*transfer->why.text)
		(void)err_set(ret_why, 0, "the server's answer cannot be passed on: %s",
		              transfer->why.text);
	else if (transfer->result == CURLE_ABORTED_BY_CALLBACK)
		(void)err_set(ret_why, 0,
		              "the server closed the connection before it "
		              "answered, and nobody knows whether it had begun "
		              "the request");
	else if (transfer->result == CURLE_UNSUPPORTED_PROTOCOL ||
	         transfer->result == CURLE_WEIRD_SERVER_REPLY)
		(void)err_set(ret_why, 0, "the server's answer is no HTTP: %s", curl_why);
	else if (transfer->has_begun)
		(void)err_set(ret_why, 0, "the server's answer was cut: %s", curl_why);
	else
		(void)err_set(ret_why, 0, "the server did not answer: %s", curl_why);
}

/* True: the connection, and not what came over it, is to blame. */
static bool server_is_lost(const struct server_transfer *transfer)
{
	return !*transfer->why.text && transfer->result != CURLE_UNSUPPORTED_PROTOCOL &&
	       transfer->result != CURLE_WEIRD_SERVER_REPLY;
}

static bool server_is_spent(const struct server_transfer *transfer)
{
	return transfer->n_sent > 0 && transfer->n_tries >= SERVER_TRIES_MAX;
}

bool server_transfer_wait(struct server_transfer *transfer)
{
	uint64_t now_ns = clock_now_ns();

	transfer->n_tries += transfer->n_sent;
	if (transfer->patience_ns == 0)
		transfer->patience_ns = now_ns + SERVER_REFUSED_NS;
	if (transfer->has_begun || !server_is_lost(transfer) ||
	    (server_transfer_is_unsent(transfer) && now_ns >= transfer->patience_ns))
		return false;
	transfer->retry_ns =
		now_ns + (server_is_spent(transfer) ? SERVER_LAST_NS : SERVER_RETRY_NS);
	return true;
}

bool server_transfer_again(struct server_transfer *transfer)
{
	struct err why;

	transfer->retry_ns = 0;
	if (server_is_spent(transfer) ||
	    (transfer->n_sent > 0 && !transfer->may_repeat)) {
		server_transfer_tell(transfer, &why);
		server_transfer_refuse(transfer, why.text);
		return false;
	}
	if (server_reset(transfer) == 0)
		return true;
	server_transfer_refuse(transfer, "out of memory");
	return false;
}
