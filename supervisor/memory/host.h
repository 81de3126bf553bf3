/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The machine's memory, as of one moment in each round of the loop: whoever asks in the
 * same round gets the same figures, and the kernel's files are read once.
 *
 * Two things make figures too old for the round that they were read in, and
 * host_forget() says so: memory that came free, and a death, for which the kernel may
 * have counted a victim.
 */

#include <ev.h>
#include <stdint.h>

struct host {
	struct ev_loop *loop;   /* borrowed; NULL: each question is a round of its own */
	unsigned int iteration; /* of the loop, when the round was asked for last */
	uint64_t round;
	uint64_t read_round; /* the round of the figures below; 0: none so far */
	uint64_t available_bytes;
	uint64_t oom_kills;
};

void host_init(struct host *host, struct ev_loop *loop);
/* Number of this round. Another number than the last one: what was measured then may be
 * out of date. */
uint64_t host_round(struct host *host);
/* Begins another round: the figures of this one are out of date. */
void host_forget(struct host *host);
/* What processes can still have, by the machine and by the control group; 0: not
 * known. */
uint64_t host_available(struct host *host);
/* Processes that the kernel has killed for want of memory. */
uint64_t host_oom_kills(struct host *host);
