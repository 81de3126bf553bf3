/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A helper that sends anything where moultd awaits its report of the GPUs: packets of any length
 * and content, unasked or for another question, or none. A packet is taken if it is whole and
 * means something, by a second look of the harness; any other one ends the helper and leaves no
 * figure. The figures of a card and of a loader on it are taken from what has come.
 */

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/devices/device.h"
#include "supervisor/devices/nvml.h"
#include "tests/fuzz/bytes.h"

#define PID 7
/* moultd looks by itself for what is later than a second. */
#define SILENCE_NS (2 * CLOCK_NS_PER_SEC)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct packet {
	struct nvml_report report;
	char more[8];
};

struct state {
	struct fuzz_bytes bytes;
	struct nvml nvml;
	struct device device;
	struct device_use use;
	int fd; /* the helper's */
	struct packet *packet;
};

static const char *const uuids[] = {
	"GPU-0", "GPU-1", "MIG-GPU-2/3/4", "", "GPU-0\n", "GPU-8a6f4e1c-4f5d-1b2c",
};

/* The helper */

static void fill_card(struct fuzz_bytes *bytes, struct nvml_card *card)
{
	uint8_t how = fuzz_u8(bytes);

	memset(card, 0, sizeof(*card));
	/* Two of three are well formed. */
	(void)strcpy(card->uuid, uuids[how & 0x80 ? how % FUZZ_COUNT(uuids) : how & 1]);
	card->is_lost = (how & 0x70) == 0x70;
	card->has_list = how & 2;
	card->is_exclusive = how >> 2 & 1;
	card->is_prohibited = how >> 3 & 1;
	card->n_processes = fuzz_u8(bytes) % 4;
	if ((how & 0x60) == 0x20) {
		card->n_processes = (uint32_t)fuzz_near(bytes, NVML_PROCESSES_MAX);
		memset(card->uuid, 'x',
		       (size_t)fuzz_near(bytes, NVML_UUID_BYTES) % (NVML_UUID_BYTES + 1));
	}
	card->total_bytes = fuzz_near(bytes, UINT64_C(80) << 30);
	card->used_bytes = fuzz_near(bytes, UINT64_C(1) << 30);
	card->free_bytes = fuzz_near(bytes, card->total_bytes - card->used_bytes);
	for (unsigned int i = 0; i < 3; i++) {
		card->processes[i].pid = fuzz_u8(bytes) & 1 ? PID : 4711;
		card->processes[i].bytes = fuzz_near(bytes, UINT64_C(1) << 20);
	}
}

static void fill_report(struct state *state, uint8_t how)
{
	struct fuzz_bytes *bytes = &state->bytes;
	struct nvml_report *report = &state->packet->report;

	memset(report, 0, offsetof(struct nvml_report, cards));
	report->number =
		how & 1 ? fuzz_near(bytes, state->nvml.awaited) : state->nvml.awaited;
	report->is_open = !(how & 2);
	report->n_cards = how >> 2 & 3;
	(void)strcpy(report->driver, "999.9");
	for (unsigned int i = 0; i < report->n_cards; i++)
		fill_card(bytes, &report->cards[i]);
	report->n_xids = how >> 4 & 1;
	report->xids[0] = (struct nvml_xid){ fuzz_u8(bytes) % 4, fuzz_u8(bytes) };
	if (!(how & 0x20))
		return;
	switch (fuzz_u8(bytes) % 5) {
	case 0:
		report->n_cards = (uint32_t)fuzz_near(bytes, report->n_cards);
		break;
	case 1:
		report->n_xids = (uint32_t)fuzz_near(bytes, NVML_XIDS_MAX);
		break;
	case 2:
		memset(report->driver, 'x', sizeof(report->driver));
		break;
	case 3:
		memset(report->why, 'x', sizeof(report->why));
		break;
	default:
		fuzz_copy(bytes, report, offsetof(struct nvml_report, driver));
		break;
	}
}

/* The harness' own opinion. */
static bool is_card(const struct nvml_card *card)
{
	size_t i = 0;

	while (i < NVML_UUID_BYTES && card->uuid[i] != '\0') {
		char c = card->uuid[i++];

		if (!(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= 'a' && c <= 'z') && c != '-')
			return false;
	}
	return i < NVML_UUID_BYTES && card->n_processes <= NVML_PROCESSES_MAX;
}

static bool is_report(const struct nvml *nvml, const struct nvml_report *report,
                      size_t bytes)
{
	if (bytes < offsetof(struct nvml_report, cards) ||
	    report->n_cards > NVML_CARDS_MAX || report->n_xids > NVML_XIDS_MAX ||
	    bytes != nvml_report_bytes(report->n_cards) || !nvml->is_asking ||
	    report->number != nvml->awaited || (report->is_open && report->n_cards == 0))
		return false;
	for (uint32_t i = 0; i < report->n_xids; i++)
		if (report->xids[i].card >= report->n_cards)
			return false;
	for (uint32_t i = 0; i < report->n_cards; i++)
		if (!is_card(&report->cards[i]))
			return false;
	return strnlen(report->driver, sizeof(report->driver)) < sizeof(report->driver) &&
	       strnlen(report->why, sizeof(report->why)) < sizeof(report->why);
}

/* moultd */

/* It is as if moultd had just asked, or waited in vain: nothing is waited for. */
static void hurry(struct nvml *nvml)
{
	nvml->fresh_iteration = ev_iteration(nvml->loop) + 1;
	nvml->is_late = true;
}

static void read_figures(struct state *state)
{
	struct nvml *nvml = &state->nvml;
	struct device_figures figures;

	hurry(nvml);
	(void)device_measure(&state->device);
	figures = device_figures(&state->device);
	if (figures.is_known)
		assert(nvml_card(nvml, state->device.uuid, 0));
	(void)device_room(&state->device);
	(void)device_peaks(&state->device, NULL);
	(void)device_xid(&state->device, 0);
	(void)device_is_exclusive(&state->device);
	for (unsigned int i = 0; i < NVML_CARDS_MAX; i++) {
		const char *uuid = nvml_uuid(nvml, i);

		assert(!uuid || (*uuid && i < nvml->report->n_cards));
	}
}

static void send_report(struct state *state)
{
	struct fuzz_bytes *bytes = &state->bytes;
	uint8_t how = fuzz_u8(bytes);
	struct nvml_question question;
	size_t n;
	bool is_good;

	fill_report(state, how);
	n = nvml_report_bytes(how >> 2 & 3);
	if (how & 0x40)
		n = (size_t)fuzz_near(bytes, n) % (sizeof(struct packet) + 1);
	if (n == 0) /* an empty packet reads as the end */
		return;
	is_good = is_report(&state->nvml, &state->packet->report, n);
	assert(send(state->fd, state->packet, n, MSG_NOSIGNAL | MSG_DONTWAIT) ==
	       (ssize_t)n);
	/* As after a moment in which moultd itself was stopped: it reads before it asks again. */
	state->nvml.asked_ns = clock_now_ns() - SILENCE_NS;
	nvml_ask(&state->nvml);
	while (recv(state->fd, &question, sizeof(question), MSG_DONTWAIT) > 0)
		assert(question.number <= state->nvml.n_asked);
	assert((state->nvml.fd >= 0) == is_good);
	if (is_good)
		assert(memcmp(state->nvml.report, state->packet, n) == 0);
	else
		assert(!nvml_uuid(&state->nvml, 0) && !state->nvml.as_of_ns);
}

static void step(struct state *state)
{
	struct nvml *nvml = &state->nvml;
	uint8_t what = fuzz_u8(&state->bytes);

	hurry(nvml);
	switch (what & 7) {
	case 0:
		nvml_want(nvml, uuids[what >> 3 & 1]);
		break;
	case 1:
		nvml_note_change(nvml);
		break;
	case 2:
		device_note_placing(&state->use);
		break;
	case 3:
		device_note_mapped(&state->use, (uint64_t)what << 12,
		                   (uint64_t)what << 8);
		device_note_placed(&state->use);
		break;
	default:
		send_report(state);
		break;
	}
	read_figures(state);
}

static void begin(struct state *state)
{
	static struct packet packet;
	static struct ev_loop *loop;
	int fds[2];

	if (!loop) {
		log_set_level(LOG_LEVEL_NONE);
		loop = ev_loop_new(EVFLAG_NOENV);
	}
	assert(loop && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
	nvml_init(&state->nvml, loop, "none");
	state->packet = &packet;
	state->fd = fds[1];
	/* What nvml_start() leaves, but for the process. */
	state->nvml.report = calloc(1, sizeof(*state->nvml.report));
	state->nvml.incoming = calloc(1, sizeof(*state->nvml.incoming));
	assert(state->nvml.report && state->nvml.incoming);
	state->nvml.fd = fds[0];
	state->nvml.state = NVML_UP;
	state->nvml.is_asking = true;
	state->nvml.asked_ns = clock_now_ns();
	device_init_nvml(&state->device, "cuda:0", &state->nvml);
	hurry(&state->nvml);
	device_add(&state->device, &state->use, PID, UINT64_C(1) << 20);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state state = { .bytes = { data, size } };

	begin(&state);
	/* Of a helper that has found nothing the loop waits for the end. */
	while (state.bytes.left > 0 && state.nvml.fd >= 0 && state.nvml.state == NVML_UP)
		step(&state);
	device_remove(&state.use);
	device_fini(&state.device);
	nvml_fini(&state.nvml);
	(void)close(state.fd);
	return 0;
}
