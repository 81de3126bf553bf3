/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which way to the next generation, from numbers alone: no state, no clock, no files.
 *
 *	handoff     both at once, over the shared weights that are there already
 *	overlap     both at once: the candidate's need fits into what is free
 *	staged      the candidate prepares beside the old one without its copy of the model
 *	stop-first  the old one goes before the candidate comes
 *	refused     it would not fit even alone
 *
 * free = min(budget - used, available) - the old one's head-room - reserve; when the old
 * one is gone, what it holds and its head-room are free too, and so are shared weights that
 * only it used. Without an old one there is no reserve.
 *
 * On a GPU that one process may use at a time the two never are there at once.
 *
 * What is free beside the old one, less what the candidate needs beside its weights and less
 * what others may come to need again, a part of those weights may have at once.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/devices/device.h"

enum strategy {
	STRATEGY_HANDOFF,
	STRATEGY_OVERLAP,
	STRATEGY_STAGED,
	STRATEGY_STOP_FIRST,
	STRATEGY_REFUSED,
	STRATEGY_COUNT
};

struct strategy_facts {
	const char *device; /* its name, for people */
	enum config_strategy wanted;
	bool has_old;            /* a generation serves, or its process still lives */
	struct device_room room; /* with the old one in it */
	bool is_exclusive;       /* of the device: one loader at a time may use it */
	bool is_resident;        /* the weights are there, shared, and are not in need */
	uint64_t old_bytes; /* that the old one holds now and the candidate does not */
	uint64_t headroom_bytes; /* that it held at its peak beyond that */
	uint64_t need_bytes;     /* of the candidate, alone; 0: not known */
	uint64_t engine_bytes; /* of need: what its engine takes by itself; 0: measured */
	uint64_t loading_bytes;  /* of the candidate, while it loads beside the old one */
	uint64_t staged_bytes;   /* of a lean candidate before its copy of the model */
	uint64_t copy_bytes;     /* of need and loading: what is to be shared */
	uint64_t weights_bytes;  /* of need, on a GPU: what is to be shared */
	bool may_prefill;        /* they may come there while the old one serves */
	uint64_t peaks_bytes;    /* that others held at their peaks beyond now */
	uint64_t resident_bytes; /* of old_bytes: what is shared */
};

struct strategy_decision {
	struct strategy_facts facts;
	enum strategy strategy;
	uint64_t free_bytes;       /* with the old one there */
	uint64_t free_alone_bytes; /* with it gone */
	uint64_t prefill_bytes;    /* of weights: that may come before that, if staged */
	struct err why;            /* a sentence with the numbers */
};

const char *strategy_name(enum strategy strategy);
struct strategy_decision strategy_decide(const struct strategy_facts *facts);
/* Both must hold, that of main memory and that of the GPU, @other: what @decision becomes. */
void strategy_join(struct strategy_decision *decision, struct strategy_decision *other);
/* A new reference. Sizes that are not known or without limit are null. */
json_t *strategy_to_json(const struct strategy_decision *decision);
