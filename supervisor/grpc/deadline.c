/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who is late: clients that say nothing, heads and messages that come too slowly, answers that
 * nobody reads. The times are those of the endpoint for HTTP. All connections are looked at twice
 * a second, as long as there are any.
 */
#include "supervisor/grpc/conn.h"
#include "supervisor/traffic/lane.h"

/* A message's rate counts from its fifth second on, as a body's does. */
#define DEADLINE_GRACE_NS (5 * CLOCK_NS_PER_SEC)
/* Answers that are in the way of others have this long to be read. */
#define DEADLINE_READER_NS (2 * CLOCK_NS_PER_SEC)
/* For calls that may be on their way to who is told to go. */
#define DEADLINE_LEAVE_NS CLOCK_NS_PER_SEC

static bool deadline_is_slow(const struct grpc_call *call, uint64_t took_ns)
{
	uint64_t rate_min = call->conn->grpc->config->body_rate_min;

	return took_ns > DEADLINE_GRACE_NS &&
	       (double)call->received_bytes * (double)CLOCK_NS_PER_SEC <
	               (double)rate_min * (double)took_ns;
}

/* Whether the answer, which nobody reads, keeps a loader from answering others. */
static bool deadline_is_in_the_way(const struct grpc_call *call, uint64_t took_ns)
{
	const struct request_part *part = call->sending.part;

	return took_ns > DEADLINE_READER_NS && part && part->lane &&
	       lane_waits_for_readers(part->lane);
}

static void deadline_look(struct grpc_call *call, uint64_t now_ns)
{
	const struct config *config = call->conn->grpc->config;
	uint64_t took_ns = now_ns > call->since_ns ? now_ns - call->since_ns : 0;

	switch (call->phase) {
	case GRPC_PHASE_HEAD:
		if (took_ns > config->header_timeout_ns)
			grpc_conn_expire(call->conn);
		break;
	case GRPC_PHASE_MESSAGE:
		if (took_ns > config->body_timeout_ns)
			grpc_call_late(call, "took too long (body_timeout)");
		else if (deadline_is_slow(call, took_ns))
			grpc_call_late(call, "came too slowly (body_rate_min)");
		break;
	case GRPC_PHASE_SEND:
		if (took_ns > config->body_timeout_ns ||
		    deadline_is_in_the_way(call, took_ns))
			grpc_call_reset(call);
		break;
	case GRPC_PHASE_WAIT:
		break;
	}
}

static void deadline_look_at_idle(struct grpc_conn *conn, uint64_t now_ns)
{
	const struct config *config = conn->grpc->config;
	uint64_t idle_ns = now_ns > conn->since_ns ? now_ns - conn->since_ns : 0;

	if (!conn->has_asked) {
		if (idle_ns > config->header_timeout_ns)
			grpc_conn_expire(conn);
	} else if (idle_ns > config->idle_timeout_ns && !conn->is_leaving) {
		grpc_conn_leave(conn, false);
	}
}

/* Who was told to go has a moment for calls that are on their way; then what comes is not read
 * any more, and the connection is closed once nothing is under way. */
static void deadline_look_at_leaving(struct grpc_conn *conn, uint64_t now_ns)
{
	if (now_ns < conn->left_ns + DEADLINE_LEAVE_NS)
		return;
	if (!conn->is_final)
		grpc_conn_leave(conn, true);
	else if (conn->n_calls == 0 && now_ns > conn->left_ns + 2 * DEADLINE_LEAVE_NS)
		grpc_conn_expire(conn);
}

static void deadline_look_at(struct grpc_conn *conn, uint64_t now_ns)
{
	const struct grpc *grpc = conn->grpc;
	struct grpc_call *call = TAILQ_FIRST(&conn->calls);

	if (conn->stuck_ns > 0 &&
	    now_ns > conn->stuck_ns + grpc->config->body_timeout_ns) {
		grpc_conn_expire(conn);
		return;
	}
	while (call && !conn->is_dead) {
		struct grpc_call *next = TAILQ_NEXT(call, link);

		deadline_look(call, now_ns);
		call = next;
	}
	if (conn->n_calls == 0)
		deadline_look_at_idle(conn, now_ns);
	if (conn->is_leaving)
		deadline_look_at_leaving(conn, now_ns);
}

void grpc_deadline_sweep(struct grpc *grpc)
{
	uint64_t now_ns = clock_now_ns();
	struct grpc_conn *conn;

	TAILQ_FOREACH (conn, &grpc->conns.list, link)
		if (!conn->is_dead)
			deadline_look_at(conn, now_ns);
}
