/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/gate/measure.h"

#include "shared/clock.h"

static struct clients_rates measure_rates(const struct config *config)
{
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

static bool measure_find(struct measure *measure, const char *list, struct peer_end end,
                         const struct http_head *head)
{
	if (!peer_client(end, &measure->address))
		return false;
	if (list)
		measure_follow(&measure->address, head, list);
	client_address_group(&measure->address);
	return true;
}

bool measure_request(struct measure *measure, struct clients *clients,
                     const struct config *config, struct peer_end end,
                     const struct http_head *head, struct request_refusal *refusal)
{
	const struct clients_rates rates = measure_rates(config);
	uint64_t wait_ns;

	measure->is_counted = (rates.requests_per_s > 0 || rates.bytes_per_s > 0) &&
	                      measure_find(measure, config->trusted_proxies, end, head);
	if (!measure->is_counted)
		return true;
	wait_ns = clients_take(clients, &measure->address, &rates, clock_now_ns());
	if (wait_ns == 0)
		return true;
	(void)request_refuse(refusal, 429, (unsigned int)(wait_ns / CLOCK_NS_PER_SEC) + 1,
	                     "this address asks for more than it may "
	                     "(requests_per_address, bytes_per_address)");
	return false;
}

void measure_skip(struct measure *measure)
{
	measure->is_counted = false;
}

void measure_body(const struct measure *measure, struct clients *clients,
                  const struct config *config, size_t bytes)
{
	const struct clients_rates rates = measure_rates(config);

	if (measure->is_counted && rates.bytes_per_s > 0)
		clients_charge(clients, &measure->address, &rates, bytes, clock_now_ns());
}
