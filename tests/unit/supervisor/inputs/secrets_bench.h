/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A bench for the supervisor's side of secrets: real directories in, sealed memory out. Every
 * failure ends the test. */

#include <stddef.h>

#include "supervisor/inputs/secrets.h"

/* Bytes that are enough for the text of a case. */
#define SECRETS_BENCH_TEXT_MAX 512

/* A case that finds itself beside an empty directory "s". */
#define SECRETS_BENCH_TEST(test)                                                         \
	cmocka_unit_test_setup_teardown(test, secrets_bench_enter, secrets_bench_leave)

/* Setup and teardown of cmocka. The end fails when a descriptor is left. */
int secrets_bench_enter(void **state);
int secrets_bench_leave(void **state);

/* Writes "name=value;" for each secret, as the loader will find them; '0' for a NUL byte. */
void secrets_bench_text(const struct secrets *secrets, char *ret_text, size_t size);
