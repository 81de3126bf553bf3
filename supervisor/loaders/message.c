/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loaders/message.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/*
 * Reads what a loader says on its channel. Kept apart from what follows from it, so that
 * a test can put any bytes to it without a process.
 */

static uint64_t message_get_bytes(const json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value > 0 ? (uint64_t)value : 0;
}

static double message_get_ms(const json_t *object, const char *key)
{
	double ms = json_number_value(json_object_get(object, key));

	/* To the microsecond; an impossible number counts as 0. */
	return ms > 0 && ms < 1e12 ? (double)(uint64_t)(ms * 1e3 + 0.5) / 1e3 : 0;
}

static void message_get_text(const json_t *object, const char *key, char *text,
                             size_t size)
{
	const char *value = json_string_value(json_object_get(object, key));

	if (value) {
		(void)snprintf(text, size, "%s", value);
		err_clean(text);
	}
}

static void message_read_chunks(struct store_chunks *chunks, const json_t *object)
{
	*chunks = (struct store_chunks){
		.kept = message_get_bytes(object, "kept"),
		.chunk_bytes = message_get_bytes(object, "chunk_bytes"),
		.mapped_bytes = message_get_bytes(object, "mapped_bytes"),
	};
	message_get_text(object, "canary", chunks->canary, sizeof(chunks->canary));
}

static void message_read_report(struct generation_report *report, const json_t *object)
{
	message_get_text(object, "weights_sha256", report->weights_sha256,
	                 sizeof(report->weights_sha256));
	message_get_text(object, "engine_version", report->engine_version,
	                 sizeof(report->engine_version));
	message_get_text(object, "walls", report->walls.text, sizeof(report->walls.text));
	message_get_text(object, "walls_missing", report->walls_missing.text,
	                 sizeof(report->walls_missing.text));
	message_get_text(object, "private", report->why_private.text,
	                 sizeof(report->why_private.text));
	if (json_object_get(object, "private_lasts"))
		report->is_private_lasting =
			json_is_true(json_object_get(object, "private_lasts"));
	if (json_object_get(object, "module_ms")) {
		report->weights_ms = message_get_ms(object, "weights_ms");
		report->engine_ms = message_get_ms(object, "engine_ms");
		report->module_ms = message_get_ms(object, "module_ms");
		report->prefill_ms = message_get_ms(object, "prefill_ms");
		report->prefilled_bytes = message_get_bytes(object, "prefilled_bytes");
	}
	if (json_object_get(object, "placed"))
		message_read_chunks(&report->chunks, json_object_get(object, "placed"));
	if (json_object_get(object, "place_ms"))
		report->place_ms = message_get_ms(object, "place_ms");
	if (json_object_get(object, "weights_bytes"))
		report->weights_bytes = message_get_bytes(object, "weights_bytes");
	if (json_object_get(object, "loading_anon_bytes"))
		report->loading_bytes = message_get_bytes(object, "loading_anon_bytes");
	if (json_object_get(object, "engine_anon_bytes"))
		report->engine_bytes = message_get_bytes(object, "engine_anon_bytes");
	if (json_object_get(object, "golden_requests"))
		report->golden = message_get_bytes(object, "golden_requests");
	if (json_object_get(object, "rss_anon_bytes")) {
		report->rss_bytes = message_get_bytes(object, "rss_bytes");
		report->anon_bytes = message_get_bytes(object, "rss_anon_bytes");
		report->pss_bytes = message_get_bytes(object, "pss_bytes");
	}
}

static void message_read_refusal(struct generation_report *report, const json_t *object,
                                 struct err *err)
{
	const char *code = json_string_value(json_object_get(object, "code"));
	const char *reason = json_string_value(json_object_get(object, "reason"));

	report->refuses_input =
		code && (strcmp(code, "config") == 0 || strcmp(code, "model") == 0);
	(void)err_set(err, 0, "%s",
	              reason && *reason ? reason
	                                : "the loader refused and gave no reason");
}

static enum generation_event message_event(unsigned int type)
{
	switch (type) {
	case PROTO_HELLO:
		return GENERATION_EV_HELLO;
	case PROTO_STAGED:
		return GENERATION_EV_STAGED;
	case PROTO_COMMITTED:
		return GENERATION_EV_COMMITTED;
	case PROTO_READY:
		return GENERATION_EV_READY;
	case PROTO_REFUSED:
		return GENERATION_EV_REFUSED;
	case PROTO_BYE:
		return GENERATION_EV_BYE;
	default:
		return GENERATION_EVENT_COUNT;
	}
}

enum generation_event generation_read_message(const struct chan_message *message,
                                              uint64_t number,
                                              enum generation_state state,
                                              struct generation_report *report,
                                              struct err *err)
{
	enum generation_event event = message_event(message->header.type);
	json_t *object;

	if (message->header.generation != number || event == GENERATION_EVENT_COUNT ||
	    generation_next(state, event) == GENERATION_NONE) {
		(void)err_set(err, 0, "message of type %u about generation %llu while %s",
		              message->header.type,
		              (unsigned long long)message->header.generation,
		              generation_state_name(state));
		return GENERATION_EV_VIOLATION;
	}
	object = json_loads(message->payload, 0, NULL);
	if (!json_is_object(object)) {
		json_decref(object);
		(void)err_set(err, 0, "a message's payload is no JSON object");
		return GENERATION_EV_VIOLATION;
	}
	if (event == GENERATION_EV_READY && declared_read(&report->told, object, err) < 0)
		event = GENERATION_EV_VIOLATION;
	else if (event == GENERATION_EV_REFUSED)
		message_read_refusal(report, object, err);
	else
		message_read_report(report, object);
	json_decref(object);
	return event;
}
