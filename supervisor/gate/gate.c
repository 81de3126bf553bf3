/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/gate/gate.h"

#include <errno.h>

#include "supervisor/gate/clients.h"
#include "supervisor/gate/tls.h"
#include "supervisor/gate/tokens.h"

size_t gate_check(const struct config *config,
                  void (*say)(void *context, const char *why), void *context)
{
	static int (*const checks[])(const struct config *config, struct err *err) = {
		tls_check,
		tokens_check,
	};
	struct err why = ERR_NULL;
	size_t n = 0;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		if (checks[i](config, &why) < 0) {
			say(context, why.text);
			n++;
		}
	return n;
}

int gate_open(struct gate *gate, struct ev_loop *loop, const struct config *config,
              struct err *err)
{
	int r = tls_new(&gate->tls, loop, config, err);

	if (r == 0)
		r = tokens_new(&gate->tokens, loop, config, err);
	if (r < 0)
		return r;
	gate->clients = clients_new();
	return gate->clients ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int gate_watch(struct gate *gate, struct watch *watch)
{
	int r = gate->tls ? tls_watch(gate->tls, watch) : 0;

	return r == 0 && gate->tokens ? tokens_watch(gate->tokens, watch) : r;
}

struct gate gate_in_the_clear(const struct gate *gate)
{
	return (struct gate){ .tokens = gate->tokens, .clients = gate->clients };
}

void gate_close(struct gate *gate)
{
	tls_free(gate->tls);
	tokens_free(gate->tokens);
	clients_free(gate->clients);
	*gate = (struct gate){ .tls = NULL };
}
