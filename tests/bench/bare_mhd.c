/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The baseline: libmicrohttpd alone, one thread, its own epoll loop, as fast as it goes. It
 * reads the body of every request, drops it and answers with a fixed body from one response
 * object made at the start. What moult adds is measured against this.
 *
 * usage: bare_mhd PORT [ANSWER_BYTES]
 */

#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BARE_ANSWER_BYTES 1024
#define BARE_ANSWER_MAX   ((size_t)64 * 1024 * 1024)

static enum MHD_Result bare_handle(void *context, struct MHD_Connection *connection,
                                   const char *url, const char *method,
                                   const char *version, const char *data, size_t *bytes,
                                   void **request_context)
{
	(void)url;
	(void)method;
	(void)version;
	(void)data;
	if (!*request_context) {
		/* Any value: the head has been seen. */
		*request_context = context;
		return MHD_YES;
	}
	if (*bytes > 0) {
		*bytes = 0;
		return MHD_YES;
	}
	return MHD_queue_response(connection, MHD_HTTP_OK, context);
}

static struct MHD_Response *bare_response(size_t bytes)
{
	struct MHD_Response *response;
	char *answer = malloc(bytes);

	if (!answer)
		return NULL;
	memset(answer, 'x', bytes);
	response = MHD_create_response_from_buffer(bytes, answer, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(answer);
		return NULL;
	}
	(void)MHD_add_response_header(response, "Content-Type",
	                              "application/octet-stream");
	return response;
}

int main(int argc, char **argv)
{
	size_t bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : BARE_ANSWER_BYTES;
	struct MHD_Response *response;
	struct MHD_Daemon *daemon;
	sigset_t signals;
	int number;

	if (argc < 2 || bytes == 0 || bytes > BARE_ANSWER_MAX) {
		(void)fprintf(stderr, "usage: bare_mhd PORT [ANSWER_BYTES]\n");
		return 2;
	}
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	response = bare_response(bytes);
	if (!response)
		return 1;
	daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD,
	                          (uint16_t)strtoul(argv[1], NULL, 10), NULL, NULL,
	                          bare_handle, response, MHD_OPTION_CONNECTION_LIMIT,
	                          1024u, MHD_OPTION_END);
	if (daemon) {
		(void)sigwait(&signals, &number);
		MHD_stop_daemon(daemon);
	}
	MHD_destroy_response(response);
	return daemon ? 0 : 1;
}
