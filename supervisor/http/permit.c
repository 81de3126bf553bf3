/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What gate/ says about a request of a connection: whether its address has asked for too much,
 * and whether the client may have what it asks for. Health and the listener for administration
 * are not measured.
 */
#include "supervisor/http/conn.h"

/* The listener that @conn came to. */
static struct permit_place http_permit_place(const struct http_conn *conn)
{
	const struct http *http = conn->http;

	return (struct permit_place){
		.gate = http->models.gate,
		.models = http->models.list,
		.config = http->config,
		.is_admin = http->models.endpoint,
		.has_admin = http->models.has_admin,
		.is_local = http->is_local && !peer_is_named(conn->peer),
		.is_guarded = http->is_guarded,
	};
}

bool http_permit(struct http_conn *conn, struct http_head *head)
{
	const struct permit_place place = http_permit_place(conn);
	struct permission *permission = &conn->permission;

	permit_identify(permission, &place, head);
	return permit_allows(permission, &place, &conn->ask.route, &conn->refusal) &&
	       permit_is_operator(&place, head, conn->ask.route.kind, &conn->refusal) &&
	       permit_is_called_right(permission, &place, head, conn->ask.method,
	                              &conn->refusal);
}

struct model *http_permit_model(struct http_conn *conn)
{
	const struct permit_place place = http_permit_place(conn);

	return permit_model(&place, &conn->ask.route, &conn->refusal);
}

bool http_permit_shows(const struct http_conn *conn, const char *name)
{
	const struct permit_place place = http_permit_place(conn);

	return permit_shows(&conn->permission, &place, name);
}

void http_permit_forget(struct http_conn *conn)
{
	permit_forget(&conn->permission);
}

bool http_measure(struct http_conn *conn, const struct http_head *head)
{
	const struct http_models *models = &conn->http->models;
	enum http_route_kind kind = conn->ask.route.kind;

	if (!models->endpoint && kind != HTTP_ROUTE_LIVE && kind != HTTP_ROUTE_READY)
		return measure_request(&conn->measure, models->gate->clients,
		                       conn->http->config, http_conn_end(conn), head,
		                       &conn->refusal);
	measure_skip(&conn->measure);
	return true;
}

void http_measure_body(struct http_conn *conn, size_t bytes)
{
	measure_body(&conn->measure, conn->http->models.gate->clients, conn->http->config,
	             bytes);
}
