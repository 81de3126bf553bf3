/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RepositoryModelLoad and RepositoryModelUnload: answered when the model serves, or is gone.
 */
#include "supervisor/grpc/conn.h"

/* Neither response has a field. */
static void loading_answer(struct grpc_call *call)
{
	if (grpc_reply_room(call, 0))
		grpc_reply_message(call);
}

static void loading_on_done(void *context, const struct request_refusal *refusal)
{
	struct grpc_call *call = context;
	struct grpc_loading *loading = &call->loading;

	loading->call = NULL;
	if (!refusal) {
		loading_answer(call);
		return;
	}
	(void)request_refuse(&call->refusal, refusal->status, refusal->retry_after_s,
	                     "%s", refusal->err.text);
	grpc_reply_refusal(call);
}

void grpc_loading_begin(struct grpc_call *call, enum repository_verb verb,
                        const char *model)
{
	const struct repository *repository = call->conn->grpc->models.repository;
	const struct repository_ask ask = {
		.verb = verb,
		.model = model,
		.on_done = loading_on_done,
		.context = call,
	};
	struct grpc_loading *loading = &call->loading;

	grpc_call_enter(call, GRPC_PHASE_WAIT);
	if (repository->begin(repository->context, &ask, &loading->call,
	                      &call->refusal) != 0)
		grpc_reply_refusal(call);
	else if (!loading->call)
		loading_answer(call);
}

void grpc_loading_forget(struct grpc_call *call)
{
	struct grpc_loading *loading = &call->loading;

	if (loading->call)
		call->conn->grpc->models.repository->drop(loading->call);
	loading->call = NULL;
}
