/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What systemd is told. Without NOTIFY_SOCKET every call does nothing.
 *
 * The watchdog is fed from the loop itself, at half its period, so that a stuck loop shows.
 * RELOADING is always followed by READY, whatever became of the reload.
 */

#include <ev.h>

#include "shared/err.h"

struct notify {
	struct ev_loop *loop;
	ev_timer watchdog;
	unsigned int n_reloading;
	char status[256];
};

void notify_init(struct notify *notify, struct ev_loop *loop);
void notify_fini(struct notify *notify);

void notify_ready(struct notify *notify);
void notify_reloading(struct notify *notify);
void notify_reloaded(struct notify *notify);
void notify_stopping(struct notify *notify);
/* One current sentence; said only when it differs from the last. */
void notify_status(struct notify *notify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The listening socket that the service manager holds: its fd, or -ENOENT when there is none,
 * or -EINVAL with a sentence when what it hands over is anything but one stream socket that
 * listens. Also clears LISTEN_* from the environment. */
int notify_take_listen_fd(struct err *err);
