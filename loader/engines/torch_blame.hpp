/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Tells whether an exception of forward is the request's fault, as far as can be told.
 *
 * The interpreter turns every exception into a runtime_error with a text, libtorch's own
 * kinds (c10::IndexError, c10::ValueError) among them, so the last line of the text decides:
 *
 * - the model raised ValueError, IndexError or KeyError itself, which is how it refuses an input;
 * - an index into a tensor is out of range. The request brings indices, and warming up has
 *   computed with valid ones. An index into a Python list of the model's own does not count;
 * - shapes do not go together, and the configuration leaves open, behind the batch, a dim
 *   that the request has filled in. Where all dims are declared the decoder has checked
 *   them, and the model is wrong.
 *
 * The texts are those of libtorch 1.13 and 2.x. A text that changes one day counts as the
 * model's fault, as all did without this file.
 */

#include <initializer_list>
#include <string>

#include "loader/engine.h"

namespace
{

bool has_any(const std::string &text, std::initializer_list<const char *> marks)
{
	for (const char *mark : marks)
		if (text.find(mark) != std::string::npos)
			return true;
	return false;
}

/* Returns the line behind the interpreter's stack, or the first line where there is no stack. */
std::string last_word(const std::string &text)
{
	size_t end = text.find_last_not_of(" \n");
	size_t start;

	if (end == std::string::npos)
		return text;
	if (text.find("TorchScript interpreter") == std::string::npos)
		return text.substr(0, text.find('\n'));
	start = text.rfind('\n', end);
	return text.substr(start == std::string::npos ? 0 : start + 1,
	                   end - (start == std::string::npos ? 0 : start + 1) + 1);
}

bool is_raised(const std::string &line)
{
	for (const char *kind : { "ValueError: ", "IndexError: ", "KeyError: " })
		if (line.rfind(std::string("builtins.") + kind, 0) == 0)
			return true;
	return false;
}

bool is_about_index(const std::string &line)
{
	if (has_any(line, { "list index", "tuple index" }))
		return false;
	return has_any(line, { "Class values must be smaller than num_classes" }) ||
	       (has_any(line, { "index", "Index" }) &&
	        has_any(line, { "out of range", "out of bounds" }));
}

bool is_about_shape(const std::string &line)
{
	return has_any(line,
	               { "must match the size of tensor", "must match the existing size",
	                 "shapes cannot be multiplied", "is invalid for input of size",
	                 "Sizes of tensors must match",
	                 "Tensors must have same number of dimensions",
	                 "expects each tensor to be equal size", "exceeds dimension size",
	                 "expected input", "Expected size for first two dimensions",
	                 "does not broadcast with", "sum exactly to", "has inconsistent",
	                 "size mismatch", "can't be greater than actual input size",
	                 "Output size is too small" });
}

bool leaves_shape_open(const struct engine_config *config)
{
	for (size_t i = 0; i < config->n_inputs; i++)
		for (uint32_t j = 1; j < config->inputs[i].shape.rank; j++)
			if (config->inputs[i].shape.dims[j] == TENSOR_DIM_ANY)
				return true;
	return false;
}

bool is_requests_fault(const struct engine_config *config, const char *what)
{
	const std::string line = last_word(what);

	return is_raised(line) || is_about_index(line) ||
	       (leaves_shape_open(config) && is_about_shape(line));
}

} /* namespace */
