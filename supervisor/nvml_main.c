/* SPDX-License-Identifier: Apache-2.0 */

/*
 * moult-nvml: asks the GPU driver on behalf of moultd, which must never wait for it. Started
 * by moultd, ends with it: no options, no signals, no state.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/proto.h"
#include "supervisor/nvml_library.h"

static int nvml_main_send(const struct nvml_report *report)
{
	ssize_t n;

	do
		n = send(PROTO_CONTROL_FD, report, sizeof(*report), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*report) ? 0 : -EPIPE;
}

int main(void)
{
	/* Too large for a stack that the driver's library shares. */
	static struct nvml_report report;
	static struct nvml_library library;
	struct nvml_question question = { 0 };
	struct err err = ERR_NULL;
	int r = nvml_library_open(&library, NVML_LIBRARY, &err);

	if (r < 0) {
		(void)snprintf(report.why, sizeof(report.why), "%.190s", err.text);
		return nvml_main_send(&report) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	for (;;) {
		nvml_library_read(&library, &report);
		report.number = question.number;
		if (nvml_main_send(&report) < 0)
			break;
		if (recv(PROTO_CONTROL_FD, &question, sizeof(question), 0) !=
		    (ssize_t)sizeof(question))
			break;
	}
	nvml_library_close(&library);
	return EXIT_SUCCESS;
}
