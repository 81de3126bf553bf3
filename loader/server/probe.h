/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Asks a server that serves whether it is still ready, on the thread that passes requests on: a port
 * that listens says nothing about what is behind it.
 *
 * Any answer but the one that is wanted counts. Silence counts only while the server has nothing
 * else to do: one that works on requests may answer these alone, and stall_timeout is for those.
 */

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/server/place.h"
#include "shared/err.h"
#include "shared/ready.h"

struct server_watch {
	const struct ready *ready; /* borrowed */
	uint64_t interval_ns;      /* 0: it is never asked */
	unsigned int n_failures;   /* in a row, until it is to be replaced */
};

struct server_probe;

/* *ret_probe is NULL where nothing is asked. Questions are made in @multi, which outlives the probe,
 * with no CURLOPT_PRIVATE. 0, or -ENOMEM. */
int server_probe_new(struct server_probe **ret_probe, const struct server_watch *watch,
                     const struct server_place *place, CURLM *multi);
/* Accepts NULL, as the others do. */
void server_probe_free(struct server_probe *probe);

/* Asks, if it is time. */
void server_probe_look(struct server_probe *probe);
/* Milliseconds until then, @most_ms at most. */
int server_probe_poll_ms(const struct server_probe *probe, int most_ms);
/* The question has its @result; @is_busy: the server has requests. True, with a sentence: the server
 * is to be replaced. */
bool server_probe_on_done(struct server_probe *probe, CURLcode result, bool is_busy,
                          struct err *ret_why);
