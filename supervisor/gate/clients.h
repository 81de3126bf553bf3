/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What each client's address has taken lately: requests and bytes of bodies, a bucket each that
 * fills with time and holds a second's worth. Of an IPv6 address the first 64 bits count, because a
 * client has all of the others. Memory is bounded: of addresses beyond what fits, those that were
 * seen longest ago are forgotten, which is in their favour.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shared/proto.h"

/* An address, IPv4 as IPv6 has it. */
struct client_address {
	unsigned char bytes[16];
};

struct clients_rates {
	uint64_t requests_per_s; /* 0: any number */
	uint64_t bytes_per_s;    /* 0: any number */
};

struct clients;

struct clients *clients_new(void);          /* NULL: out of memory */
void clients_free(struct clients *clients); /* accepts NULL */

/* Takes a request from the bucket of @address. Returns 0, or the nanoseconds until one may be
 * taken. */
uint64_t clients_take(struct clients *clients, const struct client_address *address,
                      const struct clients_rates *rates, uint64_t now_ns);
/* Takes the @bytes of a body that has come; the bucket may owe them. */
void clients_charge(struct clients *clients, const struct client_address *address,
                    const struct clients_rates *rates, uint64_t bytes, uint64_t now_ns);
/* Requests that clients_take() has turned away. */
uint64_t clients_limited(const struct clients *clients);

/* False: @from is no address of IP. */
bool client_address_of(struct client_address *ret_address,
                       const struct sockaddr_storage *from);
/* Leaves of an address of IPv6 the part that is one client's. */
void client_address_group(struct client_address *address);
/* Reads "192.0.2.1" or "2001:db8::1", with brackets and a port or without. */
bool client_address_read(struct client_address *ret_address, struct proto_text text);
/* Whether @list, of addresses and ADDRESS/BITS separated by commas, has @address. */
bool client_is_listed(const struct client_address *address, const char *list);
/* Whether one element of such a list is well formed. */
bool client_is_range(struct proto_text text);
/* Goes @forwarded, the value of X-Forwarded-For, from its end up to the first address that is not
 * on @list, and leaves that in *address. What cannot be read ends the way. */
void client_follow(struct client_address *address, struct proto_text forwarded,
                   const char *list);
