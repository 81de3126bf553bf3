/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loop/pump.h"

bool pump_block(struct pump *pump)
{
	struct pump_client *client = TAILQ_FIRST(&pump->clients);
	bool may_block = true;

	while (client) {
		struct pump_client *next = TAILQ_NEXT(client, link);
		enum pump_outcome outcome = client->on_block(client);

		may_block = may_block && outcome != PUMP_AGAIN;
		if (outcome == PUMP_DONE)
			pump_remove(pump, client);
		client = next;
	}
	return may_block;
}

void pump_wake(struct pump *pump)
{
	struct pump_client *client;

	/* A client that is called goes to the end of the list, and a new one begins there
	 * with its turn behind it. So any of them may come and go meanwhile. */
	pump->round++;
	while ((client = TAILQ_FIRST(&pump->clients)) && client->round != pump->round) {
		pump_remove(pump, client);
		pump_add(pump, client);
		client->on_wake(client);
	}
}

static void pump_on_prepare(struct ev_loop *loop, ev_prepare *prepare, int revents)
{
	struct pump *pump = prepare->data;

	(void)revents;
	if (!pump_block(pump))
		ev_idle_start(loop, &pump->again);
}

static void pump_on_again(struct ev_loop *loop, ev_idle *idle, int revents)
{
	(void)revents;
	ev_idle_stop(loop, idle);
}

static void pump_on_check(struct ev_loop *loop, ev_check *check, int revents)
{
	(void)loop;
	(void)revents;
	pump_wake(check->data);
}

void pump_init(struct pump *pump, struct ev_loop *loop)
{
	*pump = (struct pump){ .loop = loop };
	TAILQ_INIT(&pump->clients);
	ev_idle_init(&pump->again, pump_on_again);
	ev_prepare_init(&pump->prepare, pump_on_prepare);
	pump->prepare.data = pump;
	/* Runs after the endpoint's own watcher: requests that it dispatched are flushed
	 * in the same round. */
	ev_set_priority(&pump->prepare, EV_MINPRI);
	ev_prepare_start(loop, &pump->prepare);
	ev_check_init(&pump->check, pump_on_check);
	pump->check.data = pump;
	ev_check_start(loop, &pump->check);
}

void pump_add(struct pump *pump, struct pump_client *client)
{
	if (client->is_listed)
		return;
	client->is_listed = true;
	client->round = pump->round;
	TAILQ_INSERT_TAIL(&pump->clients, client, link);
}

void pump_remove(struct pump *pump, struct pump_client *client)
{
	if (client->is_listed)
		TAILQ_REMOVE(&pump->clients, client, link);
	client->is_listed = false;
}
