/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Both versions by haproxy's proxy-protocol.txt. What follows the addresses of version 2 (TLV
 * vectors) is skipped; its length is bounded by the two bytes that say it. Of the destination
 * nobody wants to know anything, but it must be well formed.
 */
#include "supervisor/wire/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#define PROXY_SIGNATURE_BYTES 12
/* The signature, version and command, family and transport, length. */
#define PROXY_FIXED_BYTES 16
#define PROXY_FOUR_BYTES  12
#define PROXY_SIX_BYTES   36
#define PROXY_UNIX_BYTES  216

static const unsigned char proxy_signature[PROXY_SIGNATURE_BYTES + 1] =
	"\r\n\r\n\0\r\nQUIT\n";
static const char proxy_word[] = "PROXY ";

static size_t proxy_fail(struct proxy *proxy, const char *fault)
{
	proxy->state = PROXY_BAD;
	proxy->fault = fault;
	return 0;
}

/* Version 1 */

/* The word up to the next space, or to the end of the text, which ends there now. NULL: there is
 * none. */
static char *proxy_next(char **cursor)
{
	char *word = *cursor;
	char *end;

	if (!word || !*word)
		return NULL;
	end = strchr(word, ' ');
	*cursor = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return *word ? word : NULL;
}

/* Reads 0 to 65535, without a zero in front. -1: it is something else. */
static int proxy_port(const char *word)
{
	size_t digits = word ? strspn(word, "0123456789") : 0;
	int port = 0;

	if (digits == 0 || digits > 5 || word[digits] || (word[0] == '0' && digits > 1))
		return -1;
	for (size_t i = 0; i < digits; i++)
		port = port * 10 + (word[i] - '0');
	return port <= 65535 ? port : -1;
}

static bool proxy_take_text(struct proxy *proxy, int family, const char *const *words)
{
	int from = proxy_port(words[2]);
	struct in6_addr to;

	if (!words[0] || !words[1] || from < 0 || proxy_port(words[3]) < 0 ||
	    inet_pton(family, words[1], &to) != 1)
		return false;
	proxy->client.any.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		proxy->client.four.sin_port = htons((uint16_t)from);
		return inet_pton(family, words[0], &proxy->client.four.sin_addr) == 1;
	}
	proxy->client.six.sin6_port = htons((uint16_t)from);
	return inet_pton(family, words[0], &proxy->client.six.sin6_addr) == 1;
}

/* Reads the line without its end. */
static bool proxy_take_line(struct proxy *proxy, char *line)
{
	char *cursor = line + sizeof(proxy_word) - 1;
	const char *kind = proxy_next(&cursor);
	const char *words[4];

	if (!kind)
		return false;
	/* What follows is for nobody. */
	if (strcmp(kind, "UNKNOWN") == 0)
		return true;
	if (strcmp(kind, "TCP4") != 0 && strcmp(kind, "TCP6") != 0)
		return false;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = proxy_next(&cursor);
	return !cursor &&
	       proxy_take_text(proxy, kind[3] == '4' ? AF_INET : AF_INET6, words);
}

static size_t proxy_read_line(struct proxy *proxy, const unsigned char *data,
                              size_t bytes)
{
	char line[PROXY_BYTES_MAX + 1];
	size_t i = 0;

	while (i < bytes && proxy->bytes < PROXY_BYTES_MAX) {
		proxy->data[proxy->bytes++] = data[i];
		if (data[i++] != '\n')
			continue;
		if (proxy->data[proxy->bytes - 2] != '\r')
			return proxy_fail(proxy, "its line does not end with CR LF");
		memcpy(line, proxy->data, proxy->bytes - 2);
		line[proxy->bytes - 2] = '\0';
		if (strlen(line) != proxy->bytes - 2 || !proxy_take_line(proxy, line))
			return proxy_fail(proxy, "its line is malformed");
		proxy->state = PROXY_DONE;
		return i;
	}
	if (proxy->bytes == PROXY_BYTES_MAX)
		return proxy_fail(proxy, "its line has no end");
	return i;
}

/* Version 2 */

static size_t proxy_block_bytes(const struct proxy *proxy)
{
	return ((size_t)proxy->data[14] << 8) + proxy->data[15];
}

/* The bytes of addresses that @family has; 0: it is none that TCP clients have. */
static size_t proxy_family_bytes(unsigned char family)
{
	switch (family) {
	case 0x11:
		return PROXY_FOUR_BYTES;
	case 0x21:
		return PROXY_SIX_BYTES;
	case 0x31:
		return PROXY_UNIX_BYTES;
	default:
		return 0;
	}
}

/* What the first sixteen bytes say; the block follows. NULL: all is well. */
static const char *proxy_judge_block(struct proxy *proxy)
{
	unsigned char version = proxy->data[12];
	unsigned char family = proxy->data[13];
	size_t need = proxy_family_bytes(family);

	if (version >> 4 != 2)
		return "its version is unknown";
	if ((version & 0xf) > 1)
		return "its command is unknown";
	proxy->is_own = (version & 0xf) == 0;
	if (proxy->is_own || family == 0)
		return NULL;
	if (need == 0)
		return "its family is unknown, or not of TCP";
	return proxy_block_bytes(proxy) < need ? "it is too short for its addresses"
	                                       : NULL;
}

static void proxy_take_block(struct proxy *proxy)
{
	const unsigned char *block = proxy->data + PROXY_FIXED_BYTES;

	proxy->state = PROXY_DONE;
	if (proxy->is_own)
		return;
	if (proxy->data[13] == 0x11) {
		proxy->client.four.sin_family = AF_INET;
		memcpy(&proxy->client.four.sin_addr, block, 4);
		memcpy(&proxy->client.four.sin_port, block + 8, 2);
	} else if (proxy->data[13] == 0x21) {
		proxy->client.six.sin6_family = AF_INET6;
		memcpy(&proxy->client.six.sin6_addr, block, 16);
		memcpy(&proxy->client.six.sin6_port, block + 32, 2);
	}
}

/* Keeps what is to be looked at, and counts the rest. */
static size_t proxy_keep(struct proxy *proxy, const unsigned char *data, size_t bytes,
                         size_t up_to)
{
	size_t kept = PROXY_FIXED_BYTES + PROXY_SIX_BYTES;
	size_t n = up_to - proxy->bytes < bytes ? up_to - proxy->bytes : bytes;

	if (proxy->bytes < kept)
		memcpy(proxy->data + proxy->bytes, data,
		       n < kept - proxy->bytes ? n : kept - proxy->bytes);
	proxy->bytes += n;
	return n;
}

static size_t proxy_read_block(struct proxy *proxy, const unsigned char *data,
                               size_t bytes)
{
	size_t used = 0;
	const char *fault;

	if (proxy->bytes < PROXY_FIXED_BYTES)
		used = proxy_keep(proxy, data, bytes, PROXY_FIXED_BYTES);
	if (proxy->bytes < PROXY_FIXED_BYTES)
		return used;
	fault = proxy_judge_block(proxy);
	if (fault)
		return proxy_fail(proxy, fault);
	used += proxy_keep(proxy, data + used, bytes - used,
	                   PROXY_FIXED_BYTES + proxy_block_bytes(proxy));
	if (proxy->bytes == PROXY_FIXED_BYTES + proxy_block_bytes(proxy))
		proxy_take_block(proxy);
	return used;
}

size_t proxy_read(struct proxy *proxy, const void *data, size_t bytes)
{
	const unsigned char *at = data;
	size_t used = 0;

	/* Up to where the versions are apart. */
	while (used < bytes && proxy->state == PROXY_MORE &&
	       proxy->bytes < sizeof(proxy_word) - 1) {
		unsigned char c = at[used++];

		proxy->data[proxy->bytes++] = c;
		if (memcmp(proxy->data, proxy_word, proxy->bytes) != 0 &&
		    memcmp(proxy->data, proxy_signature, proxy->bytes) != 0)
			return proxy_fail(proxy, "there is none");
	}
	if (proxy->state != PROXY_MORE || proxy->bytes < sizeof(proxy_word) - 1)
		return used;
	if (proxy->data[0] == (unsigned char)proxy_word[0])
		return used + proxy_read_line(proxy, at + used, bytes - used);
	used += proxy_keep(proxy, at + used, bytes - used,
	                   proxy->bytes < PROXY_SIGNATURE_BYTES ? PROXY_SIGNATURE_BYTES
	                                                        : proxy->bytes);
	if (memcmp(proxy->data, proxy_signature,
	           proxy->bytes < PROXY_SIGNATURE_BYTES ? proxy->bytes
	                                                : PROXY_SIGNATURE_BYTES) != 0)
		return proxy_fail(proxy, "there is none");
	if (proxy->bytes < PROXY_SIGNATURE_BYTES)
		return used;
	return used + proxy_read_block(proxy, at + used, bytes - used);
}
