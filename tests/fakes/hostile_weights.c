/* SPDX-License-Identifier: Apache-2.0 */

/* The copy of the weights that loaders share: filled and sealed as it should be, or not. */

#include "hostile.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"

#define WEIGHTS_PIECE 65536

void hostile_take_weights(struct hostile *hostile, const json_t *load,
                          struct chan_message *message)
{
	const char *what = json_string_value(json_object_get(load, "weights"));
	const json_t *lean = json_object_get(load, "lean");

	if (message->n_fds > PROTO_LOAD_FD_WEIGHTS)
		hostile->weights_fd = take_fd(&message->fds[PROTO_LOAD_FD_WEIGHTS]);
	if (message->n_fds > PROTO_LOAD_FD_STORE)
		hostile->store_fd = take_fd(&message->fds[PROTO_LOAD_FD_STORE]);
	hostile->is_lean = json_is_true(lean);
	hostile->is_mapped = what && strcmp(what, "map") == 0;
}

static void weights_copy(const struct hostile *hostile)
{
	static char piece[WEIGHTS_PIECE];
	off_t at = 0;
	ssize_t n;

	while ((n = pread(hostile->weights_fd, piece, sizeof(piece), at)) > 0) {
		if (pwrite(hostile->store_fd, piece, (size_t)n, at) != n)
			_exit(PROTO_EXIT_INTERNAL);
		at += n;
	}
}

void hostile_settle_weights(struct hostile *hostile, bool is_lean, char *payload,
                            size_t size)
{
	struct hostile_faults *faults = &hostile->faults;
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
	uint64_t head = 0;
	const char *why = "";

	/* The loader has no weights, or not yet. */
	(void)snprintf(payload, size, "{\"weights_sha256\":\"\",\"weights_bytes\":0}");
	if (hostile->weights_fd < 0 || is_lean != hostile->is_lean)
		return;
	(void)!pread(hostile->weights_fd, &head, sizeof(head), 0);
	if (hostile->is_mapped && head == 0)
		hostile_refuse(hostile, PROTO_EXIT_MODEL);
	if (hostile->store_fd >= 0) {
		if (!hostile_take(hostile, faults, HOSTILE_SHARE_EMPTY))
			weights_copy(hostile);
		if (!hostile_take(hostile, faults, HOSTILE_SHARE_OPEN))
			(void)fcntl(hostile->store_fd, F_ADD_SEALS, seals);
	}
	if ((hostile->store_fd >= 0 || hostile->is_mapped) &&
	    hostile_take(hostile, faults, HOSTILE_SHARE_PRIVATE))
		why = "so the hostile loader says";
	(void)snprintf(payload, size,
	               "{\"weights_sha256\":\"%016llx%016llx%016llx%016llx\","
	               "\"weights_bytes\":8%s%s%s}",
	               (unsigned long long)head, (unsigned long long)head,
	               (unsigned long long)head, (unsigned long long)head,
	               *why ? ",\"private\":\"" : "", why,
	               *why ? "\",\"private_lasts\":true" : "");
	if (hostile_take(hostile, faults, HOSTILE_SHARE_HASH))
		(void)snprintf(payload, size, "{\"weights_sha256\":\"abc\"}");
	if (hostile_take(hostile, faults, HOSTILE_SHARE_AHEAD))
		(void)snprintf(payload, size,
		               "{\"module_ms\":0,\"prefilled_bytes\":33554432}");
}
