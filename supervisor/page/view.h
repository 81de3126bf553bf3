/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the page of the listener for administration tells, as JSON: the status of all models and
 * the last receipts. Texts that only an operator may read (paths, an engine's own words) are left
 * out: who may read /metrics may read this.
 */

#include <jansson.h>

#include "shared/err.h"
#include "supervisor/devices/devices.h"
#include "supervisor/model/model.h"

/* Receipts that are kept for the page, of all models together. */
#define VIEW_RECEIPTS 60

/* {"version","pid","time_ms","config_refused","latency_bounds_ms","memory","devices","models"}: a
 * new reference; NULL: out of memory. @models ends with NULL. */
json_t *view_status(struct model *const *models, struct devices *devices,
                    const struct err *config_error);
/* What of @receipt is for the page: a new reference; NULL: out of memory. */
json_t *view_receipt(const json_t *receipt);
/* Adds it to @receipts, an array, and drops the oldest ones beyond VIEW_RECEIPTS. */
void view_add_receipt(json_t *receipts, const json_t *receipt);
