/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The HTTP endpoint: libmicrohttpd on its own epoll descriptor inside the supervisor's
 * loop. The endpoint reads heads, routes, copies bodies into a model's arena and sends
 * answers from where the loader wrote them. Tensors are not parsed here.
 *
 * Three things that libmicrohttpd leaves out are added: absolute deadlines for head and
 * body, a watch on suspended connections whose client goes away, and an order of shutdown
 * that never stops the daemon with a suspended connection.
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/devices/devices.h"
#include "supervisor/model/model.h"

struct access_log;
struct gate;
struct http;
struct metrics;
struct repository;
struct spares;

/* What the endpoint tells of: the supervisor's, borrowed. */
struct http_models {
	struct model *const *list; /* in configuration order, and NULL behind the last */
	struct spares *const *spares;
	struct devices *devices;             /* that they share */
	const struct err *config_error;      /* "" when the file on disk is in use */
	const struct gate *gate;             /* what clients have to pass */
	const struct repository *repository; /* loads and unloads models */
	/* The endpoint itself, of whose connections a listener for administration tells; NULL:
	 * this is it. */
	const struct http *endpoint;
	bool has_admin; /* this is the endpoint, and such a listener serves metrics */
	/* Adds what others than the endpoint tell of to a page of metrics; NULL: nothing. */
	void (*add_metrics)(const void *context, struct metrics *metrics);
	const void *context;
};

/* Serves on @listen_fd (a listening socket; consumed, on failure too).
 * 0 or -errno with a sentence. */
int http_new(struct http **ret_http, struct ev_loop *loop, const struct config *config,
             const struct http_models *models, int listen_fd, struct err *err);

/* Notes requests in @access from now on, borrowed; NULL: nowhere. */
void http_set_access(struct http *http, struct access_log *access);

/* Shows @receipt on the page of a listener for administration. */
void http_note_receipt(struct http *http, const json_t *receipt);

/* Goes by @config from the next event on. Borrowed until the next call. */
void http_set_config(struct http *http, const struct config *config);

/* Answers that moultd is not ready, and `Connection: close`, from now on. Serves and
 * accepts on. */
void http_leave(struct http *http);

/* Stops accepting, answers `Connection: close` from now on and keeps serving what is
 * open. Idle connections get a second for the request that may be on its way. on_idle
 * follows from the loop once no connection is left and may call http_free(). Call
 * once. */
void http_drain(struct http *http, void (*on_idle)(void *context), void *context);

/* Closes every connection, whatever is on it, and gives the requests back: the models must
 * still be there. Accepts NULL. */
void http_free(struct http *http);

/* Whether moultd is ready, as GET /v2/health/ready says. */
bool http_is_ready(const struct http *http);
/* Connections that are open. */
unsigned int http_connections(const struct http *http);
/* Connections, answers by status class, rounds of the daemon: a new reference. */
json_t *http_to_json(const struct http *http);
