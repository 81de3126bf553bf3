/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The supervisor's end of the data path to one loader. Requests go out on the submit
 * ring, answers come in on the answer ring, and when a part has been sent its place goes
 * back on the release ring. A slot stands for each lease; a lease's number names its slot
 * and is never used again, so that a late or forged answer finds nothing.
 *
 * The bells: before the loop blocks, lane_on_block() writes to the loader's eventfd if the
 * loader said that it sleeps, and says that moultd sleeps. An answer that slipped in
 * between rings no bell, so the loop must then not block. A violation, wherever it is
 * noticed, ends the lane in the next lane_next().
 *
 * A lane has work, and is in the pump's list, while the loader holds leases and when
 * something was pushed. All other lanes sleep: whatever a loader without leases may write
 * rings the bell.
 */

#include "supervisor/traffic/lane.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/loop/pump.h"
#include "supervisor/traffic/rest.h"

/* A lease's number: the slot in the low bits, and above them a count that makes it
 * unique. */
#define LANE_SLOT_BITS 16

/* Unread answers are in the way when they take this part of the arena: its blocks are
 * powers of two, so up to as much again is lost. */
#define LANE_UNREAD_PART 2

#define LANE_FLAGS                                                                       \
	(PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST | PROTO_ANSWER_FAULT |                   \
	 PROTO_ANSWER_EXECUTION | PROTO_ANSWER_BROKEN)

struct lane_slot {
	struct request *request; /* NULL: free */
	uint64_t lease;
	bool is_started; /* the first part of the answer has come */
};

struct lane {
	struct pump_client client;
	uint32_t refs;
	uint32_t leases;
	uint32_t n_leased;
	uint32_t n_suspects;  /* leases of suspects */
	uint32_t n_parts;     /* taken in and not released yet */
	uint64_t parts_bytes; /* bytes of the parts' bodies */
	/* Released, for the next answers; with the others as many as were under way at most. */
	struct request_parts spare_parts;
	uint64_t generation;
	uint64_t sequence;
	struct queue *queue;
	bool is_closed;
	bool has_news; /* something was pushed since the last flush */
	bool is_violated;
	struct memfd answers;
	struct rest rest; /* of answers */
	struct memfd rings;
	struct ring submit;
	struct ring answer;
	struct ring release;
	int loader_bell;
	int supervisor_bell;
	ev_io bell; /* the loop's watcher of supervisor_bell */
	void (*on_look)(void *context);
	void *context;
	uint32_t *free_slots; /* a stack of (leases - n_leased) entries */
	struct lane_slot slots[];
};

static struct lane *lane_of(struct pump_client *client)
{
	return (struct lane *)((char *)client - offsetof(struct lane, client));
}

static enum pump_outcome lane_on_block(struct pump_client *client)
{
	struct lane *lane = lane_of(client);
	const uint64_t one = 1;

	if (lane->has_news) {
		bool is_asleep = ring_wants_bell(&lane->submit);

		/* Clear the flags of both rings: they share one bell. */
		is_asleep = ring_wants_bell(&lane->release) || is_asleep;
		lane->has_news = false;
		/* EAGAIN: the bell rings already. */
		if (is_asleep && write(lane->loader_bell, &one, sizeof(one)) < 0 &&
		    errno != EAGAIN)
			lane->is_violated = true;
	}
	if (!ring_sleep(&lane->answer))
		return PUMP_AGAIN;
	return lane->n_leased > 0 || lane->is_violated ? PUMP_STAYS : PUMP_DONE;
}

static void lane_on_wake(struct pump_client *client)
{
	struct lane *lane = lane_of(client);

	ring_wake(&lane->answer);
	lane->on_look(lane->context);
}

static void lane_destroy(struct lane *lane)
{
	struct request_part *part;

	while ((part = STAILQ_FIRST(&lane->spare_parts))) {
		STAILQ_REMOVE_HEAD(&lane->spare_parts, link);
		free(part);
	}
	memfd_fini(&lane->answers);
	memfd_fini(&lane->rings);
	close_fd(&lane->loader_bell);
	close_fd(&lane->supervisor_bell);
	free(lane->free_slots);
	free(lane);
}

static int lane_create_memory(struct lane *lane, size_t response_arena_bytes)
{
	struct proto_rings *head;
	int r;

	r = memfd_create_sealed(&lane->answers, "moult-answers", response_arena_bytes,
	                        MEMFD_PEER_WRITES);
	if (r < 0)
		return r;
	r = memfd_create_sealed(&lane->rings, "moult-rings",
	                        proto_rings_bytes(lane->leases), MEMFD_PEER_WRITES);
	if (r < 0)
		return r;
	head = lane->rings.base;
	head->magic = PROTO_MAGIC;
	head->version = PROTO_VERSION;
	head->size_bytes = lane->rings.size_bytes;
	head->generation = lane->generation;
	head->leases = lane->leases;
	proto_rings_attach(head, lane->leases, &lane->submit, &lane->answer,
	                   &lane->release);
	lane->loader_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lane->supervisor_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lane->loader_bell < 0 || lane->supervisor_bell < 0)
		return -errno;
	return 0;
}

int lane_new(struct lane **ret_lane, struct queue *queue, uint64_t generation,
             uint32_t leases, size_t response_arena_bytes)
{
	struct lane *lane;
	int r;

	assert(leases > 0 && leases <= PROTO_LEASES_MAX);
	lane = calloc(1, sizeof(*lane) + leases * sizeof(lane->slots[0]));
	if (!lane)
		return -ENOMEM;
	lane->client = (struct pump_client){
		.on_block = lane_on_block,
		.on_wake = lane_on_wake,
	};
	STAILQ_INIT(&lane->spare_parts);
	lane->refs = 1;
	lane->queue = queue;
	lane->generation = generation;
	lane->leases = leases;
	lane->answers.fd = lane->rings.fd = -1;
	lane->loader_bell = lane->supervisor_bell = -1;
	lane->free_slots = calloc(leases, sizeof(*lane->free_slots));
	r = lane->free_slots ? lane_create_memory(lane, response_arena_bytes) : -ENOMEM;
	if (r < 0) {
		lane_destroy(lane);
		return r;
	}
	for (uint32_t i = 0; i < leases; i++)
		lane->free_slots[i] = leases - 1 - i;
	*ret_lane = lane;
	return 0;
}

struct lane *lane_ref(struct lane *lane)
{
	lane->refs++;
	return lane;
}

void lane_unref(struct lane *lane)
{
	if (lane && --lane->refs == 0)
		lane_destroy(lane);
}

void lane_fds(const struct lane *lane, int secrets_fd, int ret_fds[PROTO_LOAD_FD_COUNT])
{
	ret_fds[PROTO_LOAD_FD_REQUESTS] = lane->queue->memory.fd;
	ret_fds[PROTO_LOAD_FD_ANSWERS] = lane->answers.fd;
	ret_fds[PROTO_LOAD_FD_RINGS] = lane->rings.fd;
	ret_fds[PROTO_LOAD_FD_LOADER_BELL] = lane->loader_bell;
	ret_fds[PROTO_LOAD_FD_SUPERVISOR_BELL] = lane->supervisor_bell;
	ret_fds[PROTO_LOAD_FD_SECRETS] = secrets_fd;
}

static void lane_on_bell(struct ev_loop *loop, ev_io *io, int revents)
{
	struct lane *lane = io->data;
	uint64_t count;

	(void)loop;
	(void)revents;
	/* EAGAIN: the bell was silenced already. */
	(void)!read(io->fd, &count, sizeof(count));
	pump_add(lane->queue->pump, &lane->client);
}

/* The loader writes answers to requests that it holds, and nothing is being sent. */
static bool lane_is_unused(const void *context)
{
	const struct lane *lane = context;

	return lane->n_leased == 0 && lane->n_parts == 0;
}

void lane_start(struct lane *lane, void (*on_look)(void *context), void *context)
{
	rest_init(&lane->rest, lane->queue->loop, &lane->answers, lane_is_unused, lane);
	lane->on_look = on_look;
	lane->context = context;
	ev_io_init(&lane->bell, lane_on_bell, lane->supervisor_bell, EV_READ);
	lane->bell.data = lane;
	ev_io_start(lane->queue->loop, &lane->bell);
	/* The first round has it sleep. */
	pump_add(lane->queue->pump, &lane->client);
}

/* Something was pushed, or could not be: the next round sees to it. */
static void lane_note_news(struct lane *lane)
{
	lane->has_news = true;
	pump_add(lane->queue->pump, &lane->client);
}

int lane_submit(struct lane *lane, struct request *request)
{
	struct lane_slot *slot;
	struct proto_submit submit;
	uint32_t index;

	if (lane->n_leased == lane->leases)
		return LANE_E_FULL;
	index = lane->free_slots[lane->leases - lane->n_leased - 1];
	submit = (struct proto_submit){
		.lease = ++lane->sequence << LANE_SLOT_BITS | index,
		.generation = lane->generation,
		.kind = PROTO_SUBMIT_REQUEST,
		.head_bytes = (uint32_t)request->head_bytes,
		.head_offset = request->offset,
		.body_offset = request->body_offset,
		.body_bytes = request->body_bytes,
		.deadline_ns = request->deadline_ns,
		.accepted_ns = request->accepted_ns,
	};
	lane_note_news(lane);
	/* The ring has twice as many entries as leases: only a loader that lies can fill
	 * it. */
	if (ring_push(&lane->submit, &submit) != 0) {
		lane->is_violated = true;
		return LANE_E_VIOLATION;
	}
	lane->n_leased++;
	lane->n_suspects += request->is_suspect;
	slot = &lane->slots[index];
	*slot = (struct lane_slot){ .request = request, .lease = submit.lease };
	request->lease = submit.lease;
	request->lane = lane;
	request_set_state(request, REQUEST_LEASED);
	return 0;
}

void lane_cancel(struct lane *lane, struct request *request)
{
	struct proto_submit submit = {
		.lease = request->lease,
		.generation = lane->generation,
		.kind = PROTO_SUBMIT_CANCEL,
	};

	if (lane->is_closed)
		return;
	if (ring_push(&lane->submit, &submit) != 0)
		lane->is_violated = true;
	lane_note_news(lane);
}

void lane_release(struct lane *lane, struct request_part *part)
{
	struct proto_release release = { .token = part->token };

	lane->n_parts--;
	lane->parts_bytes -= part->body_bytes;
	STAILQ_INSERT_HEAD(&lane->spare_parts, part, link);
	if (lane->is_closed)
		return;
	if (ring_push(&lane->release, &release) != 0)
		lane->is_violated = true;
	lane_note_news(lane);
}

/* Ends the lease of @slot. */
static void lane_take_back(struct lane *lane, struct lane_slot *slot)
{
	lane->n_leased--;
	lane->n_suspects -= slot->request->is_suspect;
	slot->request->lane = NULL;
	slot->request = NULL;
}

static bool lane_is_inside(uint64_t offset, uint64_t bytes, uint64_t size)
{
	return offset <= size && bytes <= size - offset;
}

static int lane_check(const struct lane *lane, const struct proto_answer *answer,
                      struct err *err)
{
	uint32_t index = (uint32_t)(answer->lease & ((1u << LANE_SLOT_BITS) - 1));
	bool is_first = answer->flags & PROTO_ANSWER_FIRST;

	if (answer->generation != lane->generation)
		return err_set(err, LANE_E_VIOLATION, "an answer names generation %llu",
		               (unsigned long long)answer->generation);
	if (index >= lane->leases || !lane->slots[index].request ||
	    lane->slots[index].lease != answer->lease)
		return err_set(err, LANE_E_VIOLATION,
		               "an answer names lease %llx, which it does not hold",
		               (unsigned long long)answer->lease);
	if (is_first == lane->slots[index].is_started || (answer->flags & ~LANE_FLAGS) ||
	    (!is_first && (answer->flags & PROTO_ANSWER_FAULT)) ||
	    ((answer->flags & PROTO_ANSWER_BROKEN) &&
	     (is_first || !(answer->flags & PROTO_ANSWER_LAST))) ||
	    ((answer->flags & PROTO_ANSWER_EXECUTION) &&
	     !(answer->flags & PROTO_ANSWER_LAST)))
		return err_set(err, LANE_E_VIOLATION,
		               "the parts of an answer are out of order");
	if (is_first ? answer->status < 200 || answer->status > 599
	             : answer->status != 0 || answer->head_bytes != 0)
		return err_set(err, LANE_E_VIOLATION, "an answer has status %u",
		               answer->status);
	if (answer->rows > answer->batch_rows)
		return err_set(err, LANE_E_VIOLATION,
		               "an answer of %u rows names a batch of %u", answer->rows,
		               answer->batch_rows);
	if (answer->head_bytes > PROTO_HEAD_MAX ||
	    !lane_is_inside(answer->head_offset, answer->head_bytes,
	                    lane->answers.size_bytes) ||
	    !lane_is_inside(answer->body_offset, answer->body_bytes,
	                    lane->answers.size_bytes))
		return err_set(err, LANE_E_VIOLATION,
		               "an answer lies outside the response arena");
	if (lane->n_parts >= proto_parts_max(lane->leases))
		return err_set(err, LANE_E_VIOLATION,
		               "more parts of answers than may be under way");
	return 0;
}

/* A part that was released, or another one; NULL: out of memory. */
static struct request_part *lane_new_part(struct lane *lane)
{
	struct request_part *part = STAILQ_FIRST(&lane->spare_parts);

	if (!part)
		return malloc(sizeof(*part));
	STAILQ_REMOVE_HEAD(&lane->spare_parts, link);
	return part;
}

/* Makes the part that @given says, and ends the lease with the last one. */
static int lane_take_in(struct lane *lane, struct lane_answer *given)
{
	const struct proto_answer *answer = &given->answer;
	uint32_t index = (uint32_t)(answer->lease & ((1u << LANE_SLOT_BITS) - 1));
	struct lane_slot *slot = &lane->slots[index];
	struct request *request = slot->request;
	const unsigned char *memory = lane->answers.base;
	struct request_part *part;

	part = lane_new_part(lane);
	if (!part)
		return -ENOMEM;
	*part = (struct request_part){
		.lane = lane_ref(lane),
		.token = answer->token,
		.body = memory + answer->body_offset,
		.body_bytes = answer->body_bytes,
		.is_last = answer->flags & PROTO_ANSWER_LAST,
	};
	rest_note(&lane->rest, answer->body_offset + answer->body_bytes);
	lane->n_parts++;
	lane->parts_bytes += part->body_bytes;
	slot->is_started = true;
	if (part->is_last) {
		lane_take_back(lane, slot);
		lane->free_slots[lane->leases - lane->n_leased - 1] = index;
	}
	given->request = request;
	given->head = memory + answer->head_offset;
	given->part = part;
	return 0;
}

int lane_next(struct lane *lane, struct lane_answer *ret_answer, struct err *err)
{
	int r = lane->is_violated ? 0 : ring_pop(&lane->answer, &ret_answer->answer);

	if (r == RING_E_EMPTY)
		return LANE_E_EMPTY;
	if (lane->is_violated)
		(void)err_set(err, 0, "a ring to the loader is full or corrupt");
	else if (r == RING_E_CORRUPT)
		(void)err_set(err, 0, "the answer ring's index cannot be");
	else if (lane_check(lane, &ret_answer->answer, err) == 0) {
		if (lane_take_in(lane, ret_answer) == 0)
			return 0;
		/* Without memory for its answer the request cannot be kept apart from the
		 * others: give the loader up and replay all. */
		(void)err_set(err, 0, "out of memory for an answer");
	}
	lane->is_violated = true;
	return LANE_E_VIOLATION;
}

uint32_t lane_answers_max(const struct lane *lane)
{
	return lane->answer.capacity;
}

void lane_hurry(struct lane *lane)
{
	const uint64_t one = 1;

	/* EAGAIN: the bell rings already. */
	if (!lane->is_closed)
		(void)!write(lane->loader_bell, &one, sizeof(one));
}

static int lane_compare(const void *a, const void *b)
{
	const struct lane_slot *left = a;
	const struct lane_slot *right = b;

	return left->lease > right->lease ? -1 : left->lease < right->lease;
}

void lane_close(struct lane *lane,
                void (*on_lease)(void *context, struct request *request), void *context)
{
	uint32_t n = 0;

	lane->is_closed = true;
	for (uint32_t i = 0; i < lane->leases; i++)
		if (lane->slots[i].request)
			lane->slots[n++] = lane->slots[i];
	for (uint32_t i = n; i < lane->leases; i++)
		lane->slots[i].request = NULL;
	/* The sequence is in the high bits, so sorting by lease is sorting by age. The
	 * youngest goes back first: each of the others then goes in front of the one
	 * before it. */
	qsort(lane->slots, n, sizeof(lane->slots[0]), lane_compare);
	for (uint32_t i = 0; i < n; i++) {
		struct request *request = lane->slots[i].request;

		lane_take_back(lane, &lane->slots[i]);
		on_lease(context, request);
	}
	rest_stop(&lane->rest);
	ev_io_stop(lane->queue->loop, &lane->bell);
	pump_remove(lane->queue->pump, &lane->client);
	close_fd(&lane->loader_bell);
	close_fd(&lane->supervisor_bell);
}

void lane_visit(const struct lane *lane,
                void (*visit)(void *context, struct request *request), void *context)
{
	for (uint32_t i = 0; i < lane->leases; i++)
		if (lane->slots[i].request)
			visit(context, lane->slots[i].request);
}

uint32_t lane_leased(const struct lane *lane)
{
	return lane->n_leased;
}

bool lane_waits_for_readers(const struct lane *lane)
{
	return !lane->is_closed && lane->n_leased > 0 &&
	       lane->parts_bytes > lane->answers.size_bytes / LANE_UNREAD_PART;
}

uint64_t lane_progress(const struct lane *lane)
{
	const struct proto_rings *head = lane->rings.base;

	return atomic_load_explicit(&head->progress, memory_order_relaxed);
}

uint64_t lane_passed_bytes(const struct lane *lane)
{
	const struct proto_rings *head = lane->rings.base;

	return atomic_load_explicit(&head->passed_bytes, memory_order_relaxed);
}

bool lane_has_suspect(const struct lane *lane)
{
	return lane->n_suspects > 0;
}

bool lane_has_begun(const struct lane *lane, uint64_t lease)
{
	const struct proto_rings *head = lane->rings.base;

	return lease <= atomic_load_explicit(&head->begun, memory_order_relaxed);
}
