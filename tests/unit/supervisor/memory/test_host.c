/* SPDX-License-Identifier: Apache-2.0 */

/* Main memory in rounds of the loop: what is read once, and what makes it be read anew. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/devices/device.h"

/* A figure that no reading of the kernel gives: where it stands, nothing was read. */
#define KEPT 1

struct bench {
	struct ev_loop *loop;
	struct device device;
	struct device_use own;
	struct device_use other;
};

static void nothing(struct bench *bench)
{
	(void)bench;
}

static void next_round(struct bench *bench)
{
	ev_run(bench->loop, EVRUN_NOWAIT);
}

static void forget(struct bench *bench)
{
	host_forget(&bench->device.memory);
}

static void remove_other(struct bench *bench)
{
	device_remove(&bench->other);
}

static void add_another(struct bench *bench)
{
	struct device_use another;

	device_add(&bench->device, &another, getpid(), 0);
	assert_true(device_look(&another) > KEPT);
	LIST_REMOVE(&another, link);
}

static void lose_loop(struct bench *bench)
{
	bench->device.memory.loop = NULL;
}

static const struct row {
	const char *name;
	void (*happens)(struct bench *bench);
	bool is_kept;
} rows[] = {
	{ "the same round", nothing, true },
	{ "another loader comes", add_another, true },
	{ "the next round", next_round, false },
	{ "memory came free", forget, false },
	{ "a loader is taken off", remove_other, false },
	{ "nobody counts the rounds", lose_loop, false },
};

static void test_a_round_is_measured_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct bench bench = { .loop = ev_loop_new(0) };

		device_init(&bench.device, "host", bench.loop);
		device_add(&bench.device, &bench.own, getpid(), 0);
		device_add(&bench.device, &bench.other, getpid(), 0);
		next_round(&bench);
		assert_true(device_look(&bench.own) > KEPT);
		assert_true(host_available(&bench.device.memory) > KEPT);
		bench.own.now_bytes = bench.device.memory.available_bytes = KEPT;
		row->happens(&bench);
		if ((device_look(&bench.own) == KEPT) != row->is_kept)
			fail_msg("%s: the loader", row->name);
		if ((host_available(&bench.device.memory) == KEPT) != row->is_kept)
			fail_msg("%s: the machine", row->name);
		device_remove(&bench.own);
		device_remove(&bench.other);
		device_fini(&bench.device);
		ev_loop_destroy(bench.loop);
	}
}

/* Before the loop runs a start may wait for whatever it likes. */
static void test_nothing_is_kept_before_the_loop_runs(void **state)
{
	struct ev_loop *loop = ev_loop_new(0);
	struct host host;

	(void)state;
	host_init(&host, loop);
	assert_true(host_available(&host) > KEPT);
	host.available_bytes = KEPT;
	assert_true(host_available(&host) > KEPT);
	ev_loop_destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_round_is_measured_once),
		cmocka_unit_test(test_nothing_is_kept_before_the_loop_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
