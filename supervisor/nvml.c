/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/nvml.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"

#define NVML_AGAIN_S     1.
#define NVML_AGAIN_MAX_S 60.
/* A question without an answer: said after the first, the helper is replaced after the
 * second. One in the kernel for good stays there, and no other is started. */
#define NVML_SILENT_NS (1 * CLOCK_NS_PER_SEC)
#define NVML_STUCK_NS  (30 * CLOCK_NS_PER_SEC)

static void nvml_close(struct nvml *nvml)
{
	if (nvml->fd < 0)
		return;
	ev_io_stop(nvml->loop, &nvml->io);
	close_fd(&nvml->fd);
	nvml->is_asking = false;
}

/* Once, and again when that has changed. */
static void nvml_say(struct nvml *nvml)
{
	if (nvml->has_said)
		return;
	nvml->has_said = true;
	if (nvml->state == NVML_ABSENT)
		log_event(LOG_LEVEL_WARNING, "gpu_unknown",
		          "reason=%s action=\"deciding by budgets alone\"",
		          LOG_QUOTED(nvml->report.why));
	else
		log_event(LOG_LEVEL_NOTICE, "gpu", "cards=%u driver=%s first=%s",
		          nvml->report.n_cards, LOG_QUOTED(nvml->report.driver),
		          nvml->report.cards[0].uuid);
}

static void nvml_on_report(struct nvml *nvml)
{
	struct nvml_report *report = &nvml->report;

	report->driver[sizeof(report->driver) - 1] = '\0';
	report->why[sizeof(report->why) - 1] = '\0';
	if (report->n_cards > NVML_CARDS_MAX)
		report->n_cards = NVML_CARDS_MAX;
	for (unsigned int i = 0; i < report->n_cards; i++) {
		struct nvml_card *card = &report->cards[i];

		card->uuid[NVML_UUID_BYTES - 1] = '\0';
		if (card->n_processes > NVML_PROCESSES_MAX)
			card->n_processes = NVML_PROCESSES_MAX;
	}
	if (!report->is_open) {
		nvml->state = NVML_ABSENT;
	} else {
		nvml->as_of_ns = nvml->asked_ns;
		nvml->again_s = NVML_AGAIN_S;
	}
	nvml->is_asking = false;
	if (nvml->is_silent)
		log_event(LOG_LEVEL_NOTICE, "gpu_answers", "after_ms=%.0f",
		          clock_ns_to_ms(clock_now_ns() - nvml->asked_ns));
	nvml->is_silent = false;
	nvml_say(nvml);
}

/* Reads what has come. */
static void nvml_read(struct nvml *nvml)
{
	ssize_t n = nvml->fd < 0 ? 0
	                         : recv(nvml->fd, &nvml->report, sizeof(nvml->report),
	                                MSG_DONTWAIT);

	if (n == (ssize_t)sizeof(nvml->report))
		nvml_on_report(nvml);
	else if (n >= 0 || (errno != EAGAIN && errno != EINTR))
		nvml_close(nvml); /* its exit tells the rest */
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

	/* Its last report may say why. */
	if (nvml->fd >= 0)
		nvml_read(nvml);
	nvml_close(nvml);
	if (nvml->state == NVML_ABSENT)
		return;
	log_event(LOG_LEVEL_WARNING, "gpu_helper_exit",
	          "status=%s action=\"starting another\" again_s=%.0f",
	          LOG_QUOTED(child_describe(status, text, sizeof(text))), nvml->again_s);
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
	r = child_spawn(&nvml->child, nvml->loop, argv, theirs, &nvml->listener, err);
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
	nvml->asked_ns = clock_now_ns();
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

void nvml_init(struct nvml *nvml, struct ev_loop *loop, const char *program)
{
	*nvml = (struct nvml){ .loop = loop,
		               .program = program,
		               .fd = -1,
		               .child = { .pidfd = -1, .log_fd = -1 },
		               .again_s = NVML_AGAIN_S };
	nvml->listener = (struct child_listener){ .on_exit = nvml_on_exit,
		                                  .on_line = nvml_on_line,
		                                  .context = nvml };
	ev_timer_init(&nvml->again, nvml_on_again, 0., 0.);
	nvml->again.data = nvml;
}

void nvml_fini(struct nvml *nvml)
{
	if (!nvml->loop)
		return;
	ev_timer_stop(nvml->loop, &nvml->again);
	nvml_close(nvml);
	child_fini(&nvml->child);
}

void nvml_start(struct nvml *nvml)
{
	if (nvml->state == NVML_OFF)
		nvml_spawn_or_later(nvml);
}

static void nvml_look_for_silence(struct nvml *nvml)
{
	uint64_t silent_ns = clock_now_ns() - nvml->asked_ns;

	if (silent_ns >= NVML_STUCK_NS)
		child_signal(&nvml->child, SIGKILL);
	if (silent_ns < NVML_SILENT_NS || nvml->is_silent)
		return;
	nvml->is_silent = true;
	log_event(LOG_LEVEL_WARNING, "gpu_silent",
	          "since_ms=%.0f action=\"going on without its figures\"",
	          clock_ns_to_ms(silent_ns));
}

void nvml_ask(struct nvml *nvml)
{
	struct nvml_question question = { .number = nvml->n_asked + 1 };

	if (nvml->state != NVML_UP || nvml->fd < 0)
		return;
	if (nvml->is_asking) {
		nvml_look_for_silence(nvml);
		return;
	}
	if (send(nvml->fd, &question, sizeof(question), MSG_DONTWAIT | MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(question))
		return; /* it is dying, and its exit is told */
	nvml->n_asked = question.number;
	nvml->is_asking = true;
	nvml->asked_ns = clock_now_ns();
}

/* Until a report of @since_ns or later is there. */
static bool nvml_wait(struct nvml *nvml, uint64_t since_ns, unsigned int wait_ms)
{
	uint64_t end_ns = clock_now_ns() + wait_ms * CLOCK_NS_PER_MS;

	while (nvml->state == NVML_UP && nvml->fd >= 0 &&
	       (nvml->as_of_ns == 0 || nvml->as_of_ns < since_ns)) {
		struct pollfd pollfd = { .fd = nvml->fd, .events = POLLIN };
		uint64_t now_ns = clock_now_ns();

		nvml_ask(nvml);
		if (now_ns >= end_ns || nvml->is_silent)
			return false;
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

bool nvml_refresh(struct nvml *nvml)
{
	return nvml_wait(nvml, clock_now_ns(), NVML_WAIT_MS);
}

const struct nvml_card *nvml_card(const struct nvml *nvml, const char *uuid,
                                  uint64_t since_ns)
{
	if (nvml->as_of_ns == 0 || nvml->as_of_ns < since_ns)
		return NULL;
	for (unsigned int i = 0; i < nvml->report.n_cards; i++)
		if (strcmp(nvml->report.cards[i].uuid, uuid) == 0)
			return nvml->report.cards[i].is_lost ? NULL
			                                     : &nvml->report.cards[i];
	return NULL;
}

const char *nvml_uuid(const struct nvml *nvml, unsigned int index)
{
	if (nvml->as_of_ns == 0 || index >= nvml->report.n_cards ||
	    nvml->report.cards[index].uuid[0] == '\0')
		return NULL;
	return nvml->report.cards[index].uuid;
}

bool nvml_card_process(const struct nvml_card *card, pid_t pid, uint64_t *ret_bytes)
{
	for (unsigned int i = 0; i < card->n_processes; i++) {
		if (card->processes[i].pid != pid)
			continue;
		*ret_bytes = card->processes[i].bytes;
		return true;
	}
	return false;
}
