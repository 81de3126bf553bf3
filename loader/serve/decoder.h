/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A thread that decodes the requests that take long to decode, beside the one that computes:
 * those that come compressed, and large ones in JSON. Others need not wait for them; among
 * themselves they keep their order.
 *
 * It starts with the first such request. The requests in its hands are as many as the lane
 * has leases, but it holds at most DECODER_SLOTS bodies in their decoded form.
 *
 * All functions are for the thread that serves.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/serve/lane.h"
#include "loader/oip/oip.h"
#include "shared/err.h"
#include "shared/proto.h"

/* One is decoded, one waits to be taken. */
#define DECODER_SLOTS 2
/* What the client of a request with status 504 is told. */
#define DECODER_LATE "the request's deadline passed while it waited"

/* A request on its way from the lane into a batch. */
struct decoder_request {
	struct proto_submit submit;
	struct oip_request request;
	uint64_t decode_ns;
	/* What came of the decoding: 0, or the HTTP status of the refusal with a sentence. */
	int status;
	struct err err;
};

struct decoder;

/* Borrows @lane and @model. 0 or -ENOMEM. */
int decoder_new(struct decoder **ret_decoder, struct lane *lane,
                const struct oip_model *model);
/* Waits for the request that is being decoded. Accepts NULL. */
void decoder_free(struct decoder *decoder);

/* Decodes @request->submit, here and now. */
void decoder_decode(const struct lane *lane, const struct oip_model *model,
                    struct decoder_request *request);

/* Decoded, but after its time. */
bool decoder_is_late(const struct decoder_request *request);

/* Takes @submit over if it is one that takes long. False: decode it here. */
bool decoder_give(struct decoder *decoder, const struct proto_submit *submit);

/* Exchanges *@request, which is of no more use, for the next one that is decoded. False:
 * there is none now. The lane's bell rings when there is. */
bool decoder_take(struct decoder *decoder, struct decoder_request **request);

/* Forgets a request that is not being decoded yet. False: it has no such request. */
bool decoder_cancel(struct decoder *decoder, uint64_t lease);
