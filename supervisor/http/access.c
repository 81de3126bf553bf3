/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/clock.h"
#include "supervisor/http/access_log.h"
#include "supervisor/http/conn.h"

void http_set_access(struct http *http, struct access_log *access)
{
	http->access = access;
}

void http_access_note(struct http_conn *conn, unsigned int status)
{
	const struct http *http = conn->http;

	if (!http->access || conn->is_noted || (status == 0 && conn->begun_ns == 0))
		return;
	conn->is_noted = true;
	access_log_note(
		http->access,
		&(struct access_log_entry){
			.fd = conn->fd,
			.method = conn->method,
			.target = conn->begun_ns ? conn->target : NULL,
			.model = conn->route.kind == HTTP_ROUTE_NONE ? ""
	                                                             : conn->route.model,
			.status = status,
			.received_bytes = conn->received_bytes,
			.took_ns = conn->begun_ns ? clock_now_ns() - conn->begun_ns : 0,
			.generation = conn->request ? conn->request->generation : 0,
		});
}
