/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The GPU driver's word on the memory of cards. A helper process, moult-nvml, asks the
 * driver, because its calls may block for as long as it likes: moultd sends questions
 * and reads reports, and waits NVML_WAIT_MS at most, when a decision needs the newest
 * one.
 *
 * The helper keeps the cards open for moultd's life. A helper that dies is started
 * again; one that found no library or no card, too, a minute later: the driver may come
 * after moultd. No report is trusted: a helper that breaks the protocol is killed.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/process/child.h"
#include "supervisor/devices/nvml_wire.h"

#define NVML_HELPER "moult-nvml"
/* Longest wait for a report, which takes a millisecond or a few. */
#define NVML_WAIT_MS 50
/* Longest wait for the first report, at a start only: the driver may have to start its
 * cards. */
#define NVML_START_MS 5000
/* Errors of cards are looked for this often, and no figure is older by much. */
#define NVML_TICK_S 1.

enum nvml_state {
	NVML_OFF,    /* not wanted so far */
	NVML_UP,     /* a helper runs */
	NVML_DEAD,   /* the helper died: another one comes soon */
	NVML_ABSENT, /* no library, or no card: looked for again in a minute */
};

/* Critical errors (Xid) of a card, for moultd's life. */
struct nvml_errors {
	char uuid[NVML_UUID_BYTES]; /* "": none so far */
	uint64_t count;
	uint32_t last_xid;
	uint64_t last_ns;
};

struct nvml {
	struct ev_loop *loop;
	const char *program; /* of the helper, borrowed */
	enum nvml_state state;
	struct child child;
	struct child_listener listener;
	int fd;
	ev_io io;
	ev_timer again; /* starts another helper */
	ev_timer tick;  /* asks when nobody else does */
	double again_s; /* delay before the next helper */
	uint64_t spawned_ns;
	uint64_t n_asked;           /* number of the last question to any helper */
	uint64_t awaited;           /* number of the report that comes next */
	uint64_t asked_ns;          /* when the last question was sent */
	bool is_asking;             /* that question has no report yet */
	bool is_late;               /* a wait for that report ran out */
	bool is_silent;             /* its lateness has been logged */
	enum nvml_state said;       /* of UP and ABSENT, what was logged last */
	uint64_t as_of_ns;          /* nothing in the report is older; 0: there is none */
	struct nvml_report *report; /* both NULL until a helper is needed */
	struct nvml_report *incoming;
	struct nvml_errors errors[NVML_CARDS_MAX];
	char wanted[NVML_CARDS_MAX][NVML_UUID_BYTES]; /* cards that questions are about */
	unsigned int fresh_iteration; /* 1 + loop's at the last fresh report; 0: none */
};

void nvml_init(struct nvml *nvml, struct ev_loop *loop, const char *program);
/* Kills the helper. */
void nvml_fini(struct nvml *nvml);

/* Starts the helper, if that was not done. 0 or -ENOMEM. */
int nvml_start(struct nvml *nvml);
/* Waits for the first report, NVML_START_MS at most: before anybody is served. */
void nvml_wait_start(struct nvml *nvml);

/* Asks about the card @uuid, too, from now on; each card costs the driver time. */
void nvml_want(struct nvml *nvml, const char *uuid);
/* Sends a question unless one is under way. Never blocks. */
void nvml_ask(struct nvml *nvml);
/* The same for somebody who looks on: at most ten times a second. */
void nvml_glance(struct nvml *nvml);
/* A loader is about to take memory, or has given it back: the last report is not of
 * now. */
void nvml_note_change(struct nvml *nvml);
/* Asks and waits for a report of now: NVML_WAIT_MS at most, not at all once a wait for
 * the report under way has run out, and only once in a round of the loop without a
 * change. False: none came. */
bool nvml_refresh(struct nvml *nvml);

/* The card @uuid in the last report, good until the next; NULL: nothing is known of it
 * as of @since_ns or later. */
const struct nvml_card *nvml_card(const struct nvml *nvml, const char *uuid,
                                  uint64_t since_ns);
/* The card's UUID by the driver's number of it; NULL: not known. */
const char *nvml_uuid(const struct nvml *nvml, unsigned int index);
/* Errors of the card @uuid; NULL: none so far. */
const struct nvml_errors *nvml_errors(const struct nvml *nvml, const char *uuid);
/* Bytes that the driver charges @pid for, or NVML_UNKNOWN. False: the process is not on
 * the card. */
bool nvml_card_process(const struct nvml_card *card, pid_t pid, uint64_t *ret_bytes);
