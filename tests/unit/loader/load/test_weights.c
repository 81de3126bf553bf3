/* SPDX-License-Identifier: Apache-2.0 */

/* A model file in each of the ways of enum weights_share. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/load/weights.h"

#define SHA256_OF_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static int make_file(const char *content)
{
	int fd = memfd_create("weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	return fd;
}

static int make_store(off_t bytes)
{
	int fd = make_file("");

	assert_int_equal(ftruncate(fd, bytes), 0);
	return fd;
}

static void test_ways(void **state)
{
	static const struct {
		const char *name;
		enum weights_share share;
		bool is_lean;
		bool has_store;
		const char *known; /* the hash that is given */
		const char *sha256;
		bool has_data;
		uint64_t passed; /* bytes, as somebody who looks on sees them */
	} rows[] = {
		{ "private", WEIGHTS_PRIVATE, false, false, NULL, SHA256_OF_ABC, true,
		  3 },
		{ "private, lean", WEIGHTS_PRIVATE, true, false, NULL, SHA256_OF_ABC,
		  false, 3 },
		{ "private, lean, known", WEIGHTS_PRIVATE, true, false, "known", "known",
		  false, 0 },
		{ "fill", WEIGHTS_FILL, false, true, NULL, SHA256_OF_ABC, true, 3 },
		{ "fill, lean", WEIGHTS_FILL, true, true, NULL, SHA256_OF_ABC, false, 3 },
		{ "map", WEIGHTS_MAP, false, false, NULL, SHA256_OF_ABC, true, 3 },
		{ "map, known", WEIGHTS_MAP, false, false, "known", "known", true, 3 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		_Atomic uint64_t passed = 0;
		struct weights_source source = {
			.share = rows[i].share,
			.is_lean = rows[i].is_lean,
			.fd = make_file("abc"),
			.store_fd = rows[i].has_store ? make_store(3) : -1,
			.path = "model.pt",
			.sha256 = rows[i].known,
			.passed = &passed,
		};
		struct weights weights;
		struct err err = ERR_NULL;

		if (weights_init(&weights, &source, &err) != 0)
			fail_msg("%s: %s", rows[i].name, err.text);
		assert_int_equal(weights.share, rows[i].share);
		assert_int_equal(weights.bytes, 3);
		assert_string_equal(weights.sha256, rows[i].sha256);
		assert_int_equal(atomic_load(&passed), rows[i].passed);
		assert_int_equal(weights.data != NULL, rows[i].has_data);
		if (weights.data)
			assert_memory_equal(weights.data, "abc", 3);
		assert_int_equal(weights_check(&weights, "model.pt", &err), 0);
		weights_drop(&weights);
		/* Size and hash stay, the descriptors are closed. */
		assert_int_equal(weights.bytes, 3);
		assert_int_equal(fcntl(source.fd, F_GETFD), -1);
		assert_int_equal(fcntl(source.store_fd, F_GETFD), -1);
	}
}

static void test_refusals(void **state)
{
	static const struct {
		const char *path; /* NULL: a descriptor with content */
		const char *content;
		off_t store_bytes; /* 0: no store */
		const char *why;
	} rows[] = {
		{ "/nonexistent/model.pt", NULL, 0, "cannot open model file" },
		{ "/", NULL, 0, "not a regular file" },
		{ "/dev/null", NULL, 0, "not a regular file" },
		{ NULL, "", 0, "is empty" },
		{ NULL, "abc", 2, "changed while it was read" },
		{ NULL, "abc", 4, "changed while it was read" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct weights_source source = {
			.share = rows[i].store_bytes ? WEIGHTS_FILL : WEIGHTS_PRIVATE,
			.fd = rows[i].path ? -1 : make_file(rows[i].content),
			.store_fd = rows[i].store_bytes ? make_store(rows[i].store_bytes)
			                                : -1,
			.path = rows[i].path ? rows[i].path : "model.pt",
		};
		struct weights weights;
		struct err err = ERR_NULL;

		assert_int_equal(weights_init(&weights, &source, &err),
		                 WEIGHTS_E_REFUSED);
		if (!strstr(err.text, rows[i].why))
			fail_msg("%s", err.text);
		/* Both descriptors are taken, also on failure. */
		assert_int_equal(weights.fd, -1);
		assert_int_equal(fcntl(source.fd, F_GETFD), -1);
		assert_int_equal(fcntl(source.store_fd, F_GETFD), -1);
	}
}

/* A sealed store is what all map, and nobody changes it. */
static void test_store(void **state)
{
	struct weights_source source = {
		.share = WEIGHTS_FILL,
		.is_lean = true,
		.fd = make_file("abc"),
		.store_fd = make_store(3),
		.path = "model.pt",
	};
	int store = dup(source.store_fd);
	struct weights weights;
	struct err err = ERR_NULL;
	char got[4] = "";

	(void)state;
	assert_int_equal(weights_init(&weights, &source, &err), 0);
	/* Lean: nothing is in the store before weights_place(). */
	assert_int_equal(weights_seal(&weights, "model.pt", &err), 0);
	assert_int_equal(fcntl(store, F_GET_SEALS) & F_SEAL_WRITE, 0);
	assert_int_equal(weights_place(&weights, "model.pt", &err), 0);
	assert_memory_equal(weights.data, "abc", 3);
	assert_int_equal(weights_seal(&weights, "model.pt", &err), 0);
	assert_int_equal(pwrite(store, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	/* What the model writes is this process' own. */
	((char *)weights.data)[0] = 'x';
	assert_int_equal(pread(store, got, 3, 0), 3);
	assert_string_equal(got, "abc");
	weights_drop(&weights);
	assert_int_equal(close(store), 0);
}

/* A store that is of no use is emptied, though others have it open. */
static void test_unshare(void **state)
{
	struct weights_source source = {
		.share = WEIGHTS_FILL,
		.fd = make_file("abc"),
		.store_fd = make_store(3),
		.path = "model.pt",
	};
	int store = dup(source.store_fd);
	struct weights weights;
	struct err err = ERR_NULL;
	struct stat st;

	(void)state;
	assert_int_equal(weights_init(&weights, &source, &err), 0);
	assert_int_equal(fstat(store, &st), 0);
	assert_true(st.st_blocks > 0);
	weights_unshare(&weights);
	assert_int_equal(weights.share, WEIGHTS_PRIVATE);
	assert_null(weights.data);
	assert_true(weights.fd >= 0 && weights.store_fd < 0);
	assert_int_equal(fstat(store, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(st.st_size, 3);
	weights_drop(&weights);
	assert_int_equal(close(store), 0);
}

static void test_change(void **state)
{
	struct weights_source source = {
		.share = WEIGHTS_PRIVATE,
		.fd = make_file("abc"),
		.store_fd = -1,
		.path = "model.pt",
	};
	struct weights weights;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(weights_init(&weights, &source, &err), 0);
	assert_int_equal(pwrite(source.fd, "d", 1, 3), 1);
	assert_int_equal(weights_check(&weights, "model.pt", &err), WEIGHTS_E_REFUSED);
	assert_non_null(strstr(err.text, "changed while it was read"));
	weights_drop(&weights);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ways),   cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_store),  cmocka_unit_test(test_unshare),
		cmocka_unit_test(test_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
