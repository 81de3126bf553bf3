/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "supervisor/gate/listen.h"

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

/* Describes @fd for people. */
static void notify_describe(int fd, const char *name, char *text, size_t size)
{
	char address[128];

	(void)snprintf(text, size, "descriptor %d%s%s%s (%s)", fd, *name ? " '" : "",
	               name, *name ? "'" : "",
	               listen_describe(fd, address, sizeof(address)));
}

static int notify_check_listener(int fd, const char *what, struct err *err)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	bool is_known = false;

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		is_known |= sd_is_socket(fd, families[i], SOCK_STREAM, -1) > 0;
	if (!is_known)
		return err_set(err, -EINVAL,
		               "the service manager handed over %s, which is no stream "
		               "socket: use ListenStream= in the socket unit",
		               what);
	if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
		return err_set(
			err, -EINVAL,
			"the service manager handed over %s, which does not listen: "
			"use Accept=no in the socket unit",
			what);
	return 0;
}

static void notify_free_names(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
}

int notify_take_listen_fd(struct err *err)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);
	char what[256];
	int r = -ENOENT;

	if (n > 0) {
		/* Names the last socket: of two, the first is most likely meant. */
		notify_describe(SD_LISTEN_FDS_START + n - 1, names ? names[n - 1] : "",
		                what, sizeof(what));
		r = notify_check_listener(SD_LISTEN_FDS_START, what, err);
	}
	if (n > 1)
		r = err_set(err, -EINVAL,
		            "the service manager handed over %d sockets and one is "
		            "served: remove %s from the socket unit, or whoever connects "
		            "there would wait for ever",
		            n, what);
	notify_free_names(names);
	return r == 0 ? SD_LISTEN_FDS_START : r;
}
