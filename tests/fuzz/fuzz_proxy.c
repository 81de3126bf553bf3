/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A proxy, or somebody who says so, that sends any bytes as the head of the PROXY protocol, in
 * any pieces. Whatever the pieces, the same is read; a second reader, which has all bytes at once,
 * agrees on what is a head of version 2 and where it ends. A line of version 1 that was taken ends
 * with its first end of line, and its client is printed and read again as it was.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "supervisor/wire/proxy.h"
#include "tests/fuzz/bytes.h"

#define SIGNATURE       "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_BYTES (sizeof(SIGNATURE) - 1)
#define INPUT_MAX       1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Gives all of @data; what follows the head is not asked for again. */
static size_t give(struct proxy *proxy, const uint8_t *data, size_t size,
                   const uint8_t *steps, size_t n_steps)
{
	size_t used = 0;
	size_t i = 0;

	*proxy = (struct proxy){ .state = PROXY_MORE };
	while (used < size && proxy->state == PROXY_MORE) {
		size_t n = n_steps > 0 ? steps[i++ % n_steps] % 32 + 1 : size;
		size_t taken;

		if (n > size - used)
			n = size - used;
		taken = proxy_read(proxy, data + used, n);
		assert(taken <= n);
		assert(proxy->state != PROXY_MORE || taken == n);
		used += taken;
	}
	return used;
}

/* The length of a head of version 2 at @data; 0: it is none, SIZE_MAX: more is to come. */
static size_t judge(const uint8_t *data, size_t size)
{
	static const size_t needs[] = { 0, 12, 36, 216 };
	size_t block;

	if (memcmp(data, SIGNATURE, size < SIGNATURE_BYTES ? size : SIGNATURE_BYTES) != 0)
		return 0;
	if (size < 16)
		return SIZE_MAX;
	block = (size_t)data[14] * 256 + data[15];
	if (data[12] != 0x20 && data[12] != 0x21)
		return 0;
	if (data[12] == 0x21 && data[13] != 0 &&
	    ((data[13] & 0xf) != 1 || data[13] < 0x10 || data[13] > 0x3f ||
	     block < needs[data[13] >> 4]))
		return 0;
	return size < 16 + block ? SIZE_MAX : 16 + block;
}

static void check_block(const struct proxy *proxy, const uint8_t *data, size_t size,
                        size_t used)
{
	size_t bytes = judge(data, size);

	assert((proxy->state == PROXY_BAD) == (bytes == 0));
	assert((proxy->state == PROXY_MORE) == (bytes == SIZE_MAX));
	if (proxy->state != PROXY_DONE)
		return;
	assert(used == bytes);
	assert(proxy->is_own == (data[12] == 0x20));
	if (!proxy->is_own && data[13] == 0x11)
		assert(memcmp(&proxy->client.four.sin_addr, data + 16, 4) == 0 &&
		       memcmp(&proxy->client.four.sin_port, data + 24, 2) == 0);
	else if (!proxy->is_own && data[13] == 0x21)
		assert(memcmp(&proxy->client.six.sin6_addr, data + 16, 16) == 0 &&
		       memcmp(&proxy->client.six.sin6_port, data + 48, 2) == 0);
	else
		assert(proxy->client.any.sa_family == AF_UNSPEC);
}

static void check_line(const struct proxy *proxy, const uint8_t *data, size_t used)
{
	const uint8_t *end = memchr(data, '\n', used);
	const union proxy_address *client = &proxy->client;
	int family = client->any.sa_family;
	char address[INET6_ADDRSTRLEN];
	char line[128];
	struct proxy again;
	int n;

	if (proxy->state != PROXY_DONE)
		return;
	assert(used <= PROXY_BYTES_MAX && end == data + used - 1 && end[-1] == '\r');
	assert(memcmp(data, "PROXY ", 6) == 0 && !proxy->is_own);
	if (family == AF_UNSPEC) {
		assert(memcmp(data + 6, "UNKNOWN", 7) == 0);
		return;
	}
	assert(inet_ntop(family,
	                 family == AF_INET ? (const void *)&client->four.sin_addr
	                                   : (const void *)&client->six.sin6_addr,
	                 address, sizeof(address)));
	n = snprintf(line, sizeof(line), "PROXY TCP%c %s %s %u 1\r\n",
	             family == AF_INET ? '4' : '6', address, address,
	             ntohs(family == AF_INET ? client->four.sin_port
	                                     : client->six.sin6_port));
	assert(give(&again, (const uint8_t *)line, (size_t)n, NULL, 0) == (size_t)n);
	assert(again.state == PROXY_DONE &&
	       memcmp(&again.client, client, sizeof(*client)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes = { data, size };
	uint8_t how = fuzz_u8(&bytes);
	uint8_t input[INPUT_MAX];
	uint8_t steps[4];
	struct proxy proxy;
	struct proxy pieces;
	size_t n = 0;
	size_t used;

	fuzz_copy(&bytes, steps, sizeof(steps));
	/* Most begin well. */
	if ((how & 3) == 1)
		memcpy(input, "PROXY TCP4 ", n = 11);
	if ((how & 3) == 2)
		memcpy(input, SIGNATURE, n = SIGNATURE_BYTES);
	used = bytes.left < sizeof(input) - n ? bytes.left : sizeof(input) - n;
	fuzz_copy(&bytes, input + n, used);
	n += used;
	used = give(&proxy, input, n, NULL, 0);
	assert(give(&pieces, input, n, steps, sizeof(steps)) == used ||
	       proxy.state == PROXY_BAD);
	assert(pieces.state == proxy.state && pieces.is_own == proxy.is_own);
	assert(memcmp(&pieces.client, &proxy.client, sizeof(proxy.client)) == 0 ||
	       proxy.state == PROXY_BAD);
	assert(proxy.fault == pieces.fault || strcmp(proxy.fault, pieces.fault) == 0);
	if (n > 0 && input[0] == '\r')
		check_block(&proxy, input, n, used);
	else
		check_line(&proxy, input, used);
	return 0;
}
