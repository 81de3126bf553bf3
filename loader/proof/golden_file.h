/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A golden request's file, read and checked against the model:
 *
 *	{"request": BODY, "response": BODY,
 *	 "tolerance": {"abs": 1e-4, "OUTPUT": {"abs": 0.01, "rel": 0}},
 *	 "max_latency_ms": 20, "recorded": anything, "comment": anything}
 *
 * tolerance, max_latency_ms, recorded and comment may be missing. BODY is in
 * loader/proof/golden_body.h. The outputs of the response are compared, and each must be one of
 * the model's; other keys of the response are ignored.
 */

#include <stdint.h>

#include "loader/proof/golden_compare.h"
#include "loader/oip/oip.h"
#include "loader/proof/rehearsal.h"
#include "shared/err.h"

#define GOLDEN_FILE_BYTES_MAX ((size_t)16 << 20)
#define GOLDEN_BODY_BYTES_MAX ((size_t)64 << 20) /* of a response, inflated */

struct golden_output {
	uint32_t output; /* index into the model's outputs */
	struct golden_tolerance tolerance;
};

struct golden_file {
	struct rehearsal request;
	struct oip_request expected;  /* the outputs, decoded as inputs are */
	unsigned char *expected_body; /* expected points into it */
	struct tensor_spec specs[ENGINE_TENSORS_MAX];
	struct golden_output outputs[ENGINE_TENSORS_MAX];
	size_t n_outputs;
	double max_latency_ms; /* 0: any */
};

/* Reads @name in the directory @dir_fd. Borrows @model until golden_file_free(), which has to
 * follow in any case. 0; ENGINE_E_CONFIG with a sentence about the file's content, without its
 * name; ENGINE_E_FAILED with a sentence. */
int golden_file_new(struct golden_file **ret_file, int dir_fd, const char *name,
                    const struct oip_model *model, struct err *err);
void golden_file_free(struct golden_file *file); /* accepts NULL */
