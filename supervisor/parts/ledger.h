/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which inputs of a model are known to be good, or bad, and what a rollback goes back to.
 * ledger.c alone writes it. All inputs here are references of the ledger's.
 */

#include <stdbool.h>

#include "shared/err.h"

struct inputs;

struct ledger {
	struct inputs *good;        /* of the last generation that served; or NULL */
	struct inputs *previous;    /* those before good, for a rollback; or NULL */
	struct err no_way_back;     /* why there is no previous, or "" */
	struct inputs *rollback_to; /* what a pending rollback asks for; or NULL */
	struct inputs *refused; /* identity only: not tried again unless somebody asks */
	struct inputs *writer;  /* their loader died writing to weights; or NULL */
};

void ledger_fini(struct ledger *ledger);

/* @inputs serve from now on. What served before is the way back, unless its file was
 * written over; after a rollback (@is_back) there is none. True: @inputs are not the ones
 * that served last. */
bool ledger_accept(struct ledger *ledger, struct inputs *inputs, bool is_back);
/* The same, while a rollback is pending that is not wanted any more: what it asks for stays
 * the way back. */
bool ledger_accept_newer(struct ledger *ledger, struct inputs *inputs);
/* An earlier run kept @inputs, which may be NULL: they are the good ones. Takes the
 * reference. */
void ledger_remember(struct ledger *ledger, struct inputs *inputs);
/* @inputs are not tried again unless somebody asks. */
void ledger_refuse(struct ledger *ledger, const struct inputs *inputs);
void ledger_pardon(struct ledger *ledger);
/* The loader of @inputs died writing to weights that nobody may write to. */
void ledger_note_writer(struct ledger *ledger, struct inputs *inputs);

/* Finds what a rollback of model @name goes back to when @bad, which may be NULL, is to
 * go. 0, or -ENOENT with a sentence. Borrowed. */
int ledger_way_back(const struct ledger *ledger, const char *name,
                    const struct inputs *bad, struct inputs **ret_target,
                    struct err *err);
/* True: what served before good can serve again. Else *ret_why says why not, or is "" where
 * nothing else has served. */
bool ledger_has_previous(const struct ledger *ledger, struct err *ret_why);
/* A rollback to @inputs is pending; NULL: none is. */
void ledger_ask_back(struct ledger *ledger, struct inputs *inputs);
