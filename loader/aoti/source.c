/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The checks of a wrapper, as torch 2.6 and newer ones write them, a statement a line:
 *
 *	ConstantHandle arg2_1 = ConstantHandle(input_handles[0]);
 *	int32_t arg2_1_expected_dtype = aoti_torch_dtype_float32();
 *	if (4 != arg2_1_size[1]) {                      a dim that is fixed
 *	if (arg2_1_size[0] < 2) {                       bounds of one that is open
 *	if (arg2_1_size[0] > 64) {
 *	if (1 != arg2_1_stride[1]) {                    the last dim has a stride: the rank
 *
 * A least size of 2 stands for one of 1 as well: torch.export never assumes more of an open dim.
 * What is not understood leaves the input unknown.
 */
#include "loader/aoti/source.h"

#include <stdio.h>
#include <string.h>

#include "loader/aoti/abi.h"

#define SOURCE_LINE_MAX 256

static const struct {
	const char *name;
	int32_t dtype;
} source_dtypes[] = {
	{ "uint8", AOTI_DTYPE_UINT8 },     { "int8", AOTI_DTYPE_INT8 },
	{ "int16", AOTI_DTYPE_INT16 },     { "int32", AOTI_DTYPE_INT32 },
	{ "int64", AOTI_DTYPE_INT64 },     { "float16", AOTI_DTYPE_FLOAT16 },
	{ "float32", AOTI_DTYPE_FLOAT32 }, { "float64", AOTI_DTYPE_FLOAT64 },
	{ "bool", AOTI_DTYPE_BOOL },       { "bfloat16", AOTI_DTYPE_BFLOAT16 },
	{ "uint16", AOTI_DTYPE_UINT16 },   { "uint32", AOTI_DTYPE_UINT32 },
	{ "uint64", AOTI_DTYPE_UINT64 },
};

/* The input that the lines are about. */
struct source {
	struct source_input *inputs;
	size_t n;
	struct source_input *input; /* NULL: none yet */
	char name[TENSOR_NAME_MAX]; /* of its variable */
};

/* True: @word is the input's variable with @end behind it. */
static bool source_is(const struct source *source, const char *word, const char *end)
{
	size_t bytes = strlen(source->name);

	return source->input && strncmp(word, source->name, bytes) == 0 &&
	       strcmp(word + bytes, end) == 0;
}

static void source_take_handle(struct source *source, const char *line)
{
	char name[TENSOR_NAME_MAX];
	char word[TENSOR_NAME_MAX];
	unsigned int i;

	if (sscanf(line, " %63s %63[A-Za-z0-9_] = ConstantHandle(input_handles[%u]);",
	           word, name, &i) != 3 ||
	    i >= source->n)
		return;
	source->input = &source->inputs[i];
	memcpy(source->name, name, sizeof(name));
}

static void source_take_dtype(struct source *source, const char *line)
{
	char word[SOURCE_LINE_MAX];
	char dtype[32];

	if (sscanf(line, " int32_t %255[A-Za-z0-9_] = aoti_torch_dtype_%31[a-z0-9_]()",
	           word, dtype) != 2 ||
	    !source_is(source, word, "_expected_dtype"))
		return;
	for (size_t i = 0; i < sizeof(source_dtypes) / sizeof(source_dtypes[0]); i++)
		if (strcmp(dtype, source_dtypes[i].name) == 0) {
			source->input->dtype = source_dtypes[i].dtype;
			source->input->is_known = true;
		}
}

/* The dim at @at, which is one more than are known so far, or fewer. */
static bool source_has_dim(struct source *source, unsigned int at)
{
	struct tensor_shape *shape = &source->input->shape;

	if (at >= TENSOR_RANK_MAX) {
		source->input->is_known = false;
		return false;
	}
	while (shape->rank <= at) {
		source->input->least[shape->rank] = 1;
		shape->dims[shape->rank++] = TENSOR_DIM_ANY;
	}
	return true;
}

static void source_take_fixed(struct source *source, const char *line)
{
	char word[SOURCE_LINE_MAX];
	long long number;
	unsigned int at;

	if (sscanf(line, " if (%lld != %255[A-Za-z0-9_][%u])", &number, word, &at) != 3)
		return;
	if (source_is(source, word, "_size") && source_has_dim(source, at))
		source->input->shape.dims[at] = number;
	else if (source_is(source, word, "_stride"))
		(void)source_has_dim(source, at);
}

static void source_take_bound(struct source *source, const char *line)
{
	char word[SOURCE_LINE_MAX];
	unsigned int at;
	char sign;
	long long number;

	if (sscanf(line, " if (%255[A-Za-z0-9_][%u] %c %lld)", word, &at, &sign,
	           &number) != 4 ||
	    !source_is(source, word, "_size") || !source_has_dim(source, at))
		return;
	if (sign == '<')
		source->input->least[at] = number <= 2 ? 1 : number;
	else if (sign == '>')
		source->input->most[at] = number;
}

void source_read(struct source_input *inputs, size_t n, const char *text, size_t bytes)
{
	struct source source = { .inputs = inputs, .n = n };
	const char *end = text + bytes;

	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		size_t line_bytes = (size_t)((stop ? stop : end) - text);
		char line[SOURCE_LINE_MAX];

		if (line_bytes < sizeof(line)) {
			memcpy(line, text, line_bytes);
			line[line_bytes] = '\0';
			source_take_handle(&source, line);
			source_take_dtype(&source, line);
			source_take_fixed(&source, line);
			source_take_bound(&source, line);
		}
		text += line_bytes + 1;
	}
}
