/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A call goes through three states: READING until its line is whole, RUNNING until the
 * handler has given the last line, ENDING until the queue is sent. call_arm() is the
 * one place that turns the state into events.
 *
 * Handlers may answer now or much later, so nothing frees a call under them: a queue
 * that overflows only shuts the socket down, and the loop drops the call. call_drop()
 * tells the handler of a client that left (on_gone). Two deadlines bound a client that
 * hangs: one for sending the command, one for reading the last line.
 */

#include "supervisor/control/control.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/log.h"
#include "supervisor/process/proc.h"

/* Out of descriptors or memory: clients wait in the backlog for this long. */
#define ACCEPT_PAUSE_S  1.0
#define ERROR_BYTES_MAX 2048
/* A live supervisor that lets a caller in keeps it for longer, or says why not. */
#define CONTROL_PROBE_MS 500

enum call_state {
	CALL_READING, /* the command's line is not whole yet */
	CALL_RUNNING, /* the handler owes the last line */
	CALL_ENDING,  /* all lines are queued */
};

struct control_call {
	LIST_ENTRY(control_call) link;
	struct control *control;
	enum call_state state;
	int fd;
	struct ucred peer; /* as of the connect */
	ev_io io;
	ev_timer deadline;
	bool is_half_closed; /* the client sends nothing more, but still reads */

	char *out;
	size_t out_bytes;
	size_t out_sent;
	size_t out_capacity;

	void (*on_gone)(void *context, struct control_call *call);
	void *on_gone_context;

	size_t in_bytes;
	char in[CONTROL_LINE_BYTES_MAX];
};

struct control {
	struct ev_loop *loop;
	const struct control_command *commands;
	void *context;
	LIST_HEAD(, control_call) calls;
	unsigned int n_calls;
	int fd;
	ev_io io;
	ev_timer pause;
	char *path;
	/* Identity of the socket's file: another moultd's file must not be removed. */
	dev_t device;
	ino_t inode;
};

static void call_free(struct control_call *call)
{
	struct control *control = call->control;

	ev_io_stop(control->loop, &call->io);
	ev_timer_stop(control->loop, &call->deadline);
	LIST_REMOVE(call, link);
	control->n_calls--;
	close_fd(&call->fd);
	free(call->out);
	free(call);
}

/* Ends a call whose client has left, or has to go. */
static void call_drop(struct control_call *call)
{
	bool is_owed = call->state == CALL_RUNNING;

	call->state = CALL_ENDING;
	if (is_owed && call->on_gone)
		call->on_gone(call->on_gone_context, call);
	call_free(call);
}

/* Watches for the events that the state of the call asks for. */
static void call_arm(struct control_call *call)
{
	struct ev_loop *loop = call->control->loop;
	int events = 0;

	if (call->state != CALL_ENDING && !call->is_half_closed)
		events |= EV_READ;
	if (call->state == CALL_ENDING || call->out_bytes > call->out_sent)
		events |= EV_WRITE;
	ev_io_stop(loop, &call->io);
	ev_io_modify(&call->io, events);
	if (events)
		ev_io_start(loop, &call->io);
}

static void call_set_deadline(struct control_call *call)
{
	ev_timer_stop(call->control->loop, &call->deadline);
	ev_timer_set(&call->deadline, CONTROL_IDLE_S, 0.);
	ev_timer_start(call->control->loop, &call->deadline);
}

/* Appends a line to the queue. 0, -ENOMEM or -ENOBUFS. */
static int call_queue(struct control_call *call, const char *line)
{
	size_t bytes = strlen(line);
	size_t need;
	char *out;

	if (call->out_sent > 0) {
		call->out_bytes -= call->out_sent;
		memmove(call->out, call->out + call->out_sent, call->out_bytes);
		call->out_sent = 0;
	}
	need = call->out_bytes + bytes + 1;
	if (need > CONTROL_QUEUE_BYTES_MAX)
		return -ENOBUFS;
	if (need > call->out_capacity) {
		size_t capacity = need < 4096 ? 4096 : need * 2;

		out = realloc(call->out, capacity);
		if (!out)
			return -ENOMEM;
		call->out = out;
		call->out_capacity = capacity;
	}
	memcpy(call->out + call->out_bytes, line, bytes);
	call->out[need - 1] = '\n';
	call->out_bytes = need;
	return 0;
}

size_t control_call_room(const struct control_call *call)
{
	return CONTROL_QUEUE_BYTES_MAX - (call->out_bytes - call->out_sent);
}

void control_reply(struct control_call *call, json_t *object, bool is_last)
{
	static const char no_memory[] = "{\"ok\":false,\"error\":\"out of memory\"}";
	FREE char *line = NULL;

	assert(call->state == CALL_RUNNING);
	if (is_last && object && !json_object_get(object, "ok") &&
	    json_object_set_new(object, "ok", json_true()) < 0) {
		json_decref(object);
		object = NULL;
	}
	if (object)
		line = json_dumps(object, CONTROL_JSON);
	json_decref(object);
	if (is_last) {
		call->state = CALL_ENDING;
		call_set_deadline(call);
	}
	if (call_queue(call, line ? line : no_memory) < 0) {
		/* The loop drops the client later: the caller still holds the call
		 * here. */
		(void)shutdown(call->fd, SHUT_RDWR);
		call->is_half_closed = false;
		call->out_sent = call->out_bytes;
	}
	call_arm(call);
}

void control_done(struct control_call *call)
{
	control_reply(call, json_object(), true);
}

void control_fail(struct control_call *call, const char *format, ...)
{
	char text[ERROR_BYTES_MAX];
	json_t *error;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	error = json_string(text);
	if (!error) {
		/* The text was cut in the middle of a letter, or never UTF-8. */
		for (char *c = text; *c; c++)
			if ((unsigned char)*c >= 0x80)
				*c = '?';
		error = json_string(text);
	}
	control_reply(call, json_pack("{s:b, s:o}", "ok", 0, "error", error), true);
}

void control_call_watch(struct control_call *call,
                        void (*on_gone)(void *context, struct control_call *call),
                        void *context)
{
	call->on_gone = on_gone;
	call->on_gone_context = context;
}

/* Logs the client and its command; commands that only look matter to debugging alone. */
static void call_log(const struct control_call *call,
                     const struct control_command *command, const json_t *args)
{
	FREE char *text = json_dumps(args, JSON_COMPACT);

	log_event(command->is_read_only ? LOG_LEVEL_DEBUG : LOG_LEVEL_NOTICE, "control",
	          "command=%s uid=%u gid=%u pid=%d args=%s", command->name,
	          call->peer.uid, call->peer.gid, (int)call->peer.pid, LOG_QUOTED(text));
}

/* Runs the command whose line of @bytes, without its end, is whole. */
static void call_run(struct control_call *call, size_t bytes)
{
	const struct control_command *command;
	json_error_t error;
	struct err err = ERR_NULL;
	json_t *args;

	call->state = CALL_RUNNING;
	ev_timer_stop(call->control->loop, &call->deadline);
	args = json_loadb(call->in, bytes, JSON_REJECT_DUPLICATES, &error);
	if (!args) {
		control_fail(call, "the command is no JSON: %s", error.text);
		return;
	}
	command = control_command_find(call->control->commands, args, &err);
	if (command) {
		call_log(call, command, args);
		command->handle(call->control->context, call, args);
	} else {
		control_fail(call, "%s", err.text);
	}
	json_decref(args);
}

/* Reads after the command, where nothing may come: more bytes, or a full hang-up, end
 * the call. A client that only closed its sending side still waits for its answer. */
static void call_read_more(struct control_call *call)
{
	struct pollfd hangup = { .fd = call->fd };
	char byte;
	ssize_t n = recv(call->fd, &byte, 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 0 && poll(&hangup, 1, 0) == 0) {
		call->is_half_closed = true;
		call_arm(call);
		return;
	}
	call_drop(call);
}

static void call_read(struct control_call *call)
{
	ssize_t n = recv(call->fd, call->in + call->in_bytes,
	                 sizeof(call->in) - call->in_bytes, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		call_drop(call);
		return;
	}
	end = memchr(call->in + call->in_bytes, '\n', (size_t)n);
	call->in_bytes += (size_t)n;
	if (end && end + 1 == call->in + call->in_bytes) {
		call_run(call, (size_t)(end - call->in));
	} else if (end) {
		call->state = CALL_RUNNING;
		control_fail(call, "one line, one command: nothing may follow it");
	} else if (call->in_bytes == sizeof(call->in)) {
		call->state = CALL_RUNNING;
		control_fail(call, "the command is longer than %d bytes",
		             CONTROL_LINE_BYTES_MAX - 1);
	}
}

/* Sends what is queued. False: the call is gone. */
static bool call_write(struct control_call *call)
{
	size_t left = call->out_bytes - call->out_sent;
	ssize_t n = left ? send(call->fd, call->out + call->out_sent, left,
	                        MSG_DONTWAIT | MSG_NOSIGNAL)
	                 : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n < 0) {
		call_drop(call);
		return false;
	}
	call->out_sent += (size_t)n;
	if (call->out_sent < call->out_bytes)
		return true;
	if (call->state == CALL_ENDING) {
		call_free(call);
		return false;
	}
	call_arm(call);
	return true;
}

static void on_call(struct ev_loop *loop, ev_io *io, int events)
{
	struct control_call *call = io->data;

	(void)loop;
	/* Write first: reading may end the call. */
	if ((events & EV_WRITE) && !call_write(call))
		return;
	if (!(events & EV_READ))
		return;
	if (call->state == CALL_READING)
		call_read(call);
	else if (call->state == CALL_RUNNING)
		call_read_more(call);
}

static void on_call_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	call_drop(timer->data);
}

/* Begins a call on @fd, which it takes. 0 or -ENOMEM. */
static int call_new(struct control *control, int fd)
{
	struct control_call *call = calloc(1, sizeof(*call));
	socklen_t peer_bytes = sizeof(call->peer);

	if (!call) {
		(void)close(fd);
		return -ENOMEM;
	}
	call->control = control;
	call->fd = fd;
	/* SO_PEERCRED works on every connected unix socket. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &call->peer, &peer_bytes) < 0)
		call->peer = (struct ucred){ .uid = (uid_t)-1, .gid = (gid_t)-1 };
	call->state = CALL_READING;
	LIST_INSERT_HEAD(&control->calls, call, link);
	control->n_calls++;
	ev_io_init(&call->io, on_call, fd, EV_READ);
	call->io.data = call;
	ev_init(&call->deadline, on_call_deadline);
	call->deadline.data = call;
	call_set_deadline(call);
	call_arm(call);
	return 0;
}

/* Refuses with a line and closes: waiting unseen would be worse. */
static void turn_away(int fd, const char *line)
{
	/* The buffer of a fresh socket has room for a line. */
	(void)send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)close(fd);
}

/* True: a loader calls, or what it has started. Models are commanded, and command nobody. One that
 * cannot be looked at any more is no moultctl that waits for an answer. */
static bool is_loaders(int fd)
{
	struct ucred peer = { .pid = 0 };
	socklen_t bytes = sizeof(peer);
	struct proc proc;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0 || peer.pid <= 0)
		return false;
	if (!proc_read(peer.pid, &proc))
		return peer.uid == geteuid();
	return proc_is_below(peer.pid);
}

static void on_client(struct ev_loop *loop, ev_io *io, int events)
{
	struct control *control = io->data;
	int fd = accept4(control->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		/* Level-triggered: without a pause this would spin. */
		ev_io_stop(loop, &control->io);
		ev_timer_set(&control->pause, ACCEPT_PAUSE_S, 0.);
		ev_timer_start(loop, &control->pause);
		return;
	}
	if (is_loaders(fd)) {
		log_event(LOG_LEVEL_WARNING, "control_refused",
		          "reason=\"a model's process called\"");
		turn_away(fd, "{\"ok\":false,\"error\":\"a model's process may not "
		              "command moultd\"}\n");
	} else if (control->n_calls == CONTROL_CALLS_MAX)
		turn_away(fd, "{\"ok\":false,\"error\":\"too many moultctl at once: try "
		              "again in a moment\"}\n");
	else
		(void)call_new(control, fd); /* out of memory: the client sees the end */
}

static void on_pause_end(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct control *control = timer->data;

	(void)events;
	ev_io_start(loop, &control->io);
}

/* Whether a supervisor listens where @probe has been let in. A process that a dead one had just
 * forked may hold the socket for a moment still: its end hangs up, without a word. */
static bool is_answered(int probe)
{
	struct pollfd pollfd = { .fd = probe, .events = POLLIN };
	char byte;

	return poll(&pollfd, 1, CONTROL_PROBE_MS) <= 0 ||
	       recv(probe, &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0;
}

/* Removes the socket of a dead supervisor. 0, also when there is none, or -errno. */
static int remove_stale(const struct sockaddr_un *address, struct err *err)
{
	CLOSE_FD int probe =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const char *path = address->sun_path;
	struct stat status;
	int r;

	if (lstat(path, &status) < 0)
		return errno == ENOENT ? 0
		                       : err_set(err, -errno, "%s: %s", path,
		                                 access_why(&(struct err)ERR_NULL, path,
		                                            R_OK | W_OK, errno));
	if (!S_ISSOCK(status.st_mode))
		return err_set(err, -EEXIST,
		               "%s: is there and is no socket: remove it, or set another "
		               "path with the key control",
		               path);
	if (probe < 0)
		return err_set(err, -errno, "%s: no socket: %s", path, strerror(errno));
	r = connect(probe, (const struct sockaddr *)address, sizeof(*address));
	if (r == 0 ? is_answered(probe) : errno == EAGAIN)
		return err_set(
			err, -EADDRINUSE,
			"%s: another moultd answers there: stop it, or set another "
			"path with the key control",
			path);
	if (r < 0 && errno != ECONNREFUSED && errno != ENOENT)
		return err_set(err, -errno, "%s: %s", path,
		               access_why(&(struct err)ERR_NULL, path, R_OK | W_OK,
		                          errno));
	if (unlink(path) < 0 && errno != ENOENT)
		return err_set(err, -errno,
		               "%s: a dead moultd's socket cannot be removed: %s", path,
		               strerror(errno));
	return 0;
}

/* Binds the socket with mode 0660 and listens. 0 or -errno. */
static int open_socket(struct control *control, const struct sockaddr_un *address,
                       struct err *err)
{
	struct stat status;
	mode_t before;
	int r;

	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (control->fd < 0)
		return err_set(err, -errno, "%s: no socket: %s", control->path,
		               strerror(errno));
	/* The umask keeps others out from the first moment on. */
	before = umask(0177);
	r = bind(control->fd, (const struct sockaddr *)address, sizeof(*address)) < 0
	            ? -errno
	            : 0;
	(void)umask(before);
	if (r < 0)
		return err_set(
			err, r,
			"%s: %s: create its directory, or set another path with the "
			"key control",
			control->path,
			access_why(&(struct err)ERR_NULL, control->path, R_OK | W_OK,
		                   -r));
	if (lstat(control->path, &status) < 0)
		return err_set(err, -errno, "%s: %s", control->path, strerror(errno));
	control->device = status.st_dev;
	control->inode = status.st_ino;
	if (chmod(control->path, 0660) < 0 || listen(control->fd, CONTROL_CALLS_MAX) < 0)
		return err_set(err, -errno, "%s: %s", control->path, strerror(errno));
	return 0;
}

int control_new(struct control **ret_control, struct ev_loop *loop, const char *path,
                const struct control_command *commands, void *context, struct err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct control *control;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(err, -ENAMETOOLONG, "%s: is longer than %zu bytes", path,
		               sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	r = remove_stale(&address, err);
	if (r < 0)
		return r;
	control = calloc(1, sizeof(*control));
	if (!control)
		return -ENOMEM;
	control->loop = loop;
	control->commands = commands;
	control->context = context;
	control->fd = -1;
	LIST_INIT(&control->calls);
	ev_init(&control->io, on_client);
	control->io.data = control;
	ev_init(&control->pause, on_pause_end);
	control->pause.data = control;
	control->path = strdup(path);
	r = control->path ? open_socket(control, &address, err) : -ENOMEM;
	if (r < 0) {
		control_free(control);
		return r;
	}
	ev_io_set(&control->io, control->fd, EV_READ);
	ev_io_start(loop, &control->io);
	*ret_control = control;
	return 0;
}

void control_free(struct control *control)
{
	struct stat status;

	if (!control)
		return;
	while (!LIST_EMPTY(&control->calls))
		call_free(LIST_FIRST(&control->calls));
	ev_io_stop(control->loop, &control->io);
	ev_timer_stop(control->loop, &control->pause);
	if (control->inode && lstat(control->path, &status) == 0 &&
	    status.st_dev == control->device && status.st_ino == control->inode)
		(void)unlink(control->path); /* else the next start does */
	close_fd(&control->fd);
	free(control->path);
	free(control);
}
