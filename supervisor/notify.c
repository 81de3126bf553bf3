/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/notify.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"

static void notify_on_watchdog(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)timer;
	(void)revents;
	(void)sd_notify(0, "WATCHDOG=1");
}

void notify_init(struct notify *notify, struct ev_loop *loop)
{
	uint64_t usec = 0;

	*notify = (struct notify){ .loop = loop };
	ev_timer_init(&notify->watchdog, notify_on_watchdog, 0., 0.);
	if (sd_watchdog_enabled(0, &usec) > 0 && usec > 0) {
		notify->watchdog.repeat = (double)usec / 2e6;
		ev_timer_again(loop, &notify->watchdog);
	}
}

void notify_fini(struct notify *notify)
{
	if (notify->loop)
		ev_timer_stop(notify->loop, &notify->watchdog);
}

void notify_ready(struct notify *notify)
{
	(void)notify;
	(void)sd_notify(0, "READY=1");
}

void notify_reloading(struct notify *notify)
{
	/* Type=notify-reload (systemd >= 253) wants both in one datagram. */
	if (notify->n_reloading++ == 0)
		(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
		                 (unsigned long long)(clock_now_ns() / 1000));
}

void notify_reloaded(struct notify *notify)
{
	if (--notify->n_reloading == 0)
		(void)sd_notify(0, "READY=1");
}

void notify_stopping(struct notify *notify)
{
	(void)notify;
	(void)sd_notify(0, "STOPPING=1");
}

void notify_status(struct notify *notify, const char *format, ...)
{
	char status[sizeof(notify->status)];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(status, sizeof(status), format, args);
	va_end(args);
	if (strcmp(status, notify->status) == 0)
		return;
	memcpy(notify->status, status, sizeof(status));
	(void)sd_notifyf(0, "STATUS=%s", status);
}

int notify_take_listen_fd(void)
{
	int n = sd_listen_fds(1);

	for (int i = 1; i < n; i++) {
		int spare = SD_LISTEN_FDS_START + i;

		/* One endpoint: more sockets are a mistake in the unit. */
		close_fd(&spare);
	}
	return n > 0 ? SD_LISTEN_FDS_START : -1;
}
