/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The life of the helper moult-nvml, and the questions that it is asked.
 *
 * One question is under way at a time. nvml_ask() sends it, nvml_read() takes the
 * report and swaps it in whole if nvml_is_sound() accepts it. as_of_ns is the time of
 * the question, not of the answer: no figure is older than that.
 * nvml_look_for_silence() logs a late helper, then kills it; nvml_on_exit() starts the
 * next one after a delay that doubles. Only nvml_wait() polls, for a bounded time and
 * for decisions that need a figure of now; everybody else reads the last report.
 */

#include "supervisor/devices/nvml.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"

#define NVML_AGAIN_S     1.
#define NVML_AGAIN_MAX_S 60.
/* A helper that lasted this long did not die of its start. */
#define NVML_LASTING_NS (60 * CLOCK_NS_PER_SEC)
#define NVML_GLANCE_NS  (100 * CLOCK_NS_PER_MS)
/* A question without an answer is logged after the first time, and the helper is killed
 * after the second. A helper in the kernel for good stays there, and no other is
 * started. The first report may take longer: the driver starts cards that nobody else
 * has open. */
#define NVML_SILENT_NS       (1 * CLOCK_NS_PER_SEC)
#define NVML_STUCK_NS        (30 * CLOCK_NS_PER_SEC)
#define NVML_START_SILENT_NS (NVML_START_MS * CLOCK_NS_PER_MS)
#define NVML_START_STUCK_NS  (300 * CLOCK_NS_PER_SEC)

static void nvml_close(struct nvml *nvml)
{
	if (nvml->fd < 0)
		return;
	ev_io_stop(nvml->loop, &nvml->io);
	ev_timer_stop(nvml->loop, &nvml->tick);
	close_fd(&nvml->fd);
	nvml->is_asking = false;
}

/* Logs once whether there is a driver, and again after a change. */
static void nvml_say(struct nvml *nvml)
{
	if (nvml->said == nvml->state)
		return;
	nvml->said = nvml->state;
	if (nvml->state == NVML_ABSENT)
		log_event(LOG_LEVEL_WARNING, "gpu_unknown",
		          "reason=%s action=\"deciding by budgets alone; install the "
		          "driver's libnvidia-ml.so.1 for more\"",
		          LOG_QUOTED(nvml->report->why));
	else
		log_event(LOG_LEVEL_NOTICE, "gpu", "cards=%u driver=%s first=%s",
		          nvml->report->n_cards, LOG_QUOTED(nvml->report->driver),
		          nvml->report->cards[0].uuid);
}

static bool nvml_is_uuid(const char *text)
{
	size_t n = strnlen(text, NVML_UUID_BYTES);

	return n < NVML_UUID_BYTES &&
	       strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	                    "0123456789-") == n;
}

/* True: a packet of @bytes may be taken for the report that is due. */
static bool nvml_is_sound(const struct nvml *nvml, const struct nvml_report *report,
                          size_t bytes)
{
	if (bytes < nvml_report_bytes(0) || report->n_cards > NVML_CARDS_MAX ||
	    bytes != nvml_report_bytes(report->n_cards) || !nvml->is_asking ||
	    report->number != nvml->awaited || report->n_xids > NVML_XIDS_MAX ||
	    (report->is_open && report->n_cards == 0))
		return false;
	for (unsigned int i = 0; i < report->n_xids; i++)
		if (report->xids[i].card >= report->n_cards)
			return false;
	for (unsigned int i = 0; i < report->n_cards; i++)
		if (!nvml_is_uuid(report->cards[i].uuid) ||
		    report->cards[i].n_processes > NVML_PROCESSES_MAX)
			return false;
	return memchr(report->driver, '\0', sizeof(report->driver)) &&
	       memchr(report->why, '\0', sizeof(report->why));
}

static void nvml_note_errors(struct nvml *nvml)
{
	const struct nvml_report *report = nvml->report;

	for (unsigned int i = 0; i < report->n_xids; i++) {
		const char *uuid = report->cards[report->xids[i].card].uuid;
		struct nvml_errors *errors = nvml->errors;
		struct nvml_errors *end = nvml->errors + NVML_CARDS_MAX;

		while (errors < end && errors->uuid[0] && strcmp(errors->uuid, uuid) != 0)
			errors++;
		log_event(LOG_LEVEL_WARNING, "gpu_xid", "uuid=%s xid=%u", uuid,
		          report->xids[i].xid);
		if (errors == end)
			continue;
		(void)snprintf(errors->uuid, sizeof(errors->uuid), "%s", uuid);
		errors->count++;
		errors->last_xid = report->xids[i].xid;
		errors->last_ns = clock_now_ns();
	}
}

static bool nvml_sees_a_card(const struct nvml_report *report)
{
	for (unsigned int i = 0; i < report->n_cards; i++)
		if (!report->cards[i].is_lost)
			return true;
	return false;
}

static void nvml_on_report(struct nvml *nvml)
{
	nvml->is_asking = nvml->is_late = false;
	if (nvml->report->is_open)
		nvml->as_of_ns = nvml->asked_ns;
	else
		nvml->state = NVML_ABSENT;
	if (nvml_sees_a_card(nvml->report) &&
	    clock_now_ns() - nvml->spawned_ns >= NVML_LASTING_NS)
		nvml->again_s = NVML_AGAIN_S;
	if (nvml->is_silent)
		log_event(LOG_LEVEL_NOTICE, "gpu_answers", "after_ms=%.0f",
		          clock_ns_to_ms(clock_now_ns() - nvml->asked_ns));
	nvml->is_silent = false;
	nvml_say(nvml);
	nvml_note_errors(nvml);
}

/* Kills a helper that broke the protocol; its exit brings another. */
static void nvml_reject(struct nvml *nvml, ssize_t bytes)
{
	log_event(LOG_LEVEL_ERR, "gpu_helper_garbage",
	          "bytes=%zd awaited=%llu action=\"killing it\"", bytes,
	          (unsigned long long)nvml->awaited);
	nvml->as_of_ns = 0;
	child_signal(&nvml->child, SIGKILL);
	nvml_close(nvml);
}

/* Takes one packet, if one has come. */
static void nvml_read(struct nvml *nvml)
{
	ssize_t n = nvml->fd < 0 ? 0
	                         : recv(nvml->fd, nvml->incoming, sizeof(*nvml->incoming),
	                                MSG_DONTWAIT | MSG_TRUNC);

	if (n > 0 && nvml_is_sound(nvml, nvml->incoming, (size_t)n)) {
		struct nvml_report *fresh = nvml->incoming;

		nvml->incoming = nvml->report;
		nvml->report = fresh;
		nvml_on_report(nvml);
	} else if (n > 0) {
		nvml_reject(nvml, n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		/* A helper that lives on without its socket is of no use. */
		child_signal(&nvml->child, SIGKILL);
		nvml_close(nvml);
	}
}

static void nvml_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)loop;
	(void)revents;
	nvml_read(io->data);
}

static void nvml_on_line(void *context, const char *line)
{
	(void)context;
	log_event(LOG_LEVEL_INFO, "gpu_helper", "line=%s", LOG_QUOTED(line));
}

static void nvml_try_later(struct nvml *nvml)
{
	if (nvml->state == NVML_ABSENT)
		nvml->again_s = NVML_AGAIN_MAX_S;
	else
		nvml->state = NVML_DEAD;
	nvml->as_of_ns = 0;
	ev_timer_set(&nvml->again, nvml->again_s, 0.);
	ev_timer_start(nvml->loop, &nvml->again);
	nvml->again_s *= 2;
	if (nvml->again_s > NVML_AGAIN_MAX_S)
		nvml->again_s = NVML_AGAIN_MAX_S;
}

static void nvml_on_exit(void *context, int status)
{
	struct nvml *nvml = context;
	char text[64];

	/* The last report may say why it ended. */
	if (nvml->fd >= 0)
		nvml_read(nvml);
	nvml_close(nvml);
	if (nvml->state != NVML_ABSENT)
		log_event(LOG_LEVEL_WARNING, "gpu_helper_exit",
		          "status=%s action=\"starting another\" again_s=%.0f",
		          LOG_QUOTED(child_describe(status, text, sizeof(text))),
		          nvml->again_s);
	nvml_try_later(nvml);
}

static int nvml_spawn(struct nvml *nvml, struct err *err)
{
	char *argv[] = { NULL, NULL };
	FREE char *program = strdup(nvml->program);
	CLOSE_FD int ours = -1;
	CLOSE_FD int theirs = -1;
	int fds[2];
	int r;

	if (!program)
		return err_set(err, -ENOMEM, "out of memory");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_set(err, -errno, "no socket: %s", strerror(errno));
	ours = fds[0];
	theirs = fds[1];
	argv[0] = program;
	r = child_spawn(&nvml->child, nvml->loop, argv, NULL, theirs, &nvml->listener,
	                err);
	if (r < 0)
		return r;
	nvml->fd = take_fd(&ours);
	return 0;
}

static void nvml_spawn_or_later(struct nvml *nvml)
{
	struct err err = ERR_NULL;

	if (nvml_spawn(nvml, &err) < 0) {
		log_event(LOG_LEVEL_ERR, "gpu_helper_failed", "reason=%s",
		          LOG_QUOTED(err.text));
		nvml_try_later(nvml);
		return;
	}
	nvml->state = NVML_UP;
	/* The first report comes unasked. */
	nvml->is_asking = true;
	nvml->is_late = nvml->is_silent = false;
	nvml->awaited = 0;
	nvml->spawned_ns = nvml->asked_ns = clock_now_ns();
	ev_timer_again(nvml->loop, &nvml->tick);
	ev_io_init(&nvml->io, nvml_on_io, nvml->fd, EV_READ);
	nvml->io.data = nvml;
	ev_io_start(nvml->loop, &nvml->io);
}

static void nvml_on_again(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	nvml_spawn_or_later(timer->data);
}

static void nvml_on_tick(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	nvml_ask(timer->data);
}

void nvml_init(struct nvml *nvml, struct ev_loop *loop, const char *program)
{
	*nvml = (struct nvml){ .loop = loop,
		               .program = program,
		               .fd = -1,
		               .child = { .pidfd = -1 },
		               .again_s = NVML_AGAIN_S };
	nvml->listener = (struct child_listener){ .on_exit = nvml_on_exit,
		                                  .on_line = nvml_on_line,
		                                  .context = nvml };
	ev_timer_init(&nvml->again, nvml_on_again, 0., 0.);
	nvml->again.data = nvml;
	ev_timer_init(&nvml->tick, nvml_on_tick, NVML_TICK_S, NVML_TICK_S);
	nvml->tick.data = nvml;
}

void nvml_fini(struct nvml *nvml)
{
	if (!nvml->loop)
		return;
	ev_timer_stop(nvml->loop, &nvml->again);
	nvml_close(nvml);
	child_fini(&nvml->child);
	free(nvml->report);
	free(nvml->incoming);
	nvml->report = nvml->incoming = NULL;
}

int nvml_start(struct nvml *nvml)
{
	if (nvml->state != NVML_OFF)
		return 0;
	if (!nvml->report)
		nvml->report = calloc(1, sizeof(*nvml->report));
	if (!nvml->incoming)
		nvml->incoming = calloc(1, sizeof(*nvml->incoming));
	if (!nvml->report || !nvml->incoming)
		return -ENOMEM;
	nvml_spawn_or_later(nvml);
	return 0;
}

static void nvml_look_for_silence(struct nvml *nvml)
{
	uint64_t silent_ns = clock_now_ns() - nvml->asked_ns;
	bool is_starting = nvml->awaited == 0;

	/* The report may lie unread because moultd itself was stopped. */
	if (silent_ns >= NVML_SILENT_NS)
		nvml_read(nvml);
	if (!nvml->is_asking)
		return;
	if (silent_ns >= (is_starting ? NVML_START_STUCK_NS : NVML_STUCK_NS))
		child_signal(&nvml->child, SIGKILL);
	if (silent_ns < (is_starting ? NVML_START_SILENT_NS : NVML_SILENT_NS) ||
	    nvml->is_silent)
		return;
	nvml->is_silent = true;
	log_event(LOG_LEVEL_WARNING, "gpu_silent",
	          "since_ms=%.0f action=\"going on without its figures\"",
	          clock_ns_to_ms(silent_ns));
}

void nvml_want(struct nvml *nvml, const char *uuid)
{
	size_t i = 0;

	while (i < NVML_CARDS_MAX && nvml->wanted[i][0] &&
	       strcmp(nvml->wanted[i], uuid) != 0)
		i++;
	if (i == NVML_CARDS_MAX || nvml->wanted[i][0])
		return;
	(void)snprintf(nvml->wanted[i], sizeof(nvml->wanted[i]), "%s", uuid);
	/* The last report was asked for without this card. */
	nvml_note_change(nvml);
}

/* Set of the places of wanted cards. */
static uint64_t nvml_wanted_cards(const struct nvml *nvml)
{
	uint64_t cards = 0;

	for (unsigned int i = 0; i < nvml->report->n_cards; i++)
		for (size_t j = 0; j < NVML_CARDS_MAX && nvml->wanted[j][0]; j++)
			if (strcmp(nvml->report->cards[i].uuid, nvml->wanted[j]) == 0)
				cards |= UINT64_C(1) << i;
	return cards;
}

void nvml_ask(struct nvml *nvml)
{
	struct nvml_question question = { .number = nvml->n_asked + 1 };
	uint64_t asked_ns;

	if (nvml->state == NVML_UP && nvml->is_asking)
		nvml_look_for_silence(nvml);
	if (nvml->state != NVML_UP || nvml->fd < 0 || nvml->is_asking)
		return;
	question.cards = nvml_wanted_cards(nvml);
	/* Taken before sending, so that no figure of the report is older. */
	asked_ns = clock_now_ns();
	if (send(nvml->fd, &question, sizeof(question), MSG_DONTWAIT | MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(question))
		return; /* the helper is dying; nvml_on_exit() follows */
	nvml->asked_ns = asked_ns;
	nvml->n_asked = nvml->awaited = question.number;
	nvml->is_asking = true;
}

void nvml_glance(struct nvml *nvml)
{
	if (clock_now_ns() - nvml->asked_ns >= NVML_GLANCE_NS)
		nvml_ask(nvml);
}

/* Waits until a report of @since_ns or later is there, @wait_ms at most. */
static bool nvml_wait(struct nvml *nvml, uint64_t since_ns, unsigned int wait_ms)
{
	uint64_t end_ns = clock_now_ns() + wait_ms * CLOCK_NS_PER_MS;

	while (nvml->state == NVML_UP && nvml->fd >= 0 &&
	       (nvml->as_of_ns == 0 || nvml->as_of_ns < since_ns)) {
		struct pollfd pollfd = { .fd = nvml->fd, .events = POLLIN };
		uint64_t now_ns = clock_now_ns();

		nvml_ask(nvml);
		if (now_ns >= end_ns || nvml->fd < 0 || nvml->is_silent ||
		    nvml->is_late) {
			nvml->is_late = true;
			return false;
		}
		if (poll(&pollfd, 1, (int)((end_ns - now_ns) / CLOCK_NS_PER_MS) + 1) > 0)
			nvml_read(nvml);
	}
	return nvml->as_of_ns != 0 && nvml->as_of_ns >= since_ns;
}

void nvml_wait_start(struct nvml *nvml)
{
	if (nvml->state == NVML_UP)
		(void)nvml_wait(nvml, 0, NVML_START_MS);
}

void nvml_note_change(struct nvml *nvml)
{
	nvml->fresh_iteration = 0;
}

bool nvml_refresh(struct nvml *nvml)
{
	/* A round of the loop counts as one moment, unless nvml_note_change() was
	 * called: a loader may go a long way in one round. */
	if (nvml->as_of_ns != 0 && nvml->fresh_iteration == ev_iteration(nvml->loop) + 1)
		return true;
	if (!nvml_wait(nvml, clock_now_ns(), NVML_WAIT_MS))
		return false;
	nvml->fresh_iteration = ev_iteration(nvml->loop) + 1;
	return true;
}

const struct nvml_card *nvml_card(const struct nvml *nvml, const char *uuid,
                                  uint64_t since_ns)
{
	if (nvml->as_of_ns == 0 || nvml->as_of_ns < since_ns)
		return NULL;
	for (unsigned int i = 0; i < nvml->report->n_cards; i++)
		if (strcmp(nvml->report->cards[i].uuid, uuid) == 0)
			return nvml->report->cards[i].is_lost ? NULL
			                                      : &nvml->report->cards[i];
	return NULL;
}

const char *nvml_uuid(const struct nvml *nvml, unsigned int index)
{
	if (nvml->as_of_ns == 0 || index >= nvml->report->n_cards ||
	    nvml->report->cards[index].uuid[0] == '\0')
		return NULL;
	return nvml->report->cards[index].uuid;
}

const struct nvml_errors *nvml_errors(const struct nvml *nvml, const char *uuid)
{
	for (size_t i = 0; i < NVML_CARDS_MAX && nvml->errors[i].uuid[0]; i++)
		if (strcmp(nvml->errors[i].uuid, uuid) == 0)
			return &nvml->errors[i];
	return NULL;
}

bool nvml_card_process(const struct nvml_card *card, pid_t pid, uint64_t *ret_bytes)
{
	bool is_listed = false;

	/* A process with several contexts may be listed more than once. */
	for (unsigned int i = 0; i < card->n_processes; i++) {
		uint64_t bytes = card->processes[i].bytes;

		if (card->processes[i].pid != pid)
			continue;
		*ret_bytes =
			is_listed && bytes != NVML_UNKNOWN ? *ret_bytes + bytes : bytes;
		is_listed = true;
	}
	return is_listed;
}
