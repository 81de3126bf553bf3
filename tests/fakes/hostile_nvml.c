/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A moult-nvml that breaks its protocol: NVIDIA_FAKE_HELPER says how. Its first report is as
 * the word demands, and so is the answer to each question, unless the word is "later-...":
 * then the first report is sound. It lives until it is killed, for a minute at most.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/proto.h"
#include "supervisor/devices/nvml_wire.h"

/* A packet: a report, and how many bytes of it are sent. */
struct hostile_packet {
	struct nvml_report report;
	char more[8];
};

static void hostile_fill(struct hostile_packet *packet, uint64_t number)
{
	struct nvml_report *report = &packet->report;

	*packet = (struct hostile_packet){ 0 };
	report->number = number;
	report->is_open = 1;
	report->n_cards = 2;
	(void)snprintf(report->driver, sizeof(report->driver), "999.9");
	for (unsigned int i = 0; i < 2; i++) {
		struct nvml_card *card = &report->cards[i];

		(void)snprintf(card->uuid, sizeof(card->uuid), "GPU-%u", i);
		card->has_list = 1;
		card->total_bytes = 3 << 20;
		card->used_bytes = 1 << 20;
		card->free_bytes = 2 << 20;
	}
}

/* Spoils the packet; returns how many bytes to send. */
static size_t hostile_spoil(struct hostile_packet *packet, const char *how)
{
	struct nvml_report *report = &packet->report;
	size_t bytes = nvml_report_bytes(2);

	if (strcmp(how, "short") == 0)
		return bytes - 1;
	if (strcmp(how, "byte") == 0)
		return 1;
	if (strcmp(how, "long") == 0)
		return bytes + 1;
	if (strcmp(how, "huge") == 0)
		return sizeof(*packet);
	if (strcmp(how, "number") == 0)
		report->number += 7;
	else if (strcmp(how, "cards") == 0)
		report->n_cards = UINT32_MAX;
	else if (strcmp(how, "one-card-more") == 0)
		report->n_cards = 3;
	else if (strcmp(how, "no-card") == 0)
		report->n_cards = 0, bytes = nvml_report_bytes(0);
	else if (strcmp(how, "processes") == 0)
		report->cards[1].n_processes = NVML_PROCESSES_MAX + 1;
	else if (strcmp(how, "xids") == 0)
		report->n_xids = NVML_XIDS_MAX + 1;
	else if (strcmp(how, "xid-of-none") == 0)
		report->n_xids = 1, report->xids[0].card = 2;
	else if (strcmp(how, "uuid") == 0)
		(void)strcpy(report->cards[1].uuid, "GPU-\"} 1\n");
	else if (strcmp(how, "uuid-without-end") == 0)
		memset(report->cards[1].uuid, 'x', sizeof(report->cards[1].uuid));
	else if (strcmp(how, "driver-without-end") == 0)
		memset(report->driver, 'x', sizeof(report->driver));
	else if (strcmp(how, "why-without-end") == 0)
		memset(report->why, 'x', sizeof(report->why));
	return bytes;
}

static void hostile_send(struct hostile_packet *packet, const char *how)
{
	size_t bytes = hostile_spoil(packet, how);

	(void)send(PROTO_CONTROL_FD, packet, bytes, MSG_NOSIGNAL);
	if (strcmp(how, "twice") == 0)
		(void)send(PROTO_CONTROL_FD, packet, bytes, MSG_NOSIGNAL);
	if (strcmp(how, "closed") == 0)
		(void)close(PROTO_CONTROL_FD);
}

int main(void)
{
	static struct hostile_packet packet;
	const char *how = getenv("NVIDIA_FAKE_HELPER");
	struct nvml_question question = { 0 };

	(void)alarm(60);
	if (!how)
		how = "";
	hostile_fill(&packet, 0);
	if (strncmp(how, "later-", 6) == 0) {
		how += 6;
		hostile_send(&packet, "");
	} else {
		hostile_send(&packet, how);
	}
	while (recv(PROTO_CONTROL_FD, &question, sizeof(question), 0) ==
	       (ssize_t)sizeof(question)) {
		hostile_fill(&packet, question.number);
		if (strcmp(how, "mute") != 0)
			hostile_send(&packet, how);
	}
	for (;;)
		(void)pause();
}
