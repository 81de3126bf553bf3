/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the GPU driver says of the cards' memory. The driver is asked by a helper process,
 * moult-nvml, because its calls may block for as long as it likes: moultd sends questions and
 * reads reports, and waits NVML_WAIT_MS at most, when a decision needs the newest one.
 *
 * The helper has the cards open for moultd's life. One that dies is started again; where it
 * found no library or no card it is not, and nothing is known of any card.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/child.h"
#include "supervisor/nvml_wire.h"

#define NVML_HELPER "moult-nvml"
/* A report takes a millisecond or a few. */
#define NVML_WAIT_MS 50
/* Until the first report, at a start only: the driver may have to start its cards. */
#define NVML_START_MS 5000

enum nvml_state {
	NVML_OFF,    /* not wanted so far */
	NVML_UP,     /* a helper runs */
	NVML_DEAD,   /* it died: another one comes soon */
	NVML_ABSENT, /* no library, or no card: for good */
};

struct nvml {
	struct ev_loop *loop;
	const char *program; /* of the helper, borrowed */
	enum nvml_state state;
	struct child child;
	struct child_listener listener;
	int fd;
	ev_io io;
	ev_timer again;    /* starts another helper */
	double again_s;    /* the next time that takes so long */
	uint64_t n_asked;  /* number of the last question */
	uint64_t asked_ns; /* when it was sent */
	bool is_asking;    /* it has no report yet */
	bool is_silent;    /* for so long that it was said */
	bool has_said;     /* what it is, once */
	uint64_t as_of_ns; /* nothing in the report is older; 0: there is none */
	struct nvml_report report;
};

void nvml_init(struct nvml *nvml, struct ev_loop *loop, const char *program);
/* Kills the helper. */
void nvml_fini(struct nvml *nvml);

/* Starts the helper, if that was not done. */
void nvml_start(struct nvml *nvml);
/* Waits for the first report, NVML_START_MS at most: before anybody is served. */
void nvml_wait_start(struct nvml *nvml);

/* Sends a question unless one is under way. Never blocks. */
void nvml_ask(struct nvml *nvml);
/* The same, and waits for a report of now: NVML_WAIT_MS at most, and not at all for a helper
 * that has been silent. False: none came. */
bool nvml_refresh(struct nvml *nvml);

/* The card @uuid in the last report; NULL: nothing is known of it that is newer than
 * @since_ns. */
const struct nvml_card *nvml_card(const struct nvml *nvml, const char *uuid,
                                  uint64_t since_ns);
/* The card's UUID by the driver's number of it; NULL: not known. */
const char *nvml_uuid(const struct nvml *nvml, unsigned int index);
/* What it says of @pid's bytes; false: the process is not on the card. */
bool nvml_card_process(const struct nvml_card *card, pid_t pid, uint64_t *ret_bytes);
