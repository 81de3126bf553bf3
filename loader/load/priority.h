/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Idle scheduling for a while, because staging must not take processor time from the
 * generation that serves.
 *
 * An unprivileged process can always enter SCHED_IDLE and often not leave it (sched(7)),
 * and on a saturated machine an idle process stands still. Therefore a helper thread,
 * which keeps the ordinary priority, first tries the way back on itself, and ends the
 * idle time when a limit is reached or when nobody is left to stand back for.
 */

#include <stdint.h>

struct priority {
	int end_fd; /* tells the helper to end; -1: no helper */
};

/* Makes the calling thread idle for at most @limit_ns, and only until @hurry_fd (borrowed) is
 * readable; threads that it creates meanwhile inherit that. Best effort: a thread that could
 * not come back is not made idle. */
void priority_lower(struct priority *priority, uint64_t limit_ns, int hurry_fd);

/* Gives every thread of the process ordinary priority. Never waits for the helper: its own
 * trial may have left the helper idle for ever. */
void priority_restore(struct priority *priority);
