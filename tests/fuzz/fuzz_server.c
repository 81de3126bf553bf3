/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A server behind the engine "server" that answers anything: bytes in pieces, connections that end
 * anywhere, more than one answer, and a second one to a request that is asked again. What is given
 * to the host passes the host's own check, is what libcurl read by its own count, and ends once;
 * what cannot be passed on is told in JSON.
 */

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loader/hosting/head.h"
#include "loader/server/transfer.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/folder.h"

#define ROUNDS_MAX 20000
/* In the input: the connection ends here, and with the other one a piece. */
#define END   0x1c
#define PIECE 0x1d

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct host {
	struct fuzz_bytes rooms; /* whether there is room for the next part */
	bool has_begun;
	bool has_ended;
	bool is_refused;
	unsigned int status;
	size_t body_bytes;
};

struct play {
	struct host host;
	struct fuzz_bytes bytes;
	CURLM *multi;
	struct server_transfer *transfer;
	int fd; /* the server's end of the connection; -1: none */
	bool is_asked;
};

static struct server_place place = SERVER_PLACE_NULL;
static int listener = -1;

/* The host */

static void check_refusal(const struct engine_part *part)
{
	json_t *json = json_loadb(part->body, part->body_bytes, 0, NULL);

	assert(json_string_length(json_object_get(json, "error")) > 0);
	json_decref(json);
}

static int on_part(struct host *host, struct engine_request *request,
                   const struct engine_part *part, struct err *err)
{
	const unsigned int ends_badly = ENGINE_PART_LAST | ENGINE_PART_FAULT;
	bool is_refusal = (part->flags & ends_badly) == ends_badly &&
	                  part->status == (host->has_begun ? 0 : 502);
	int r = host_head_check(part, !host->has_begun, err);

	(void)request;
	/* A refusal can always be sent. */
	assert(!host->has_ended && (r == 0 || !is_refusal));
	if (r)
		return r;
	if (part->flags & ENGINE_PART_NOWAIT && fuzz_u8(&host->rooms) & 1)
		return ENGINE_HOST_E_AGAIN;
	if (is_refusal && !host->has_begun)
		check_refusal(part);
	host->is_refused = is_refusal;
	if (!host->has_begun)
		host->status = part->status;
	host->has_begun = true;
	host->body_bytes += part->body_bytes;
	host->has_ended = part->flags & ENGINE_PART_LAST;
	return 0;
}

/* The server */

static void start(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	log_set_level(LOG_LEVEL_NONE);
	assert(curl_global_init(CURL_GLOBAL_DEFAULT) == 0);
	(void)snprintf(place.socket, sizeof(place.socket), "%s/s", fuzz_folder_enter());
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", place.socket);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert(listener >= 0 &&
	       bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	assert(listen(listener, 8) == 0);
}

/* Sends the next piece, or ends the connection. */
static void serve(struct play *play)
{
	struct fuzz_bytes *bytes = &play->bytes;
	size_t n = 0;
	char request[4096];
	bool is_end;

	if (play->fd < 0) {
		play->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		play->is_asked = false;
	}
	if (play->fd < 0)
		return;
	/* It answers once it was asked. */
	play->is_asked |= recv(play->fd, request, sizeof(request), 0) >= 0;
	if (!play->is_asked)
		return;
	while (n < bytes->left && bytes->at[n] != END && bytes->at[n] != PIECE)
		n++;
	is_end = n == bytes->left || bytes->at[n] == END;
	if (n > 0)
		(void)send(play->fd, bytes->at, n, MSG_NOSIGNAL);
	bytes->at += n;
	bytes->left -= n;
	if (bytes->left > 0) {
		bytes->at++;
		bytes->left--;
	}
	if (is_end) {
		(void)close(play->fd);
		play->fd = -1;
	}
}

/* The loader, as proxy.c has it */

static void judge(struct play *play, CURLcode result)
{
	struct server_transfer *transfer = play->transfer;
	struct err why;

	(void)curl_multi_remove_handle(play->multi, transfer->easy);
	server_transfer_finish(transfer, result);
	if (transfer->result == CURLE_OK || server_transfer_wait(transfer))
		return;
	server_transfer_tell(transfer, &why);
	server_transfer_refuse(transfer, why.text);
}

static void check_whole(const struct play *play)
{
	long status = 0;
	curl_off_t bytes = 0;

	(void)curl_easy_getinfo(play->transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(play->transfer->easy, CURLINFO_SIZE_DOWNLOAD_T, &bytes);
	assert(play->host.status == (unsigned int)status);
	assert(play->host.body_bytes == (size_t)bytes);
}

static void step(struct play *play)
{
	struct server_transfer *transfer = play->transfer;
	const CURLMsg *message;
	int n;

	(void)curl_multi_perform(play->multi, &n);
	while ((message = curl_multi_info_read(play->multi, &n)))
		if (message->msg == CURLMSG_DONE)
			judge(play, message->data.result);
	/* A moment that is waited for is over at once. */
	transfer->hold_ns = 0;
	if (transfer->retry_ns && server_transfer_again(transfer))
		(void)curl_multi_add_handle(play->multi, transfer->easy);
	if (transfer->is_refused && !transfer->is_over) {
		(void)curl_multi_remove_handle(play->multi, transfer->easy);
		server_transfer_finish(transfer, CURLE_ABORTED_BY_CALLBACK);
	}
	if (!transfer->retry_ns)
		server_transfer_resume(transfer);
}

static void run(struct play *play, struct engine_request *request)
{
	struct server_transfer *transfer = play->transfer;

	assert(server_transfer_begin(transfer, request) == 0);
	assert(curl_multi_add_handle(play->multi, transfer->easy) == CURLM_OK);
	for (int i = 0; !transfer->has_ended; i++) {
		assert(i < ROUNDS_MAX);
		step(play);
		serve(play);
	}
	assert(play->host.has_ended);
	if (!play->host.is_refused)
		check_whole(play);
	if (!transfer->is_over)
		(void)curl_multi_remove_handle(play->multi, transfer->easy);
	server_transfer_end(transfer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const methods[] = { "GET", "POST", "HEAD", "PUT" };
	struct play play = { .bytes = { data, size }, .fd = -1 };
	uint8_t how = fuzz_u8(&play.bytes);
	const char *method = methods[how & 3];
	uint8_t rooms[2] = { 0, 0 };
	struct engine_request request = {
		.method = { method, strlen(method) },
		.target = { "/a?b", 4 },
		.body = "body",
		.body_bytes = how & 1 ? 4 : 0,
	};
	const struct engine_host host = { .host = (struct host *)&play.host,
		                          .answer = on_part };
	int next_fd;

	if (listener < 0)
		start();
	next_fd = fuzz_next_fd();
	fuzz_copy(&play.bytes, rooms, how & 8 ? sizeof(rooms) : 0);
	play.host.rooms = (struct fuzz_bytes){ rooms, sizeof(rooms) };
	play.multi = curl_multi_init();
	play.transfer = server_transfer_new(&place, &host, how & 4 ? "POST" : "");
	assert(play.multi && play.transfer);
	run(&play, &request);
	server_transfer_free(play.transfer);
	(void)curl_multi_cleanup(play.multi);
	if (play.fd >= 0)
		(void)close(play.fd);
	assert(fuzz_next_fd() == next_fd);
	return 0;
}
