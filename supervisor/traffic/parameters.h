/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The two parameters of a request that count before a loader has it: `timeout` and
 * `priority`. They stand in its JSON, which otherwise is the loader's business: so this
 * looks for the words first, and parses only a JSON part that is small and has one of
 * them. What it does not find (a large or compressed body, an unusual spelling) costs
 * nothing but the priority: the loader reads the timeout too. It judges nothing; a value
 * that cannot be is left to the loader to refuse. Pure.
 */

#include <stddef.h>
#include <stdint.h>

/* A JSON part that is larger is not looked at. */
#define PARAMETERS_JSON_MAX ((size_t)16384)

struct parameters {
	uint64_t timeout_ns; /* 0: none */
	uint64_t priority;   /* 0: the default; 1: the highest */
};

/* Larger ones are not looked at for their shapes either. */
#define PARAMETERS_SHAPE_JSON_MAX ((size_t)1048576)

void parameters_read(struct parameters *ret_parameters, const void *json, size_t bytes);

/* Datatypes and shapes of the inputs into @text, "FP32[1,64],INT64[1]": numbers and the
 * protocol's own words, nothing else that the client wrote. What cannot be read leaves
 * @text alone, what does not fit is cut off. Parses: for rare occasions. */
void parameters_read_shape(char *text, size_t size, const void *json, size_t bytes);
