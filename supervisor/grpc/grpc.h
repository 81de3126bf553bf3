/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The gRPC endpoint: the Open Inference Protocol v2's GRPCInferenceService, and gRPC's own health
 * service, by libnghttp2 in the supervisor's loop. A second front for what http/ serves: models,
 * admission, tokens, limits, deadlines and the access log are the same, and a request for
 * inference lies in the same arena in the same form.
 */

#include <ev.h>
#include <jansson.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/model/model.h"

struct access_log;
struct gate;
struct grpc;
struct http;
struct repository;
struct metrics;

/* What the endpoint tells of: the supervisor's, borrowed. */
struct grpc_models {
	struct model *const *list; /* in configuration order, and NULL behind the last */
	const struct gate *gate;   /* what clients have to pass */
	const struct http
		*http; /* says whether moultd is ready, and shares max_connections */
	const struct repository *repository; /* loads and unloads models */
	bool has_admin; /* a listener for administration serves the index */
};

/* Serves on @listen_fd (a listening socket; consumed, on failure too). 0 or -errno with a
 * sentence. */
int grpc_new(struct grpc **ret_grpc, struct ev_loop *loop, const struct config *config,
             const struct grpc_models *models, int listen_fd, struct err *err);

/* Notes calls in @access from now on, borrowed; NULL: nowhere. */
void grpc_set_access(struct grpc *grpc, struct access_log *access);

/* Goes by @config from the next event on. Borrowed until the next call. */
void grpc_set_config(struct grpc *grpc, const struct config *config);

/* Stops accepting, and tells clients to go (GOAWAY) once their calls are answered. on_idle follows
 * from the loop once no connection is left and may call grpc_free(). Call once. */
void grpc_drain(struct grpc *grpc, void (*on_idle)(void *context), void *context);

/* Closes every connection, whatever is on it, and gives the requests back: the models must
 * still be there. Accepts NULL. */
void grpc_free(struct grpc *grpc);

/* Connections, and answers by status: a new reference. */
json_t *grpc_to_json(const struct grpc *grpc);
/* Adds the endpoint's families to @metrics. */
void grpc_add_metrics(const struct grpc *grpc, struct metrics *metrics);
