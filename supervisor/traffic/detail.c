/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/traffic/detail.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/log.h"

/* At most so many lines in so much time: what fails tends to fail for everybody. */
#define DETAIL_LOGGED_MAX 10
#define DETAIL_TIME_NS    (10 * CLOCK_NS_PER_SEC)
/* Bodies of errors that loaders write are smaller. */
#define DETAIL_BODY_MAX 4096

void detail_set_full(struct detail *detail, bool is_full)
{
	detail->is_full = is_full;
}

static bool detail_may_log(struct detail *detail, uint64_t now_ns)
{
	if (detail->begun_ns == 0 || now_ns - detail->begun_ns >= DETAIL_TIME_NS) {
		detail->begun_ns = now_ns;
		detail->n_logged = 0;
	}
	if (detail->n_logged >= DETAIL_LOGGED_MAX) {
		detail->n_left_out++;
		return false;
	}
	detail->n_logged++;
	return true;
}

void detail_note(struct detail *detail, const char *model,
                 const struct proto_answer *answer, const void *body, uint64_t now_ns,
                 char ret_ref[DETAIL_REF_MAX])
{
	char copy[DETAIL_BODY_MAX];
	json_t *json = NULL;
	const char *reason;

	(void)snprintf(ret_ref, DETAIL_REF_MAX, "%llu-%llx",
	               (unsigned long long)answer->generation,
	               (unsigned long long)answer->lease);
	if (!detail_may_log(detail, now_ns))
		return;
	if (answer->body_bytes <= sizeof(copy)) {
		/* The loader can still write to the body: parse a copy. */
		memcpy(copy, body, answer->body_bytes);
		json = json_loadb(copy, answer->body_bytes, 0, NULL);
	}
	reason = json_string_value(json_object_get(json, "error"));
	log_event(LOG_LEVEL_ERR, "request_failed",
	          "model=%s ref=%s status=%u left_out=%llu reason=%s", model, ret_ref,
	          answer->status, (unsigned long long)detail->n_left_out,
	          LOG_QUOTED(reason ? reason : ""));
	json_decref(json);
	detail->n_left_out = 0;
}
