/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Requests as submitted, the oldest first, until somebody decodes them. The bound is the lane's
 * number of leases: whoever adds a request holds a lease for it, so that there is always room.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/proto.h"

struct backlog {
	struct proto_submit *entries; /* a ring */
	uint32_t mask;
	uint32_t head;
	uint32_t n;
};

/* @leases is a power of two. 0 or -ENOMEM; backlog_fini() in any case. */
int backlog_init(struct backlog *backlog, uint32_t leases);
void backlog_fini(struct backlog *backlog);

void backlog_add(struct backlog *backlog, const struct proto_submit *submit);
/* Takes the oldest request. False: there is none. */
bool backlog_take(struct backlog *backlog, struct proto_submit *ret_submit);
/* Takes the request of @lease out; the order of the others stays. False: there is none. */
bool backlog_drop(struct backlog *backlog, uint64_t lease);
