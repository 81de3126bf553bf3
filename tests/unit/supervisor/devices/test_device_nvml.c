/* SPDX-License-Identifier: Apache-2.0 */

/* The GPU memory of a loader, from reports that come at any moment of its placing. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/devices/device.h"

#define MIB     (UINT64_C(1) << 20)
#define PID     7
#define CONTEXT 16
#define WEIGHTS 82

struct row {
	const char *name;
	uint64_t made;   /* MiB of the weights that the loader made itself */
	uint64_t before; /* charged by the driver in the middle of the placing */
	uint64_t after;  /* charged when all is there */
};

static const struct row rows[] = {
	{ "one chunk of another's is mapped", 0, CONTEXT + 32, CONTEXT + WEIGHTS },
	{ "two are", 0, CONTEXT + 64, CONTEXT + WEIGHTS },
	{ "its own are made, none is mapped", 50, CONTEXT + 50, CONTEXT + WEIGHTS },
	{ "its own in part", 50, CONTEXT + 18, CONTEXT + WEIGHTS },
	{ "all are there", 0, CONTEXT + WEIGHTS, CONTEXT + WEIGHTS },
	{ "nothing is there", 0, 0, CONTEXT + WEIGHTS },
	{ "mapped ones are not charged", 50, CONTEXT + 18, CONTEXT + 50 },
	{ "all are its own", WEIGHTS, CONTEXT + 32, CONTEXT + WEIGHTS },
	{ "none is charged", 0, CONTEXT, CONTEXT },
	{ "none is charged, all are its own", WEIGHTS, CONTEXT, CONTEXT },
};

static void report(struct nvml *nvml, uint64_t mib)
{
	struct nvml_card *card = &nvml->report->cards[0];

	nvml->report->n_cards = 1;
	(void)snprintf(card->uuid, sizeof(card->uuid), "GPU-1");
	card->n_processes = 1;
	card->processes[0].pid = PID;
	card->processes[0].bytes = mib * MIB;
	nvml->as_of_ns = clock_now_ns();
}

/* What a loader gives up as it ends is never more than it had, whatever part of it is left. */
static void check_end(const struct row *row, struct device *device,
                      struct device_use *use, struct nvml *nvml)
{
	report(nvml, row->after + 5);
	(void)device_measure(device);
	if (use->now_bytes != (CONTEXT + 5) * MIB)
		fail_msg("%s: grown by 5 MiB it holds %.1f MiB", row->name,
		         (double)use->now_bytes / (double)MIB);
	for (uint64_t left = row->after; left > 0; left--) {
		report(nvml, left);
		(void)device_measure(device);
	}
	if (use->peak_bytes != (CONTEXT + 5) * MIB)
		fail_msg("%s: its peak is %.1f MiB at its end", row->name,
		         (double)use->peak_bytes / (double)MIB);
}

static void test_an_old_report_is_none_of_what_was_placed(void **state)
{
	struct ev_loop *loop = ev_loop_new(0);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		/* The helper does not answer now: its last report counts. */
		struct nvml nvml = { .loop = loop, .state = NVML_UP, .fd = -1 };
		struct device device;
		struct device_use use;

		nvml.report = calloc(1, sizeof(*nvml.report));
		assert_non_null(nvml.report);
		device_init_nvml(&device, "cuda:0", &nvml);
		(void)snprintf(device.uuid, sizeof(device.uuid), "GPU-1");
		device_add(&device, &use, PID, (CONTEXT + WEIGHTS) * MIB);
		report(&nvml, row->before);
		device_note_placing(&use);
		device_note_mapped(&use, WEIGHTS * MIB, row->made * MIB);
		device_note_placed(&use);
		if (use.peak_bytes > CONTEXT * MIB)
			fail_msg("%s: its peak is %.1f MiB", row->name,
			         (double)use.peak_bytes / (double)MIB);
		/* The loader's claim counts until then. */
		assert_int_equal(use.claim_bytes, (CONTEXT + WEIGHTS) * MIB);
		report(&nvml, row->after);
		(void)device_measure(&device);
		if (use.peak_bytes != CONTEXT * MIB || use.now_bytes != CONTEXT * MIB)
			fail_msg("%s: it holds %.1f MiB", row->name,
			         (double)use.now_bytes / (double)MIB);
		assert_int_equal(use.claim_bytes, 0);
		check_end(row, &device, &use, &nvml);
		device_remove(&use);
		device_fini(&device);
		free(nvml.report);
	}
	ev_loop_destroy(loop);
}

/* A process below a loader is the loader's where that is said, and a stranger's is not. */
static void test_processes_below_count(void **state)
{
	struct ev_loop *loop = ev_loop_new(0);
	struct nvml nvml = { .loop = loop, .state = NVML_UP, .fd = -1 };
	struct device device;
	struct device_use use;
	int fds[2];
	pid_t child;
	char c;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		(void)close(fds[1]);
		(void)!read(fds[0], &c, 1); /* until the end */
		_exit(0);
	}
	assert_true(child > 0);
	(void)close(fds[0]);
	nvml.report = calloc(1, sizeof(*nvml.report));
	assert_non_null(nvml.report);
	device_init_nvml(&device, "cuda:0", &nvml);
	(void)snprintf(device.uuid, sizeof(device.uuid), "GPU-1");
	device_add(&device, &use, getpid(), 0);
	report(&nvml, 1);
	nvml.report->cards[0].n_processes = 3;
	nvml.report->cards[0].processes[0].pid = child;
	nvml.report->cards[0].processes[1].pid = getppid();
	nvml.report->cards[0].processes[1].bytes = 2 * MIB;
	nvml.report->cards[0].processes[2].pid = getpid();
	nvml.report->cards[0].processes[2].bytes = 4 * MIB;
	assert_int_equal(device_look(&use), 4 * MIB);
	device_add_tree(&use);
	assert_int_equal(device_look(&use), 5 * MIB);
	(void)close(fds[1]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(device_look(&use), 4 * MIB);
	device_remove(&use);
	device_fini(&device);
	free(nvml.report);
	ev_loop_destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_old_report_is_none_of_what_was_placed),
		cmocka_unit_test(test_processes_below_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
