/* SPDX-License-Identifier: Apache-2.0 */

/*
 * visit_take() hands out the visit's one request as often as visit_run() asks for it, and
 * has the engine's threads wait otherwise; visit_answer() keeps what the answer says. A loader
 * that is to end waits for no answer: the request is gone, as a client's would be. Once
 * it is_over all calls go straight on to the host.
 */
#include "loader/hosting/visit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loader/hosting/head.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/file.h"

#define VISIT_STATUS_MAX 399

struct visit {
	struct engine_host lent;
	const struct engine_host *host;
	atomic_bool is_over;
	int quit_fd;
	int answered; /* eventfd: the answer, or the engine's failure, is there */
	/* The file, and the request that lies in it. */
	char *text;
	size_t bytes;
	struct engine_request request;
	struct engine_field fields[PROTO_FIELDS_MAX];
	/* All that follows has this lock. */
	pthread_mutex_t lock;
	pthread_cond_t asked;
	bool is_asked;  /* nobody has taken the request yet */
	bool has_begun; /* the answer */
	bool has_ended;
	bool is_broken;
	bool is_gone;    /* the loader is to end */
	bool has_failed; /* the engine says that it cannot go on */
	unsigned int status;
	struct err why;
};

/* For the engine's threads */

static struct visit *visit_of(struct host *host)
{
	return (struct visit *)(void *)host;
}

static void visit_ring(int bell)
{
	const uint64_t one = 1;

	/* EAGAIN: the bell rings already. */
	(void)!write(bell, &one, sizeof(one));
}

static int visit_take(struct host *host, uint64_t until_ns,
                      struct engine_request **ret_request)
{
	struct visit *visit = visit_of(host);
	const struct timespec until = {
		.tv_sec = (time_t)(until_ns / CLOCK_NS_PER_SEC),
		.tv_nsec = (long)(until_ns % CLOCK_NS_PER_SEC),
	};
	bool is_mine;
	int r = 0;

	if (atomic_load(&visit->is_over))
		return visit->host->take(visit->host->host, until_ns, ret_request);
	(void)pthread_mutex_lock(&visit->lock);
	while (!visit->is_asked && !atomic_load(&visit->is_over) && until_ns > 0 &&
	       r != ETIMEDOUT)
		r = until_ns == UINT64_MAX
		            ? pthread_cond_wait(&visit->asked, &visit->lock)
		            : pthread_cond_timedwait(&visit->asked, &visit->lock, &until);
	is_mine = visit->is_asked;
	visit->is_asked = false;
	(void)pthread_mutex_unlock(&visit->lock);
	if (!is_mine && atomic_load(&visit->is_over))
		return visit->host->take(visit->host->host, until_ns, ret_request);
	*ret_request = is_mine ? &visit->request : NULL;
	return is_mine ? 0 : ENGINE_HOST_E_AGAIN;
}

static int visit_answer(struct host *host, struct engine_request *request,
                        const struct engine_part *part, struct err *err)
{
	struct visit *visit = visit_of(host);
	int r;

	if (request != &visit->request)
		return visit->host->answer(visit->host->host, request, part, err);
	(void)pthread_mutex_lock(&visit->lock);
	r = host_head_check(part, !visit->has_begun, err);
	if (r == 0 && visit->is_gone) {
		r = ENGINE_HOST_E_GONE;
	} else if (r == 0) {
		visit->is_broken |= visit->has_begun && (part->flags & ENGINE_PART_FAULT);
		if (!visit->has_begun)
			visit->status = part->status;
		visit->has_begun = true;
		visit->has_ended = part->flags & ENGINE_PART_LAST;
		visit_ring(visit->answered);
	}
	(void)pthread_mutex_unlock(&visit->lock);
	return r;
}

static bool visit_is_gone(struct host *host, const struct engine_request *request)
{
	struct visit *visit = visit_of(host);
	bool is_gone;

	if (request != &visit->request)
		return visit->host->is_gone(visit->host->host, request);
	(void)pthread_mutex_lock(&visit->lock);
	is_gone = visit->is_gone;
	(void)pthread_mutex_unlock(&visit->lock);
	return is_gone;
}

static void visit_fail(struct host *host, const char *why)
{
	struct visit *visit = visit_of(host);

	(void)pthread_mutex_lock(&visit->lock);
	visit->has_failed = true;
	(void)err_set(&visit->why, 0, "%s", why);
	visit_ring(visit->answered);
	(void)pthread_mutex_unlock(&visit->lock);
	visit->host->fail(visit->host->host, why);
}

/* For the loader */

/* Waits for news of the answer without the lock, which is held before and after. False: the loader
 * is to end. */
static bool visit_wait(struct visit *visit)
{
	struct pollfd pollfds[] = {
		{ .fd = visit->answered, .events = POLLIN },
		{ .fd = visit->quit_fd, .events = POLLIN },
	};
	uint64_t rings;

	(void)pthread_mutex_unlock(&visit->lock);
	(void)poll(pollfds, 2, -1);
	(void)!read(visit->answered, &rings, sizeof(rings));
	(void)pthread_mutex_lock(&visit->lock);
	return pollfds[1].revents == 0;
}

static int visit_judge(const struct visit *visit, struct err *err)
{
	const struct engine_text *method = &visit->request.method;
	const struct engine_text *target = &visit->request.target;

	if (visit->is_gone)
		return err_set(
			err, ENGINE_E_FAILED,
			"warm-up request: the loader was to end before the answer");
	if (visit->has_failed)
		return err_set(err, ENGINE_E_MODEL, "warm-up request: %s",
		               visit->why.text);
	if (visit->is_broken)
		return err_set(err, ENGINE_E_MODEL,
		               "warm-up request: %.*s %.*s: the answer was broken off",
		               (int)method->bytes, method->data, (int)target->bytes,
		               target->data);
	if (visit->status > VISIT_STATUS_MAX)
		return err_set(err, ENGINE_E_MODEL,
		               "warm-up request: %.*s %.*s was answered with status %u, "
		               "and must be with one below 400",
		               (int)method->bytes, method->data, (int)target->bytes,
		               target->data, visit->status);
	return 0;
}

static int visit_once(struct visit *visit, struct err *err)
{
	int r;

	(void)pthread_mutex_lock(&visit->lock);
	visit->is_asked = true;
	visit->has_begun = visit->has_ended = visit->is_broken = false;
	(void)pthread_cond_signal(&visit->asked);
	visit_ring(visit->lent.bell);
	/* The supervisor ends a loader that takes too long (warmup_timeout). */
	while (!visit->has_ended && !visit->has_failed && !visit->is_gone)
		visit->is_gone = !visit_wait(visit);
	r = visit_judge(visit, err);
	(void)pthread_mutex_unlock(&visit->lock);
	return r;
}

int visit_run(struct visit *visit, uint32_t n_runs, struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < n_runs; i++)
		r = visit_once(visit, err);
	atomic_store(&visit->is_over, true);
	(void)pthread_mutex_lock(&visit->lock);
	(void)pthread_cond_broadcast(&visit->asked);
	(void)pthread_mutex_unlock(&visit->lock);
	visit_ring(visit->lent.bell);
	return r;
}

/* The file */

static int visit_read(struct visit *visit, const struct model_config *config,
                      struct err *err)
{
	const char *path = config->warmup_request;
	CLOSE_FD int fd = -1;
	unsigned int wrong;
	int r = model_config_open_warmup(config, &fd, &visit->bytes, err);

	if (r)
		return r;
	visit->text = malloc(visit->bytes);
	if (!visit->text)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	if (file_read_at(fd, visit->text, visit->bytes, 0) != (ssize_t)visit->bytes)
		return err_set(err, ENGINE_E_CONFIG,
		               "cannot read warmup_request '%s' whole", path);
	wrong = host_head_parse(&visit->request, visit->fields, visit->text,
	                        visit->bytes);
	if (wrong)
		return err_set(
			err, ENGINE_E_CONFIG,
			"warmup_request '%s', line %u: a request begins with a line "
			"such as POST /path, then come lines such as Content-Type: "
			"text/plain, an empty line, and the body",
			path, wrong);
	return 0;
}

static void visit_init_lock(struct visit *visit)
{
	pthread_condattr_t attributes;

	(void)pthread_mutex_init(&visit->lock, NULL);
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&visit->asked, &attributes);
	(void)pthread_condattr_destroy(&attributes);
}

int visit_new(struct visit **ret_visit, const struct engine_host *host,
              const struct model_config *config, int quit_fd, struct err *err)
{
	struct visit *visit;

	*ret_visit = NULL;
	if (!config->warmup_request)
		return 0;
	visit = *ret_visit = calloc(1, sizeof(*visit));
	if (!visit)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	visit_init_lock(visit);
	visit->quit_fd = quit_fd;
	visit->answered = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	visit->host = host;
	visit->lent = *host;
	visit->lent.host = (struct host *)(void *)visit;
	visit->lent.take = visit_take;
	visit->lent.answer = visit_answer;
	visit->lent.is_gone = visit_is_gone;
	visit->lent.fail = visit_fail;
	if (visit->answered < 0)
		return err_set(err, ENGINE_E_FAILED, "no eventfd: %s", strerror(errno));
	return visit_read(visit, config, err);
}

void visit_free(struct visit *visit)
{
	if (!visit)
		return;
	close_fd(&visit->answered);
	free(visit->text);
	free(visit);
}

const struct engine_host *visit_lend(const struct visit *visit)
{
	return &visit->lent;
}
