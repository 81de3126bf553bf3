/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A table of sets; an address belongs to one set, by a hash with a key of this process, so that
 * nobody can choose addresses that meet there. In a full set the address that was seen longest ago
 * makes room: its bucket is the first to be full, which says the same as none.
 */
#include "supervisor/gate/clients.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "shared/clock.h"
#include "supervisor/config/config.h"

#define CLIENTS_SETS 1024
#define CLIENTS_WAYS 8

struct client {
	struct client_address address;
	uint64_t seen_ns; /* 0: the place is free */
	double requests;  /* that may be taken now */
	double bytes;     /* likewise; less than 0: owed */
};

struct clients {
	uint64_t key;
	uint64_t n_limited;
	struct client all[CLIENTS_SETS][CLIENTS_WAYS];
};

struct clients *clients_new(void)
{
	struct clients *clients = calloc(1, sizeof(*clients));

	if (clients && getrandom(&clients->key, sizeof(clients->key), GRND_NONBLOCK) !=
	                       (ssize_t)sizeof(clients->key))
		clients->key = clock_now_ns();
	return clients;
}

void clients_free(struct clients *clients)
{
	free(clients);
}

uint64_t clients_limited(const struct clients *clients)
{
	return clients->n_limited;
}

/* Buckets */

static size_t clients_hash(const struct clients *clients,
                           const struct client_address *address)
{
	uint64_t hash = clients->key;

	for (size_t i = 0; i < sizeof(address->bytes); i++) {
		hash = (hash ^ address->bytes[i]) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	return hash % CLIENTS_SETS;
}

/* Lets @rate fill a bucket that holds a second's worth. */
static double clients_fill(double level, uint64_t rate, uint64_t took_ns)
{
	double most = (double)rate;

	level += most * (double)took_ns / (double)CLOCK_NS_PER_SEC;
	return level < most ? level : most;
}

static struct client *clients_find(struct clients *clients,
                                   const struct client_address *address,
                                   const struct clients_rates *rates, uint64_t now_ns)
{
	struct client *set = clients->all[clients_hash(clients, address)];
	struct client *found = &set[0];

	for (size_t i = 0; i < CLIENTS_WAYS; i++) {
		if (set[i].seen_ns &&
		    memcmp(&set[i].address, address, sizeof(*address)) == 0) {
			uint64_t took_ns = now_ns - set[i].seen_ns;

			set[i].requests = clients_fill(set[i].requests,
			                               rates->requests_per_s, took_ns);
			set[i].bytes =
				clients_fill(set[i].bytes, rates->bytes_per_s, took_ns);
			set[i].seen_ns = now_ns;
			return &set[i];
		}
		if (set[i].seen_ns < found->seen_ns)
			found = &set[i];
	}
	*found = (struct client){ .address = *address,
		                  .seen_ns = now_ns,
		                  .requests = (double)rates->requests_per_s,
		                  .bytes = (double)rates->bytes_per_s };
	return found;
}

static uint64_t clients_until(double missing, uint64_t rate)
{
	double ns = missing / (double)rate * (double)CLOCK_NS_PER_SEC;

	return ns < 1 ? 1 : (uint64_t)ns;
}

uint64_t clients_take(struct clients *clients, const struct client_address *address,
                      const struct clients_rates *rates, uint64_t now_ns)
{
	struct client *client = clients_find(clients, address, rates, now_ns);
	uint64_t wait_ns = 0;

	if (rates->requests_per_s > 0 && client->requests < 1)
		wait_ns = clients_until(1 - client->requests, rates->requests_per_s);
	else if (rates->bytes_per_s > 0 && client->bytes < 0)
		wait_ns = clients_until(-client->bytes, rates->bytes_per_s);
	else
		client->requests -= 1;
	clients->n_limited += wait_ns > 0;
	return wait_ns;
}

void clients_charge(struct clients *clients, const struct client_address *address,
                    const struct clients_rates *rates, uint64_t bytes, uint64_t now_ns)
{
	clients_find(clients, address, rates, now_ns)->bytes -= (double)bytes;
}

/* Addresses */

static const unsigned char client_mapped[12] = { [10] = 0xff, [11] = 0xff };

static void client_address_of4(struct client_address *address, const struct in_addr *four)
{
	memcpy(address->bytes, client_mapped, sizeof(client_mapped));
	memcpy(address->bytes + sizeof(client_mapped), four, sizeof(*four));
}

void client_address_group(struct client_address *address)
{
	if (memcmp(address->bytes, client_mapped, sizeof(client_mapped)) != 0)
		memset(address->bytes + 8, 0, sizeof(address->bytes) - 8);
}

bool client_address_of(struct client_address *ret_address,
                       const struct sockaddr_storage *from)
{
	struct sockaddr_in four;
	struct sockaddr_in6 six;

	memcpy(&four, from, sizeof(four));
	memcpy(&six, from, sizeof(six));
	if (from->ss_family == AF_INET)
		client_address_of4(ret_address, &four.sin_addr);
	else if (from->ss_family == AF_INET6)
		memcpy(ret_address->bytes, &six.sin6_addr, sizeof(ret_address->bytes));
	else
		return false;
	return true;
}

bool client_address_read(struct client_address *ret_address, struct proto_text text)
{
	char plain[INET6_ADDRSTRLEN];
	const char *end = NULL;
	struct in_addr four;

	if (text.bytes > 0 && *text.data == '[') {
		text.data++;
		text.bytes--;
		end = memchr(text.data, ']', text.bytes);
		if (!end)
			return false;
	} else if (memchr(text.data, '.', text.bytes)) {
		/* 192.0.2.1:80; an address of IPv6 has colons of its own. */
		end = memchr(text.data, ':', text.bytes);
		if (end &&
		    memchr(end + 1, ':', text.bytes - (size_t)(end + 1 - text.data)))
			end = NULL;
	}
	if (end)
		text.bytes = (size_t)(end - text.data);
	if (text.bytes >= sizeof(plain))
		return false;
	memcpy(plain, text.data, text.bytes);
	plain[text.bytes] = '\0';
	if (inet_pton(AF_INET, plain, &four) == 1) {
		client_address_of4(ret_address, &four);
		return true;
	}
	return inet_pton(AF_INET6, plain, ret_address->bytes) == 1;
}

/* Reads ADDRESS or ADDRESS/BITS; *ret_bits counts those of IPv6. */
static bool client_range_read(struct proto_text text, struct client_address *ret_address,
                              unsigned int *ret_bits)
{
	const char *slash = memchr(text.data, '/', text.bytes);
	struct proto_text address = { text.data,
		                      slash ? (size_t)(slash - text.data) : text.bytes };
	size_t digits = slash ? text.bytes - address.bytes - 1 : 0;
	bool is_four = !memchr(address.data, ':', address.bytes);
	unsigned int bits = 0;

	*ret_bits = 128;
	if (!client_address_read(ret_address, address))
		return false;
	if (!slash)
		return true;
	for (size_t i = 0; i < digits; i++) {
		if (slash[1 + i] < '0' || slash[1 + i] > '9' || bits > 128)
			return false;
		bits = bits * 10 + (unsigned int)(slash[1 + i] - '0');
	}
	*ret_bits = bits + (is_four ? 96 : 0);
	return digits > 0 && *ret_bits <= 128;
}

bool client_is_range(struct proto_text text)
{
	struct client_address address;
	unsigned int bits;

	return client_range_read(text, &address, &bits);
}

static bool client_is_within(const struct client_address *address,
                             const struct client_address *range, unsigned int bits)
{
	unsigned int whole = bits / 8;
	unsigned int rest = bits % 8;
	unsigned int mask = rest ? 0xff00U >> rest & 0xffU : 0;

	return memcmp(address->bytes, range->bytes, whole) == 0 &&
	       (rest == 0 || ((address->bytes[whole] ^ range->bytes[whole]) & mask) == 0);
}

bool client_is_listed(const struct client_address *address, const char *list)
{
	const char *cursor = list;
	struct proto_text one;

	while (list && config_list_next(&cursor, &one.data, &one.bytes)) {
		struct client_address range;
		unsigned int bits;

		if (client_range_read(one, &range, &bits) &&
		    client_is_within(address, &range, bits))
			return true;
	}
	return false;
}

void client_follow(struct client_address *address, struct proto_text forwarded,
                   const char *list)
{
	while (forwarded.bytes > 0 && client_is_listed(address, list)) {
		const char *comma = memrchr(forwarded.data, ',', forwarded.bytes);
		const char *one = comma ? comma + 1 : forwarded.data;
		const char *end = forwarded.data + forwarded.bytes;
		struct client_address next;

		while (one < end && strchr(" \t", *one))
			one++;
		while (end > one && strchr(" \t", end[-1]))
			end--;
		if (!client_address_read(&next,
		                         (struct proto_text){ one, (size_t)(end - one) }))
			return;
		*address = next;
		forwarded.bytes = comma ? (size_t)(comma - forwarded.data) : 0;
	}
}
