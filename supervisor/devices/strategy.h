/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Chooses the way to the next generation, from numbers alone: no state, no clock, no
 * files.
 *
 *	handoff     both at once, over the shared weights that are there already
 *	overlap     both at once: the candidate's need fits into what is free
 *	staged      the candidate prepares beside the old one without its copy of the model
 *	stop-first  the old one goes before the candidate comes
 *	refused     it would not fit even alone
 *
 * free = min(budget - used, available) - the old one's head-room - reserve; when the
 * old one is gone, what it holds and its head-room are free too, and so are shared
 * weights that only it used. Without an old one there is no reserve.
 *
 * On a GPU that admits one process at a time, both are never there at once.
 *
 * A staged candidate's weights may come to a GPU in part while the old one serves
 * (prefill): as much as is free beside the old one, less what the candidate needs
 * beside its weights, less what others may come to need again.
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
	bool has_old;            /* a generation serves, or its process lives */
	struct device_room room; /* with the old one in it */
	bool is_exclusive;       /* of the device: one process at a time */
	bool is_resident;        /* shared weights are there: not in need */
	uint64_t old_bytes;      /* held by the old one, not by the candidate */
	uint64_t headroom_bytes; /* of the old one: its peak beyond that */
	uint64_t need_bytes;     /* of the candidate, alone; 0: not known */
	uint64_t engine_bytes;   /* of need: the engine's part; 0: measured */
	uint64_t loading_bytes;  /* of the candidate, while it loads beside the old one */
	uint64_t staged_bytes;   /* of a lean candidate before its copy of the model */
	uint64_t copy_bytes;     /* of need and loading: what is to be shared */
	uint64_t weights_bytes;  /* of need, on a GPU: what is to be shared */
	bool may_prefill;        /* weights may come while the old one serves */
	uint64_t peaks_bytes;    /* of others: their peaks beyond now */
	uint64_t resident_bytes; /* of old_bytes: what is shared */
};

struct strategy_decision {
	struct strategy_facts facts;
	enum strategy strategy;
	uint64_t free_bytes;       /* with the old one there */
	uint64_t free_alone_bytes; /* with the old one gone */
	uint64_t prefill_bytes;    /* of weights: may come early, if staged */
	struct err why;            /* a sentence with the numbers */
};

const char *strategy_name(enum strategy strategy);
/* Other models reload meanwhile: @old keeps the place of the loader that follows by @facts, but for
 * what that one, @candidate, has claimed itself. NULL: it is not there yet. */
void strategy_keep_place(const struct strategy_facts *facts, struct device_use *old,
                         const struct device_use *candidate);
struct strategy_decision strategy_decide(const struct strategy_facts *facts);
/* Joins the decisions on main memory and on the GPU, @other: the stricter one becomes
 * @decision. */
void strategy_join(struct strategy_decision *decision, struct strategy_decision *other);
/* A new reference. Sizes that are not known or without limit are null. */
json_t *strategy_to_json(const struct strategy_decision *decision);
