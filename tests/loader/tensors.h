/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the tests of moult-loader with engines that take tensors share: identity, and fault, which
 * fails on request.
 */

#include <stddef.h>

#include "tests/loader/drive.h"

#define TENSORS_ARENA_BYTES ((size_t)4 << 20)

/* A case that leaves no child and no descriptor. */
#define TENSORS_TEST(test)                                                               \
	cmocka_unit_test_setup_teardown(test, tensors_enter, tensors_leave)

/* Setup and teardown of cmocka. */
int tensors_enter(void **state);
int tensors_leave(void **state);

/* Sets an option of the engine. */
void tensors_set_option(json_t *config, const char *name, const char *value);
/* Sets a key of the model. */
void tensors_set_number(json_t *config, const char *name, int value);

/* A request with the id abc and the numbers 1 to 4. */
extern const char tensors_one_to_four[];
/* Writes a request of one row, @first and 0, into @body, and returns its bytes. */
size_t tensors_make_row(char *body, float first);
/* Fails if the body of @answer has no @part. */
void tensors_assert_has(const struct drive *drive, const struct proto_answer *answer,
                        const char *part);
