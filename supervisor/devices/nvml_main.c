/* SPDX-License-Identifier: Apache-2.0 */

/*
 * moult-nvml: asks the GPU driver on behalf of moultd, which must never wait for it. Started
 * by moultd, ends with it: no options, no signals, no state.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/clock.h"
#include "shared/proto.h"
#include "supervisor/devices/nvml_library.h"

/* Without any card for so long, and for so many reports, the helper ends and moultd
 * starts another: old handles do not show what a reset or a fresh driver gives back. */
#define NVML_MAIN_LOST_NS  (5 * CLOCK_NS_PER_SEC)
#define NVML_MAIN_LOST_MIN 3

static int nvml_main_send(const struct nvml_report *report)
{
	size_t bytes = nvml_report_bytes(report->n_cards);
	ssize_t n;

	do
		n = send(PROTO_CONTROL_FD, report, bytes, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)bytes ? 0 : -EPIPE;
}

static int nvml_main_receive(struct nvml_question *question)
{
	ssize_t n;

	do
		n = recv(PROTO_CONTROL_FD, question, sizeof(*question), 0);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*question) ? 0 : -EPIPE;
}

struct nvml_main_lost {
	uint64_t since_ns;
	unsigned int n_reports;
};

/* True: no card has been seen for so long that another process may see more. */
static bool nvml_main_is_lost(struct nvml_main_lost *lost,
                              const struct nvml_report *report, uint64_t cards)
{
	uint64_t now_ns = clock_now_ns();
	bool has_looked = false;

	for (unsigned int i = 0; i < report->n_cards; i++) {
		has_looked |= cards >> i & 1;
		if (!report->cards[i].is_lost) {
			lost->n_reports = 0;
			return false;
		}
	}
	if (!has_looked)
		return false;
	if (lost->n_reports++ == 0)
		lost->since_ns = now_ns;
	return lost->n_reports >= NVML_MAIN_LOST_MIN &&
	       now_ns - lost->since_ns >= NVML_MAIN_LOST_NS;
}

int main(void)
{
	/* Static: too large for a stack that the driver's library shares. */
	static struct nvml_report report;
	static struct nvml_library library;
	struct nvml_question question = { .cards = NVML_ALL_CARDS };
	struct nvml_main_lost lost = { 0 };
	struct err err = ERR_NULL;
	int r = nvml_library_open(&library, NVML_LIBRARY, &err);

	if (r < 0) {
		(void)snprintf(report.why, sizeof(report.why), "%.190s", err.text);
		return nvml_main_send(&report) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	for (;;) {
		nvml_library_read(&library, question.cards, &report);
		report.number = question.number;
		if (nvml_main_send(&report) < 0)
			break;
		if (nvml_main_is_lost(&lost, &report, question.cards)) {
			(void)fprintf(stderr, "no card answers: %s\n", report.why);
			break;
		}
		if (nvml_main_receive(&question) < 0)
			break;
	}
	nvml_library_close(&library);
	return lost.n_reports > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
