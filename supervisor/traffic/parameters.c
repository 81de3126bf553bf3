/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/traffic/parameters.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/tensor.h"

#define NS_PER_US UINT64_C(1000)
/* The flags of the loader, so that what the loader refuses is not read differently
 * here. */
#define PARAMETERS_JSON_FLAGS ((size_t)JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

static bool parameters_has(const void *json, size_t bytes, const char *word)
{
	return memmem(json, bytes, word, strlen(word)) != NULL;
}

/* 0: there is no such key, or its value is no positive integer. */
static uint64_t parameters_get(const json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value > 0 ? (uint64_t)value : 0;
}

void parameters_read(struct parameters *ret_parameters, const void *json, size_t bytes)
{
	json_t *object;
	const json_t *parameters;
	uint64_t timeout_us;

	*ret_parameters = (struct parameters){ 0 };
	if (bytes > PARAMETERS_JSON_MAX || (!parameters_has(json, bytes, "\"timeout\"") &&
	                                    !parameters_has(json, bytes, "\"priority\"")))
		return;
	object = json_loadb(json, bytes, PARAMETERS_JSON_FLAGS, NULL);
	parameters = json_object_get(object, "parameters");
	timeout_us = parameters_get(parameters, "timeout");
	ret_parameters->timeout_ns =
		timeout_us < CLOCK_NEVER / NS_PER_US ? timeout_us * NS_PER_US : 0;
	ret_parameters->priority = parameters_get(parameters, "priority");
	json_decref(object);
}

/* Appends one input's datatype and shape. False: they are not of this protocol. */
static bool parameters_print_input(FILE *stream, const json_t *input)
{
	const char *datatype = json_string_value(json_object_get(input, "datatype"));
	const json_t *dims = json_object_get(input, "shape");
	enum tensor_dtype dtype;
	size_t n = json_array_size(dims);

	if (!datatype || tensor_dtype_from_name(datatype, &dtype) < 0 ||
	    n > TENSOR_RANK_MAX)
		return false;
	(void)fprintf(stream, "%s[", tensor_dtype_name(dtype));
	for (size_t i = 0; i < n; i++)
		(void)fprintf(stream, "%s%lld", i ? "," : "",
		              (long long)json_integer_value(json_array_get(dims, i)));
	(void)fputc(']', stream);
	return true;
}

void parameters_read_shape(char *text, size_t size, const void *json, size_t bytes)
{
	json_t *object = NULL;
	const json_t *inputs;
	bool is_good = true;
	char *shapes = NULL;
	size_t shapes_bytes;
	FILE *stream;

	if (bytes <= PARAMETERS_SHAPE_JSON_MAX)
		object = json_loadb(json, bytes, PARAMETERS_JSON_FLAGS, NULL);
	inputs = json_object_get(object, "inputs");
	stream = open_memstream(&shapes, &shapes_bytes);
	for (size_t i = 0; stream && is_good && i < json_array_size(inputs); i++) {
		if (i > 0)
			(void)fputc(',', stream);
		is_good = parameters_print_input(stream, json_array_get(inputs, i));
	}
	if (stream && fclose(stream) == 0 && is_good && json_array_size(inputs) > 0)
		(void)snprintf(text, size, "%s", shapes);
	free(shapes);
	json_decref(object);
}
