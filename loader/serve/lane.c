/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The loader's side of three rings and two arenas (shared/proto.h).
 *
 *	lane_take()     submit ring: requests, which lie in the supervisor's request arena
 *	lane_publish()  answer ring: answers, each a part of the response arena
 *	lane_collect()  release ring: parts that may be overwritten
 *
 * The allocator of the response arena and the table of parts under way are private memory.
 * A released token must be the one of its part, so that a release counts once. Bells: each
 * side rings the other's eventfd only when the other one sleeps. lane_wait() announces its
 * sleep to both rings first, and blocks only when both were empty even after that: a push in
 * between rings the bell.
 */
#include "loader/serve/lane.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"

/* A token has the part's index in the low bits, and a count above that makes it unique. */
#define LANE_PART_BITS 16

_Static_assert(PROTO_LEASES_MAX * 4 <= 1 << LANE_PART_BITS, "a part fits its bits");

struct lane_part {
	uint64_t token; /* 0: free */
	size_t offset;
	struct lane_count *count; /* NULL: nobody counts */
};

static int lane_map(struct memfd *memfd, int *fd, bool is_writable, const char *what,
                    struct err *err)
{
	int r = memfd_map(memfd, *fd, is_writable);

	if (r < 0)
		return err_set(err, r, "the memory for %s cannot be used: %s", what,
		               strerror(-r));
	(void)take_fd(fd);
	if (memfd->size_bytes == 0)
		return err_set(err, -EINVAL, "the memory for %s is empty", what);
	return 0;
}

/* Checks the header, which the supervisor wrote once: rings of another generation or build end
 * the lane before an entry is read. */
static int lane_check_rings(const struct lane *lane, struct err *err)
{
	const struct proto_rings *head = lane->head;

	if (lane->rings.size_bytes < sizeof(*head) || head->magic != PROTO_MAGIC ||
	    head->version != PROTO_VERSION)
		return err_set(err, -EBADMSG, "the rings have no proper header");
	if (head->generation != lane->generation || head->leases != lane->leases ||
	    (head->leases & (head->leases - 1)) != 0 || head->leases == 0 ||
	    head->size_bytes != lane->rings.size_bytes ||
	    lane->rings.size_bytes < proto_rings_bytes(head->leases))
		return err_set(err, -EBADMSG,
		               "the rings are not those of this generation");
	return 0;
}

static int lane_init_parts(struct lane *lane)
{
	lane->parts_max = proto_parts_max(lane->leases);
	lane->parts = calloc(lane->parts_max, sizeof(*lane->parts));
	lane->free_parts = calloc(lane->parts_max, sizeof(*lane->free_parts));
	if (!lane->parts || !lane->free_parts)
		return -ENOMEM;
	for (uint32_t i = 0; i < lane->parts_max; i++)
		lane->free_parts[i] = lane->parts_max - 1 - i;
	return arena_init(&lane->arena, lane->answers.size_bytes);
}

int lane_init(struct lane *lane, int fds[PROTO_LOAD_FD_COUNT], uint64_t generation,
              uint32_t leases, struct err *err)
{
	int r;

	*lane = (struct lane)LANE_NULL;
	lane->generation = generation;
	lane->leases = leases;
	lane->loader_bell = take_fd(&fds[PROTO_LOAD_FD_LOADER_BELL]);
	lane->supervisor_bell = take_fd(&fds[PROTO_LOAD_FD_SUPERVISOR_BELL]);
	r = lane_map(&lane->requests, &fds[PROTO_LOAD_FD_REQUESTS], false, "requests",
	             err);
	if (r == 0)
		r = lane_map(&lane->answers, &fds[PROTO_LOAD_FD_ANSWERS], true, "answers",
		             err);
	if (r == 0)
		r = lane_map(&lane->rings, &fds[PROTO_LOAD_FD_RINGS], true, "rings", err);
	if (r < 0)
		return r;
	if (lane->answers.size_bytes < ARENA_BLOCK_BYTES)
		return err_set(err, -EINVAL,
		               "the response arena is smaller than %zu bytes",
		               ARENA_BLOCK_BYTES);
	lane->head = lane->rings.base;
	r = lane_check_rings(lane, err);
	if (r < 0)
		return r;
	proto_rings_attach(lane->head, leases, &lane->submit, &lane->answer,
	                   &lane->release);
	r = lane_init_parts(lane);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

void lane_fini(struct lane *lane)
{
	arena_fini(&lane->arena);
	free(lane->parts);
	free(lane->free_parts);
	memfd_fini(&lane->requests);
	memfd_fini(&lane->answers);
	memfd_fini(&lane->rings);
	close_fd(&lane->loader_bell);
	close_fd(&lane->supervisor_bell);
	*lane = (struct lane)LANE_NULL;
}

void lane_progress(struct lane *lane)
{
	(void)atomic_fetch_add_explicit(&lane->head->progress, 1, memory_order_relaxed);
}

void lane_nudge(struct lane *lane)
{
	const uint64_t one = 1;

	/* EAGAIN: the bell rings already. */
	(void)!write(lane->loader_bell, &one, sizeof(one));
}

void lane_begin(struct lane *lane, uint64_t lease)
{
	atomic_store_explicit(&lane->head->begun, lease, memory_order_relaxed);
}

static bool lane_is_inside(uint64_t offset, uint64_t bytes, uint64_t size)
{
	return offset <= size && bytes <= size - offset;
}

/* Checks the private copy of an entry: the entry in shared memory may change after the check. */
static int lane_check_submit(const struct lane *lane, const struct proto_submit *submit,
                             struct err *err)
{
	uint64_t size = lane->requests.size_bytes;

	if (submit->kind == PROTO_SUBMIT_CANCEL)
		return 0;
	if (submit->kind != PROTO_SUBMIT_REQUEST)
		return err_set(err, LANE_E_VIOLATION, "a submission of kind %u",
		               submit->kind);
	if (submit->generation != lane->generation)
		return err_set(err, LANE_E_VIOLATION, "a request for generation %llu",
		               (unsigned long long)submit->generation);
	if (lane->n_leased == lane->leases)
		return err_set(err, LANE_E_VIOLATION, "more than %u leases",
		               lane->leases);
	if (submit->head_bytes > PROTO_HEAD_MAX ||
	    !lane_is_inside(submit->head_offset, submit->head_bytes, size) ||
	    !lane_is_inside(submit->body_offset, submit->body_bytes, size))
		return err_set(err, LANE_E_VIOLATION,
		               "a request lies outside the request arena");
	return 0;
}

int lane_take(struct lane *lane, struct proto_submit *ret_submit, struct err *err)
{
	struct proto_submit submit;
	int r;

	r = ring_pop(&lane->submit, &submit);
	if (r == RING_E_EMPTY)
		return LANE_E_EMPTY;
	if (r)
		return err_set(err, LANE_E_VIOLATION,
		               "the submit ring's index cannot be");
	r = lane_check_submit(lane, &submit, err);
	if (r)
		return r;
	if (submit.kind == PROTO_SUBMIT_REQUEST)
		lane->n_leased++;
	lane_progress(lane);
	*ret_submit = submit;
	return 0;
}

int lane_collect(struct lane *lane, struct err *err)
{
	struct proto_release release;
	int r;

	while ((r = ring_pop(&lane->release, &release)) == 0) {
		uint32_t index = (uint32_t)(release.token & ((1u << LANE_PART_BITS) - 1));

		if (index >= lane->parts_max || release.token == 0 ||
		    lane->parts[index].token != release.token)
			return err_set(
				err, LANE_E_VIOLATION,
				"a release names part %llx, which is not under way",
				(unsigned long long)release.token);
		arena_free(&lane->arena, lane->parts[index].offset);
		if (lane->parts[index].count)
			lane->parts[index].count->n_parts--;
		lane->parts[index].token = 0;
		lane->free_parts[lane->parts_max - lane->n_parts] = index;
		lane->n_parts--;
		lane_progress(lane);
	}
	return r == RING_E_EMPTY ? 0
	                         : err_set(err, LANE_E_VIOLATION,
	                                   "the release ring's index cannot be");
}

int lane_reserve(struct lane *lane, size_t bytes, unsigned char **ret_memory)
{
	size_t offset;

	if (lane->n_parts == lane->parts_max)
		return LANE_E_FULL;
	switch (arena_alloc(&lane->arena, bytes, &offset)) {
	case 0:
		*ret_memory = (unsigned char *)lane->answers.base + offset;
		return 0;
	case ARENA_E_FULL:
		return LANE_E_FULL;
	default:
		return LANE_E_TOO_LARGE;
	}
}

static size_t lane_offset(const struct lane *lane, const unsigned char *memory)
{
	return (size_t)(memory - (const unsigned char *)lane->answers.base);
}

void lane_unreserve(struct lane *lane, unsigned char *memory)
{
	arena_free(&lane->arena, lane_offset(lane, memory));
}

/* Rounds up, so that only nothing becomes 0. */
static uint32_t lane_units(uint64_t amount, uint64_t unit)
{
	uint64_t units = amount / unit + (amount % unit != 0);

	return units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;
}

int lane_publish(struct lane *lane, const struct lane_answer *answer, struct err *err)
{
	uint32_t index = lane->free_parts[lane->parts_max - lane->n_parts - 1];
	size_t offset = lane_offset(lane, answer->memory);
	const struct lane_times *times = &answer->times;
	struct proto_answer part = {
		.lease = answer->lease,
		.generation = lane->generation,
		.token = ++lane->sequence << LANE_PART_BITS | index,
		.status = answer->status,
		.flags = (uint16_t)(answer->flags |
		                    (times->is_execution ? PROTO_ANSWER_EXECUTION : 0)),
		.head_bytes = (uint32_t)answer->head_bytes,
		.head_offset = offset,
		.body_offset = offset + answer->body_offset,
		.body_bytes = answer->body_bytes,
		.peak_kib = lane_units(answer->peak_bytes, 1024),
		.rows = times->rows,
		.batch_rows = times->batch_rows,
		.queue_ns = times->queue_ns,
		.decode_ns = times->decode_ns,
		.gather_ns = times->gather_ns,
		.compute_ns = times->compute_ns,
		.encode_ns = times->encode_ns,
	};

	assert(lane->n_parts < lane->parts_max && lane->n_leased > 0);
	assert(answer->head_bytes <= PROTO_HEAD_MAX);
	/* The ring has room for all parts: a full one means that the peer's index lies. */
	if (ring_push(&lane->answer, &part) != 0)
		return err_set(err, LANE_E_VIOLATION,
		               "the answer ring's index cannot be");
	lane->parts[index] = (struct lane_part){
		.token = part.token,
		.offset = offset,
		.count = answer->count,
	};
	if (answer->count)
		answer->count->n_parts++;
	lane->n_parts++;
	if (answer->flags & PROTO_ANSWER_LAST)
		lane->n_leased--;
	lane->has_news = true;
	lane_progress(lane);
	return 0;
}

void lane_flush(struct lane *lane)
{
	const uint64_t one = 1;

	/* EAGAIN: the bell rings already. */
	if (lane->has_news && ring_wants_bell(&lane->answer))
		(void)!write(lane->supervisor_bell, &one, sizeof(one));
	lane->has_news = false;
}

bool lane_doze(struct lane *lane, enum lane_wake wake)
{
	bool may_block = true;

	if (wake != LANE_WAKE_REQUEST)
		may_block = ring_sleep(&lane->release);
	if (wake != LANE_WAKE_RELEASE)
		may_block = ring_sleep(&lane->submit) && may_block;
	lane_flush(lane);
	return may_block;
}

void lane_awake(struct lane *lane)
{
	ring_wake(&lane->release);
	ring_wake(&lane->submit);
}

/* Blocks until the bell, which it silences, or the control channel has news. */
int lane_block(const struct lane *lane, int control_fd, uint64_t deadline_ns)
{
	struct pollfd pollfds[] = {
		{ .fd = lane->loader_bell, .events = POLLIN },
		{ .fd = control_fd, .events = POLLIN },
	};
	uint64_t now_ns = clock_now_ns();
	uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
	struct timespec timeout = {
		.tv_sec = (time_t)(left_ns / CLOCK_NS_PER_SEC),
		.tv_nsec = (long)(left_ns % CLOCK_NS_PER_SEC),
	};
	uint64_t count;
	int n;

	n = ppoll(pollfds, 2, deadline_ns == CLOCK_NEVER ? NULL : &timeout, NULL);
	if (n > 0 && pollfds[0].revents)
		(void)!read(lane->loader_bell, &count, sizeof(count));
	if (n > 0 && pollfds[1].revents)
		return LANE_E_CONTROL;
	return n == 0 ? LANE_E_TIMEOUT : 0;
}

int lane_wait(struct lane *lane, enum lane_wake wake, int control_fd,
              uint64_t deadline_ns)
{
	int r = 0;

	if (lane_doze(lane, wake))
		r = lane_block(lane, control_fd, deadline_ns);
	lane_awake(lane);
	return r;
}
