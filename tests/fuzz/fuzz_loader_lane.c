/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The loader's end of the data path, with a supervisor that writes anything into the rings, their
 * header, and the request arena. Requests that the loader takes lie inside the arena and are read
 * as loader/serve/serve.c does; an impossible entry ends the lane with a sentence.
 */

#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/serve/lane.h"
#include "shared/cleanup.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/race.h"

#define GENERATION     5u
#define LEASES         4u
#define REQUESTS_BYTES ((size_t)8 * 1024)
#define ANSWERS_BYTES  ((size_t)32 * 1024)
#define RESERVED_MAX   4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
	struct fuzz_bytes bytes;
	struct lane lane;
	int control_fd; /* silent */
	uint64_t held[LEASES];
	size_t n_held;
	unsigned char *reserved[RESERVED_MAX];
	size_t n_reserved;
	/* The supervisor's own mappings and views. */
	struct memfd requests;
	struct memfd answers;
	struct memfd rings;
	struct ring submit;
	struct ring answer;
	struct ring release;
	uint64_t tokens[LEASES * 4];
	size_t n_tokens;
	uint64_t n_leases;
};

/* The supervisor */

static void send_request(struct state *state)
{
	struct fuzz_bytes *bytes = &state->bytes;
	uint8_t how = fuzz_u8(bytes);
	struct proto_submit submit = {
		.lease = ++state->n_leases,
		.generation = GENERATION,
		.kind = how & 0x80 ? PROTO_SUBMIT_CANCEL : PROTO_SUBMIT_REQUEST,
		.head_offset = fuzz_u8(bytes) * 32u,
		.head_bytes = fuzz_u8(bytes) % 64,
		.body_offset = fuzz_u8(bytes) * 16u,
		.body_bytes = fuzz_u16(bytes) % 4096,
	};

	switch (how & 15) {
	case 1:
		submit.generation = fuzz_near(bytes, GENERATION);
		break;
	case 2:
		submit.kind = fuzz_u32(bytes);
		break;
	case 3:
		submit.head_offset = fuzz_near(bytes, REQUESTS_BYTES - submit.head_bytes);
		break;
	case 4:
		submit.head_bytes =
			(uint32_t)fuzz_near(bytes,
		                            how & 0x10 ? PROTO_HEAD_MAX : REQUESTS_BYTES);
		break;
	case 5:
		submit.body_offset = fuzz_near(bytes, REQUESTS_BYTES - submit.body_bytes);
		break;
	case 6:
		submit.body_bytes = fuzz_near(bytes, REQUESTS_BYTES - submit.body_offset);
		break;
	case 7:
		submit.lease = fuzz_near(bytes, submit.lease);
		break;
	case 8:
		fuzz_copy(bytes, &submit, sizeof(submit));
		break;
	default:
		break;
	}
	if (ring_push(&state->submit, &submit) == 0 && FUZZ_RACES)
		race_add_entry(&state->bytes, &state->submit);
}

/* Reads a published answer and gives a part back, or one that never was. */
static void send_release(struct state *state)
{
	uint8_t how = fuzz_u8(&state->bytes);
	struct proto_release release;
	struct proto_answer part;

	while (state->n_tokens < FUZZ_COUNT(state->tokens) &&
	       ring_pop(&state->answer, &part) == 0)
		state->tokens[state->n_tokens++] = part.token;
	if (how & 0x80)
		release.token = fuzz_u64(&state->bytes);
	else if (state->n_tokens == 0)
		return;
	else if (how & 0x40)
		release.token = fuzz_near(&state->bytes, state->tokens[0]);
	else
		release.token = state->tokens[--state->n_tokens];
	(void)ring_push(&state->release, &release);
}

static void write_head(struct state *state)
{
	const struct proto_field fields[] = {
		{ proto_text_of("content-encoding"), proto_text_of("gzip") },
		{ proto_text_of("accept-encoding"), proto_text_of("deflate") },
	};
	const struct proto_text method = proto_text_of("POST");
	const struct proto_text target = proto_text_of("/");
	size_t offset = fuzz_u8(&state->bytes) * 32u;
	unsigned char *memory = state->requests.base;

	size_t bytes = proto_head_bytes(method, target, fields, 2);

	if (offset + bytes > REQUESTS_BYTES)
		return;
	proto_head_write(memory + offset, method, target, fields, 2);
	if (FUZZ_RACES)
		race_add(&state->bytes, memory + offset + fuzz_u8(&state->bytes) % bytes);
}

static void scribble(struct state *state)
{
	struct fuzz_bytes *bytes = &state->bytes;
	uint8_t what = fuzz_u8(bytes);
	struct ring *const rings[] = { &state->submit, &state->answer, &state->release };
	struct ring *ring = rings[what % 3];
	const struct memfd *target = what & 0x40 ? &state->rings : &state->requests;
	size_t offset;
	size_t n;

	switch (what >> 2 & 3) {
	case 0:
		atomic_store(&ring->shared->produced,
		             (uint32_t)fuzz_near(bytes, ring->own));
		return;
	case 1:
		atomic_store(&ring->shared->consumed,
		             (uint32_t)fuzz_near(bytes, ring->own));
		return;
	default:
		offset = fuzz_u16(bytes) % target->size_bytes;
		n = fuzz_u8(bytes);
		if (n > target->size_bytes - offset)
			n = target->size_bytes - offset;
		fuzz_copy(bytes, (unsigned char *)target->base + offset, n);
		return;
	}
}

/* The loader */

static void read_request(const struct state *state, const struct proto_submit *submit)
{
	const unsigned char *body = lane_request(&state->lane, submit->body_offset);
	struct proto_field field;
	struct proto_head head;
	unsigned int sum = 0;

	assert(submit->generation == GENERATION && submit->head_bytes <= PROTO_HEAD_MAX);
	assert(submit->head_offset <= REQUESTS_BYTES &&
	       submit->head_bytes <= REQUESTS_BYTES - submit->head_offset);
	assert(submit->body_offset <= REQUESTS_BYTES &&
	       submit->body_bytes <= REQUESTS_BYTES - submit->body_offset);
	if (submit->body_bytes > 0)
		sum += body[0] + body[submit->body_bytes - 1];
	if (proto_head_read(&head, lane_request(&state->lane, submit->head_offset),
	                    submit->head_bytes) < 0)
		return;
	while (proto_head_next(&head, &field) == 1) {
		assert(field.name.data + field.name.bytes <= (const char *)head.end);
		assert(field.value.data + field.value.bytes <= (const char *)head.end);
		for (size_t i = 0; i < field.value.bytes; i++)
			sum += (unsigned char)field.value.data[i];
	}
	(void)sum;
}

/* Takes a request. False: the lane is over. */
static bool take(struct state *state)
{
	struct proto_submit submit;
	struct err err = ERR_NULL;
	int r = lane_take(&state->lane, &submit, &err);

	if (r == LANE_E_EMPTY)
		return true;
	if (r) {
		assert(r == LANE_E_VIOLATION && err.text[0] != '\0');
		return false;
	}
	if (submit.kind == PROTO_SUBMIT_CANCEL)
		return true;
	assert(submit.kind == PROTO_SUBMIT_REQUEST && state->n_held < LEASES);
	state->held[state->n_held++] = submit.lease;
	read_request(state, &submit);
	return true;
}

static void reserve(struct state *state)
{
	size_t bytes = (size_t)fuzz_near(&state->bytes, ANSWERS_BYTES / 4);
	unsigned char *memory;
	int r;

	if (state->n_reserved == RESERVED_MAX)
		return;
	r = lane_reserve(&state->lane, bytes, &memory);
	assert(r == 0 || r == LANE_E_FULL || r == LANE_E_TOO_LARGE);
	if (r)
		return;
	assert(bytes <= ANSWERS_BYTES);
	if (bytes > 0)
		memory[0] = memory[bytes - 1] = 1;
	state->reserved[state->n_reserved++] = memory;
}

static bool publish(struct state *state)
{
	struct lane_answer answer = { .status = 200,
		                      .flags = PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST,
		                      .head_bytes = 16,
		                      .body_offset = 64 };
	struct err err = ERR_NULL;
	int r;

	/* serve.c answers only requests that it holds, into room that it has. */
	if (state->n_held == 0 || state->n_reserved == 0 ||
	    state->lane.n_parts == state->lane.parts_max)
		return true;
	answer.lease = state->held[--state->n_held];
	answer.memory = state->reserved[--state->n_reserved];
	answer.body_bytes = fuzz_u8(&state->bytes);
	r = lane_publish(&state->lane, &answer, &err);
	assert(r == 0 || (r == LANE_E_VIOLATION && err.text[0] != '\0'));
	return r == 0;
}

static bool collect(struct state *state)
{
	struct err err = ERR_NULL;
	int r = lane_collect(&state->lane, &err);

	assert(r == 0 || (r == LANE_E_VIOLATION && err.text[0] != '\0'));
	return r == 0;
}

static bool step(struct state *state)
{
	switch (fuzz_u8(&state->bytes) % 12) {
	case 0:
	case 1:
		send_request(state);
		break;
	case 2:
		send_release(state);
		break;
	case 3:
		write_head(state);
		break;
	case 4:
		scribble(state);
		break;
	case 5:
	case 6:
		return take(state);
	case 7:
		reserve(state);
		break;
	case 8:
		return publish(state);
	case 9:
		return collect(state);
	case 10:
		if (state->n_reserved > 0)
			lane_unreserve(&state->lane,
			               state->reserved[--state->n_reserved]);
		break;
	default:
		/* The call returns at once, because its deadline has passed. */
		(void)lane_wait(&state->lane, LANE_WAKE_ANY, state->control_fd, 0);
		break;
	}
	return true;
}

/* Writes the header as the supervisor does, or spoilt. */
static void write_header(struct state *state)
{
	struct proto_rings *head = state->rings.base;
	uint8_t how = fuzz_u8(&state->bytes);

	*head = (struct proto_rings){
		.magic = PROTO_MAGIC,
		.version = PROTO_VERSION,
		.size_bytes = state->rings.size_bytes,
		.generation = GENERATION,
		.leases = LEASES,
	};
	switch (how) {
	case 0xff:
		head->size_bytes = fuzz_near(&state->bytes, head->size_bytes);
		break;
	case 0xfe:
		head->leases = (uint32_t)fuzz_near(&state->bytes, LEASES);
		break;
	case 0xfd:
		head->generation = fuzz_near(&state->bytes, GENERATION);
		break;
	case 0xfc:
		fuzz_copy(&state->bytes, head, sizeof(*head));
		break;
	default:
		break;
	}
}

static void open_supervisor(struct state *state, int fds[PROTO_LOAD_FD_COUNT])
{
	assert(memfd_create_sealed(&state->requests, "requests", REQUESTS_BYTES,
	                           MEMFD_PEER_READS) == 0);
	assert(memfd_create_sealed(&state->answers, "answers", ANSWERS_BYTES,
	                           MEMFD_PEER_WRITES) == 0);
	assert(memfd_create_sealed(&state->rings, "rings", proto_rings_bytes(LEASES),
	                           MEMFD_PEER_WRITES) == 0);
	write_header(state);
	proto_rings_attach(state->rings.base, LEASES, &state->submit, &state->answer,
	                   &state->release);
	fds[PROTO_LOAD_FD_REQUESTS] = take_fd(&state->requests.fd);
	fds[PROTO_LOAD_FD_ANSWERS] = take_fd(&state->answers.fd);
	fds[PROTO_LOAD_FD_RINGS] = take_fd(&state->rings.fd);
	fds[PROTO_LOAD_FD_LOADER_BELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[PROTO_LOAD_FD_SUPERVISOR_BELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int control_fd = -1;
	int fds[PROTO_LOAD_FD_COUNT];
	struct state state = { .bytes = { data, size } };
	struct err err = ERR_NULL;
	int r;

	if (control_fd < 0)
		control_fd = eventfd(0, EFD_CLOEXEC);
	state.control_fd = control_fd;
	for (size_t i = 0; i < FUZZ_COUNT(fds); i++)
		fds[i] = -1;
	open_supervisor(&state, fds);
	r = lane_init(&state.lane, fds, GENERATION, LEASES, &err);
	assert(r == 0 || (r < 0 && err.text[0] != '\0'));
	while (r == 0 && state.bytes.left > 0)
		if (!step(&state))
			break;
	race_end();
	lane_fini(&state.lane);
	for (size_t i = 0; i < FUZZ_COUNT(fds); i++)
		close_fd(&fds[i]);
	memfd_fini(&state.requests);
	memfd_fini(&state.answers);
	memfd_fini(&state.rings);
	return 0;
}
