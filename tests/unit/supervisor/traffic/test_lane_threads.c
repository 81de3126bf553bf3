/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A lane whose loader is a thread: requests, answers and places that come back go round while each
 * side sleeps and is rung for. A bell that is lost stops everything, which the deadline shows.
 * Both sides have one mapping, because ThreadSanitizer goes by addresses: it shows what is read
 * while it is written.
 */

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/supervisor/traffic/lane_bench.h"

#define REQUESTS 20000u
/* A lost bell is one for ever; a machine that is busy takes its time. */
#define LOST_S      300
#define PLACES      8u
#define PLACE_BYTES 1024u

struct loader {
	struct lane_bench *bench;
	struct ring submit;
	struct ring answer;
	struct ring release;
	unsigned char *answers; /* as the supervisor has them mapped */
	atomic_bool must_end;
	bool is_used[PLACES];
	uint32_t n_answered;
};

/* Where the lane has @fd's memory mapped; the bench has it at @other. */
static void *find_mapping(int fd, const void *other)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uintptr_t start = 0;
	struct stat stat;
	char line[512];
	void *found = NULL;

	assert_int_equal(fstat(fd, &stat), 0);
	assert_non_null(maps);
	while (!found && fgets(line, sizeof(line), maps)) {
		uint64_t inode = 0;

		if (sscanf(line, "%" SCNxPTR "-%*x %*s %*s %*s %" SCNu64, &start,
		           &inode) == 2 &&
		    inode == stat.st_ino && start != (uintptr_t)other)
			found = (void *)start;
	}
	(void)fclose(maps);
	assert_non_null(found);
	return found;
}

/* The loader */

static void ring_bell(int bell)
{
	const uint64_t one = 1;

	(void)!write(bell, &one, sizeof(one));
}

static unsigned char letter_of(uint64_t lease)
{
	return (unsigned char)(lease >> 16);
}

/* A place that is not on its way; PLACES: there is none. */
static uint32_t find_place(struct loader *loader)
{
	uint32_t place = 0;
	struct proto_release release;

	while (ring_pop(&loader->release, &release) == 0)
		loader->is_used[release.token] = false;
	while (place < PLACES && loader->is_used[place])
		place++;
	return place;
}

/* Answers the next request. False: there is none, or no place for its answer. */
static bool answer_one(struct loader *loader)
{
	uint32_t place = find_place(loader);
	struct proto_submit submit;
	struct proto_answer answer = {
		.generation = LANE_BENCH_GENERATION,
		.token = place,
		.status = 200,
		.flags = LANE_BENCH_ONE_PART,
		.body_offset = (uint64_t)place * PLACE_BYTES,
		.body_bytes = PLACE_BYTES,
	};

	if (place == PLACES || ring_pop(&loader->submit, &submit) != 0)
		return false;
	loader->is_used[place] = true;
	answer.lease = submit.lease;
	memset(loader->answers + answer.body_offset, letter_of(submit.lease),
	       PLACE_BYTES);
	while (ring_push(&loader->answer, &answer) == RING_E_FULL)
		continue;
	if (ring_wants_bell(&loader->answer))
		ring_bell(loader->bench->supervisor_bell);
	loader->n_answered++;
	return true;
}

static void *load(void *argument)
{
	struct loader *loader = argument;
	int fd = loader->bench->loader_bell;

	while (!atomic_load(&loader->must_end)) {
		struct pollfd bell = { .fd = fd, .events = POLLIN };
		uint64_t count;

		if (answer_one(loader))
			continue;
		if (ring_sleep(&loader->submit) && ring_sleep(&loader->release))
			(void)poll(&bell, 1, 1000 * LOST_S);
		ring_wake(&loader->submit);
		ring_wake(&loader->release);
		(void)!read(fd, &count, sizeof(count));
	}
	return NULL;
}

/* The supervisor */

static void on_lost(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)timer;
	(void)revents;
	fail_msg("a bell was lost");
}

struct sent {
	struct request *request; /* NULL: none */
	unsigned char letter;    /* of its answer */
};

/* True: it was answered, and with its own bytes; it is let go. */
static bool take(struct sent *sent)
{
	struct request_part *part =
		sent->request ? request_take_part(sent->request) : NULL;
	const unsigned char *body;

	if (!part)
		return false;
	body = part->body;
	assert_int_equal(part->body_bytes, PLACE_BYTES);
	for (size_t i = 0; i < PLACE_BYTES; i++)
		assert_int_equal(body[i], sent->letter);
	request_part_free(part);
	request_release(sent->request);
	sent->request = NULL;
	return true;
}

static void serve(struct lane_bench *bench)
{
	struct sent sent[LANE_BENCH_LEASES] = { { NULL, 0 } };
	unsigned int n_sent = 0;
	unsigned int n_done = 0;

	while (n_done < REQUESTS) {
		for (size_t i = 0; i < LANE_BENCH_LEASES; i++)
			if (!sent[i].request && n_sent < REQUESTS) {
				sent[i].request = lane_bench_lease(bench);
				sent[i].letter = letter_of(sent[i].request->lease);
				n_sent++;
			}
		(void)ev_run(bench->pump.loop, EVRUN_ONCE);
		assert_int_equal(request_collect(bench->lane, NULL), 0);
		for (size_t i = 0; i < LANE_BENCH_LEASES; i++)
			n_done += take(&sent[i]);
	}
}

static void test_a_loader_that_is_a_thread(void **state)
{
	struct lane_bench *bench = *state;
	struct loader loader = { .bench = bench };
	int fds[PROTO_LOAD_FD_COUNT];
	pthread_t thread;
	ev_timer lost;

	lane_fds(bench->lane, -1, fds);
	proto_rings_attach(find_mapping(fds[PROTO_LOAD_FD_RINGS], bench->rings),
	                   LANE_BENCH_LEASES, &loader.submit, &loader.answer,
	                   &loader.release);
	loader.answers = find_mapping(fds[PROTO_LOAD_FD_ANSWERS], bench->answers);
	assert_int_equal(mprotect(loader.answers, LANE_BENCH_ANSWERS_BYTES,
	                          PROT_READ | PROT_WRITE),
	                 0);
	ev_timer_init(&lost, on_lost, LOST_S, 0.);
	ev_timer_start(bench->pump.loop, &lost);
	assert_int_equal(pthread_create(&thread, NULL, load, &loader), 0);
	serve(bench);
	atomic_store(&loader.must_end, true);
	ring_bell(bench->loader_bell);
	assert_int_equal(pthread_join(thread, NULL), 0);
	ev_timer_stop(bench->pump.loop, &lost);
	assert_int_equal(loader.n_answered, REQUESTS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LANE_BENCH_TEST(test_a_loader_that_is_a_thread),
	};

	return cmocka_run_group_tests_name("lane threads", tests, NULL, NULL);
}
