/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Writes to STATE_DIR/good, and removes what hosted loaders leave, without making the loop wait for
 * the disk. Each job runs in a
 * writer: a forked copy of this process with nothing open but what the job needs. The
 * writer syncs, says in a sentence what went wrong, and ends. It outlives a supervisor
 * that is killed (docs/adr/0006).
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
	/* The subject of the job for the log, as in "model=digits". */
	const char *of;
	/* Called in the writer. 0, or -errno with a sentence. */
	int (*save)(const void *what, uint64_t number, struct err *err);
	const void *what;
	int fds[KEEPER_FDS_MAX]; /* descriptors that @save needs open; -1: none */
};

struct keeper_writer {
	struct keeper *keeper;
	pid_t pid; /* 0: none */
	struct orphans_kin kin;
	int pidfd;
	int sentence_fd; /* read end: why the writer failed */
	ev_io io;
	char of[KEEPER_OF_MAX];
};

struct keeper {
	struct ev_loop *loop;
	uint64_t last;   /* the last number given to a job; later ones are higher */
	uint64_t n_lost; /* jobs that came to nothing */
	struct keeper_writer writers[KEEPER_WRITERS_MAX];
};

/* Goes on counting after the last number in @state_dir. */
void keeper_init(struct keeper *keeper, struct ev_loop *loop, const char *state_dir);
/* Gives all writers together one second to end, then leaves them to themselves. */
void keeper_fini(struct keeper *keeper);

/* Starts a writer; a failure is logged. */
void keeper_start(struct keeper *keeper, const struct keeper_job *job);
