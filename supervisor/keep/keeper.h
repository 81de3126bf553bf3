/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Writes to STATE_DIR/good without making the loop wait for the disk: each job runs in a
 * process of its own, a copy of this one with nothing open but what it needs, which syncs,
 * says in a sentence what went wrong, and ends. It outlives a supervisor that is killed.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/err.h"
#include "supervisor/process/orphans.h"

/* Writers at once: every model and the configuration, twice. */
#define KEEPER_WRITERS_MAX 130
#define KEEPER_FDS_MAX     2
#define KEEPER_OF_MAX      96

struct keeper_job {
	/* Who it is about, "model=digits", for the log. */
	const char *of;
	/* Called in the writer. 0, or -errno with a sentence. */
	int (*save)(const void *what, uint64_t number, struct err *err);
	const void *what;
	int fds[KEEPER_FDS_MAX]; /* what @save needs open; -1: none */
};

struct keeper_writer {
	struct keeper *keeper;
	pid_t pid; /* 0: none */
	struct orphans_kin kin;
	int pidfd;
	int sentence_fd; /* read end: why it failed */
	ev_io io;
	char of[KEEPER_OF_MAX];
};

struct keeper {
	struct ev_loop *loop;
	uint64_t
		last; /* number that was given to a job: what is kept later has a higher one */
	uint64_t n_lost; /* jobs that came to nothing */
	struct keeper_writer writers[KEEPER_WRITERS_MAX];
};

/* Goes on counting after what is in @state_dir. */
void keeper_init(struct keeper *keeper, struct ev_loop *loop, const char *state_dir);
/* Gives writers some seconds to end, then leaves them to themselves. */
void keeper_fini(struct keeper *keeper);

/* Starts a writer. What becomes of it is logged. */
void keeper_start(struct keeper *keeper, const struct keeper_job *job);
