/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "loader/engine.h"
#include "loader/load/memory.h"
#include "shared/cleanup.h"
#include "shared/log.h"

int control_fail(const char *what, const char *why)
{
	log_event(LOG_LEVEL_ERR, "loader_failed", "what=%s why=%s", LOG_QUOTED(what),
	          LOG_QUOTED(why));
	return PROTO_EXIT_INTERNAL;
}

int control_send_fds(struct control *control, enum proto_type type, json_t *payload,
                     const int *fds, size_t n_fds)
{
	FREE char *text = payload ? json_dumps(payload, JSON_COMPACT) : NULL;
	int r;

	json_decref(payload);
	if (!text)
		return control_fail("message", "out of memory");
	r = chan_send(&control->chan, type, control->generation, text, fds, n_fds);
	if (r == -EPIPE || r == -ECONNRESET)
		return PROTO_EXIT_ORPHAN;
	return r < 0 ? control_fail("message", strerror(-r)) : CONTROL_GO_ON;
}

int control_send(struct control *control, enum proto_type type, json_t *payload)
{
	return control_send_fds(control, type, payload, NULL, 0);
}

json_t *control_text(const struct err *err)
{
	struct err clean = *err;

	err_clean(clean.text);
	return json_string(clean.text);
}

int control_refuse(struct control *control, int outcome, const struct err *err)
{
	static const struct {
		const char *code;
		enum proto_exit exit;
	} rows[] = {
		[ENGINE_E_CONFIG] = { "config", PROTO_EXIT_CONFIG },
		[ENGINE_E_MODEL] = { "model", PROTO_EXIT_MODEL },
		[ENGINE_E_DEVICE] = { "device", PROTO_EXIT_DEVICE },
		[ENGINE_E_FAILED] = { "internal", PROTO_EXIT_INTERNAL },
		[ENGINE_E_MEMORY] = { "memory", PROTO_EXIT_MEMORY },
	};
	bool is_known = outcome == ENGINE_E_CONFIG || outcome == ENGINE_E_MODEL ||
	                outcome == ENGINE_E_DEVICE || outcome == ENGINE_E_MEMORY;
	int row = is_known ? outcome : ENGINE_E_FAILED;

	(void)control_send(control, PROTO_REFUSED,
	                   json_pack("{s:s, s:o}", "code", rows[row].code, "reason",
	                             control_text(err)));
	return rows[row].exit;
}

int control_send_memory(struct control *control, enum proto_type type, json_t *payload)
{
	struct memory_use use;

	memory_measure(&use);
	if (payload &&
	    (json_object_set_new(payload, "rss_bytes",
	                         json_integer((json_int_t)use.rss_bytes)) < 0 ||
	     json_object_set_new(payload, "rss_anon_bytes",
	                         json_integer((json_int_t)use.anon_bytes)) < 0 ||
	     json_object_set_new(payload, "pss_bytes",
	                         json_integer((json_int_t)use.pss_bytes)) < 0)) {
		json_decref(payload);
		payload = NULL;
	}
	return control_send(control, type, payload);
}

int control_wait(struct control *control)
{
	struct pollfd pollfd = { .fd = control->chan.fd, .events = POLLIN };
	struct err err = ERR_NULL;
	int r;

	while ((r = chan_recv(&control->chan, control->message, &err)) == CHAN_E_EMPTY)
		(void)poll(&pollfd, 1, -1);
	if (r == CHAN_E_CLOSED)
		return PROTO_EXIT_ORPHAN;
	return r ? control_fail("control channel", r < 0 ? strerror(-r) : err.text)
	         : CONTROL_GO_ON;
}

bool control_await_news(const struct control *control, int timeout_ms)
{
	struct pollfd pollfd = { .fd = control->chan.fd, .events = POLLIN };

	return poll(&pollfd, 1, timeout_ms) > 0;
}

bool control_has_news(const struct control *control)
{
	return control_await_news(control, 0);
}

int control_receive(struct control *control, enum proto_type wanted, bool *ret_is_quit)
{
	int r = control_wait(control);

	if (r != CONTROL_GO_ON)
		return r;
	if (control->message->header.generation != control->generation)
		return control_fail("control channel",
		                    "a message is about another generation");
	*ret_is_quit = control->message->header.type == PROTO_QUIT;
	if (!*ret_is_quit && control->message->header.type != wanted)
		return control_fail("control channel", "a message comes out of turn");
	return CONTROL_GO_ON;
}
