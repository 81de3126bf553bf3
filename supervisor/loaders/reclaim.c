/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loaders/reclaim.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/server_folder.h"
#include "shared/user.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/process/privileges.h"

/* Memory comes back within milliseconds, or takes its time: the next poll comes after an
 * eighth of the time waited so far, within these bounds. */
#define RECLAIM_POLL_S     0.002
#define RECLAIM_POLL_MAX_S 0.1
/* An error that a card reports so long before the end of a process may be why it
 * ended. */
#define RECLAIM_XID_NS (10 * CLOCK_NS_PER_SEC)

const char *reclaim_verdict_name(enum reclaim_verdict verdict)
{
	static const char *const names[] = {
		[RECLAIM_NONE] = "none",
		[RECLAIM_FREED] = "freed",
		[RECLAIM_RESIDUAL] = "residual",
		[RECLAIM_UNKNOWN] = "unknown",
	};

	return names[verdict];
}

static void reclaim_end(struct generation *generation, enum reclaim_verdict verdict)
{
	const struct device *gpu = generation->gpu_use.device;
	struct generation_reclaim *reclaim = &generation->reclaim;

	reclaim->verdict = verdict;
	reclaim->orphans = generation->link.child.kin.left;
	if (gpu)
		reclaim->xid = device_xid(gpu, reclaim->reaped_ns - RECLAIM_XID_NS);
	ev_timer_stop(generation->loop, &reclaim->poll);
	if (verdict == RECLAIM_NONE)
		return;
	log_event(verdict == RECLAIM_RESIDUAL ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
	          "reclaim",
	          "model=%s gen=%llu pid=%d device=%s verdict=%s took_ms=%.1f "
	          "residual_bytes=%llu xid=%u orphans=%u orphan_bytes=%llu reason=%s",
	          generation->model, (unsigned long long)generation->number,
	          (int)generation->pid, gpu ? gpu->name : "host",
	          reclaim_verdict_name(verdict),
	          clock_ns_to_ms(clock_now_ns() - reclaim->reaped_ns),
	          (unsigned long long)reclaim->residual_bytes, reclaim->xid,
	          reclaim->orphans.n, (unsigned long long)reclaim->orphans.bytes,
	          LOG_QUOTED(reclaim->residue.text));
}

/* True: the search is over. */
static bool reclaim_look_gpu(struct generation *generation)
{
	struct generation_reclaim *reclaim = &generation->reclaim;
	uint64_t now_ns = clock_now_ns();
	enum device_reclaim step =
		device_reclaim(&generation->gpu_use, reclaim->reaped_ns);

	if (step == DEVICE_RECLAIM_UNKNOWN) {
		reclaim_end(generation, RECLAIM_UNKNOWN);
		return true;
	}
	if (reclaim->unlisted_ns == 0 &&
	    (step == DEVICE_RECLAIM_HELD || step == DEVICE_RECLAIM_DONE))
		reclaim->unlisted_ns = now_ns;
	if (step == DEVICE_RECLAIM_DONE) {
		reclaim->freed_ns = now_ns;
		reclaim_end(generation, RECLAIM_FREED);
		return true;
	}
	if (now_ns - reclaim->reaped_ns < generation->patience.reclaim_timeout_ns)
		return false;
	device_explain_residue(&generation->gpu_use, &reclaim->residual_bytes,
	                       &reclaim->residue);
	reclaim_end(generation,
	            step == DEVICE_RECLAIM_WAITING ? RECLAIM_UNKNOWN : RECLAIM_RESIDUAL);
	return true;
}

/* True: the search is over. */
static bool reclaim_look_all(struct generation *generation)
{
	struct generation_reclaim *reclaim = &generation->reclaim;
	const struct orphans_left *left = &generation->link.child.kin.left;

	if (!orphans_are_gone(generation->loop, &generation->link.child.kin)) {
		if (clock_now_ns() - reclaim->reaped_ns <
		    generation->patience.reclaim_timeout_ns)
			return false;
		reclaim->residual_bytes = left->bytes;
		(void)err_set(&reclaim->residue, 0,
		              "%u processes that loader %d started survive SIGKILL: %s",
		              left->n_alive, (int)generation->pid, left->who);
		reclaim_end(generation, RECLAIM_RESIDUAL);
		return true;
	}
	if (generation->gpu_use.device)
		return reclaim_look_gpu(generation);
	reclaim_end(generation, left->n > 0 ? RECLAIM_FREED : RECLAIM_NONE);
	return true;
}

bool generation_reclaim_look(struct generation *generation)
{
	struct generation_reclaim *reclaim = &generation->reclaim;
	uint64_t waited_ns = clock_now_ns() - reclaim->reaped_ns;
	double next_s = (double)waited_ns / (8. * CLOCK_NS_PER_SEC);

	if (reclaim_look_all(generation))
		return true;
	reclaim->poll.repeat = next_s < RECLAIM_POLL_S       ? RECLAIM_POLL_S
	                       : next_s > RECLAIM_POLL_MAX_S ? RECLAIM_POLL_MAX_S
	                                                     : next_s;
	ev_timer_again(generation->loop, &reclaim->poll);
	return false;
}

bool generation_reclaim_begin(struct generation *generation)
{
	generation->reclaim.reaped_ns = clock_now_ns();
	/* Host memory is back when the processes are reaped. */
	return generation_reclaim_look(generation);
}

void generation_reclaim_init(struct generation *generation,
                             void (*on_poll)(struct ev_loop *, ev_timer *, int))
{
	ev_init(&generation->reclaim.poll, on_poll);
	generation->reclaim.poll.data = generation;
}

void generation_reclaim_fini(struct generation *generation)
{
	ev_timer_stop(generation->loop, &generation->reclaim.poll);
	device_remove(&generation->gpu_use);
}

static void reclaim_sweep_all(void)
{
	server_folder_sweep(SIZE_MAX);
}

void reclaim_sweep(const struct config *config, const char *model, size_t most)
{
	uid_t user = config_user_of(config, model);

	server_folder_sweep(most);
	if (user && user_may_change())
		privileges_call_as(user, reclaim_sweep_all);
}
