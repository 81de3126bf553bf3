/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which of the endpoint's paths a target names. The paths are those of the Open Inference
 * Protocol v2 (and /healthz, /metrics). Pure: no models, no connection.
 */

#include <stdbool.h>

#include "supervisor/config/config.h"

enum http_route_kind {
	HTTP_ROUTE_NONE,
	HTTP_ROUTE_SERVER,     /* GET /v2 */
	HTTP_ROUTE_LIVE,       /* GET /v2/health/live, /healthz */
	HTTP_ROUTE_READY,      /* GET /v2/health/ready */
	HTTP_ROUTE_METRICS,    /* GET /metrics */
	HTTP_ROUTE_STATS,      /* GET /v2/models/stats and /v2/models/M/stats */
	HTTP_ROUTE_INDEX,      /* POST /v2/repository/index */
	HTTP_ROUTE_REPOSITORY, /* POST /v2/repository/models/M/load and others, refused */
	HTTP_ROUTE_MODEL,      /* GET /v2/models/M */
	HTTP_ROUTE_MODEL_READY,  /* GET /v2/models/M/ready */
	HTTP_ROUTE_MODEL_CONFIG, /* GET /v2/models/M/config */
	HTTP_ROUTE_INFER,        /* POST /v2/models/M/infer */
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
