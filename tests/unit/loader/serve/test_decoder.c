/* SPDX-License-Identifier: Apache-2.0 */

/* The thread that decodes: what it takes, in which order it gives back, and what is cancelled. */

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/serve/decoder.h"
#include "shared/clock.h"

#define LEASES 8
/* So many elements make a body that takes long. */
#define N_ELEMENTS 70000

static const struct tensor_spec spec = {
	.name = "x",
	.dtype = TENSOR_DTYPE_FP32,
	.shape = { 1, { TENSOR_DIM_ANY } },
};

/* The request arena has a head, a large body, and the same with a wrong end. */
struct bench {
	struct proto_rings *rings;
	struct oip_model model;
	struct lane lane;
	struct decoder *decoder;
	struct decoder_request *request;
	size_t head_bytes;
	size_t body_bytes;
	unsigned char arena[2 * (N_ELEMENTS * 4 + 512)];
};

static int setup(void **state)
{
	static const struct proto_text nothing = { "", 0 };
	struct bench *bench = calloc(1, sizeof(*bench));
	char *body;

	assert_non_null(bench);
	bench->model = (struct oip_model){
		.name = "m",
		.inputs = &spec,
		.n_inputs = 1,
		.outputs = &spec,
		.n_outputs = 1,
		.max_body_bytes = sizeof(bench->arena),
	};
	bench->lane = (struct lane)LANE_NULL;
	bench->rings = calloc(1, sizeof(*bench->rings));
	assert_non_null(bench->rings);
	bench->lane.head = bench->rings;
	bench->lane.leases = LEASES;
	bench->lane.requests.base = bench->arena;
	bench->lane.loader_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(bench->lane.loader_bell >= 0);
	bench->head_bytes = proto_head_bytes(nothing, nothing, NULL, 0);
	proto_head_write(bench->arena, nothing, nothing, NULL, 0);
	body = (char *)bench->arena + 256;
	bench->body_bytes = (size_t)sprintf(body,
	                                    "{\"inputs\":[{\"name\":\"x\",\"datatype\":"
	                                    "\"FP32\",\"shape\":[%d],\"data\":[7",
	                                    N_ELEMENTS);
	for (int i = 1; i < N_ELEMENTS; i++)
		bench->body_bytes +=
			(size_t)sprintf(body + bench->body_bytes, ",%d", i % 100 + 100);
	bench->body_bytes += (size_t)sprintf(body + bench->body_bytes, "]}]}");
	memcpy(body + bench->body_bytes, body, bench->body_bytes - 1);
	body[2 * bench->body_bytes - 1] = '!';
	bench->request = decoder_request_new();
	assert_non_null(bench->request);
	assert_int_equal(decoder_new(&bench->decoder, &bench->lane, &bench->model), 0);
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;

	decoder_free(bench->decoder);
	decoder_request_free(bench->request);
	assert_int_equal(close(bench->lane.loader_bell), 0);
	free(bench->rings);
	free(bench);
	return 0;
}

static struct proto_submit make(const struct bench *bench, uint64_t lease)
{
	return (struct proto_submit){
		.lease = lease,
		.head_bytes = (uint32_t)bench->head_bytes,
		.body_offset = 256,
		.body_bytes = bench->body_bytes,
		.deadline_ns = UINT64_MAX,
	};
}

static void give(struct bench *bench, uint64_t lease)
{
	const struct proto_submit submit = make(bench, lease);

	assert_true(decoder_give(bench->decoder, &submit));
}

/* Waits until so many requests were decoded. */
static void await(struct bench *bench, uint64_t n)
{
	while (atomic_load(&bench->rings->progress) < n) {
		struct pollfd pollfd = { .fd = bench->lane.loader_bell,
			                 .events = POLLIN };
		uint64_t rings;

		assert_int_equal(poll(&pollfd, 1, 60000), 1);
		(void)!read(bench->lane.loader_bell, &rings, sizeof(rings));
	}
}

static void take(struct bench *bench, uint64_t lease, int status)
{
	while (!decoder_take(bench->decoder, &bench->request)) {
		struct pollfd pollfd = { .fd = bench->lane.loader_bell,
			                 .events = POLLIN };
		uint64_t rings;

		assert_int_equal(poll(&pollfd, 1, 60000), 1);
		(void)!read(bench->lane.loader_bell, &rings, sizeof(rings));
	}
	assert_int_equal(bench->request->submit.lease, lease);
	assert_int_equal(bench->request->status, status);
	if (status == 0) {
		const struct engine_tensor *input = &bench->request->request.inputs[0];
		float first;

		assert_int_equal(input->bytes, N_ELEMENTS * sizeof(float));
		memcpy(&first, input->data, sizeof(first));
		assert_true(first == 7);
	}
}

/* Only what takes long is taken over. */
static void test_what_it_takes(void **state)
{
	struct bench *bench = *state;
	struct proto_submit submit = make(bench, 1);

	submit.body_bytes = 4096;
	assert_false(decoder_give(bench->decoder, &submit));
	submit.body_bytes = 256 * 1024;
	assert_false(decoder_give(bench->decoder, &submit));
	assert_false(decoder_take(bench->decoder, &bench->request));
	submit.body_bytes = 256 * 1024 + 1;
	assert_true(decoder_give(bench->decoder, &submit));
	take(bench, 1, 400); /* the JSON ends in the middle */
	assert_false(decoder_take(bench->decoder, &bench->request));
}

static void test_order(void **state)
{
	struct bench *bench = *state;

	for (uint64_t round = 0; round < 3; round++) {
		for (uint64_t i = 1; i <= LEASES; i++)
			give(bench, round * LEASES + i);
		for (uint64_t i = 1; i <= LEASES; i++)
			take(bench, round * LEASES + i, 0);
		assert_false(decoder_take(bench->decoder, &bench->request));
	}
}

/* A request that waits can be cancelled, one that has been begun cannot. As long as nobody takes
 * one, no more than DECODER_SLOTS are begun. */
static void test_cancel(void **state)
{
	struct bench *bench = *state;

	assert_false(decoder_cancel(bench->decoder, 1));
	for (uint64_t i = 1; i <= 5; i++)
		give(bench, i);
	await(bench, DECODER_SLOTS);
	assert_false(decoder_cancel(bench->decoder, 1));
	assert_false(decoder_cancel(bench->decoder, 2));
	assert_true(decoder_cancel(bench->decoder, 4));
	assert_false(decoder_cancel(bench->decoder, 4));
	assert_false(decoder_cancel(bench->decoder, 6));
	take(bench, 1, 0);
	take(bench, 2, 0);
	take(bench, 3, 0);
	take(bench, 5, 0);
	assert_false(decoder_take(bench->decoder, &bench->request));
}

/* A refusal comes back in its place, and says why. */
static void test_refusals(void **state)
{
	struct bench *bench = *state;
	struct proto_submit late = make(bench, 2);
	struct proto_submit broken = make(bench, 3);

	late.deadline_ns = 1;
	broken.body_offset += bench->body_bytes;
	give(bench, 1);
	assert_true(decoder_give(bench->decoder, &late));
	assert_true(decoder_give(bench->decoder, &broken));
	give(bench, 4);
	take(bench, 1, 0);
	take(bench, 2, 504);
	assert_string_equal(bench->request->err.text, DECODER_LATE);
	take(bench, 3, 400);
	assert_true(*bench->request->err.text != '\0');
	take(bench, 4, 0);
	assert_false(decoder_is_late(bench->request));
	bench->request->submit.deadline_ns = clock_now_ns();
	assert_true(decoder_is_late(bench->request));
}

/* The end waits for nobody but the request that is being decoded. */
static void test_end_with_work(void **state)
{
	struct bench *bench = *state;

	for (uint64_t i = 1; i <= LEASES; i++)
		give(bench, i);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_it_takes), TEST(test_order),         TEST(test_cancel),
		TEST(test_refusals),      TEST(test_end_with_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
