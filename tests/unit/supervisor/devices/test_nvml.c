/* SPDX-License-Identifier: Apache-2.0 */

/* moultd's side of moult-nvml, with a helper that breaks the protocol. argv[1] is its path. */

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/devices/nvml.h"

static const char *helper;

static unsigned int count_fds(void)
{
	DIR *entries = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(entries);
	while (readdir(entries))
		n++;
	(void)closedir(entries);
	return n;
}

static void begin(struct nvml *nvml, struct ev_loop *loop, const char *how)
{
	assert_int_equal(setenv("NVIDIA_FAKE_HELPER", how, 1), 0);
	nvml_init(nvml, loop, helper);
	assert_int_equal(nvml_start(nvml), 0);
	nvml_wait_start(nvml);
}

/* Runs the loop until the process is reaped. */
static void run_to_exit(struct nvml *nvml)
{
	uint64_t end_ns = clock_now_ns() + 10 * CLOCK_NS_PER_SEC;

	while (nvml->child.pid > 0 && clock_now_ns() < end_ns)
		(void)ev_run(nvml->loop, EVRUN_ONCE);
	assert_int_equal(nvml->child.pid, 0);
}

static void test_sound(void **state)
{
	struct ev_loop *loop = ev_loop_new(0);
	struct nvml nvml;

	(void)state;
	begin(&nvml, loop, "");
	assert_int_equal(nvml.state, NVML_UP);
	assert_string_equal(nvml_uuid(&nvml, 1), "GPU-1");
	assert_null(nvml_uuid(&nvml, 2));
	assert_true(nvml_refresh(&nvml));
	assert_int_equal(nvml_card(&nvml, "GPU-0", 0)->used_bytes, 1 << 20);
	assert_null(nvml_card(&nvml, "GPU-2", 0));
	assert_null(nvml_card(&nvml, "GPU-0", clock_now_ns()));
	nvml_fini(&nvml);
	ev_loop_destroy(loop);
}

static void test_what_is_no_report_ends_it(void **state)
{
	static const char *const ways[] = {
		"short",
		"byte",
		"long",
		"huge",
		"number",
		"cards",
		"one-card-more",
		"no-card",
		"processes",
		"xids",
		"xid-of-none",
		"uuid",
		"uuid-without-end",
		"driver-without-end",
		"why-without-end",
		"closed",
		"later-byte",
		"later-huge",
		"later-number",
		"later-uuid",
	};
	unsigned int n_fds = count_fds();

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct ev_loop *loop = ev_loop_new(0);
		struct nvml nvml;

		begin(&nvml, loop, ways[i]);
		assert_false(nvml_refresh(&nvml));
		run_to_exit(&nvml);
		assert_int_equal(nvml.state, NVML_DEAD);
		assert_true(ev_is_active(&nvml.again));
		/* No part of its report is kept. */
		assert_null(nvml_uuid(&nvml, 0));
		assert_null(nvml_card(&nvml, "GPU-0", 0));
		nvml_fini(&nvml);
		ev_loop_destroy(loop);
	}
	assert_int_equal(count_fds(), n_fds);
}

static void test_a_report_that_nobody_asked_for_ends_it(void **state)
{
	struct ev_loop *loop = ev_loop_new(0);
	struct nvml nvml;

	(void)state;
	begin(&nvml, loop, "twice");
	run_to_exit(&nvml);
	assert_int_equal(nvml.state, NVML_DEAD);
	nvml_fini(&nvml);
	ev_loop_destroy(loop);
}

/* A mute helper is waited for once, until it answers again. */
static void test_one_that_is_mute_is_waited_for_once(void **state)
{
	struct ev_loop *loop = ev_loop_new(0);
	uint64_t begun_ns;
	struct nvml nvml;

	(void)state;
	begin(&nvml, loop, "later-mute");
	assert_non_null(nvml_uuid(&nvml, 0));
	begun_ns = clock_now_ns();
	assert_false(nvml_refresh(&nvml));
	assert_true(clock_now_ns() - begun_ns >= NVML_WAIT_MS * CLOCK_NS_PER_MS);
	begun_ns = clock_now_ns();
	for (int i = 0; i < 100; i++)
		assert_false(nvml_refresh(&nvml));
	assert_true(clock_now_ns() - begun_ns < NVML_WAIT_MS * CLOCK_NS_PER_MS);
	nvml_fini(&nvml);
	ev_loop_destroy(loop);
}

static void test_one_that_is_not_there(void **state)
{
	struct ev_loop *loop = ev_loop_new(0);
	unsigned int n_fds = count_fds();
	struct nvml nvml;

	(void)state;
	nvml_init(&nvml, loop, "/nonexistent/moult-nvml");
	assert_int_equal(nvml_start(&nvml), 0);
	nvml_wait_start(&nvml);
	assert_int_equal(nvml.state, NVML_DEAD);
	assert_false(nvml_refresh(&nvml));
	assert_true(ev_is_active(&nvml.again));
	nvml_fini(&nvml);
	assert_int_equal(count_fds(), n_fds);
	ev_loop_destroy(loop);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sound),
		cmocka_unit_test(test_what_is_no_report_ends_it),
		cmocka_unit_test(test_a_report_that_nobody_asked_for_ends_it),
		cmocka_unit_test(test_one_that_is_mute_is_waited_for_once),
		cmocka_unit_test(test_one_that_is_not_there),
	};

	helper = argc > 1 ? argv[1] : "hostile-nvml";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
