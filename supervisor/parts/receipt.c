/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Receipts as JSON, and the file that they are appended to. A line is written whole or
 * not at all. At RECEIPT_FILE_BYTES the file becomes receipts.jsonl.1, so that two files
 * bound the space. Reading starts at the newest line and passes over lines that cannot be
 * read.
 */

#include "supervisor/parts/receipt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/control/control.h"

#define RECEIPT_FILE_BYTES ((off_t)1024 * 1024)
#define RECEIPT_PATH_MAX   4096

const char *receipt_outcome_name(enum receipt_outcome outcome)
{
	static const char *const names[] = {
		[RECEIPT_OK] = "ok",
		[RECEIPT_FAILED] = "failed",
		[RECEIPT_UNCHANGED] = "unchanged",
	};

	return names[outcome];
}

static json_t *receipt_side_to_json(const struct receipt_side *side)
{
	if (side->generation == 0)
		return json_null();
	return json_pack("{s:I,s:i}", "generation", (json_int_t)side->generation, "pid",
	                 (int)side->pid);
}

static json_t *receipt_phases_to_json(const struct receipt *receipt)
{
	return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}",
	                 "spawn", receipt->spawn_ms, "stage", receipt->stage_ms,
	                 "stage_weights", receipt->weights_ms, "stage_engine",
	                 receipt->engine_ms, "stage_module", receipt->module_ms,
	                 "stage_prefill", receipt->prefill_ms, "commit",
	                 receipt->commit_ms, "warmup", receipt->warmup_ms, "swap",
	                 receipt->swap_ms, "drain", receipt->drain_ms, "stop",
	                 receipt->stop_ms, "reclaim", receipt->reclaim_ms, "pause",
	                 receipt->pause_ms, "total", receipt->total_ms);
}

static json_t *receipt_requests_to_json(const struct request_counts *counts)
{
	json_int_t lost = (json_int_t)(counts->accepted - counts->answered -
	                               counts->failed - counts->held - counts->leased);

	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "accepted",
	                 (json_int_t)counts->accepted, "answered",
	                 (json_int_t)counts->answered, "failed",
	                 (json_int_t)counts->failed, "held", (json_int_t)counts->held,
	                 "leased", (json_int_t)counts->leased, "replayed",
	                 (json_int_t)counts->replayed, "lost", lost);
}

static json_t *receipt_ms(double ms)
{
	return ms < 0 ? json_null() : json_real(ms);
}

static json_t *receipt_gpu_to_json(const struct receipt *receipt)
{
	const struct receipt_gpu *gpu = &receipt->gpu;

	if (!gpu->device)
		return json_null();
	return json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:I,s:{s:s,s:f,s:o,s:o,s:o,s:s,s:o}}",
	                 "device", gpu->device, "uuid", gpu->uuid, "decision",
	                 strategy_to_json(&receipt->gpu_decision), "before_bytes",
	                 memory_bytes_to_json(gpu->before_bytes), "peak_bytes",
	                 memory_bytes_to_json(gpu->peak_bytes), "after_bytes",
	                 memory_bytes_to_json(gpu->after_bytes), "prefilled_bytes",
	                 (json_int_t)gpu->prefilled_bytes, "reclaim", "verdict",
	                 reclaim_verdict_name(gpu->verdict), "reaped_ms", gpu->reaped_ms,
	                 "unlisted_ms", receipt_ms(gpu->unlisted_ms), "freed_ms",
	                 receipt_ms(gpu->freed_ms), "residual_bytes",
	                 memory_bytes_to_json(gpu->residual_bytes), "residue",
	                 gpu->residue.text, "xid",
	                 gpu->xid ? json_integer((json_int_t)gpu->xid) : json_null());
}

static json_t *receipt_orphans_to_json(const struct orphans_left *left)
{
	return json_pack("{s:i,s:i,s:I,s:s}", "processes", (int)left->n, "alive",
	                 (int)left->n_alive, "anon_bytes", (json_int_t)left->bytes, "who",
	                 left->who);
}

json_t *receipt_to_json(const struct receipt *receipt)
{
	return json_pack(
		"{s:I,s:I,s:s,s:s,s:s,s:s,s:o,s:s,s:s,s:b,s:I,s:o,s:o,s:o,s:{s:o,s:"
		"o,s:o},s:o,s:s,s:o,s:o,s:{s:s,s:s}}",
		"number", (json_int_t)receipt->number, "time_ms",
		(json_int_t)receipt->time_ms, "model", receipt->model, "cause",
		receipt->cause, "recycle", receipt->recycle.text, "strategy",
		strategy_name(receipt->decision.strategy), "decision",
		strategy_to_json(&receipt->decision), "outcome",
		receipt_outcome_name(receipt->outcome), "reason", receipt->reason.text,
		"spare", (int)receipt->took_spare, "golden", (json_int_t)receipt->golden,
		"from", receipt_side_to_json(&receipt->from), "to",
		receipt_side_to_json(&receipt->to), "phases_ms",
		receipt_phases_to_json(receipt), "memory", "before",
		memory_to_json(&receipt->before), "peak", memory_to_json(&receipt->peak),
		"after", memory_to_json(&receipt->after), "gpu",
		receipt_gpu_to_json(receipt), "death", receipt->death.text, "orphans",
		receipt_orphans_to_json(&receipt->orphans), "requests",
		receipt_requests_to_json(&receipt->requests), "walls", "layers",
		receipt->walls.text, "missing", receipt->walls_missing.text);
}

static int receipt_open(const char *state_dir, char *path)
{
	struct stat st;
	char old[RECEIPT_PATH_MAX];

	(void)snprintf(path, RECEIPT_PATH_MAX, "%s/receipts.jsonl", state_dir);
	if (stat(path, &st) == 0 && st.st_size > RECEIPT_FILE_BYTES) {
		int n = snprintf(old, sizeof(old), "%s.1", path);

		if (n > 0 && (size_t)n < sizeof(old))
			(void)rename(path, old);
	}
	return open(path,
	            O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
	            0640);
}

/* Writes the whole line or nothing: a torn one would spoil the next, too. */
static int receipt_write(int fd, const char *line, size_t bytes)
{
	ssize_t n = write(fd, line, bytes);
	off_t end;

	if (n < 0)
		return -errno;
	if ((size_t)n == bytes)
		return 0;
	end = lseek(fd, 0, SEEK_CUR);
	if (end >= n && ftruncate(fd, end - n) < 0)
		return -errno;
	return -ENOSPC;
}

/* The file may end in the middle of a line, after a machine that stopped. */
static bool receipt_is_torn(int fd, off_t bytes)
{
	char last = '\n';

	return bytes > 0 && pread(fd, &last, 1, bytes - 1) == 1 && last != '\n';
}

int receipt_append(const char *state_dir, const json_t *receipt)
{
	FREE char *text = json_dumps(receipt, CONTROL_JSON);
	FREE char *line = NULL;
	char path[RECEIPT_PATH_MAX];
	CLOSE_FD int fd = -1;
	struct stat st;
	int bytes;

	if (!text)
		return -ENOMEM;
	fd = receipt_open(state_dir, path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	/* A file of somebody else under this name must not grow by what is ours. */
	if (!S_ISREG(st.st_mode) || st.st_nlink > 1)
		return -EMLINK;
	/* One write is one whole line. */
	bytes = asprintf(&line, "%s%s\n", receipt_is_torn(fd, st.st_size) ? "\n" : "",
	                 text);
	if (bytes < 0) {
		line = NULL;
		return -ENOMEM;
	}
	return receipt_write(fd, line, (size_t)bytes);
}

/* Reads the whole file and terminates it. The caller frees it. NULL: there is none. */
static char *receipt_load(const char *path)
{
	CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	char *text;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > 2 * RECEIPT_FILE_BYTES)
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return NULL;
	n = read(fd, text, (size_t)st.st_size);
	text[n > 0 ? n : 0] = '\0';
	/* Where a machine stopped, file systems may leave zeros for what was to come. */
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == '\0')
			text[i] = '\n';
	return text;
}

/* Takes lines off the end of @text, the last one first. */
static void receipt_collect(json_t *receipts, char *text, const char *model, size_t max)
{
	size_t bytes = strlen(text);

	while (bytes > 0 && json_array_size(receipts) < max) {
		char *newline = memrchr(text, '\n', bytes);
		json_t *receipt = json_loads(newline ? newline + 1 : text, 0, NULL);
		const char *name;

		bytes = newline ? (size_t)(newline - text) : 0;
		text[bytes] = '\0';
		name = json_string_value(json_object_get(receipt, "model"));
		if (name && (!model || strcmp(name, model) == 0))
			(void)json_array_insert(receipts, 0, receipt);
		json_decref(receipt);
	}
}

json_t *receipt_read(const char *state_dir, const char *model, size_t max)
{
	static const char *const suffixes[] = { "", ".1" };
	json_t *receipts = json_array();

	for (size_t i = 0; receipts && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		char path[RECEIPT_PATH_MAX];
		FREE char *text = NULL;

		(void)snprintf(path, sizeof(path), "%s/receipts.jsonl%s", state_dir,
		               suffixes[i]);
		text = receipt_load(path);
		if (text)
			receipt_collect(receipts, text, model, max);
	}
	return receipts;
}
