/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Limits of each client's address: requests_per_address and bytes_per_address. Who the client is,
 * its connection says, and where that is one of trusted_proxies, X-Forwarded-For. Health and
 * the listener for administration are not measured.
 */
#include <sys/socket.h>

#include "supervisor/http/conn.h"

static struct clients_rates measure_rates(const struct http_conn *conn)
{
	const struct config *config = conn->http->config;

	return (struct clients_rates){ config->requests_per_address,
		                       config->bytes_per_address };
}

/* Follows the fields from the last one on: each proxy adds to the end. */
static void measure_follow(struct client_address *address, const struct http_head *head,
                           const char *list)
{
	for (size_t i = head->n_fields; i-- > 0 && client_is_listed(address, list);)
		if (proto_text_equals(head->fields[i].name, "x-forwarded-for"))
			client_follow(address, head->fields[i].value, list);
}

static bool measure_find(struct http_conn *conn, const struct http_head *head)
{
	struct http_measure *measure = &conn->measure;
	const char *list = conn->http->config->trusted_proxies;
	struct sockaddr_storage peer = { 0 };
	socklen_t bytes = sizeof(peer);

	if (getpeername(conn->fd, (struct sockaddr *)&peer, &bytes) < 0 ||
	    !client_address_of(&measure->address, &peer))
		return false;
	if (list)
		measure_follow(&measure->address, head, list);
	client_address_group(&measure->address);
	return true;
}

bool http_measure(struct http_conn *conn, const struct http_head *head)
{
	const struct clients_rates rates = measure_rates(conn);
	struct http_measure *measure = &conn->measure;
	enum http_route_kind kind = conn->ask.route.kind;
	uint64_t wait_ns;

	measure->is_counted = false;
	if ((rates.requests_per_s == 0 && rates.bytes_per_s == 0) ||
	    conn->http->models.endpoint || kind == HTTP_ROUTE_LIVE ||
	    kind == HTTP_ROUTE_READY || !measure_find(conn, head))
		return true;
	measure->is_counted = true;
	wait_ns = clients_take(conn->http->models.gate->clients, &measure->address,
	                       &rates, conn->http->conns.now_ns);
	if (wait_ns == 0)
		return true;
	(void)request_refuse(&conn->refusal, 429,
	                     (unsigned int)(wait_ns / CLOCK_NS_PER_SEC) + 1,
	                     "this address asks for more than it may "
	                     "(requests_per_address, bytes_per_address)");
	return false;
}

void http_measure_body(struct http_conn *conn, size_t bytes)
{
	const struct clients_rates rates = measure_rates(conn);

	if (conn->measure.is_counted && rates.bytes_per_s > 0)
		clients_charge(conn->http->models.gate->clients, &conn->measure.address,
		               &rates, bytes, conn->http->conns.now_ns);
}
