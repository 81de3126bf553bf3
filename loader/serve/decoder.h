/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A thread beside the one that computes, for requests that take long to decode: compressed ones
 * and large ones in JSON. Other requests need not wait for them. Requests that go through the
 * thread keep their order.
 *
 * The thread starts with the first such request. It may have as many requests as the lane has
 * leases, but holds at most DECODER_SLOTS bodies in their decoded form.
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

/* While one request is decoded, another one waits to be taken. */
#define DECODER_SLOTS 2
/* The sentence for the client of a request with status 504. */
#define DECODER_LATE "the request's deadline passed while it waited"

/* A request on its way from the lane into a batch. */
struct decoder_request {
	struct proto_submit submit;
	struct oip_request request;
	uint64_t decode_ns;
	/* 0; the HTTP status of a refusal, or -EBADMSG for a head that the supervisor has
	 * written wrongly, both with a sentence. */
	int status;
	struct err err;
};

/* NULL: out of memory. */
struct decoder_request *decoder_request_new(void);
void decoder_request_free(struct decoder_request *request); /* accepts NULL */

struct decoder;

/* Borrows @lane and @model. 0 or -ENOMEM. */
int decoder_new(struct decoder **ret_decoder, struct lane *lane,
                const struct oip_model *model);
/* Waits for the request that is being decoded. Accepts NULL. */
void decoder_free(struct decoder *decoder);

/* Decodes @request->submit in the calling thread. */
void decoder_decode(const struct lane *lane, const struct oip_model *model,
                    struct decoder_request *request);

/* True when the deadline of the request, or its own timeout, has passed. */
bool decoder_is_late(const struct decoder_request *request);

/* Takes @submit over when it takes long to decode. False: the caller decodes it. */
bool decoder_give(struct decoder *decoder, const struct proto_submit *submit);

/* Exchanges *@request, whose content is of no more use, for the next decoded request. False:
 * none is decoded now; the lane's bell rings when one is. */
bool decoder_take(struct decoder *decoder, struct decoder_request **request);

/* Forgets a request whose decoding has not begun. False: no such request waits here. */
bool decoder_cancel(struct decoder *decoder, uint64_t lease);
