/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A request's way: host_admit() (the lane's entry, its head read), the queue, host_take() (a
 * thread of the engine has it), host_answer() part by part, host_end_request(). It is freed when
 * it has ended and the supervisor has released all parts of its answer, because these are counted
 * in it.
 *
 * A request whose client has left while it waits is ended at once. One that a thread has is
 * marked gone: the thread learns it from its next answer, or from is_gone.
 *
 * Room for an answer is waited for without a deadline: a slow client is the supervisor's
 * business. One answer has at most HOST_PARTS parts under way, so that a stream nobody reads
 * leaves room for other answers.
 */
#include "loader/hosting/host.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "loader/oip/oip.h"
#include "loader/serve/children.h"
#include "loader/hosting/head.h"
#include "loader/serve/serve.h"
#include "shared/cleanup.h"
#include "shared/clock.h"

#define HOST_PARTS       8   /* of one answer that the supervisor has not released */
#define HOST_PIECE_PART  8   /* a body of more than this part of the arena is cut */
#define HOST_STATUS_GONE 499 /* for a client that is gone: nginx' number */
#define HOST_ERROR_BYTES ((size_t)1024)
#define HOST_SPARES_MAX  64 /* requests that have ended and are kept for the next ones */

struct host_request {
	struct engine_request
		request; /* first: an engine's pointer is this struct's, too */
	TAILQ_ENTRY(host_request) link;
	uint64_t lease;
	uint64_t taken_ns;
	struct lane_count count;
	bool is_taken; /* by a thread of the engine */
	bool is_gone;
	bool has_begun; /* the first part was sent */
	bool has_ended;
	struct engine_field fields[PROTO_FIELDS_MAX];
};

TAILQ_HEAD(host_list, host_request);

struct host {
	struct engine_host lent;
	struct lane *lane;
	int control_fd;
	pthread_mutex_t lock; /* guards all that follows, and the lane */
	pthread_cond_t requests;
	pthread_cond_t room;
	struct host_list waiting;
	struct host_list taken;
	struct host_list ended; /* parts of their answers are under way */
	struct host_list spares;
	size_t n_spares;
	bool wants_room; /* somebody was told AGAIN, or waits */
	bool is_over;
	int outcome; /* SERVE_E_*: ends host_run(); 0: go on */
	struct err why;
};

/* Bells */

static void host_ring(const struct host *host)
{
	const uint64_t one = 1;

	/* EAGAIN: the bell rings already. */
	(void)!write(host->lent.bell, &one, sizeof(one));
}

/* Ends host_run(), which some other thread is in. */
static void host_stop(struct host *host, int outcome, const char *why)
{
	if (host->outcome)
		return;
	host->outcome = outcome;
	(void)err_set(&host->why, 0, "%s", why);
	lane_nudge(host->lane);
}

/* Requests */

static struct host_request *host_request_new(struct host *host)
{
	struct host_request *request = TAILQ_FIRST(&host->spares);

	if (request) {
		TAILQ_REMOVE(&host->spares, request, link);
		host->n_spares--;
		return request;
	}
	return calloc(1, sizeof(*request));
}

static void host_request_free(struct host *host, struct host_request *request)
{
	if (host->n_spares == HOST_SPARES_MAX) {
		free(request);
		return;
	}
	TAILQ_INSERT_HEAD(&host->spares, request, link);
	host->n_spares++;
}

static void host_list_fini(struct host_list *list)
{
	struct host_request *request;

	while ((request = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, request, link);
		free(request);
	}
}

/* Frees those that have ended and have no part under way any more. */
static void host_sweep(struct host *host)
{
	struct host_request *next;

	for (struct host_request *request = TAILQ_FIRST(&host->ended); request;
	     request = next) {
		next = TAILQ_NEXT(request, link);
		if (request->count.n_parts > 0)
			continue;
		TAILQ_REMOVE(&host->ended, request, link);
		host_request_free(host, request);
	}
}

/* The lease has ended with a part that was published. */
static void host_end_request(struct host *host, struct host_request *request)
{
	request->has_ended = true;
	TAILQ_REMOVE(request->is_taken ? &host->taken : &host->waiting, request, link);
	TAILQ_INSERT_TAIL(&host->ended, request, link);
}

/* Publishing, with the lock held */

/* Takes back what the supervisor has released, and tells those who wait for room. 0 or
 * SERVE_E_VIOLATION. */
static int host_collect(struct host *host, struct err *err)
{
	uint32_t n_parts = host->lane->n_parts;

	if (lane_collect(host->lane, err))
		return SERVE_E_VIOLATION;
	if (host->lane->n_parts == n_parts)
		return 0;
	host_sweep(host);
	(void)pthread_cond_broadcast(&host->room);
	/* A request may wait behind one that could not be refused for want of room. */
	if (!TAILQ_EMPTY(&host->waiting))
		(void)pthread_cond_broadcast(&host->requests);
	if (host->wants_room)
		host_ring(host);
	host->wants_room = false;
	return 0;
}

/* Waits for room for a part of @request's answer; NULL: of one that has no other part under way.
 * 0, ENGINE_HOST_E_AGAIN or ENGINE_HOST_E_END. */
static int host_reserve(struct host *host, const struct host_request *request,
                        size_t bytes, bool may_wait, unsigned char **ret_memory)
{
	bool has_collected = false;

	for (;;) {
		struct err err = ERR_NULL;

		if ((!request || request->count.n_parts < HOST_PARTS) &&
		    lane_reserve(host->lane, bytes, ret_memory) == 0)
			return 0;
		if (host->is_over || host->outcome)
			return ENGINE_HOST_E_END;
		if (!has_collected) {
			has_collected = true;
			if (host_collect(host, &err))
				host_stop(host, SERVE_E_VIOLATION, err.text);
			continue;
		}
		/* The thread that serves sleeps through releases until somebody wants one. */
		if (!host->wants_room)
			lane_nudge(host->lane);
		host->wants_room = true;
		if (!may_wait)
			return ENGINE_HOST_E_AGAIN;
		(void)pthread_cond_wait(&host->room, &host->lock);
		has_collected = false;
	}
}

static void host_publish(struct host *host, struct host_request *request,
                         struct lane_answer *answer)
{
	struct err err = ERR_NULL;
	uint64_t now_ns = clock_now_ns();

	answer->lease = request->lease;
	answer->count = &request->count;
	if ((answer->flags & PROTO_ANSWER_LAST) && request->is_taken)
		answer->times = (struct lane_times){
			.is_execution = true,
			.rows = 1,
			.batch_rows = 1,
			.queue_ns = request->taken_ns - request->request.accepted_ns,
			.compute_ns = now_ns - request->taken_ns,
		};
	if (answer->flags & PROTO_ANSWER_FIRST)
		request->has_begun = true;
	if (lane_publish(host->lane, answer, &err)) {
		host_stop(host, SERVE_E_VIOLATION, err.text);
		return;
	}
	if (answer->flags & PROTO_ANSWER_LAST)
		host_end_request(host, request);
	lane_flush(host->lane);
}

/* Ends a request with a sentence of the loader's own, or where the answer has begun with
 * nothing more. 0, ENGINE_HOST_E_AGAIN or ENGINE_HOST_E_END. */
static int host_refuse(struct host *host, struct host_request *request, int status,
                       const char *text, bool may_wait)
{
	static const struct proto_text nothing = { "", 0 };
	const struct proto_field type = { proto_text_of("content-type"),
		                          proto_text_of("application/json") };
	struct lane_answer answer = {
		.flags = PROTO_ANSWER_LAST |
		         (request->has_begun ? PROTO_ANSWER_BROKEN : PROTO_ANSWER_FIRST),
	};
	int r = host_reserve(host, NULL, HOST_ERROR_BYTES, may_wait, &answer.memory);

	if (r)
		return r;
	if (!request->has_begun) {
		answer.status = (uint16_t)status;
		answer.head_bytes = proto_head_bytes(nothing, nothing, &type, 1);
		proto_head_write(answer.memory, nothing, nothing, &type, 1);
		answer.body_offset = answer.head_bytes;
		answer.body_bytes =
			oip_encode_error(text, answer.memory + answer.head_bytes,
		                         HOST_ERROR_BYTES - answer.head_bytes);
	}
	host_publish(host, request, &answer);
	return 0;
}

/* The lane's entries, with the lock held */

static int host_admit(struct host *host, const struct proto_submit *submit,
                      struct err *err)
{
	struct host_request *request = host_request_new(host);

	if (!request)
		return err_set(err, SERVE_E_VIOLATION, "out of memory for a request");
	memset(request, 0, offsetof(struct host_request, fields));
	request->lease = submit->lease;
	request->request = (struct engine_request){
		.fields = request->fields,
		.body = lane_request(host->lane, submit->body_offset),
		.body_bytes = submit->body_bytes,
		.accepted_ns = submit->accepted_ns,
		.deadline_ns = submit->deadline_ns,
	};
	if (host_head_read(&request->request, request->fields,
	                   lane_request(host->lane, submit->head_offset),
	                   submit->head_bytes) < 0) {
		free(request);
		return err_set(err, SERVE_E_VIOLATION,
		               "the head of a request cannot be read");
	}
	TAILQ_INSERT_TAIL(&host->waiting, request, link);
	return 0;
}

static void host_cancel(struct host *host, uint64_t lease)
{
	struct host_request *request;

	TAILQ_FOREACH (request, &host->waiting, link)
		if (request->lease == lease)
			break;
	if (request) {
		request->is_gone = true;
		/* Without room it is ended when a thread comes to it. */
		(void)host_refuse(host, request, HOST_STATUS_GONE,
		                  "the request was cancelled", false);
		return;
	}
	TAILQ_FOREACH (request, &host->taken, link)
		if (request->lease == lease)
			request->is_gone = true;
}

/* Takes all that has come. 0 or SERVE_E_*. */
static int host_look(struct host *host, struct err *err)
{
	struct proto_submit submit;
	bool has_news = false;
	int r;

	if (host_collect(host, err))
		return SERVE_E_VIOLATION;
	while ((r = lane_take(host->lane, &submit, err)) == 0) {
		has_news = true;
		if (submit.kind == PROTO_SUBMIT_CANCEL) {
			host_cancel(host, submit.lease);
			continue;
		}
		if (host_admit(host, &submit, err))
			return SERVE_E_VIOLATION;
		(void)pthread_cond_signal(&host->requests);
	}
	if (has_news)
		host_ring(host);
	return r == LANE_E_EMPTY ? 0 : SERVE_E_VIOLATION;
}

/* For the engine's threads */

static bool host_is_late(const struct host_request *request, uint64_t now_ns)
{
	return now_ns >= request->request.deadline_ns;
}

/* Takes the first request that somebody waits for, or returns NULL. */
static struct host_request *host_take_first(struct host *host)
{
	struct host_request *request;
	uint64_t now_ns = clock_now_ns();

	while ((request = TAILQ_FIRST(&host->waiting))) {
		if (request->is_gone || host_is_late(request, now_ns)) {
			bool is_gone = request->is_gone;

			if (host_refuse(host, request, is_gone ? HOST_STATUS_GONE : 504,
			                is_gone ? "the request was cancelled"
			                        : "the request's deadline passed before "
			                          "it was begun",
			                false))
				return NULL;
			continue;
		}
		TAILQ_REMOVE(&host->waiting, request, link);
		TAILQ_INSERT_TAIL(&host->taken, request, link);
		request->is_taken = true;
		request->taken_ns = now_ns;
		lane_begin(host->lane, request->lease);
		return request;
	}
	return NULL;
}

static int host_take(struct host *host, uint64_t until_ns,
                     struct engine_request **ret_request)
{
	const struct timespec until = {
		.tv_sec = (time_t)(until_ns / CLOCK_NS_PER_SEC),
		.tv_nsec = (long)(until_ns % CLOCK_NS_PER_SEC),
	};
	struct host_request *request;
	int r = 0;

	(void)pthread_mutex_lock(&host->lock);
	while (!(request = host_take_first(host)) && !host->is_over) {
		if (until_ns == 0 || r == ETIMEDOUT)
			break;
		r = until_ns == UINT64_MAX
		            ? pthread_cond_wait(&host->requests, &host->lock)
		            : pthread_cond_timedwait(&host->requests, &host->lock,
		                                     &until);
	}
	r = request ? 0 : host->is_over ? ENGINE_HOST_E_END : ENGINE_HOST_E_AGAIN;
	(void)pthread_mutex_unlock(&host->lock);
	*ret_request = request ? &request->request : NULL;
	return r;
}

/* Sends one piece, which is known to fit the arena. */
static int host_send_piece(struct host *host, struct host_request *request,
                           const struct engine_part *part, bool is_cut,
                           struct lane_answer *answer, const void *body)
{
	int r = host_reserve(host, request, answer->body_offset + answer->body_bytes,
	                     !(part->flags & ENGINE_PART_NOWAIT), &answer->memory);

	if (r)
		return r;
	if (answer->flags & PROTO_ANSWER_FIRST)
		host_head_write(part, is_cut, answer->memory);
	if (answer->body_bytes > 0)
		memcpy(answer->memory + answer->body_offset, body, answer->body_bytes);
	host_publish(host, request, answer);
	return 0;
}

/* Sends @part in as many pieces as it takes. The first alone may say AGAIN: from then on the
 * part has been begun, and room is waited for. */
static int host_send(struct host *host, struct host_request *request,
                     const struct engine_part *part)
{
	size_t most = host->lent.part_bytes;
	struct engine_part piece = *part;
	size_t sent = 0;
	int r = 0;

	do {
		struct lane_answer answer = { .flags = 0 };
		bool is_cut = part->body_bytes > most;

		if (!request->has_begun) {
			answer.flags = PROTO_ANSWER_FIRST;
			if (part->flags & ENGINE_PART_FAULT)
				answer.flags |= PROTO_ANSWER_FAULT;
			answer.status = (uint16_t)part->status;
			answer.head_bytes = host_head_bytes(part, is_cut);
		}
		answer.body_offset = answer.head_bytes;
		answer.body_bytes = part->body_bytes - sent;
		if (answer.body_bytes > most)
			answer.body_bytes = most;
		if (sent + answer.body_bytes == part->body_bytes &&
		    (part->flags & ENGINE_PART_LAST))
			answer.flags |= PROTO_ANSWER_LAST;
		r = host_send_piece(host, request, &piece, is_cut, &answer,
		                    (const char *)part->body + sent);
		piece.flags &= ~(unsigned int)ENGINE_PART_NOWAIT;
		sent += answer.body_bytes;
	} while (r == 0 && sent < part->body_bytes && !request->is_gone);
	return r;
}

static int host_answer(struct host *host, struct engine_request *taken,
                       const struct engine_part *part, struct err *err)
{
	struct host_request *request = (struct host_request *)taken;
	bool may_wait = !(part->flags & ENGINE_PART_NOWAIT);
	bool is_last = part->flags & ENGINE_PART_LAST;
	bool is_broken = request->has_begun && (part->flags & ENGINE_PART_FAULT);
	int r = host_head_check(part, !request->has_begun, err);

	if (r)
		return r;
	(void)pthread_mutex_lock(&host->lock);
	if (request->is_gone && !is_last)
		r = ENGINE_HOST_E_GONE;
	else if (request->is_gone || is_broken)
		r = host_refuse(host, request, HOST_STATUS_GONE,
		                "the request was cancelled", may_wait);
	else
		r = host_send(host, request, part);
	/* A part that lost its client half-way is ended here. */
	if (r == 0 && is_last && !request->has_ended)
		r = host_refuse(host, request, HOST_STATUS_GONE,
		                "the request was cancelled", true);
	if (r == ENGINE_HOST_E_END || (r == 0 && request->is_gone))
		r = ENGINE_HOST_E_GONE;
	(void)pthread_mutex_unlock(&host->lock);
	return r;
}

static bool host_is_gone(struct host *host, const struct engine_request *taken)
{
	const struct host_request *request = (const struct host_request *)taken;
	bool is_gone;

	(void)pthread_mutex_lock(&host->lock);
	is_gone = request->is_gone || host->is_over ||
	          host_is_late(request, clock_now_ns());
	(void)pthread_mutex_unlock(&host->lock);
	return is_gone;
}

static void host_fail(struct host *host, const char *why)
{
	(void)pthread_mutex_lock(&host->lock);
	host_stop(host, SERVE_E_BROKEN, why);
	(void)pthread_mutex_unlock(&host->lock);
}

/* For the loader */

static void host_init_lock(struct host *host)
{
	pthread_condattr_t attributes;

	(void)pthread_mutex_init(&host->lock, NULL);
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&host->requests, &attributes);
	(void)pthread_cond_init(&host->room, NULL);
	(void)pthread_condattr_destroy(&attributes);
}

int host_new(struct host **ret_host, struct lane *lane, int control_fd, struct err *err)
{
	struct host *host = calloc(1, sizeof(*host));

	*ret_host = host;
	if (!host)
		return err_set(err, -ENOMEM, "out of memory");
	TAILQ_INIT(&host->waiting);
	TAILQ_INIT(&host->taken);
	TAILQ_INIT(&host->ended);
	TAILQ_INIT(&host->spares);
	host->lane = lane;
	host->control_fd = control_fd;
	host_init_lock(host);
	host->lent = (struct engine_host){
		.host = host,
		.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.part_bytes = lane->answers.size_bytes / HOST_PIECE_PART,
		.take = host_take,
		.answer = host_answer,
		.is_gone = host_is_gone,
		.fail = host_fail,
	};
	return host->lent.bell < 0
	               ? err_set(err, -errno, "no eventfd: %s", strerror(errno))
	               : 0;
}

void host_free(struct host *host)
{
	if (!host)
		return;
	host_list_fini(&host->waiting);
	host_list_fini(&host->taken);
	host_list_fini(&host->ended);
	host_list_fini(&host->spares);
	close_fd(&host->lent.bell);
	free(host);
}

const struct engine_host *host_lend(const struct host *host)
{
	return &host->lent;
}

void host_end(struct host *host)
{
	(void)pthread_mutex_lock(&host->lock);
	host->is_over = true;
	(void)pthread_cond_broadcast(&host->requests);
	(void)pthread_cond_broadcast(&host->room);
	host_ring(host);
	(void)pthread_mutex_unlock(&host->lock);
}

/* Waits until the lane or the control channel has news, without the lock. 0 or
 * SERVE_E_CONTROL. */
static int host_wait(struct host *host, uint64_t until_ns)
{
	int r = 0;

	if (lane_doze(host->lane, host->wants_room ? LANE_WAKE_ANY : LANE_WAKE_REQUEST)) {
		(void)pthread_mutex_unlock(&host->lock);
		r = lane_block(host->lane, host->control_fd, until_ns);
		(void)pthread_mutex_lock(&host->lock);
	}
	lane_awake(host->lane);
	return r == LANE_E_CONTROL ? SERVE_E_CONTROL : 0;
}

int host_run(struct host *host, struct err *err)
{
	uint64_t look_ns = 0;
	int r = 0;

	(void)pthread_mutex_lock(&host->lock);
	while (r == 0) {
		if (clock_now_ns() >= look_ns) {
			children_reap();
			look_ns = clock_now_ns() + CHILDREN_LOOK_NS;
		}
		r = host_look(host, err);
		if (r == 0 && host->outcome) {
			*err = host->why;
			r = host->outcome;
		}
		if (r == 0)
			r = host_wait(host, look_ns);
	}
	(void)pthread_mutex_unlock(&host->lock);
	return r;
}
