/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Messages to systemd (sd_notify(3)). Without NOTIFY_SOCKET every call does nothing.
 *
 * The watchdog is fed from the loop itself, at half its period, so that a stuck loop
 * shows. RELOADING is always followed by READY, whatever became of the reload.
 */

#include <ev.h>

#include "shared/err.h"

struct notify {
	struct ev_loop *loop;
	ev_timer watchdog;
	unsigned int n_reloading;
	char status[256];
};

/* Starts the watchdog on @loop, where systemd asks for one. */
void notify_init(struct notify *notify, struct ev_loop *loop);
void notify_fini(struct notify *notify);

void notify_ready(struct notify *notify);
/* Each notify_reloading() needs a notify_reloaded(); READY follows the last one. */
void notify_reloading(struct notify *notify);
void notify_reloaded(struct notify *notify);
void notify_stopping(struct notify *notify);
/* Tells the current sentence, if it differs from the last. */
void notify_status(struct notify *notify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Takes over the service manager's listening socket and clears LISTEN_* from the
 * environment. The fd; -ENOENT: there is none; -EINVAL with a sentence: anything else was
 * handed over than one stream socket that listens. */
int notify_take_listen_fd(struct err *err);
