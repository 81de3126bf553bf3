/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/wait.h>

#include "supervisor/model/members.h"
#include "supervisor/model/requests.h"

/* One SIGKILL by somebody else says nothing about a request; so many of them do. */
#define MODEL_KILLS_MAX 4
/* A loader's word on how far it had come is believed this often: whatever made it crash
 * may have written over that. */
#define MODEL_CRASHES_MAX 3

enum model_blame {
	MODEL_BLAME_NOBODY, /* moultd ended it */
	MODEL_BLAME_KILL,   /* somebody else did */
	MODEL_BLAME_CRASH, /* it crashed, stalled, broke the protocol or ate all memory */
};

static enum model_blame model_blame_of(const struct generation *dead)
{
	int status = dead->exit_status;

	if (dead->entered_ns[GENERATION_STOPPING])
		return MODEL_BLAME_NOBODY;
	/* A kill without a request to stop: a stall or a violation. And a request may
	 * well be what makes a loader run out of memory. */
	if (dead->entered_ns[GENERATION_KILLING] || dead->entered_ns[GENERATION_FAILED] ||
	    dead->was_oom_victim || !WIFSIGNALED(status))
		return MODEL_BLAME_CRASH;
	switch (WTERMSIG(status)) {
	case SIGKILL:
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
		return MODEL_BLAME_KILL;
	default:
		return MODEL_BLAME_CRASH;
	}
}

bool model_was_killed(const struct generation *dead)
{
	return model_blame_of(dead) == MODEL_BLAME_KILL;
}

/* True: @request must not be tried any more. Otherwise it may become a suspect. */
bool model_judge(const struct generation *dead, struct request *request)
{
	enum model_blame blame = model_blame_of(dead);
	bool has_begun = lane_has_begun(dead->lane, request->lease);

	if (blame == MODEL_BLAME_KILL && has_begun && request->kills < MODEL_KILLS_MAX)
		request->kills++;
	if (blame == MODEL_BLAME_NOBODY ||
	    (blame == MODEL_BLAME_KILL && request->kills < MODEL_KILLS_MAX))
		return false;
	request->crashes++;
	if (!has_begun && request->crashes < MODEL_CRASHES_MAX)
		return false;
	if (request->is_suspect)
		return true;
	queue_set_suspect(request, true);
	return false;
}
