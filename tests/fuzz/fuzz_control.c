/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A local user who may open the control socket and writes anything to it: bytes in pieces, one
 * caller after the other or at the same time, callers that leave. The commands are those of a
 * whole supervisor without a model. Each caller who stays gets whole lines of JSON, the last of
 * which says whether it is ok; none is left over at the end.
 */

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shared/log.h"
#include "supervisor/commands.h"
#include "supervisor/supervisor_state.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/folder.h"

#define CALLERS    3u
#define OUTPUT_MAX ((size_t)CONTROL_QUEUE_BYTES_MAX)
#define ROUNDS_MAX 1000

/* Steps of an input, which are no bytes of a text. */
enum {
	STEP_SEND = 0x1c, /* sends what was gathered, and lets moultd look */
	STEP_NEXT,        /* goes on with another caller */
	STEP_SHUT,        /* sends nothing more */
	STEP_LEAVE,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct caller {
	int fd;       /* -1: not there */
	bool is_shut; /* it may have gone without a whole line */
	size_t n;
	char *output;
};

static struct commands *commands;
static struct supervisor *supervisor;
static struct sockaddr_un address = { .sun_family = AF_UNIX };

static void leave(void)
{
	supervisor_free(supervisor);
	commands_free(commands);
}

static void start(void)
{
	static struct supervisor_listener listener;
	const char *folder = fuzz_folder_enter();
	struct config *config = NULL;
	struct err err = ERR_NULL;
	char path[128];
	FILE *file;

	log_set_level(LOG_LEVEL_NONE);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", folder);
	(void)snprintf(path, sizeof(path), "%s/models", folder);
	assert(mkdir(path, 0700) == 0);
	(void)snprintf(path, sizeof(path), "%s/moult.conf", folder);
	file = fopen(path, "we");
	assert(file);
	(void)fprintf(file,
	              "[supervisor]\nlisten = 127.0.0.1:0\ncontrol = %s\nstate_dir = %s\n"
	              "models_dir = %s/models\nuser = root\n",
	              address.sun_path, folder, folder);
	(void)fclose(file);
	assert(commands_new(&commands) == 0);
	listener = commands_listener(commands);
	if (config_load(&config, path, &err) < 0 ||
	    supervisor_new(&supervisor, config, NULL, &listener, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		abort();
	}
	commands_set_supervisor(commands, supervisor);
	(void)atexit(leave);
}

static void look(void)
{
	ev_run(supervisor->loop, EVRUN_NOWAIT);
}

/* True: moultd has ended the call. */
static bool take(struct caller *caller)
{
	ssize_t r;

	while (caller->n < OUTPUT_MAX &&
	       (r = recv(caller->fd, caller->output + caller->n, OUTPUT_MAX - caller->n,
	                 MSG_DONTWAIT)) != 0) {
		if (r < 0)
			return errno != EAGAIN;
		caller->n += (size_t)r;
	}
	return true;
}

static void come(struct caller *caller)
{
	if (caller->fd >= 0)
		return;
	caller->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	caller->n = 0;
	caller->is_shut = false;
	assert(caller->fd >= 0 &&
	       connect(caller->fd, (struct sockaddr *)&address, sizeof(address)) == 0);
}

static void hang_up(struct caller *caller)
{
	if (caller->fd >= 0)
		(void)close(caller->fd);
	caller->fd = -1;
}

static void send_piece(struct caller *caller, const uint8_t *data, size_t bytes)
{
	come(caller);
	if (bytes > 0)
		(void)send(caller->fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	look();
	(void)take(caller);
}

/* Checks what one got who stayed until the end. */
static void check(const struct caller *caller)
{
	bool is_last = false;

	if (caller->n == 0 && caller->is_shut)
		return;
	assert(caller->n > 0 && caller->output[caller->n - 1] == '\n');
	for (size_t at = 0; at < caller->n;) {
		const char *line = caller->output + at;
		const char *end = memchr(line, '\n', caller->n - at);
		json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
		const json_t *ok = json_object_get(json, "ok");

		assert(json && !is_last);
		is_last = json_is_boolean(ok);
		if (json_is_false(ok))
			assert(json_string_length(json_object_get(json, "error")) > 0);
		json_decref(json);
		at = (size_t)(end + 1 - caller->output);
	}
	assert(is_last);
}

/* Sends the end of a line for everybody, and waits for all answers. */
static void finish(struct caller *callers)
{
	for (size_t i = 0; i < CALLERS; i++) {
		bool is_over = callers[i].fd < 0;

		if (!is_over)
			(void)send(callers[i].fd, "\n", 1, MSG_NOSIGNAL);
		for (int round = 0; !is_over; round++) {
			assert(round < ROUNDS_MAX);
			look();
			is_over = take(&callers[i]);
		}
	}
}

static void play(struct caller *callers, const uint8_t *data, size_t size)
{
	struct caller *caller = callers;
	size_t from = 0;

	for (size_t at = 0; at < size; at++) {
		if (data[at] < STEP_SEND || data[at] > STEP_LEAVE)
			continue;
		send_piece(caller, data + from, at - from);
		from = at + 1;
		if (data[at] == STEP_NEXT)
			caller = callers + (caller + 1 - callers) % (ptrdiff_t)CALLERS;
		else if (data[at] == STEP_SHUT)
			caller->is_shut = shutdown(caller->fd, SHUT_WR) == 0;
		else if (data[at] == STEP_LEAVE)
			hang_up(caller);
	}
	send_piece(caller, data + from, size - from);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct caller callers[CALLERS];
	static char *output;
	int next_fd;

	if (!supervisor) {
		start();
		output = malloc(CALLERS * OUTPUT_MAX);
		assert(output);
		look();
	}
	next_fd = fuzz_next_fd();
	for (size_t i = 0; i < CALLERS; i++)
		callers[i] =
			(struct caller){ .fd = -1, .output = output + i * OUTPUT_MAX };
	play(callers, data, size);
	finish(callers);
	for (size_t i = 0; i < CALLERS; i++) {
		if (callers[i].fd >= 0)
			check(&callers[i]);
		hang_up(&callers[i]);
	}
	for (int i = 0; fuzz_next_fd() > next_fd; i++) {
		assert(i < ROUNDS_MAX);
		look();
	}
	log_set_level(LOG_LEVEL_NONE); /* a command may have set it */
	return 0;
}
