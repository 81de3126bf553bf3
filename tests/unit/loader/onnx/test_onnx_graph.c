/* SPDX-License-Identifier: Apache-2.0 */

/* An .onnx file taken apart: what is taken, what stays, and files that are cut or lie. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/engine.h"
#include "loader/onnx/graph.h"

#define RAW_BYTES 4096

/* A message that grows. */
struct text {
	unsigned char data[4 * RAW_BYTES];
	size_t bytes;
};

static void add(struct text *text, const void *data, size_t bytes)
{
	assert_true(text->bytes + bytes <= sizeof(text->data));
	memcpy(text->data + text->bytes, data, bytes);
	text->bytes += bytes;
}

static void add_number(struct text *text, uint64_t number)
{
	do {
		unsigned char byte = (unsigned char)(number & 0x7f);

		number >>= 7;
		byte |= number ? 0x80 : 0;
		add(text, &byte, 1);
	} while (number);
}

static void add_field(struct text *text, unsigned int number, const void *data,
                      size_t bytes)
{
	add_number(text, number << 3 | 2);
	add_number(text, bytes);
	add(text, data, bytes);
}

static void add_value(struct text *text, unsigned int number, uint64_t value)
{
	add_number(text, number << 3);
	add_number(text, value);
}

/* An initializer "W" of FP32, rows x 4, with so many bytes of data. */
static void add_tensor(struct text *graph, uint64_t rows, size_t bytes)
{
	static const unsigned char raw[2 * RAW_BYTES];
	static struct text tensor;

	tensor.bytes = 0;
	add_value(&tensor, 1, rows);
	add_value(&tensor, 1, 4);
	add_value(&tensor, 2, ORT_TYPE_FLOAT);
	add_field(&tensor, 8, "W", 1);
	add_field(&tensor, 9, raw, bytes);
	add_field(graph, 5, tensor.data, tensor.bytes);
}

static void add_input(struct text *graph, const char *name)
{
	static const unsigned char type[] = { 10, 4, 8, 1, 18, 0 };
	struct text *info = calloc(1, sizeof(*info));

	assert_non_null(info);
	add_field(info, 1, name, strlen(name));
	add_field(info, 2, type, sizeof(type));
	add_field(graph, 11, info->data, info->bytes);
	free(info);
}

static struct text graph_text;
static struct text model_text;

static void begin(void)
{
	graph_text.bytes = model_text.bytes = 0;
	add_value(&model_text, 1, 8);
}

static int read_model(struct graph *graph, size_t bytes)
{
	struct err err = ERR_NULL;
	int r = graph_read(graph, model_text.data, bytes, &err);

	assert_int_equal(r != 0, err.text[0] != '\0');
	return r;
}

static void test_taken(void **state)
{
	struct graph graph;

	(void)state;
	begin();
	add_tensor(&graph_text, RAW_BYTES / 16, RAW_BYTES);
	add_input(&graph_text, "x");
	add_field(&model_text, 7, graph_text.data, graph_text.bytes);
	assert_int_equal(read_model(&graph, model_text.bytes), 0);
	assert_int_equal(graph.n_tensors, 1);
	assert_string_equal(graph.tensors[0].name, "W");
	assert_int_equal(graph.tensors[0].type, ORT_TYPE_FLOAT);
	assert_int_equal(graph.tensors[0].bytes, RAW_BYTES);
	assert_int_equal(graph.tensors[0].rank, 2);
	assert_int_equal(graph.tensors[0].dims[0], RAW_BYTES / 16);
	assert_true(graph.has_shapes);
	/* Nothing of the data is left, and the tensor is an input. */
	assert_true(graph.model_bytes < 100);
	assert_non_null(memmem(graph.model, graph.model_bytes, "W", 1));
	graph_drop(&graph);
}

static void test_stays(void **state)
{
	static const struct {
		uint64_t rows;
		size_t bytes;
		const char *input;
		int want;
	} cases[] = {
		{ RAW_BYTES / 16, RAW_BYTES, "W", ENGINE_E_PRIVATE },
		{ RAW_BYTES / 16 + 1, RAW_BYTES, "x", ENGINE_E_PRIVATE },
		{ UINT64_MAX / 2, RAW_BYTES, "x", ENGINE_E_PRIVATE },
		{ UINT64_MAX, RAW_BYTES, "x", ENGINE_E_PRIVATE },
		{ 0, RAW_BYTES, "x", ENGINE_E_PRIVATE },
		{ 1, 16, "x", 0 }, /* too small to count */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct graph graph;

		begin();
		add_tensor(&graph_text, cases[i].rows, cases[i].bytes);
		add_input(&graph_text, cases[i].input);
		add_field(&model_text, 7, graph_text.data, graph_text.bytes);
		assert_int_equal(read_model(&graph, model_text.bytes), cases[i].want);
		assert_int_equal(graph.n_tensors, 0);
		graph_drop(&graph);
	}
}

static void test_cut(void **state)
{
	struct graph graph;

	(void)state;
	begin();
	add_tensor(&graph_text, RAW_BYTES / 16, RAW_BYTES);
	add_field(&model_text, 7, graph_text.data, graph_text.bytes);
	for (size_t bytes = 3; bytes < model_text.bytes; bytes += 7) {
		assert_int_equal(read_model(&graph, bytes), ENGINE_E_PRIVATE);
		graph_drop(&graph);
	}
	/* A second graph would be merged with the first. */
	add_field(&model_text, 7, "", 0);
	assert_int_equal(read_model(&graph, model_text.bytes), ENGINE_E_PRIVATE);
	graph_drop(&graph);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_stays),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
