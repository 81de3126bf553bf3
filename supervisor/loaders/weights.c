/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loaders/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/log.h"
#include "shared/saturate.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/weights/store.h"

int generation_weights_init(struct generation *generation,
                            const struct generation_start *start)
{
	const struct inputs *inputs = start->inputs;
	struct config_manner manner = start->manner;

	manner.is_proven = inputs->is_proven;
	manner.group_limits = orphans_limits(generation->loop);
	if (start->gpu && start->gpu->uuid[0])
		manner.gpu = start->gpu->uuid;
	generation->copy = store_copy_ref(start->copy);
	generation->is_lean = manner.is_lean;
	generation->prefill_bytes = manner.prefill_bytes;
	generation->load_payload =
		config_model_to_json(inputs->config, inputs->section, manner);
	return generation->load_payload ? 0 : -ENOMEM;
}

void generation_weights_fini(struct generation *generation)
{
	generation_weights_drop(generation);
	free(generation->load_payload);
}

void generation_make_lean(struct generation *generation)
{
	generation->is_lean = true;
}

bool generation_weights_load(struct generation *generation)
{
	bool is_sent;
	const struct inputs *inputs = generation->inputs;
	const struct store_copy *copy = generation->copy;
	size_t n_fds = PROTO_LOAD_FD_WEIGHTS;
	int fds[PROTO_FDS_MAX];

	lane_fds(generation->lane, inputs->secrets.fd, fds);
	if (inputs->weights_fd >= 0)
		fds[n_fds++] = inputs->weights_fd;
	if (store_copy_is_placed(copy)) {
		for (size_t i = 0; i < copy->n_fds; i++)
			fds[n_fds++] = copy->fds[i];
		/* From here on the driver may charge the process with the chunks. */
		device_note_given(&generation->gpu_use, copy->chunks.mapped_bytes);
	} else if (copy && copy->is_full) {
		fds[PROTO_LOAD_FD_WEIGHTS] = copy->fd;
	} else if (copy) {
		fds[n_fds++] = copy->fd;
	}
	is_sent = generation_link_send(generation, PROTO_LOAD, generation->load_payload,
	                               fds, n_fds);
	free(generation->load_payload);
	generation->load_payload = NULL;
	return is_sent;
}

bool generation_weights_commit(struct generation *generation)
{
	const struct store_copy *copy = generation->copy;
	const struct store_copy *scrap = copy ? copy->scrap : NULL;
	char payload[96] = "{}";

	if (scrap) {
		device_note_given(&generation->gpu_use, scrap->use.memory_bytes);
		(void)snprintf(payload, sizeof(payload),
		               "{\"chunk_bytes\":%llu,\"mapped_bytes\":%llu}",
		               (unsigned long long)scrap->chunks.chunk_bytes,
		               (unsigned long long)scrap->chunks.mapped_bytes);
	}
	return generation_link_send(generation, PROTO_COMMIT, payload,
	                            scrap ? scrap->fds : NULL, scrap ? scrap->n_fds : 0);
}

void generation_weights_serve(struct generation *generation)
{
	if (generation->copy)
		store_copy_count(generation->copy, true);
}

void generation_weights_drop(struct generation *generation)
{
	if (generation->copy && generation->entered_ns[GENERATION_ACTIVE])
		store_copy_count(generation->copy, false);
	store_copy_unref(generation->copy);
	generation->copy = NULL;
}

/* Takes note that the weights are on the loader's GPU: made there, or mapped. */
static bool generation_weights_settle_placed(struct generation *generation,
                                             struct chan_message *message)
{
	const struct generation_report *report = &generation->report;
	struct store_copy *copy = generation->copy;
	bool is_full = copy->is_full;
	uint64_t bytes;
	uint64_t kept_bytes;

	/* A loader that maps the copy brings no descriptors. */
	if ((is_full && message->n_fds > 0) ||
	    (!is_full && store_copy_place(copy, &report->chunks, message->fds,
	                                  message->n_fds, report->weights_sha256) < 0))
		return false;
	bytes = copy->chunks.mapped_bytes;
	kept_bytes = is_full ? bytes : copy->chunks.kept * copy->chunks.chunk_bytes;
	generation_claims_note_mapped(generation, bytes,
	                              saturate_minus(bytes, kept_bytes), !is_full);
	log_event(LOG_LEVEL_INFO, is_full ? "weights_mapped" : "weights_placed",
	          "model=%s gen=%llu device=%s bytes=%llu chunks=%zu kept=%llu "
	          "took_ms=%.1f",
	          generation->model, (unsigned long long)generation->number,
	          copy->device->name, (unsigned long long)bytes, copy->n_fds,
	          is_full ? 0ULL : (unsigned long long)copy->chunks.kept,
	          report->place_ms);
	return true;
}

/* Takes note of what the loader took of its GPU ahead. False: more than it was given. */
static bool generation_weights_note_ahead(struct generation *generation,
                                          enum generation_event event)
{
	uint64_t bytes = generation->report.prefilled_bytes;

	if (event == GENERATION_EV_STAGED && bytes <= generation->prefill_bytes &&
	    generation->prefill_bytes > 0)
		device_note_ahead(&generation->gpu_use, bytes);
	return bytes <= generation->prefill_bytes;
}

static void generation_weights_note_private(struct generation *generation,
                                            enum generation_event event)
{
	struct generation_report *report = &generation->report;

	/* The loader gave back what it had prefilled. */
	report->prefilled_bytes = 0;
	/* The copy is no good, or the driver gives it to nobody. */
	if (event == GENERATION_EV_COMMITTED)
		store_copy_spoil(generation->copy);
	log_event(LOG_LEVEL_NOTICE, "weights_private", "model=%s gen=%llu reason=%s",
	          generation->model, (unsigned long long)generation->number,
	          LOG_QUOTED(report->why_private.text));
	generation_weights_drop(generation);
	device_note_given(&generation->gpu_use, 0);
}

bool generation_weights_settle(struct generation *generation, enum generation_event event,
                               struct chan_message *message, struct err *err)
{
	static const char fds[] = "the loader's descriptors are not those of its weights";
	const struct generation_report *report = &generation->report;
	bool is_filled = event == (generation->is_lean ? GENERATION_EV_COMMITTED
	                                               : GENERATION_EV_STAGED);

	if (!store_copy_is_placed(generation->copy) && message->n_fds > 0)
		return err_set(err, false, "%s", fds);
	if (!generation_weights_note_ahead(generation, event))
		return err_set(err, false,
		               "the loader took more of the GPU beforehand than it was "
		               "given");
	/* Without a copy, the file itself may have been to be shared. */
	if (*report->why_private.text &&
	    (generation->copy || event == GENERATION_EV_STAGED)) {
		generation_weights_note_private(generation, event);
		return true;
	}
	if (!generation->copy)
		return true;
	if (store_copy_is_placed(generation->copy))
		return event != GENERATION_EV_COMMITTED ||
		       generation_weights_settle_placed(generation, message) ||
		       err_set(err, false, "%s", fds);
	return !is_filled ||
	       store_copy_publish(generation->copy, report->weights_sha256) == 0 ||
	       err_set(err, false,
	               "the loader did not seal the shared copy of the weights");
}
