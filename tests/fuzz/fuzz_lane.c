/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A loader that writes anything into the rings and the response arena, while requests are leased
 * to it, answers are read and sent, and clients leave. After every step the counters must add up.
 * An answer that reaches a client must be of this generation, of an open request, and inside the
 * arena. An impossible entry must be reported, once and for ever, and the requests go on to the
 * next loader.
 */

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/clock.h"
#include "supervisor/loop/pump.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/traffic/queue.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/race.h"

#define REQUESTS_MAX     12u
#define ARENA_BYTES      ((size_t)64 * 1024)
#define ANSWERS_BYTES    ((size_t)16 * 1024)
#define FIRST_GENERATION 5u
#define PAST_MAX         16u
#define GENERATIONS_MAX  4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
	struct request *request;   /* NULL: no client here */
	struct request_part *part; /* the part being sent */
	bool has_begun;
	bool is_done;
};

struct state {
	struct fuzz_bytes bytes;
	struct queue *queue;
	struct lane *lane;
	uint64_t generation;
	uint32_t leases;
	bool is_broken;               /* a violation was reported */
	bool is_wild;                 /* an entry was written that is not of answer() */
	const unsigned char *answers; /* the response arena as the supervisor maps it */
	/* The loader's view of the same memory. */
	struct proto_rings *rings;
	unsigned char *loader_answers;
	struct ring submit;
	struct ring answer;
	struct ring release;
	uint64_t past_leases[PAST_MAX]; /* earlier leases, ended or not */
	size_t n_past;
	struct client clients[REQUESTS_MAX + 1]; /* the last one is for calibrate() */
	struct request *lost[REQUESTS_MAX];      /* requests held for the next loader */
	size_t n_lost;
};

static struct pump pump;
static uint64_t current_generation;

/* Counts the parts of answers that are not sent yet. */
static uint32_t count_parts(const struct state *state)
{
	uint32_t n = 0;

	for (size_t i = 0; i <= REQUESTS_MAX; i++) {
		const struct client *client = &state->clients[i];
		const struct request_part *part;

		if (client->part && client->part->lane == state->lane)
			n++;
		if (!client->request)
			continue;
		STAILQ_FOREACH(part, &client->request->parts, link)
		n += part->lane == state->lane;
	}
	return n;
}

static void check(const struct state *state)
{
	const struct request_counts *counts = &state->queue->counts;

	assert(counts->accepted ==
	       counts->answered + counts->failed + counts->held + counts->leased);
	assert(counts->leased == lane_leased(state->lane));
	assert(lane_leased(state->lane) <= state->leases);
	assert(lane_leased(state->lane) > 0 || !lane_has_suspect(state->lane));
	assert(count_parts(state) <= proto_parts_max(state->leases));
}

/* The client */

static void on_part(struct request *request, void *context)
{
	struct client *client = context;

	assert(client->request == request && !client->is_done);
	if (client->has_begun)
		return;
	client->has_begun = true;
	assert(request->status >= 200 && request->status <= 599);
	/* The request's own lane delivers, unless the supervisor answers itself. */
	assert(request->generation == current_generation || request->generation == 0);
	assert(request->answer_head_bytes <= PROTO_HEAD_MAX);
}

static void read_head(const struct request *request)
{
	struct proto_head head;
	struct proto_field field;
	unsigned int sum = 0;
	int r = request_answer_head(request, &head);

	while (r == 0 && proto_head_next(&head, &field) == 1)
		for (size_t i = 0; i < field.value.bytes; i++)
			sum += (unsigned char)field.value.data[i];
	(void)sum;
}

static void take(struct state *state, struct client *client)
{
	struct request_part *part;

	if (!client->request || client->part)
		return;
	if (client->has_begun)
		read_head(client->request);
	part = request_take_part(client->request);
	if (!part)
		return;
	assert(!client->is_done);
	client->part = part;
	client->is_done = part->is_last;
	/* The answer must be this request's: answer() writes the lease twice. */
	assert(part->lane != state->lane || state->is_wild ||
	       part->token == client->request->lease);
	if (part->lane == state->lane && state->answers) {
		size_t offset =
			(size_t)((const unsigned char *)part->body - state->answers);

		assert(offset <= ANSWERS_BYTES &&
		       part->body_bytes <= ANSWERS_BYTES - offset);
	}
}

static void sent(struct client *client)
{
	request_part_free(client->part);
	client->part = NULL;
}

static void leave(struct client *client)
{
	struct request *request = client->request;

	if (!request)
		return;
	sent(client);
	*client = (struct client){ .request = NULL };
	request_release(request);
}

static void come(struct state *state, struct client *client)
{
	static const char body[] = "0123456789abcdef";
	struct request_start start = {
		.method = proto_text_of("POST"),
		.target = proto_text_of("/v2/models/m/infer"),
		.body_bytes = sizeof(body),
		.on_part = on_part,
		.context = client,
	};
	struct request_refusal refusal;
	struct request *request;

	if (client->request || state->is_broken)
		return;
	if (request_new(&request, state->queue, &start, &refusal))
		return;
	*client = (struct client){ .request = request };
	request->deadline_ns = CLOCK_NEVER;
	if (request_append(request, body, sizeof(body), &refusal) ||
	    lane_submit(state->lane, request) != 0) {
		request_fail(request, REQUEST_FAILURE_LEFT);
		*client = (struct client){ .request = NULL };
		request_release(request);
		return;
	}
	state->past_leases[state->n_past++ % PAST_MAX] = request->lease;
}

/* Lets the deadline of a leased request pass. */
static void expire(struct client *client)
{
	struct request *request = client->request;

	if (!request || request->state != REQUEST_LEASED || request->is_expired)
		return;
	request_expire(request, 504, 0, "too late");
}

/* The loader */

static void on_look(void *context)
{
	(void)context;
}

static void open_lane(struct state *state)
{
	int fds[PROTO_LOAD_FD_COUNT];

	assert(lane_new(&state->lane, state->queue, state->generation, state->leases,
	                ANSWERS_BYTES) == 0);
	lane_start(state->lane, on_look, NULL);
	lane_fds(state->lane, -1, fds);
	state->rings =
		mmap(NULL, proto_rings_bytes(state->leases), PROT_READ | PROT_WRITE,
	             MAP_SHARED, fds[PROTO_LOAD_FD_RINGS], 0);
	state->loader_answers = mmap(NULL, ANSWERS_BYTES, PROT_READ | PROT_WRITE,
	                             MAP_SHARED, fds[PROTO_LOAD_FD_ANSWERS], 0);
	assert(state->rings != MAP_FAILED && state->loader_answers != MAP_FAILED);
	proto_rings_attach(state->rings, state->leases, &state->submit, &state->answer,
	                   &state->release);
	state->answers = NULL;
	state->is_broken = false;
	state->is_wild = false;
	current_generation = state->generation;
}

static void close_maps(struct state *state)
{
	race_end();
	(void)munmap(state->rings, proto_rings_bytes(state->leases));
	(void)munmap(state->loader_answers, ANSWERS_BYTES);
}

static void answer(struct state *state)
{
	struct fuzz_bytes *bytes = &state->bytes;
	struct client *client = &state->clients[fuzz_u8(bytes) % REQUESTS_MAX];
	uint8_t how = fuzz_u8(bytes);
	struct proto_answer part = {
		.lease = client->request ? client->request->lease : fuzz_u64(bytes),
		.generation = state->generation,
		.status = how & 0x80 ? 0 : 200,
		.flags = how & 3,
		.rows = how >> 6 & 1,
		.batch_rows = how >> 7 & 1,
		.head_offset = fuzz_u8(bytes) * 64u,
		.head_bytes = how & 0x80 ? 0 : fuzz_u8(bytes),
		.body_offset = fuzz_u8(bytes) * 64u,
		.body_bytes = fuzz_u16(bytes) % 2048,
	};

	switch (how >> 2 & 0x0f) {
	case 0:
		part.lease = state->past_leases[fuzz_u8(bytes) % PAST_MAX];
		break;
	case 1:
		part.lease = fuzz_near(bytes, part.lease);
		break;
	case 2:
		part.generation = fuzz_near(bytes, part.generation);
		break;
	case 3:
		part.status = (uint16_t)fuzz_near(bytes, how & 0x80 ? 200 : 599);
		break;
	case 4:
		part.flags = fuzz_u16(bytes);
		break;
	case 5:
		part.head_offset = fuzz_near(bytes, ANSWERS_BYTES - part.head_bytes);
		break;
	case 6:
		part.head_bytes = (uint32_t)fuzz_near(bytes, how & 1 ? PROTO_HEAD_MAX
		                                                     : ANSWERS_BYTES);
		break;
	case 7:
		part.body_offset = fuzz_near(bytes, ANSWERS_BYTES - part.body_bytes);
		break;
	case 8:
		part.body_bytes = fuzz_near(bytes, ANSWERS_BYTES - part.body_offset);
		break;
	case 9:
		part.head_offset = fuzz_near(bytes, 0 - (uint64_t)part.head_bytes);
		break;
	case 10:
		part.body_bytes = fuzz_near(bytes, 0 - part.body_offset);
		break;
	default:
		break;
	}
	part.token = part.lease;
	if (ring_push(&state->answer, &part) == 0 && FUZZ_RACES) {
		state->is_wild = true;
		race_add_entry(&state->bytes, &state->answer);
	}
}

/* Writes a valid head, so that a reader gets beyond it. */
static void write_head(struct state *state)
{
	const struct proto_text none = { "", 0 };
	const struct proto_field field = { proto_text_of("content-type"),
		                           proto_text_of("application/json") };
	size_t offset = (size_t)fuzz_u8(&state->bytes) * 64;

	size_t bytes = proto_head_bytes(none, none, &field, 1);

	if (offset + bytes > ANSWERS_BYTES)
		return;
	proto_head_write(state->loader_answers + offset, none, none, &field, 1);
	if (FUZZ_RACES)
		race_add(&state->bytes,
		         state->loader_answers + offset + fuzz_u8(&state->bytes) % bytes);
}

static void scribble(struct state *state)
{
	struct fuzz_bytes *bytes = &state->bytes;
	uint8_t what = fuzz_u8(bytes);
	size_t size = proto_rings_bytes(state->leases);
	struct ring *const rings[] = { &state->submit, &state->answer, &state->release };
	struct ring *ring = rings[what % 3];
	size_t offset;
	size_t n;

	state->is_wild = true;
	switch (what >> 2 & 7) {
	case 0:
		atomic_store(&ring->shared->produced,
		             (uint32_t)fuzz_near(bytes, ring->own));
		return;
	case 1:
		atomic_store(&ring->shared->consumed,
		             (uint32_t)fuzz_near(bytes, ring->own));
		return;
	case 2:
		atomic_store(&ring->shared->consumer_sleeps, fuzz_u32(bytes));
		return;
	case 3:
		offset = fuzz_u16(bytes) % ANSWERS_BYTES;
		n = fuzz_u8(bytes);
		fuzz_copy(bytes, state->loader_answers + offset,
		          n < ANSWERS_BYTES - offset ? n : ANSWERS_BYTES - offset);
		return;
	case 4:
		atomic_store(&state->rings->progress, fuzz_u64(bytes));
		return;
	default:
		offset = fuzz_u16(bytes) % size;
		n = fuzz_u8(bytes);
		fuzz_copy(bytes, (unsigned char *)state->rings + offset,
		          n < size - offset ? n : size - offset);
		return;
	}
}

static void consume(struct state *state)
{
	struct proto_submit submit;
	struct proto_release release;

	while (ring_pop(&state->submit, &submit) == 0)
		;
	while (ring_pop(&state->release, &release) == 0)
		;
}

/* The supervisor */

static void collect(struct state *state)
{
	struct err err = ERR_NULL;
	int r = request_collect(state->lane, &err);

	assert(r == 0 || r == LANE_E_VIOLATION);
	assert((r == 0) == (err.text[0] == '\0'));
	assert(r != 0 || !state->is_broken);
	state->is_broken = r != 0;
}

/* Finds out where the supervisor has mapped the arena, from an answer that is all of it. */
static void calibrate(struct state *state)
{
	struct client *client = &state->clients[REQUESTS_MAX];
	struct proto_answer part = {
		.generation = state->generation,
		.status = 200,
		.flags = PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST,
		.body_bytes = ANSWERS_BYTES,
	};

	come(state, client);
	assert(client->request);
	part.lease = part.token = client->request->lease;
	assert(ring_push(&state->answer, &part) == 0);
	collect(state);
	take(state, client);
	assert(client->part && client->part->body_bytes == ANSWERS_BYTES);
	state->answers = client->part->body;
	leave(client);
	consume(state);
}

static void on_lease(void *context, struct request *request)
{
	struct state *state = context;

	assert(request->state == REQUEST_LEASED && !request->lane);
	if (!request->has_owner || request->is_expired || request->is_answering) {
		request_fail(request, REQUEST_FAILURE_LEFT);
		return;
	}
	assert(state->n_lost < REQUESTS_MAX);
	request->is_suspect = lane_has_begun(state->lane, request->lease);
	request_set_state(request, REQUEST_HELD);
	state->lost[state->n_lost++] = request;
}

/* Kills the loader: its published answers are delivered, then the leases come back. */
static void bury(struct state *state)
{
	(void)request_collect(state->lane, NULL);
	check(state);
	lane_close(state->lane, on_lease, state);
	check(state);
	assert(lane_leased(state->lane) == 0);
	close_maps(state);
	lane_unref(state->lane);
}

static void replace(struct state *state)
{
	if (state->generation - FIRST_GENERATION + 1 == GENERATIONS_MAX)
		return;
	bury(state);
	state->generation++;
	open_lane(state);
	calibrate(state);
	for (size_t i = 0; i < state->n_lost; i++)
		assert(lane_submit(state->lane, state->lost[i]) == 0);
	state->n_lost = 0;
}

static void step(struct state *state)
{
	uint8_t op = fuzz_u8(&state->bytes);
	struct client *client = &state->clients[(op >> 4) % REQUESTS_MAX];

	switch (op & 15) {
	case 0:
	case 1:
		come(state, client);
		break;
	case 2:
	case 3:
		take(state, client);
		break;
	case 4:
		sent(client);
		break;
	case 5:
		leave(client);
		break;
	case 6:
		expire(client);
		break;
	case 7:
		replace(state);
		break;
	case 8:
		scribble(state);
		break;
	case 9:
		write_head(state);
		break;
	case 10:
		consume(state);
		break;
	case 11:
		(void)pump_block(&pump);
		(void)lane_progress(state->lane);
		pump_wake(&pump);
		break;
	case 12:
		collect(state);
		break;
	default:
		answer(state);
		break;
	}
	check(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct queue queue;
	struct state state = {
		.bytes = { data, size },
		.queue = &queue,
		.generation = FIRST_GENERATION,
	};

	if (!queue.loop) {
		struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);

		assert(loop);
		pump_init(&pump, loop);
		assert(queue_init(&queue, &pump, "m", ARENA_BYTES, 4096) == 0);
	}
	state.leases = 1u << (fuzz_u8(&state.bytes) & 3);
	open_lane(&state);
	calibrate(&state);
	while (state.bytes.left > 0)
		step(&state);
	bury(&state);
	for (size_t i = 0; i < state.n_lost; i++)
		request_fail(state.lost[i], REQUEST_FAILURE_LEFT);
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		leave(&state.clients[i]);
	assert(queue.counts.held == 0 && queue.counts.leased == 0);
	assert(queue.counts.accepted == queue.counts.answered + queue.counts.failed);
	assert(queue.arena.used_bytes == 0);
	return 0;
}
