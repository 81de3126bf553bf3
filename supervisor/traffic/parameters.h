/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The two parameters of a request that count before a loader has it: `timeout` and
 * `priority`. Both stand in its JSON, which otherwise is the loader's business. So this
 * module looks for the words first, and parses only a JSON part that is small and has one
 * of them. A parameter that is not found (a large or compressed body, an unusual
 * spelling) costs nothing but the priority: the loader reads the timeout too. A bad value
 * is the loader's to refuse. Pure.
 */

#include <stddef.h>
#include <stdint.h>

/* Larger JSON parts are not looked at. */
#define PARAMETERS_JSON_MAX ((size_t)16384)

struct parameters {
	uint64_t timeout_ns; /* 0: none */
	uint64_t priority;   /* 0: the default; 1: the highest */
};

/* Larger JSON parts are not looked at for their shapes. */
#define PARAMETERS_SHAPE_JSON_MAX ((size_t)1048576)

/* Reads both from the JSON part of a body; one that is absent or bad reads as 0. */
void parameters_read(struct parameters *ret_parameters, const void *json, size_t bytes);

/* Writes datatypes and shapes of the inputs into @text, as in "FP32[1,64],INT64[1]":
 * numbers and the protocol's own words, nothing else of what the client wrote. Leaves
 * @text alone when it cannot read them; cuts off what does not fit. Parses all of the
 * JSON: for rare occasions. */
void parameters_read_shape(char *text, size_t size, const void *json, size_t bytes);
