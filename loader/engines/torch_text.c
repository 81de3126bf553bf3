/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/engines/torch_text.h"

#include <stddef.h>
#include <string.h>

#define TORCH_TEXT_INTERPRETER "TorchScript interpreter"

/* A part of an exception's text. */
struct torch_text {
	const char *at;
	size_t bytes;
};

static const char *torch_text_find(struct torch_text in, const char *mark)
{
	return memmem(in.at, in.bytes, mark, strlen(mark));
}

/* True when @in has one of @marks, a list up to a NULL. */
static bool torch_text_has_any(struct torch_text in, const char *const *marks)
{
	while (*marks && !torch_text_find(in, *marks))
		marks++;
	return *marks != NULL;
}

/* Returns the line behind the interpreter's stack, or the first line where there is no stack. */
static struct torch_text torch_text_last_word(const char *text)
{
	size_t end = strlen(text);
	size_t start;

	if (!strstr(text, TORCH_TEXT_INTERPRETER))
		return (struct torch_text){ text, strcspn(text, "\n") };
	while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\n'))
		end--;
	start = end;
	while (start > 0 && text[start - 1] != '\n')
		start--;
	return (struct torch_text){ text + start, end - start };
}

/* Picks the cause out of an error's text, for an operator. The interpreter puts the cause into
 * the last line, behind the kind of error; other errors have it in the first line. */
static struct torch_text torch_text_cause(const char *text)
{
	static const char mark[] = "Error: ";
	struct torch_text line = torch_text_last_word(text);
	const char *kind =
		strstr(text, TORCH_TEXT_INTERPRETER) ? torch_text_find(line, mark) : NULL;

	if (!kind)
		return line;
	kind += sizeof(mark) - 1;
	return (struct torch_text){ kind, (size_t)(line.at + line.bytes - kind) };
}

int torch_text_set(struct err *err, int outcome, const char *prefix, const char *what)
{
	struct torch_text cause = torch_text_cause(what);
	int bytes = cause.bytes < ERR_TEXT_MAX ? (int)cause.bytes : ERR_TEXT_MAX;

	return err_set(err, outcome, "%s%.*s", prefix, bytes, cause.at);
}

int torch_text_fail(struct err *err, int outcome, int memory_outcome, const char *what)
{
	/* cuBLAS and cuDNN say NOT_INITIALIZED when their own first allocation fails. */
	static const char *const memory[] = { "out of memory",
		                              "can't allocate memory",
		                              "Cannot allocate memory",
		                              "bad_alloc",
		                              "CUBLAS_STATUS_ALLOC_FAILED",
		                              "CUBLAS_STATUS_NOT_INITIALIZED",
		                              "CUDNN_STATUS_ALLOC_FAILED",
		                              "CUDNN_STATUS_NOT_INITIALIZED",
		                              NULL };

	/* The interpreter turns every exception into a runtime_error: only the text tells a
	 * lack of memory from other errors. */
	if (torch_text_has_any((struct torch_text){ what, strlen(what) }, memory))
		return torch_text_set(err, memory_outcome,
		                      "libtorch is out of memory: ", what);
	return torch_text_set(err, outcome, "libtorch: ", what);
}

static bool torch_text_is_raised(struct torch_text line)
{
	static const char *const kinds[] = {
		"builtins.ValueError: ", "builtins.IndexError: ", "builtins.KeyError: "
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (torch_text_find(line, kinds[i]) == line.at)
			return true;
	return false;
}

static bool torch_text_is_about_index(struct torch_text line)
{
	static const char *const own[] = { "list index", "tuple index", NULL };
	static const char *const classes[] = {
		"Class values must be smaller than num_classes", NULL
	};
	static const char *const index[] = { "index", "Index", NULL };
	static const char *const out[] = { "out of range", "out of bounds", NULL };

	if (torch_text_has_any(line, own))
		return false;
	return torch_text_has_any(line, classes) ||
	       (torch_text_has_any(line, index) && torch_text_has_any(line, out));
}

static bool torch_text_is_about_shape(struct torch_text line)
{
	static const char *const marks[] = {
		"must match the size of tensor",
		"must match the existing size",
		"shapes cannot be multiplied",
		"is invalid for input of size",
		"Sizes of tensors must match",
		"Tensors must have same number of dimensions",
		"expects each tensor to be equal size",
		"exceeds dimension size",
		"expected input",
		"Expected size for first two dimensions",
		"does not broadcast with",
		"sum exactly to",
		"has inconsistent",
		"size mismatch",
		"can't be greater than actual input size",
		"Output size is too small",
		NULL
	};

	return torch_text_has_any(line, marks);
}

static bool torch_text_leaves_shape_open(const struct engine_config *config)
{
	for (size_t i = 0; i < config->n_inputs; i++)
		for (uint32_t j = 1; j < config->inputs[i].shape.rank; j++)
			if (config->inputs[i].shape.dims[j] == TENSOR_DIM_ANY)
				return true;
	return false;
}

bool torch_text_blames_request(const struct engine_config *config, const char *what)
{
	struct torch_text line = torch_text_last_word(what);

	return torch_text_is_raised(line) || torch_text_is_about_index(line) ||
	       (torch_text_leaves_shape_open(config) && torch_text_is_about_shape(line));
}
