/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/gate/hosts.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "supervisor/config/config.h"

static bool hosts_is(struct proto_text name, const char *other, size_t bytes)
{
	return name.bytes == bytes && strncasecmp(name.data, other, bytes) == 0;
}

/* True: @name ends with @tail, and something stands before that. */
static bool hosts_ends(struct proto_text name, const char *tail, size_t bytes)
{
	return name.bytes > bytes &&
	       strncasecmp(name.data + name.bytes - bytes, tail, bytes) == 0;
}

/* Takes the port away, and the dot that may stand behind a whole name. */
static struct proto_text hosts_name(struct proto_text host)
{
	const char *end = host.data;

	if (host.bytes > 0 && *host.data == '[')
		end = memchr(host.data, ']', host.bytes);
	end = end ? memchr(end, ':', host.bytes - (size_t)(end - host.data)) : NULL;
	if (end)
		host.bytes = (size_t)(end - host.data);
	if (host.bytes > 1 && host.data[host.bytes - 1] == '.')
		host.bytes--;
	return host;
}

/* "192.0.2.1" or "[2001:db8::1]". A bracket alone makes no address. */
static bool hosts_is_address(struct proto_text name)
{
	bool is_six =
		name.bytes > 2 && *name.data == '[' && name.data[name.bytes - 1] == ']';
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (is_six) {
		name.data++;
		name.bytes -= 2;
	}
	if (name.bytes >= sizeof(text))
		return false;
	memcpy(text, name.data, name.bytes);
	text[name.bytes] = '\0';
	return inet_pton(is_six ? AF_INET6 : AF_INET, text, &address) == 1;
}

static bool hosts_is_loopback(struct proto_text name)
{
	return hosts_is(name, "localhost", 9) || hosts_ends(name, ".localhost", 10) ||
	       hosts_is(name, "[::1]", 5) ||
	       (hosts_is_address(name) && strncmp(name.data, "127.", 4) == 0);
}

static bool hosts_is_listed(const char *list, struct proto_text name)
{
	const char *cursor = list;
	const char *one;
	size_t bytes;

	while (config_list_next(&cursor, &one, &bytes)) {
		if (strncmp(one, CONFIG_HOSTS_ANY, bytes) == 0 &&
		    bytes == sizeof(CONFIG_HOSTS_ANY) - 1)
			return true;
		if (*one == '*' ? hosts_ends(name, one + 1, bytes - 1)
		                : hosts_is(name, one, bytes))
			return true;
	}
	return false;
}

bool hosts_allow(const char *list, struct proto_text host)
{
	struct proto_text name = hosts_name(host);

	if (hosts_is_address(name) || hosts_is_loopback(name))
		return true;
	if (list)
		return hosts_is_listed(list, name);
	/* No name of the public DNS is without a dot. */
	return !memchr(name.data, '.', name.bytes);
}

bool hosts_allow_origin(const char *list, struct proto_text origin,
                        struct proto_text host)
{
	struct proto_text name = hosts_name(host);
	struct proto_text from = origin;

	/* RFC 6454 6.2: scheme "://" host [ ":" port ], or null. */
	for (size_t i = 0; i + 3 <= origin.bytes; i++)
		if (memcmp(origin.data + i, "://", 3) == 0) {
			from.data = origin.data + i + 3;
			from.bytes = origin.bytes - i - 3;
			from = hosts_name(from);
			return hosts_is(from, name.data, name.bytes) ||
			       (hosts_is_loopback(from) && hosts_is_loopback(name)) ||
			       (list && hosts_is_listed(list, from));
		}
	return list && hosts_is_listed(list, from);
}
