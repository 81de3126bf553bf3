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
struct http;
struct spare_counts;

/* How the endpoint sees the models. */
struct http_models {
	struct model *(*find)(void *context, const char *name); /* NULL: none */
	/* i-th model in configuration order, or NULL at the end. */
	struct model *(*at)(void *context, size_t i);
	/* True: the configuration files are refused and not in use. */
	bool (*is_config_refused)(void *context);
	/* i-th kind of spare loader, or false at the end. */
	bool (*spare_at)(void *context, size_t i, struct spare_counts *ret_counts);
	struct devices *devices; /* that they share */
	void *context;
};

/* Serves on @listen_fd (a listening socket; consumed, on failure too).
 * 0 or -errno with a sentence. */
int http_new(struct http **ret_http, struct ev_loop *loop, const struct config *config,
             const struct http_models *models, int listen_fd, struct err *err);

/* Notes requests in @access from now on, borrowed; NULL: nowhere. */
void http_set_access(struct http *http, struct access_log *access);

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

/* Connections, answers by status class, rounds of the daemon: a new reference. */
json_t *http_to_json(const struct http *http);
