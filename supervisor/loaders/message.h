/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a loader says on its channel.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/chan.h"
#include "shared/err.h"
#include "supervisor/inputs/declared.h"
#include "supervisor/loaders/table.h"
#include "supervisor/weights/store.h"

/* The loader's words about itself; none of them is trusted. */
struct generation_report {
	char weights_sha256[65]; /* "" until STAGED */
	struct err why_private;  /* why weights are not shared that were to be; "" */
	bool is_private_lasting; /* the next loader's cannot be shared either */
	uint64_t weights_bytes;
	uint64_t prefilled_bytes;   /* taken of its GPU before COMMIT */
	struct store_chunks chunks; /* chunks that it placed; chunk_bytes 0: none yet */
	double place_ms;            /* until the weights were placed or mapped */
	char engine_version[64];
	struct err walls;         /* that stand round it: "no_new_privs, landlock" */
	struct err walls_missing; /* that do not, and why */
	uint64_t rss_bytes;
	uint64_t anon_bytes;
	uint64_t pss_bytes;
	uint64_t loading_bytes; /* anonymous memory, the peak until STAGED */
	uint64_t engine_bytes;  /* the engine's part of it, before it saw a model */
	double weights_ms;      /* parts of staging: weights read, hashed, mapped; */
	double engine_ms;       /* the engine's libraries opened; */
	double module_ms;       /* the model built; */
	double prefill_ms;      /* a part of the weights brought to its GPU */
	uint64_t golden;        /* golden requests that it answered as expected */
	struct declared told;   /* READY's tensors */
	bool refuses_input;     /* after REFUSED: the same input would be refused again */
};

/* Reads a message of loader @number, which is in @state, and puts what it says of itself
 * into @report. Returns the event that the message stands for: VIOLATION when it is
 * malformed or not allowed now. VIOLATION and REFUSED come with a sentence. */
enum generation_event generation_read_message(const struct chan_message *message,
                                              uint64_t number,
                                              enum generation_state state,
                                              struct generation_report *report,
                                              struct err *err);
