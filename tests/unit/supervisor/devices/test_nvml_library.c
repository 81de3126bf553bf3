/* SPDX-License-Identifier: Apache-2.0 */

/* The library's calls, on fake libraries. argv[1] is the folder that has them. */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/devices/nvml_library.h"

#define MIB (UINT64_C(1) << 20)

static const char *build;

static void open_fake(struct nvml_library *library, const char *folder)
{
	struct err err = ERR_NULL;
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s/%s", build, folder, NVML_LIBRARY);
	if (nvml_library_open(library, path, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_reads(void **state)
{
	static const char *const folders[] = { "fakegpu", "fakegpu-old" };

	(void)state;
	assert_int_equal(setenv("NVIDIA_FAKE_MIB", "1000", 1), 0);
	assert_int_equal(setenv("NVIDIA_FAKE_CARDS", "2", 1), 0);
	for (size_t i = 0; i < 2; i++) {
		struct nvml_library library;
		struct nvml_report report;

		open_fake(&library, folders[i]);
		nvml_library_read(&library, NVML_ALL_CARDS, &report);
		assert_int_equal(report.is_open, 1);
		assert_int_equal(report.n_cards, 2);
		assert_string_equal(report.driver, "999.9");
		assert_string_equal(report.why, "");
		for (size_t j = 0; j < 2; j++) {
			assert_false(report.cards[j].is_lost);
			assert_int_equal(report.cards[j].total_bytes, 1000 * MIB);
			/* The driver's own memory is in the figure, in every version of the
			 * call. */
			assert_int_equal(report.cards[j].used_bytes, 256 * MIB);
			assert_int_equal(report.cards[j].free_bytes, 744 * MIB);
			assert_int_equal(report.cards[j].n_processes, 0);
			assert_true(report.cards[j].has_list);
		}
		assert_string_not_equal(report.cards[0].uuid, report.cards[1].uuid);
		nvml_library_read(&library, 2, &report);
		assert_true(report.cards[0].is_lost);
		assert_false(report.cards[1].is_lost);
		assert_int_equal(report.cards[1].total_bytes, 1000 * MIB);
		nvml_library_close(&library);
	}
}

static void test_a_lost_card_keeps_its_place(void **state)
{
	static const char path[] = "nvml-faults";
	struct nvml_library library;
	struct nvml_report report;
	FILE *file;

	(void)state;
	open_fake(&library, "fakegpu");
	file = fopen(path, "we");
	assert_non_null(file);
	(void)fputs("fail\n", file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(setenv("NVIDIA_FAKE_CONTROL", path, 1), 0);
	nvml_library_read(&library, NVML_ALL_CARDS, &report);
	(void)unlink(path);
	assert_int_equal(report.n_cards, 2);
	assert_true(report.cards[0].is_lost && report.cards[1].is_lost);
	assert_non_null(strstr(report.why, "GPU is lost"));
	nvml_library_read(&library, NVML_ALL_CARDS, &report);
	assert_false(report.cards[0].is_lost);
	nvml_library_close(&library);
}

static void test_an_error_is_told_once(void **state)
{
	static const char path[] = "nvml-faults";
	struct nvml_library library;
	struct nvml_report report;
	FILE *file;

	(void)state;
	assert_int_equal(setenv("NVIDIA_FAKE_CONTROL", path, 1), 0);
	open_fake(&library, "fakegpu");
	nvml_library_read(&library, NVML_ALL_CARDS, &report);
	assert_int_equal(report.n_xids, 0);
	file = fopen(path, "we");
	assert_non_null(file);
	(void)fputs("xid 79 1\n", file);
	assert_int_equal(fclose(file), 0);
	nvml_library_read(&library, NVML_ALL_CARDS, &report);
	assert_int_equal(report.n_xids, 1);
	assert_int_equal(report.xids[0].card, 0);
	assert_int_equal(report.xids[0].xid, 79);
	nvml_library_read(&library, NVML_ALL_CARDS, &report);
	assert_int_equal(report.n_xids, 0);
	(void)unlink(path);
	nvml_library_close(&library);
}

/* A list in another layout has nonsense for pids: the card's bytes decide alone then. */
static void test_a_list_of_another_layout(void **state)
{
	static const struct {
		const char *faults;
		bool has_list;
		unsigned int n_processes;
	} rows[] = {
		{ "ghost 4242 3\n", true, 1 },
		{ "long-list\n", true, 0 },
		{ "ghost 4242 3\nlong-list\n", false, 0 },
		{ "ghost 9999999 3\n", false, 0 },
	};
	static const char path[] = "nvml-faults";

	(void)state;
	assert_int_equal(setenv("NVIDIA_FAKE_CONTROL", path, 1), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nvml_library library;
		struct nvml_report report;
		FILE *file = fopen(path, "we");

		assert_non_null(file);
		(void)fputs(rows[i].faults, file);
		assert_int_equal(fclose(file), 0);
		open_fake(&library, "fakegpu");
		nvml_library_read(&library, NVML_ALL_CARDS, &report);
		assert_false(report.cards[0].is_lost);
		assert_int_equal(report.cards[0].has_list, rows[i].has_list);
		assert_int_equal(report.cards[0].n_processes, rows[i].n_processes);
		nvml_library_close(&library);
	}
	(void)unlink(path);
}

static void test_what_is_missing_is_named(void **state)
{
	struct nvml_library library;
	struct err err = ERR_NULL;
	char path[512];

	(void)state;
	assert_int_equal(nvml_library_open(&library, "libmoult-nowhere.so.1", &err),
	                 -ENOENT);
	assert_non_null(strstr(err.text, "libmoult-nowhere.so.1"));
	/* Another library is not the driver's. */
	assert_int_equal(nvml_library_open(&library, "libc.so.6", &err), -ENOSYS);
	assert_non_null(strstr(err.text, "nvmlInit_v2"));
	assert_int_equal(setenv("NVIDIA_FAKE_CARDS", "0", 1), 0);
	assert_int_equal(unsetenv("NVIDIA_FAKE_CONTROL"), 0);
	(void)snprintf(path, sizeof(path), "%s/fakegpu/%s", build, NVML_LIBRARY);
	assert_int_equal(nvml_library_open(&library, path, &err), -ENODEV);
	assert_non_null(strstr(err.text, "no card"));
	nvml_library_close(&library);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_a_lost_card_keeps_its_place),
		cmocka_unit_test(test_an_error_is_told_once),
		cmocka_unit_test(test_a_list_of_another_layout),
		cmocka_unit_test(test_what_is_missing_is_named),
	};

	build = argc > 1 ? argv[1] : ".";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
