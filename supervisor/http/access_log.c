/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lines are gathered in a buffer, which goes into the pipe of moult-log (log_main.c) once
 * a round of the loop, and else when a full pipe has room again. Lines for which the
 * buffer has no room are dropped, with one warning per ACCESS_LOG_SAY_NS. A writer that
 * ends is started again after ACCESS_LOG_AGAIN_S; the lines wait for it as long as they
 * fit.
 */

#include "supervisor/http/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/process/child.h"
#include "supervisor/config/config.h"

#define ACCESS_LOG_WRITER       "moult-log"
#define ACCESS_LOG_LINE_MAX     2048
#define ACCESS_LOG_TIME_MAX     32
#define ACCESS_LOG_BUFFER_BYTES (256 * 1024)
#define ACCESS_LOG_PIPE_BYTES   (1024 * 1024) /* the default bound of fs.pipe-max-size */
#define ACCESS_LOG_AGAIN_S      1.0           /* until another writer is started */
#define ACCESS_LOG_SAY_NS       (10 * CLOCK_NS_PER_SEC)
#define ACCESS_LOG_FREE_MS      1000

struct access_log {
	struct ev_loop *loop;
	char *program; /* NULL: the lines go to stderr */
	char *path;
	bool is_json;
	struct child writer;
	struct child_listener listener;
	int pipe_fd;
	ev_io writable;   /* active while the pipe is full */
	ev_prepare flush; /* once for all requests of a round */
	ev_timer again;
	uint64_t n_dropped;
	uint64_t n_unsaid;
	uint64_t said_ns;
	size_t used;
	size_t sent;
	char buffer[ACCESS_LOG_BUFFER_BYTES];
};

/* The writer */

static int access_log_start(struct access_log *access, struct err *err)
{
	char *argv[] = { access->program, access->path, NULL };
	CLOSE_FD int read_fd = -1;
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, -errno, "no pipe: %s", strerror(errno));
	read_fd = fds[0];
	close_fd(&access->pipe_fd);
	access->pipe_fd = fds[1];
	(void)fcntl(access->pipe_fd, F_SETFL, O_NONBLOCK);
	/* A smaller pipe will do where this user may have no larger one. */
	(void)fcntl(access->pipe_fd, F_SETPIPE_SZ, ACCESS_LOG_PIPE_BYTES);
	ev_io_stop(access->loop, &access->writable);
	ev_io_set(&access->writable, access->pipe_fd, EV_WRITE);
	r = child_spawn(&access->writer, access->loop, argv, NULL, read_fd,
	                &access->listener, err);
	if (r < 0)
		close_fd(&access->pipe_fd);
	return r;
}

static void access_log_on_again(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct access_log *access = timer->data;
	struct err err = ERR_NULL;

	(void)revents;
	if (access_log_start(access, &err) == 0)
		return;
	log_event(LOG_LEVEL_ERR, "access_log_failed", "reason=%s", LOG_QUOTED(err.text));
	ev_timer_set(timer, ACCESS_LOG_AGAIN_S, 0.);
	ev_timer_start(loop, timer);
}

static void access_log_on_exit(void *context, int status)
{
	struct access_log *access = context;
	char text[64];

	log_event(LOG_LEVEL_WARNING, "access_log_exit", "status=%s",
	          LOG_QUOTED(child_describe(status, text, sizeof(text))));
	ev_io_stop(access->loop, &access->writable);
	close_fd(&access->pipe_fd);
	/* The rest of a line would stand alone in the file. */
	while (access->sent > 0 && access->sent < access->used &&
	       access->buffer[access->sent - 1] != '\n')
		access->sent++;
	ev_timer_set(&access->again, ACCESS_LOG_AGAIN_S, 0.);
	ev_timer_start(access->loop, &access->again);
}

static void access_log_on_line(void *context, const char *line)
{
	(void)context;
	log_event(LOG_LEVEL_WARNING, "access_log", "reason=%s", LOG_QUOTED(line));
}

/* Moves lines into the pipe, as far as it has room. */
static void access_log_write(struct access_log *access)
{
	ssize_t n = 0;

	if (access->sent == access->used || access->pipe_fd < 0)
		return;
	n = write(access->pipe_fd, access->buffer + access->sent,
	          access->used - access->sent);
	/* A writer that died shows as EPIPE; access_log_on_exit() is about to come. */
	if (n > 0)
		access->sent += (size_t)n;
	if (access->sent == access->used)
		access->sent = access->used = 0;
	if (access->used > 0 && n < 0 && errno == EAGAIN)
		ev_io_start(access->loop, &access->writable);
	else
		ev_io_stop(access->loop, &access->writable);
}

static void access_log_on_writable(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)loop;
	(void)revents;
	access_log_write(io->data);
}

static void access_log_on_flush(struct ev_loop *loop, ev_prepare *prepare, int revents)
{
	struct access_log *access = prepare->data;

	(void)loop;
	(void)revents;
	if (!ev_is_active(&access->writable))
		access_log_write(access);
}

/* The lines */

/* Who asks; empty texts where that has no address. */
struct access_log_client {
	char host[64];
	char port[16];
};

static void access_log_find_client(struct peer_end end, struct access_log_client *client)
{
	struct sockaddr_storage address;

	*client = (struct access_log_client){ .host = "" };
	if (peer_address(end, &address) &&
	    getnameinfo((struct sockaddr *)&address, sizeof(address), client->host,
	                sizeof(client->host), client->port, sizeof(client->port),
	                NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		client->host[0] = client->port[0] = '\0';
}

static void access_log_drop(struct access_log *access)
{
	uint64_t now_ns = clock_now_ns();

	access->n_dropped++;
	access->n_unsaid++;
	if (access->said_ns && now_ns < access->said_ns + ACCESS_LOG_SAY_NS)
		return;
	log_event(LOG_LEVEL_WARNING, "access_log_lost", "lines=%llu path=%s",
	          (unsigned long long)access->n_unsaid, LOG_QUOTED(access->path));
	access->said_ns = now_ns;
	access->n_unsaid = 0;
}

/* Adds a line with its end. */
static void access_log_put(struct access_log *access, const char *line, size_t bytes)
{
	if (access->sent > 0 && access->used + bytes > sizeof(access->buffer)) {
		access->used -= access->sent;
		memmove(access->buffer, access->buffer + access->sent, access->used);
		access->sent = 0;
	}
	if (access->used + bytes > sizeof(access->buffer)) {
		access_log_drop(access);
		return;
	}
	memcpy(access->buffer + access->used, line, bytes);
	access->used += bytes;
}

/* Prints the time into @text, of ACCESS_LOG_TIME_MAX bytes. */
static void access_log_print_time(char *text)
{
	struct timespec now;
	struct tm utc;
	size_t used;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &utc);
	used = strftime(text, ACCESS_LOG_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(text + used, ACCESS_LOG_TIME_MAX - used, ".%03ldZ",
	               now.tv_nsec / 1000000);
}

static void access_log_append(struct access_log *access, const char *line)
{
	char text[ACCESS_LOG_LINE_MAX];
	char time[ACCESS_LOG_TIME_MAX];
	int n;

	access_log_print_time(time);
	n = snprintf(text, sizeof(text), "%s %s\n", time, line);
	if (n < 0 || (size_t)n >= sizeof(text))
		access_log_drop(access);
	else
		access_log_put(access, text, (size_t)n);
}

static void access_log_note_plain(struct access_log *access,
                                  const struct access_log_entry *entry)
{
	char line[ACCESS_LOG_LINE_MAX - 64];
	struct access_log_client client;
	char port[24] = "";
	char status[16] = "-";

	access_log_find_client(entry->end, &client);
	if (client.port[0])
		(void)snprintf(port, sizeof(port), " port=%s", client.port);
	if (entry->status > 0)
		(void)snprintf(status, sizeof(status), "%u", entry->status);
	(void)snprintf(line, sizeof(line),
	               "client=%s%s method=%s target=%s status=%s received_bytes=%llu "
	               "took_ms=%.3f model=%s generation=%llu%s%s",
	               client.host[0] ? client.host : "-", port,
	               entry->method[0] ? entry->method : "-",
	               entry->target ? LOG_QUOTED(entry->target) : "-", status,
	               (unsigned long long)entry->received_bytes,
	               (double)entry->took_ns / 1e6, entry->model[0] ? entry->model : "-",
	               (unsigned long long)entry->generation,
	               entry->token[0] ? " token=" : "", entry->token);
	if (access->program)
		access_log_append(access, line);
	else
		log_event(LOG_LEVEL_NOTICE, "access", "%s", line);
}

/* The text, or NULL where there is none. */
static const char *access_log_or_null(const char *text)
{
	return text && *text ? text : NULL;
}

static void access_log_note_json(struct access_log *access,
                                 const struct access_log_entry *entry)
{
	struct access_log_client client;
	char time[ACCESS_LOG_TIME_MAX];
	json_t *json;
	char *text;

	access_log_find_client(entry->end, &client);
	access_log_print_time(time);
	json = json_pack("{s:s,s:s?,s:o,s:s?,s:s?,s:o,s:I,s:f,s:s?,s:I,s:s?}", "time",
	                 time, "client", access_log_or_null(client.host), "port",
	                 client.port[0] ? json_integer(atoi(client.port)) : json_null(),
	                 "method", access_log_or_null(entry->method), "target",
	                 entry->target, "status",
	                 entry->status ? json_integer(entry->status) : json_null(),
	                 "received_bytes", (json_int_t)entry->received_bytes, "took_ms",
	                 (double)(entry->took_ns / 1000) / 1e3, "model",
	                 access_log_or_null(entry->model), "generation",
	                 (json_int_t)entry->generation, "token",
	                 access_log_or_null(entry->token));
	text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
	json_decref(json);
	/* A line has its end in the place of the terminator. */
	if (text) {
		size_t bytes = strlen(text);

		text[bytes] = '\n';
		access_log_put(access, text, bytes + 1);
	} else {
		access_log_drop(access);
	}
	free(text);
}

void access_log_note(struct access_log *access, const struct access_log_entry *entry)
{
	if (!access)
		return;
	if (access->is_json)
		access_log_note_json(access, entry);
	else
		access_log_note_plain(access, entry);
}

uint64_t access_log_dropped(const struct access_log *access)
{
	return access ? access->n_dropped : 0;
}

int access_log_new(struct access_log **ret_access, struct ev_loop *loop,
                   const struct config *config, struct err *err)
{
	const char *where = config->access_log;
	struct access_log *access;
	int r;

	*ret_access = NULL;
	if (strcmp(where, ACCESS_LOG_OFF) == 0)
		return 0;
	access = calloc(1, sizeof(*access));
	if (!access)
		return -ENOMEM;
	access->loop = loop;
	access->pipe_fd = -1;
	access->is_json = config->access_log_format == CONFIG_ACCESS_JSON;
	access->listener = (struct child_listener){ .on_exit = access_log_on_exit,
		                                    .on_line = access_log_on_line,
		                                    .context = access };
	ev_init(&access->writable, access_log_on_writable);
	access->writable.data = access;
	ev_init(&access->again, access_log_on_again);
	access->again.data = access;
	ev_prepare_init(&access->flush, access_log_on_flush);
	access->flush.data = access;
	/* After the endpoint's prepare watcher, in which requests are answered. */
	ev_set_priority(&access->flush, EV_MINPRI);
	*ret_access = access;
	if (strcmp(where, ACCESS_LOG_STDERR) == 0)
		return 0;
	access->path = strdup(where);
	r = access->path ? config_find_helper(ACCESS_LOG_WRITER, &access->program)
	                 : -ENOMEM;
	if (r == 0)
		r = access_log_start(access, err);
	if (r == 0)
		ev_prepare_start(loop, &access->flush);
	else
		*ret_access = NULL, access_log_free(access);
	return r;
}

void access_log_free(struct access_log *access)
{
	struct pollfd end;

	if (!access)
		return;
	access_log_write(access);
	ev_io_stop(access->loop, &access->writable);
	ev_prepare_stop(access->loop, &access->flush);
	ev_timer_stop(access->loop, &access->again);
	close_fd(&access->pipe_fd);
	end = (struct pollfd){ .fd = access->writer.pidfd, .events = POLLIN };
	if (access->writer.pid > 0)
		(void)poll(&end, 1, ACCESS_LOG_FREE_MS);
	child_fini(&access->writer);
	free(access->program);
	free(access->path);
	free(access);
}
