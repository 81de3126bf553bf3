/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The thread that decodes. The serving thread puts requests into a queue (decoder_give()); the
 * decoding thread takes the oldest one into a free slot, decodes it without the lock, and
 * rings the lane's bell. decoder_take() exchanges the slot's request for a spent one, so that
 * bodies move by pointer. A slot is BUSY for the decoding thread alone, FREE and DONE for
 * whoever holds the lock. With no free slot the queue waits: that bounds the memory.
 */
#include "loader/serve/decoder.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "loader/serve/backlog.h"
#include "shared/clock.h"

/* So much JSON is decoded in a millisecond or two; the serving thread does that itself. */
#define DECODER_JSON_BYTES ((size_t)256 * 1024)
/* A compressed byte may become a hundred; most become ten. */
#define DECODER_PACKED_BYTES ((size_t)4096)

enum decoder_state {
	DECODER_FREE,
	DECODER_BUSY, /* being decoded */
	DECODER_DONE,
};

struct decoder_slot {
	struct decoder_request *request;
	enum decoder_state state;
	uint64_t number; /* DONE slots are taken in this order */
};

struct decoder {
	struct lane *lane;
	const struct oip_model *model;
	pthread_t thread;
	bool has_thread;
	size_t n_given; /* requests given and not taken yet */

	/* Under the lock, for both threads. */
	pthread_mutex_t lock;
	pthread_cond_t wake; /* the decoding thread has something to do */
	bool is_ending;
	struct backlog queue;
	uint64_t n_decoded;
	struct decoder_slot slots[DECODER_SLOTS];
};

static struct decoder_slot *decoder_slot_in(struct decoder *decoder,
                                            enum decoder_state state)
{
	struct decoder_slot *found = NULL;

	for (size_t i = 0; i < DECODER_SLOTS; i++) {
		struct decoder_slot *slot = &decoder->slots[i];

		if (slot->state == state && (!found || slot->number < found->number))
			found = slot;
	}
	return found;
}

void decoder_decode(const struct lane *lane, const struct oip_model *model,
                    struct decoder_request *request)
{
	const struct proto_submit *submit = &request->submit;
	const uint64_t began_ns = clock_now_ns();
	struct proto_head head;

	request->err.text[0] = '\0';
	request->status = 0;
	if (began_ns >= submit->deadline_ns)
		request->status = err_set(&request->err, 504, "%s", DECODER_LATE);
	else if (proto_head_read(&head, lane_request(lane, submit->head_offset),
	                         submit->head_bytes) < 0)
		request->status = err_set(&request->err, -EBADMSG,
		                          "a request has a malformed head");
	else
		request->status = oip_decode(&request->request, model, &head,
		                             lane_request(lane, submit->body_offset),
		                             submit->body_bytes, &request->err);
	request->decode_ns = clock_now_ns() - began_ns;
}

bool decoder_is_late(const struct decoder_request *request)
{
	const uint64_t now_ns = clock_now_ns();
	const uint64_t timeout_ns = request->request.timeout_ns;

	/* The supervisor looks for the parameter only where that is cheap. */
	return now_ns >= request->submit.deadline_ns ||
	       (timeout_ns > 0 && now_ns - request->submit.accepted_ns >= timeout_ns);
}

struct decoder_request *decoder_request_new(void)
{
	struct decoder_request *request = calloc(1, sizeof(*request));

	if (request)
		oip_request_init(&request->request);
	return request;
}

void decoder_request_free(struct decoder_request *request)
{
	if (request)
		oip_request_fini(&request->request);
	free(request);
}

/* The thread */

/* Decodes @slot's request, which came from the queue. Called with the lock held, and without it while
 * decoding. */
static void decoder_run(struct decoder *decoder, struct decoder_slot *slot)
{
	slot->state = DECODER_BUSY;
	(void)pthread_mutex_unlock(&decoder->lock);
	decoder_decode(decoder->lane, decoder->model, slot->request);
	(void)pthread_mutex_lock(&decoder->lock);
	slot->state = DECODER_DONE;
	slot->number = decoder->n_decoded++;
	/* The serving thread may be blocked in lane_wait(). */
	lane_progress(decoder->lane);
	lane_nudge(decoder->lane);
}

static void *decoder_thread(void *context)
{
	struct decoder *decoder = context;

	(void)pthread_mutex_lock(&decoder->lock);
	while (!decoder->is_ending) {
		struct decoder_slot *slot = decoder_slot_in(decoder, DECODER_FREE);

		if (slot && backlog_take(&decoder->queue, &slot->request->submit))
			decoder_run(decoder, slot);
		else
			(void)pthread_cond_wait(&decoder->wake, &decoder->lock);
	}
	(void)pthread_mutex_unlock(&decoder->lock);
	return NULL;
}

/* The thread that serves */

int decoder_new(struct decoder **ret_decoder, struct lane *lane,
                const struct oip_model *model)
{
	struct decoder *decoder = calloc(1, sizeof(*decoder));

	if (!decoder)
		return -ENOMEM;
	decoder->lane = lane;
	decoder->model = model;
	(void)pthread_mutex_init(&decoder->lock, NULL);
	(void)pthread_cond_init(&decoder->wake, NULL);
	*ret_decoder = decoder;
	for (size_t i = 0; i < DECODER_SLOTS; i++) {
		decoder->slots[i].request = decoder_request_new();
		if (!decoder->slots[i].request)
			return -ENOMEM;
	}
	return backlog_init(&decoder->queue, lane->leases);
}

void decoder_free(struct decoder *decoder)
{
	if (!decoder)
		return;
	if (decoder->has_thread) {
		(void)pthread_mutex_lock(&decoder->lock);
		decoder->is_ending = true;
		(void)pthread_cond_signal(&decoder->wake);
		(void)pthread_mutex_unlock(&decoder->lock);
		(void)pthread_join(decoder->thread, NULL);
	}
	for (size_t i = 0; i < DECODER_SLOTS; i++)
		decoder_request_free(decoder->slots[i].request);
	(void)pthread_cond_destroy(&decoder->wake);
	(void)pthread_mutex_destroy(&decoder->lock);
	backlog_fini(&decoder->queue);
	free(decoder);
}

/* Judges by the body's size and by what the head says of it. A malformed head takes no time: the
 * serving thread refuses it. */
static bool decoder_takes_long(const struct decoder *decoder,
                               const struct proto_submit *submit)
{
	struct proto_head head;
	struct oip_work work;

	if (submit->body_bytes <= DECODER_PACKED_BYTES ||
	    proto_head_read(&head, lane_request(decoder->lane, submit->head_offset),
	                    submit->head_bytes) < 0)
		return false;
	oip_read_work(&head, submit->body_bytes, &work);
	return work.is_compressed || work.json_bytes > DECODER_JSON_BYTES;
}

bool decoder_give(struct decoder *decoder, const struct proto_submit *submit)
{
	if (!decoder_takes_long(decoder, submit))
		return false;
	if (!decoder->has_thread)
		decoder->has_thread = pthread_create(&decoder->thread, NULL,
		                                     decoder_thread, decoder) == 0;
	if (!decoder->has_thread)
		return false;
	(void)pthread_mutex_lock(&decoder->lock);
	backlog_add(&decoder->queue, submit);
	(void)pthread_cond_signal(&decoder->wake);
	(void)pthread_mutex_unlock(&decoder->lock);
	decoder->n_given++;
	return true;
}

bool decoder_take(struct decoder *decoder, struct decoder_request **request)
{
	struct decoder_request *spent = *request;
	struct decoder_slot *slot;

	if (decoder->n_given == 0)
		return false;
	(void)pthread_mutex_lock(&decoder->lock);
	slot = decoder_slot_in(decoder, DECODER_DONE);
	if (slot) {
		*request = slot->request;
		slot->request = spent;
		slot->state = DECODER_FREE;
		(void)pthread_cond_signal(&decoder->wake);
	}
	(void)pthread_mutex_unlock(&decoder->lock);
	decoder->n_given -= slot != NULL;
	return slot != NULL;
}

bool decoder_cancel(struct decoder *decoder, uint64_t lease)
{
	bool is_found;

	if (decoder->n_given == 0)
		return false;
	(void)pthread_mutex_lock(&decoder->lock);
	is_found = backlog_drop(&decoder->queue, lease);
	(void)pthread_mutex_unlock(&decoder->lock);
	decoder->n_given -= is_found;
	return is_found;
}
