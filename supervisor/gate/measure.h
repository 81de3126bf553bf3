/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Limits of each client's address: requests_per_address and bytes_per_address. Who the client
 * is, its connection says, and where that is one of trusted_proxies, X-Forwarded-For.
 */

#include "supervisor/config/config.h"
#include "supervisor/gate/clients.h"
#include "supervisor/gate/peer.h"
#include "supervisor/traffic/request.h"
#include "supervisor/wire/head.h"

/* Whose request it is. */
struct measure {
	bool is_counted;
	struct client_address address;
};

/* Counts a request with @head that came from @end, by the limits of @config. False, with a
 * refusal: the address has had its share. */
bool measure_request(struct measure *measure, struct clients *clients,
                     const struct config *config, struct peer_end end,
                     const struct http_head *head, struct request_refusal *refusal);
/* The request is of a kind that is not measured. */
void measure_skip(struct measure *measure);
/* Counts the @bytes of its body that have come. */
void measure_body(const struct measure *measure, struct clients *clients,
                  const struct config *config, size_t bytes);
