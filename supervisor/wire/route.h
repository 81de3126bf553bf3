/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which of the endpoint's paths a target names. The paths are those of the Open Inference
 * Protocol v2 (and /healthz, /metrics, and what an operator's browser asks for). Pure: no models, no connection.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/proto.h"
#include "supervisor/config/config.h"

enum http_route_kind {
	HTTP_ROUTE_NONE,
	HTTP_ROUTE_FRONT,        /* GET /, of a listener for administration */
	HTTP_ROUTE_EVENTS,       /* GET /events, likewise */
	HTTP_ROUTE_SERVER,       /* GET /v2 */
	HTTP_ROUTE_LIVE,         /* GET /v2/health/live, /healthz */
	HTTP_ROUTE_READY,        /* GET /v2/health/ready */
	HTTP_ROUTE_METRICS,      /* GET /metrics */
	HTTP_ROUTE_STATS,        /* GET /v2/models/stats and /v2/models/M/stats */
	HTTP_ROUTE_INDEX,        /* POST /v2/repository/index */
	HTTP_ROUTE_LOAD,         /* POST /v2/repository/models/M/load */
	HTTP_ROUTE_UNLOAD,       /* POST /v2/repository/models/M/unload */
	HTTP_ROUTE_REPOSITORY,   /* the same of a repository by name, refused */
	HTTP_ROUTE_MODEL,        /* GET /v2/models/M */
	HTTP_ROUTE_MODEL_READY,  /* GET /v2/models/M/ready */
	HTTP_ROUTE_MODEL_CONFIG, /* GET /v2/models/M/config */
	HTTP_ROUTE_INFER,        /* POST /v2/models/M/infer */
	HTTP_ROUTE_HOSTED,       /* any method, below a prefix of key route */
	HTTP_ROUTE_COUNT
};

struct http_route {
	enum http_route_kind kind;
	bool is_post; /* POST is the method that it takes; else GET and HEAD */
	char model[CONFIG_NAME_MAX];   /* percent-decoded; "" when the path has none */
	char version[CONFIG_NAME_MAX]; /* likewise */
};

/* @target: path and query, as sent. Never fails: HTTP_ROUTE_NONE is an answer. */
struct http_route http_route_parse(const char *target);

/* A route that no target names, to the @model of that @version; texts as they are. False: they
 * are no names that a section of moult.conf can have, and the route is without a model. */
bool http_route_make(struct http_route *ret_route, enum http_route_kind kind,
                     struct proto_text model, struct proto_text version);

/* Who hosts which paths at the moment. */
struct http_hosting {
	/* Returns the name of model number @index, with its prefixes as the key route has them,
	 * or "" where it computes; NULL behind the last one. Both are borrowed. */
	const char *(*model)(const void *context, size_t index,
	                     const char **ret_prefixes);
	const void *context;
	bool is_admin; /* of a listener for administration, which nobody hosts anything on */
};

/* The same but for FRONT and EVENTS elsewhere than on a listener for administration, and else
 * HTTP_ROUTE_HOSTED with the model whose prefix of @target is the longest. All
 * of /v2 is nobody's, and /healthz nobody's whose prefix is just a slash. */
struct http_route http_route_find(const struct http_hosting *hosting, const char *target);
