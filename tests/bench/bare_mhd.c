/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The baseline: libmicrohttpd alone, one thread, epoll. It reads the body of every POST
 * into a buffer and answers with a fixed body. What moult adds is measured against this.
 *
 * usage: bare_mhd PORT ANSWER_BYTES
 */

#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BARE_BODY_MAX ((size_t)1024 * 1024)

struct bare_request {
	size_t bytes;
	char *body;
};

struct bare {
	char *answer;
	size_t answer_bytes;
};

static enum MHD_Result bare_answer(const struct bare *bare, struct MHD_Connection *connection)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		bare->answer_bytes, bare->answer, MHD_RESPMEM_PERSISTENT);
	enum MHD_Result result;

	(void)MHD_add_response_header(response, "Content-Type", "application/json");
	result = MHD_queue_response(connection, 200, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result bare_handle(void *context, struct MHD_Connection *connection,
				   const char *url, const char *method, const char *version,
				   const char *data, size_t *bytes, void **request_context)
{
	struct bare_request *request = *request_context;

	(void)url;
	(void)method;
	(void)version;
	if (!request) {
		request = calloc(1, sizeof(*request));
		*request_context = request;
		if (request)
			request->body = malloc(BARE_BODY_MAX);
		return request && request->body ? MHD_YES : MHD_NO;
	}
	if (*bytes > 0) {
		if (*bytes > BARE_BODY_MAX - request->bytes)
			return MHD_NO;
		memcpy(request->body + request->bytes, data, *bytes);
		request->bytes += *bytes;
		*bytes = 0;
		return MHD_YES;
	}
	return bare_answer(context, connection);
}

static void bare_on_completed(void *context, struct MHD_Connection *connection,
			      void **request_context, enum MHD_RequestTerminationCode code)
{
	struct bare_request *request = *request_context;

	(void)context;
	(void)connection;
	(void)code;
	if (request)
		free(request->body);
	free(request);
}

int main(int argc, char **argv)
{
	struct bare bare = { .answer_bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 1024 };
	struct MHD_Daemon *daemon;
	sigset_t signals;
	int number;

	if (argc < 2) {
		(void)fprintf(stderr, "usage: bare_mhd PORT ANSWER_BYTES\n");
		return 2;
	}
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	bare.answer = malloc(bare.answer_bytes);
	if (!bare.answer)
		return 1;
	memset(bare.answer, 'x', bare.answer_bytes);
	daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD,
				  (uint16_t)strtoul(argv[1], NULL, 10), NULL, NULL,
				  bare_handle, &bare, MHD_OPTION_NOTIFY_COMPLETED,
				  bare_on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT, 1024u,
				  MHD_OPTION_END);
	if (!daemon)
		return 1;
	(void)sigwait(&signals, &number);
	MHD_stop_daemon(daemon);
	free(bare.answer);
	return 0;
}
