/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Spares that were killed and are not reaped yet: reaping waits for the loop.
 */

#include "supervisor/devices/device.h"
#include "supervisor/process/child.h"

#define GRAVES_MAX 16

struct grave {
	struct child child;
	struct child_listener listener;
	struct device_use use;
};

struct graves {
	struct device *device;
	struct grave rows[GRAVES_MAX];
};

/* @device is borrowed: the memory of what dies counts there until it is reaped. */
void graves_init(struct graves *graves, struct device *device);
/* Kills @child and has it reaped when the loop comes round; its memory counts as leaving, and
 * so stands in nobody's way. @child has no process any more. */
void graves_bury(struct graves *graves, struct child *child);
/* Waits for all that are not reaped. */
void graves_fini(struct graves *graves);
