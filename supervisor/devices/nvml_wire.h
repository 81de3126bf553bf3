/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Protocol between moultd and its helper moult-nvml, over one SOCK_SEQPACKET pair of
 * one machine and one build: structures as they lie in memory, one per packet; a report
 * ends with its last card.
 *
 * The helper sends a report numbered 0 when it has opened the driver's library, or has
 * found that it cannot; then one for each question.
 */

#include <stddef.h>
#include <stdint.h>

/* More cards than any machine has that one moultd is for. */
#define NVML_CARDS_MAX     16
#define NVML_PROCESSES_MAX 256
#define NVML_XIDS_MAX      8
#define NVML_UUID_BYTES    96
#define NVML_WHY_BYTES     200
/* A figure that the driver does not give. */
#define NVML_UNKNOWN UINT64_MAX

/* Set of all cards: the first report has them. */
#define NVML_ALL_CARDS UINT64_MAX

struct nvml_question {
	uint64_t number; /* from 1 */
	uint64_t cards;  /* bit set of those to look at, by place */
};

struct nvml_process {
	int32_t pid;
	uint32_t unused;
	uint64_t bytes; /* a hint: NVML_UNKNOWN, or 0 in some containers */
};

struct nvml_card {
	char uuid[NVML_UUID_BYTES]; /* "GPU-..." */
	uint32_t is_lost;           /* the figures below are missing, or not asked for */
	uint32_t has_list;          /* the list is complete: others are not on it */
	uint32_t n_processes;       /* entries below */
	/* Compute mode: one process may have a context, or none. */
	uint16_t is_exclusive;
	uint16_t is_prohibited;
	uint64_t total_bytes;
	uint64_t used_bytes; /* by everybody, the driver's own included */
	uint64_t free_bytes;
	struct nvml_process processes[NVML_PROCESSES_MAX];
};

/* A critical error of a card, reported once. */
struct nvml_xid {
	uint32_t card; /* its place below */
	uint32_t xid;  /* NVIDIA's number of it */
};

struct nvml_report {
	uint64_t number;  /* of the question */
	uint64_t took_ns; /* in the driver */
	uint32_t is_open; /* the library is there, and at least one card */
	uint32_t n_cards; /* in the driver's order */
	uint32_t n_xids;  /* since the last report */
	uint32_t unused;
	struct nvml_xid xids[NVML_XIDS_MAX];
	char driver[80];
	char why[NVML_WHY_BYTES]; /* why not open, or why a card is lost; "" */
	struct nvml_card cards[NVML_CARDS_MAX];
};

/* Size of a report with @n_cards cards. */
static inline size_t nvml_report_bytes(uint32_t n_cards)
{
	return offsetof(struct nvml_report, cards) + n_cards * sizeof(struct nvml_card);
}
