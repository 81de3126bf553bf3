/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Shared copies: who finds them, when their memory counts, and what loaders must not do.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "supervisor/weights/store.h"

#define BYTES 65536
#define SHA   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

struct bench {
	struct device device;
	struct store store;
	unsigned int n_changes;
};

static void on_change(void *context)
{
	struct bench *bench = context;

	bench->n_changes++;
}

static void bench_init(struct bench *bench)
{
	device_init(&bench->device, "host", NULL);
	store_init(&bench->store, &bench->device);
	bench->n_changes = 0;
	store_listen(&bench->store, on_change, bench);
}

static void bench_fini(struct bench *bench)
{
	store_fini(&bench->store);
	device_fini(&bench->device);
}

static struct stat file_of(ino_t inode)
{
	return (struct stat){ .st_ino = inode, .st_size = BYTES };
}

static struct store_copy *take_as(struct bench *bench, ino_t inode, bool is_urgent)
{
	struct stat file = file_of(inode);
	const struct store_wish wish = {
		.device = &bench->device,
		.file = &file,
		.claim_bytes = BYTES,
		.is_urgent = is_urgent,
	};
	struct store_copy *copy = NULL;
	struct err err = ERR_NULL;

	assert_int_equal(store_take(&bench->store, &wish, &copy, &err), 0);
	return copy;
}

static struct store_copy *take(struct bench *bench, ino_t inode)
{
	return take_as(bench, inode, true);
}

static void fill(const struct store_copy *copy)
{
	char data[BYTES];

	memset(data, 7, sizeof(data));
	assert_int_equal(pwrite(copy->fd, data, sizeof(data), 0), sizeof(data));
}

static void seal(const struct store_copy *copy)
{
	assert_int_equal(fcntl(copy->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
}

static void test_only_full_ones_are_found(void **state)
{
	struct bench bench;
	struct store_copy *first;
	struct store_copy *second;
	struct store_copy *third;
	struct stat file = file_of(1);

	(void)state;
	bench_init(&bench);
	first = take(&bench, 1);
	second = take(&bench, 1);
	assert_ptr_not_equal(first, second);
	assert_null(store_find(&bench.store, &bench.device, &file));
	fill(first);
	seal(first);
	assert_int_equal(store_copy_publish(first, SHA), 0);
	assert_int_equal(store_copy_publish(first, SHA), 0);
	assert_ptr_equal(store_find(&bench.store, &bench.device, &file), first);
	third = take(&bench, 1);
	assert_ptr_equal(third, first);
	assert_string_equal(third->sha256, SHA);
	file = file_of(2);
	assert_null(store_find(&bench.store, &bench.device, &file));
	store_copy_unref(first);
	store_copy_unref(second);
	file = file_of(1);
	assert_ptr_equal(store_find(&bench.store, &bench.device, &file), third);
	store_copy_unref(third);
	assert_null(store_find(&bench.store, &bench.device, &file));
	bench_fini(&bench);
}

static void test_memory_counts_once(void **state)
{
	struct bench bench;
	struct store_copy *copy;
	struct store_copy *again;

	(void)state;
	bench_init(&bench);
	copy = take(&bench, 1);
	/* The memory is claimed before it is there, and does not count twice afterwards. */
	assert_int_equal(device_room(&bench.device).used_bytes, BYTES);
	fill(copy);
	assert_int_equal(device_room(&bench.device).used_bytes, BYTES);
	seal(copy);
	assert_int_equal(store_copy_publish(copy, SHA), 0);
	again = take(&bench, 1);
	assert_int_equal(device_room(&bench.device).used_bytes, BYTES);
	store_copy_unref(copy);
	assert_int_equal(device_room(&bench.device).used_bytes, BYTES);
	store_copy_unref(again);
	assert_int_equal(device_room(&bench.device).used_bytes, 0);
	bench_fini(&bench);
}

/* A loader says that it has filled the copy: the seals tell whether that is true. */
static void test_what_is_not_sealed_is_not_shared(void **state)
{
	static const int seals[] = { 0, F_SEAL_WRITE, F_SEAL_SEAL };
	struct bench bench;

	(void)state;
	bench_init(&bench);
	for (size_t i = 0; i < sizeof(seals) / sizeof(seals[0]); i++) {
		struct store_copy *copy = take(&bench, 1);
		struct stat file = file_of(1);

		/* The copy can neither shrink nor grow from the start. */
		assert_int_equal(ftruncate(copy->fd, 1), -1);
		assert_int_equal(ftruncate(copy->fd, BYTES + 1), -1);
		assert_int_equal(fcntl(copy->fd, F_ADD_SEALS, seals[i]), 0);
		assert_int_equal(store_copy_publish(copy, SHA), -EBADMSG);
		assert_null(store_find(&bench.store, &bench.device, &file));
		store_copy_unref(copy);
	}
	struct store_copy *copy = take(&bench, 1);

	seal(copy);
	assert_int_equal(store_copy_publish(copy, "short"), -EBADMSG);
	store_copy_unref(copy);
	bench_fini(&bench);
}

/* A kernel with vm.memfd_noexec adds a seal of its own. */
static void test_more_seals_do_no_harm(void **state)
{
	struct bench bench;
	struct store_copy *copy;

	(void)state;
	bench_init(&bench);
	copy = take(&bench, 1);
	fill(copy);
	assert_int_equal(fcntl(copy->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	seal(copy);
	assert_int_equal(store_copy_publish(copy, SHA), 0);
	store_copy_unref(copy);
	bench_fini(&bench);
}

/* A loader that would fill a second copy waits, unless the one that fills stands back for
 * others. */
static void test_one_fills_and_others_wait(void **state)
{
	struct bench bench;
	struct store_copy *idle;
	struct store_copy *urgent;
	struct stat file = file_of(1);
	struct stat other = file_of(2);

	(void)state;
	bench_init(&bench);
	assert_false(store_is_coming(&bench.store, &bench.device, &file, false));
	idle = take_as(&bench, 1, false);
	assert_true(store_is_coming(&bench.store, &bench.device, &file, false));
	assert_false(store_is_coming(&bench.store, &bench.device, &file, true));
	assert_false(store_is_coming(&bench.store, &bench.device, &other, false));
	urgent = take_as(&bench, 1, true);
	assert_true(store_is_coming(&bench.store, &bench.device, &file, true));

	/* The first loader died. */
	assert_int_equal(bench.n_changes, 0);
	store_copy_unref(idle);
	assert_int_equal(bench.n_changes, 1);
	assert_true(store_is_coming(&bench.store, &bench.device, &file, false));

	/* The second one cannot be killed: nobody waits for it, but its copy may be used when
	 * it is full. */
	store_copy_abandon(urgent);
	store_copy_abandon(urgent);
	assert_int_equal(bench.n_changes, 2);
	assert_false(store_is_coming(&bench.store, &bench.device, &file, false));
	fill(urgent);
	seal(urgent);
	assert_int_equal(store_copy_publish(urgent, SHA), 0);
	assert_int_equal(bench.n_changes, 3);
	assert_ptr_equal(store_find(&bench.store, &bench.device, &file), urgent);
	store_copy_unref(urgent);
	assert_int_equal(bench.n_changes, 3);

	/* This copy is abandoned, and never full. */
	urgent = take(&bench, 1);
	store_copy_abandon(urgent);
	store_copy_unref(urgent);
	assert_int_equal(bench.n_changes, 4);
	bench_fini(&bench);
}

/* Chunks on a GPU: their descriptors come from a loader, which is not trusted with the number. */
static void test_chunks(void **state)
{
	const struct store_chunks good = { 0, BYTES / 2, BYTES + 4096, SHA };
	const struct store_chunks bad[] = {
		{ 0, 0, BYTES + 4096, SHA },
		{ 0, BYTES / 2, BYTES - 1, SHA },
		{ 0, BYTES / 2, UINT64_MAX, SHA },
		{ 0, BYTES, BYTES + 4096, SHA },
		{ 0, BYTES / 2, BYTES + 4096, "short" },
		{ 1, BYTES / 2, BYTES + 4096, SHA }, /* chunks of no bytes */
	};
	struct bench bench;
	struct device gpu;
	struct stat file = file_of(1);
	struct store_wish wish = { .device = &gpu, .file = &file };
	struct store_copy *copy = NULL;
	struct store_copy *again = NULL;
	struct err err = ERR_NULL;
	int sockets[2];
	int fds[3];

	(void)state;
	bench_init(&bench);
	device_init_nvml(&gpu, "cuda:0", NULL);
	assert_int_equal(store_take(&bench.store, &wish, &copy, &err), 0);
	assert_true(store_copy_is_placed(copy));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	for (size_t i = 0; i < 3; i++)
		assert_true((fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(store_copy_place(copy, &bad[i], fds, 3, SHA), -EBADMSG);
	assert_int_equal(store_copy_place(copy, &good, fds, 2, SHA), -EBADMSG);
	assert_int_equal(store_copy_place(copy, &good, fds, 0, SHA), -EBADMSG);
	assert_int_equal(store_copy_place(copy, &good, fds, 3, "short"), -EBADMSG);
	/* Such a copy could hold anything. */
	assert_int_equal(store_copy_place(copy, &good,
	                                  (int[]){ fds[0], fds[1], sockets[0] }, 3, SHA),
	                 -EBADMSG);
	assert_null(store_find(&bench.store, &gpu, &file));
	assert_int_equal(store_copy_place(copy, &good, fds, 3, SHA), 0);
	assert_int_equal(fds[0], -1);
	assert_ptr_equal(store_find(&bench.store, &gpu, &file), copy);
	assert_null(store_find(&bench.store, &bench.device, &file));
	assert_int_equal(copy->use.memory_bytes, BYTES + 4096);
	/* A copy that was of no use to one loader is given to no other. */
	store_copy_spoil(copy);
	store_copy_spoil(copy);
	assert_null(store_find(&bench.store, &gpu, &file));
	assert_int_equal(store_take(&bench.store, &wish, &again, &err), 0);
	assert_ptr_not_equal(again, copy);
	fds[0] = copy->fds[0];
	store_copy_unref(again);
	store_copy_unref(copy);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	assert_int_equal(close(sockets[0]), 0);
	assert_int_equal(close(sockets[1]), 0);
	device_fini(&gpu);
	bench_fini(&bench);
}

/* A copy that nobody needs any more becomes a part of the next. */
static void test_scrap(void **state)
{
	const struct store_chunks first = { 0, BYTES / 2, BYTES, SHA };
	const struct store_chunks second = { 1, BYTES / 2, BYTES, SHA };
	const struct store_chunks other = { 1, BYTES / 2 - 1, BYTES, SHA };
	struct bench bench;
	struct device gpu;
	struct stat files[] = { file_of(1), file_of(2) };
	struct store_wish wish = { .device = &gpu };
	struct store_copy *copies[2];
	struct store_copy *old;
	struct err err = ERR_NULL;
	int fds[3];
	int kept;

	(void)state;
	bench_init(&bench);
	device_init_nvml(&gpu, "cuda:0", NULL);
	for (size_t i = 0; i < 3; i++)
		assert_true((fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
	for (size_t i = 0; i < 2; i++) {
		wish.file = &files[i];
		assert_int_equal(store_take(&bench.store, &wish, &copies[i], &err), 0);
	}
	assert_int_equal(store_copy_place(copies[0], &first, fds, 2, SHA), 0);
	kept = copies[0]->fds[0];
	/* A copy that somebody else holds does not. */
	old = store_copy_ref(copies[0]);
	store_copy_give(copies[1], &old);
	assert_ptr_equal(old, copies[0]);
	store_copy_unref(old);
	store_copy_give(copies[1], &copies[0]);
	assert_null(copies[0]);
	assert_null(store_find(&bench.store, &gpu, &files[0]));
	assert_int_equal(store_copy_place(copies[1], &other, &fds[2], 1, SHA), -EBADMSG);
	assert_int_equal(store_copy_place(copies[1], &second, &fds[2], 1, SHA), 0);
	assert_int_equal(copies[1]->fds[0], kept);
	assert_int_equal(copies[1]->n_fds, 2);
	assert_null(copies[1]->scrap);
	store_copy_unref(copies[1]);
	assert_int_equal(fcntl(kept, F_GETFD), -1);
	device_fini(&gpu);
	bench_fini(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_full_ones_are_found),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_scrap),
		cmocka_unit_test(test_memory_counts_once),
		cmocka_unit_test(test_what_is_not_sealed_is_not_shared),
		cmocka_unit_test(test_more_seals_do_no_harm),
		cmocka_unit_test(test_one_fills_and_others_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
