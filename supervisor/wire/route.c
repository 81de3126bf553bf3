/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Paths to routes: segments are split and decoded for the protocol's own paths; prefixes of hosted
 * models are compared as bytes, because their engines get the target as it was sent.
 */
#include "supervisor/wire/route.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "shared/hex.h"

#define HTTP_ROUTE_SEGMENTS 8

struct segment {
	const char *text;
	size_t bytes;
};

static bool segment_is(struct segment segment, const char *text)
{
	return strlen(text) == segment.bytes &&
	       memcmp(segment.text, text, segment.bytes) == 0;
}

/* Splits up to '?', dropping one trailing '/'. Returns 0 when there are too many. */
static size_t segments_split(const char *target, struct segment *segments)
{
	size_t n = 0;

	if (*target != '/')
		return 0;
	while (*target == '/' && target[1] != '\0' && target[1] != '?') {
		size_t bytes = strcspn(++target, "/?");

		if (n == HTTP_ROUTE_SEGMENTS)
			return 0;
		segments[n++] = (struct segment){ target, bytes };
		target += bytes;
	}
	return n;
}

static bool segment_decode(struct segment segment, char *text, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < segment.bytes; i++) {
		char c = segment.text[i];

		if (c == '%') {
			int high = i + 2 < segment.bytes ? hex_value(segment.text[i + 1])
			                                 : -1;
			int low = high >= 0 ? hex_value(segment.text[i + 2]) : -1;

			if (low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (c == '\0' || used + 1 >= size)
			return false;
		text[used++] = c;
	}
	text[used] = '\0';
	return used > 0;
}

/* Reads what follows /v2/models/M[/versions/V]. */
static enum http_route_kind route_of_verb(const struct segment *segments, size_t n)
{
	static const struct {
		const char *verb;
		enum http_route_kind kind;
	} verbs[] = {
		{ "infer", HTTP_ROUTE_INFER },
		{ "ready", HTTP_ROUTE_MODEL_READY },
		{ "config", HTTP_ROUTE_MODEL_CONFIG },
		{ "stats", HTTP_ROUTE_STATS },
	};

	if (n == 0)
		return HTTP_ROUTE_MODEL;
	for (size_t i = 0; n == 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (segment_is(segments[0], verbs[i].verb))
			return verbs[i].kind;
	return HTTP_ROUTE_NONE;
}

static void route_model(struct http_route *route, const struct segment *segments,
                        size_t n)
{
	if (n == 1 && segment_is(segments[0], "stats")) {
		route->kind = HTTP_ROUTE_STATS;
		return;
	}
	if (n == 0 || !segment_decode(segments[0], route->model, sizeof(route->model)))
		return;
	segments++;
	n--;
	if (n >= 2 && segment_is(segments[0], "versions")) {
		if (!segment_decode(segments[1], route->version, sizeof(route->version)))
			return;
		segments += 2;
		n -= 2;
	}
	route->kind = route_of_verb(segments, n);
}

/* Reads what follows /v2/repository, also with a repository's name in front, a form that
 * Triton has and does not support either. */
static void route_repository(struct http_route *route, const struct segment *segments,
                             size_t n)
{
	bool is_named = false;

	if (n == 1 && segment_is(segments[0], "index")) {
		route->kind = HTTP_ROUTE_INDEX;
		return;
	}
	if (n == 2 && segment_is(segments[1], "index")) {
		route->kind = HTTP_ROUTE_REPOSITORY;
		return;
	}
	if (n == 4) {
		segments++;
		n--;
		is_named = true;
	}
	if (n == 3 && segment_is(segments[0], "models") &&
	    (segment_is(segments[2], "load") || segment_is(segments[2], "unload")) &&
	    segment_decode(segments[1], route->model, sizeof(route->model)))
		route->kind = is_named                          ? HTTP_ROUTE_REPOSITORY
		              : segment_is(segments[2], "load") ? HTTP_ROUTE_LOAD
		                                                : HTTP_ROUTE_UNLOAD;
}

static void route_v2(struct http_route *route, const struct segment *segments, size_t n)
{
	if (n == 0)
		route->kind = HTTP_ROUTE_SERVER;
	else if (segment_is(segments[0], "models"))
		route_model(route, segments + 1, n - 1);
	else if (segment_is(segments[0], "repository"))
		route_repository(route, segments + 1, n - 1);
	else if (n == 2 && segment_is(segments[0], "health") &&
	         segment_is(segments[1], "live"))
		route->kind = HTTP_ROUTE_LIVE;
	else if (n == 2 && segment_is(segments[0], "health") &&
	         segment_is(segments[1], "ready"))
		route->kind = HTTP_ROUTE_READY;
}

struct http_route http_route_parse(const char *target)
{
	struct http_route route = { .kind = HTTP_ROUTE_NONE };
	struct segment segments[HTTP_ROUTE_SEGMENTS];
	size_t n = segments_split(target, segments);

	if (target[0] == '/' && (target[1] == '\0' || target[1] == '?'))
		route.kind = HTTP_ROUTE_FRONT;
	else if (n == 1 && segment_is(segments[0], "events"))
		route.kind = HTTP_ROUTE_EVENTS;
	else if (n == 1 && segment_is(segments[0], "healthz"))
		route.kind = HTTP_ROUTE_LIVE;
	else if (n == 1 && segment_is(segments[0], "metrics"))
		route.kind = HTTP_ROUTE_METRICS;
	else if (n >= 1 && segment_is(segments[0], "v2"))
		route_v2(&route, segments + 1, n - 1);
	route.is_post = route.kind == HTTP_ROUTE_INFER ||
	                route.kind == HTTP_ROUTE_INDEX || route.kind == HTTP_ROUTE_LOAD ||
	                route.kind == HTTP_ROUTE_UNLOAD ||
	                route.kind == HTTP_ROUTE_REPOSITORY;
	return route;
}

struct http_route http_route_find(const struct http_hosting *hosting, const char *target)
{
	struct http_route route = http_route_parse(target);
	size_t path_bytes = strcspn(target, "?");
	bool is_front = route.kind == HTTP_ROUTE_FRONT || route.kind == HTTP_ROUTE_EVENTS;
	size_t longest = route.kind == HTTP_ROUTE_LIVE ? 1 : 0;
	const char *prefixes;
	const char *model;

	if (is_front && hosting->is_admin)
		return route;
	if (is_front)
		route.kind = HTTP_ROUTE_NONE;
	if ((route.kind != HTTP_ROUTE_NONE && route.kind != HTTP_ROUTE_LIVE) ||
	    (strncmp(target, "/v2", 3) == 0 && (target[3] == '/' || path_bytes == 3)))
		return route;
	for (size_t i = 0; (model = hosting->model(hosting->context, i, &prefixes));
	     i++) {
		size_t bytes = config_route_match(prefixes, target, path_bytes);

		if (bytes <= longest)
			continue;
		longest = bytes;
		route = (struct http_route){ .kind = HTTP_ROUTE_HOSTED };
		(void)snprintf(route.model, sizeof(route.model), "%s", model);
	}
	return route;
}

static bool route_copy(char *to, struct proto_text text)
{
	if (text.bytes >= CONFIG_NAME_MAX || memchr(text.data, '\0', text.bytes))
		return false;
	memcpy(to, text.data, text.bytes);
	to[text.bytes] = '\0';
	return true;
}

bool http_route_make(struct http_route *ret_route, enum http_route_kind kind,
                     struct proto_text model, struct proto_text version)
{
	struct http_route route = { .kind = kind, .is_post = true };
	bool is_good =
		route_copy(route.model, model) && route_copy(route.version, version);

	if (!is_good)
		route.model[0] = route.version[0] = '\0';
	*ret_route = route;
	return is_good;
}
