/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/supervisor_state.h"

#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/devices/devices.h"
#include "supervisor/figures/histogram.h"
#include "supervisor/gate/tls.h"
#include "supervisor/gate/tokens.h"
#include "supervisor/grpc/grpc.h"
#include "supervisor/http/http.h"
#include "supervisor/spares/spares.h"
#include "supervisor/process/orphans.h"

const struct config *supervisor_config(const struct supervisor *supervisor)
{
	return supervisor->config;
}

struct notify *supervisor_notify(struct supervisor *supervisor)
{
	return &supervisor->notify;
}

json_t *supervisor_to_json(struct supervisor *supervisor)
{
	const char *error = supervisor->config_error.text;
	const char *no_groups = NULL;
	const char *groups = orphans_groups(supervisor->orphans, &no_groups);

	return json_pack(
		"{s:i,s:f,s:s,s:o,s:b,s:o,s:o,s:o,s:o,s:o,s:s?,s:s?,s:o,s:o,s:o,s:o,s:o}",
		"pid", (int)getpid(), "uptime_s",
		(double)((clock_now_ns() - supervisor->started_ns) / CLOCK_NS_PER_MS) /
			1e3,
		"version", MOULT_VERSION, "config_error",
		*error ? json_string(error) : json_null(), "config_kept",
		supervisor->is_config_kept, "unloaded",
		supervisor_unloaded_to_json(supervisor), "spares",
		spares_to_json(supervisor->spares), "latency_bounds_ms",
		histogram_bounds_to_json(), "memory",
		devices_memory_to_json(&supervisor->devices), "devices",
		devices_to_json(&supervisor->devices), "loader_groups", groups,
		"no_loader_groups", no_groups, "tls", tls_to_json(supervisor->gate.tls),
		"tokens", tokens_to_json(supervisor->gate.tokens), "http",
		supervisor->http ? http_to_json(supervisor->http) : json_null(), "admin",
		supervisor->admin ? http_to_json(supervisor->admin) : json_null(), "grpc",
		supervisor->grpc ? grpc_to_json(supervisor->grpc) : json_null());
}

void supervisor_say_status(struct supervisor *supervisor)
{
	const char *trouble = supervisor->config_error.text;
	size_t n_ready = 0;

	for (size_t i = 0; i < supervisor->n_models; i++) {
		n_ready += model_is_ready(supervisor->models[i]);
		if (*trouble == '\0')
			trouble = model_last_error(supervisor->models[i]);
	}
	notify_status(&supervisor->notify, "%zu of %zu models ready%s%s", n_ready,
	              supervisor->n_models, *trouble ? "; refused: " : "", trouble);
}

/* A failed start counts as tried: one bad model must not hold up READY for the others. */
void supervisor_say_started(struct supervisor *supervisor)
{
	if (supervisor->is_started || supervisor->is_stopping)
		return;
	for (size_t i = 0; i < supervisor->n_models; i++)
		if (!model_is_tried(supervisor->models[i]))
			return;
	supervisor->is_started = true;
	log_event(LOG_LEVEL_NOTICE, "started", "models=%zu", supervisor->n_models);
	notify_ready(&supervisor->notify);
}
