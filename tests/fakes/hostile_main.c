/* SPDX-License-Identifier: Apache-2.0 */

/* The life of the hostile loader: shared/proto.h's messages in their order, with the
 * faults of each state between them. */

#include "hostile.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/log.h"

#define MAIN_WORDS_MAX 4096

volatile sig_atomic_t hostile_has_usr1;
volatile sig_atomic_t hostile_has_term;

static void main_on_signal(int number)
{
	if (number == SIGUSR1)
		hostile_has_usr1 = 1;
	else
		hostile_has_term = 1;
}

static void main_fail(const char *what)
{
	log_event(LOG_LEVEL_ERR, "hostile", "what=%s", LOG_QUOTED(what));
	_exit(PROTO_EXIT_INTERNAL);
}

static void main_send(struct hostile *hostile, enum proto_type type, const char *payload)
{
	(void)chan_send(&hostile->chan, type, hostile->generation, payload, NULL, 0);
}

/* Waits for @wanted; QUIT ends the process, so does the supervisor's end. */
static void main_receive(struct hostile *hostile, enum proto_type wanted,
                         struct chan_message *message)
{
	struct pollfd pollfd = { .fd = hostile->chan.fd, .events = POLLIN };
	struct err err = ERR_NULL;
	int r;

	while ((r = chan_recv(&hostile->chan, message, &err)) == CHAN_E_EMPTY)
		(void)poll(&pollfd, 1, -1);
	if (r == CHAN_E_CLOSED)
		_exit(PROTO_EXIT_ORPHAN);
	if (r)
		main_fail(err.text);
	if (message->header.type == PROTO_QUIT)
		_exit(PROTO_EXIT_OK);
	if (message->header.type != wanted)
		main_fail("a message comes out of turn");
}

static void main_map(struct memfd *memfd, int *fd, bool is_writable)
{
	if (memfd_map(memfd, take_fd(fd), is_writable) < 0)
		main_fail("memory of LOAD cannot be mapped");
}

static void main_take_load(struct hostile *hostile, struct chan_message *message)
{
	json_t *json = json_loads(message->payload, 0, NULL);
	json_int_t leases = json_integer_value(json_object_get(json, "leases"));
	int *fds = message->fds;

	if (leases < 1 || leases > PROTO_LEASES_MAX)
		main_fail("LOAD names no leases");
	hostile->leases = (uint32_t)leases;
	hostile_take_weights(hostile, json, message);
	json_decref(json);
	main_map(&hostile->requests, &fds[PROTO_LOAD_FD_REQUESTS], false);
	main_map(&hostile->answers, &fds[PROTO_LOAD_FD_ANSWERS], true);
	main_map(&hostile->rings, &fds[PROTO_LOAD_FD_RINGS], true);
	hostile->loader_bell = take_fd(&fds[PROTO_LOAD_FD_LOADER_BELL]);
	hostile->supervisor_bell = take_fd(&fds[PROTO_LOAD_FD_SUPERVISOR_BELL]);
	chan_message_fini(message);
	hostile->head = hostile->rings.base;
	proto_rings_attach(hostile->head, hostile->leases, &hostile->submit,
	                   &hostile->answer, &hostile->release);
	hostile->parts_max = proto_parts_max(hostile->leases);
	hostile->parts = calloc(hostile->parts_max, sizeof(*hostile->parts));
	hostile->streams = calloc(hostile->leases, sizeof(*hostile->streams));
	if (!hostile->parts || !hostile->streams ||
	    arena_init(&hostile->arena, hostile->answers.size_bytes) < 0)
		main_fail("out of memory");
	hostile->has_rings = true;
}

/* Sends the messages up to READY, with the faults before and after each. */
static void main_rise(struct hostile *hostile)
{
	struct chan_message *message = calloc(1, sizeof(*message));
	char payload[256];

	if (!message)
		main_fail("out of memory");
	hostile_fire(hostile, &hostile->faults, HOSTILE_SPAWNED);
	main_send(hostile, PROTO_HELLO, "{\"build\":\"hostile\"}");
	main_receive(hostile, PROTO_LOAD, message);
	main_take_load(hostile, message);
	hostile_fire(hostile, &hostile->faults, HOSTILE_STAGING);
	hostile_settle_weights(hostile, false, payload, sizeof(payload));
	main_send(hostile, PROTO_STAGED, payload);
	hostile_fire(hostile, &hostile->faults, HOSTILE_STAGED);
	main_receive(hostile, PROTO_COMMIT, message);
	free(message);
	hostile_fire(hostile, &hostile->faults, HOSTILE_COMMITTING);
	hostile_settle_weights(hostile, true, payload, sizeof(payload));
	main_send(hostile, PROTO_COMMITTED, payload);
	hostile_fire(hostile, &hostile->faults, HOSTILE_WARMING);
	main_send(hostile, PROTO_READY, "{\"warmup_ms\":0.0,\"rss_anon_bytes\":65536}");
	hostile_fire(hostile, &hostile->faults, HOSTILE_READY);
}

static void main_end(struct hostile *hostile)
{
	hostile_fire(hostile, &hostile->faults, HOSTILE_STOPPING);
	if (hostile_has(&hostile->faults, HOSTILE_TERMINATING)) {
		sigset_t none;

		/* SIGTERM is blocked everywhere else, so that it cannot slip in before the
		 * wait. */
		(void)sigemptyset(&none);
		while (!hostile_has_term)
			(void)sigsuspend(&none);
		hostile_fire(hostile, &hostile->faults, HOSTILE_TERMINATING);
	}
	main_send(hostile, PROTO_BYE, "{}");
}

static void main_read_words(struct hostile *hostile)
{
	char path[512];
	char words[MAIN_WORDS_MAX];
	CLOSE_FD int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s.%s", hostile->path, hostile->model);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* no such file: a good loader */
	n = read(fd, words, sizeof(words));
	if (n > 0)
		hostile_parse(&hostile->faults, words, (size_t)n);
}

static void main_set_signals(const struct hostile *hostile)
{
	struct sigaction action = { .sa_handler = main_on_signal };
	sigset_t mask;

	(void)sigaction(SIGUSR1, &action, NULL);
	/* A crash is wanted, or follows from the scribbling: no sanitizer's report. */
	(void)signal(SIGSEGV, SIG_DFL);
	(void)signal(SIGBUS, SIG_DFL);
	if (!hostile_has(&hostile->faults, HOSTILE_TERMINATING))
		return;
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &mask, NULL);
}

/* Returns VALUE of the argument "--NAME=VALUE"; "" when it is not there. */
static const char *main_argument(char **argv, const char *name)
{
	for (; *argv; argv++)
		if (strncmp(*argv, name, strlen(name)) == 0)
			return *argv + strlen(name);
	return "";
}

int main(int argc, char **argv)
{
	static struct hostile hostile;
	const char *parent = main_argument(argv, "--parent=");

	log_init(LOG_LEVEL_NOTICE);
	if (argc < 2 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    getppid() != (pid_t)strtol(parent, NULL, 10))
		return PROTO_EXIT_ORPHAN;
	hostile.path = argv[0];
	hostile.model = main_argument(argv, "--model=");
	hostile.generation = strtoull(main_argument(argv, "--generation="), NULL, 10);
	hostile.chan.fd = PROTO_CONTROL_FD;
	hostile.requests.fd = hostile.answers.fd = hostile.rings.fd = -1;
	hostile.loader_bell = hostile.supervisor_bell = -1;
	hostile.weights_fd = hostile.store_fd = -1;
	main_read_words(&hostile);
	main_set_signals(&hostile);
	main_rise(&hostile);
	hostile_serve(&hostile);
	main_end(&hostile);
	_exit(PROTO_EXIT_OK);
}
