/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A loader that writes anything to its control channel: datagrams of any header and length, with
 * descriptors. Messages that chan_recv() lets through go to the supervisor's reader of messages,
 * in whatever state the messages before have led to.
 */

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shared/chan.h"
#include "shared/cleanup.h"
#include "supervisor/loaders/generation.h"
#include "tests/fuzz/bytes.h"

#define NUMBER    7u
#define FDS_LIMIT (PROTO_FDS_MAX + 8u)
/* The largest message that is allowed, and some. */
#define PAYLOAD_LIMIT ((size_t)PROTO_PAYLOAD_MAX + 64)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const payloads[] = {
	"{}",
	"{\"build\":\"0.1.0\"}",
	"{\"weights_sha256\":\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca49\"}",
	"{\"weights_bytes\":9007199254740993,\"loading_anon_bytes\":-1}",
	"{\"rss_bytes\":1,\"rss_anon_bytes\":2,\"pss_bytes\":3,\"golden_requests\":4}",
	"{\"engine_version\":\"1\",\"warmup_ms\":1.5}",
	("{\"engine_version\":"
	 "\"\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
	 "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
	 "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
	 "\"}"),
	"{\"code\":\"internal\",\"reason\":\"no\"}",
	"{\"code\":\"model\"}",
};

struct sent {
	struct proto_header header;
	size_t bytes; /* of the datagram */
	size_t n_fds;
	const unsigned char *payload;
};

static int spare_fd = -1;

static void send_fds(struct msghdr *message, void *control, size_t n_fds)
{
	struct cmsghdr *cmsg;

	message->msg_control = control;
	message->msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
	cmsg = CMSG_FIRSTHDR(message);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
	for (size_t i = 0; i < n_fds; i++)
		memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &spare_fd, sizeof(int));
}

/* Fills the payload: a valid one, or the input's bytes, or many of one kind. */
static size_t fill_payload(struct fuzz_bytes *bytes, unsigned char *payload)
{
	uint8_t how = fuzz_u8(bytes);
	size_t n;

	if (how < 0x60) {
		const char *text = payloads[how % FUZZ_COUNT(payloads)];

		memcpy(payload, text, strlen(text));
		return strlen(text);
	}
	if (how < 0xe0) {
		n = fuzz_u8(bytes) | (how & 1 ? fuzz_u8(bytes) * 16u : 0);
		n = n < bytes->left ? n : bytes->left;
		fuzz_copy(bytes, payload, n);
		return n;
	}
	n = (size_t)fuzz_near(bytes, PROTO_PAYLOAD_MAX);
	n = n < PAYLOAD_LIMIT ? n : PAYLOAD_LIMIT;
	memset(payload, how & 1 ? '[' : 'x', n);
	return n;
}

static void fill_header(struct fuzz_bytes *bytes, uint8_t how,
                        struct proto_header *header, size_t payload_bytes)
{
	static const uint16_t types[] = { PROTO_HELLO, PROTO_STAGED, PROTO_COMMITTED,
		                          PROTO_READY, PROTO_BYE,    PROTO_REFUSED,
		                          PROTO_LOAD,  PROTO_COMMIT };

	*header = (struct proto_header){
		.magic = PROTO_MAGIC,
		.version = PROTO_VERSION,
		.type = types[how & 7],
		.generation = NUMBER,
		.payload_bytes = (uint32_t)payload_bytes,
	};
	if (!(how & 0x08))
		return;
	switch (fuzz_u8(bytes) % 7) {
	case 0:
		header->magic = fuzz_u32(bytes);
		break;
	case 1:
		header->version = fuzz_u16(bytes);
		break;
	case 2:
		header->type = fuzz_u16(bytes);
		break;
	case 3:
		header->generation = fuzz_near(bytes, NUMBER);
		break;
	case 4:
		header->payload_bytes = (uint32_t)fuzz_near(bytes, payload_bytes);
		break;
	case 5:
		header->reserved = fuzz_u32(bytes);
		break;
	default:
		fuzz_copy(bytes, header, sizeof(*header));
		break;
	}
}

/* Sends one datagram as the loader could. False: nothing was sent. */
static bool send_one(int fd, struct fuzz_bytes *bytes, struct sent *sent,
                     unsigned char *payload)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * FDS_LIMIT)];
	} control = { .space = { 0 } };
	uint8_t how = fuzz_u8(bytes);
	size_t payload_bytes = fill_payload(bytes, payload);
	struct iovec iov[2] = {
		{ .iov_base = &sent->header, .iov_len = sizeof(sent->header) },
		{ .iov_base = payload, .iov_len = payload_bytes },
	};
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };

	fill_header(bytes, how, &sent->header, payload_bytes);
	if ((how & 0x30) == 0x30) /* less than a header */
		iov[0].iov_len = fuzz_u8(bytes) % sizeof(sent->header);
	sent->n_fds = how & 0x40 ? fuzz_u8(bytes) % (FDS_LIMIT + 1) : 0;
	sent->bytes = iov[0].iov_len + payload_bytes;
	sent->payload = payload;
	if (sent->n_fds > 0)
		send_fds(&message, control.space, sent->n_fds);
	return sendmsg(fd, &message, MSG_NOSIGNAL) >= 0;
}

/* Checks a message that came through: it is the one that was sent, whole. */
static void check_message(const struct chan_message *message, const struct sent *sent)
{
	const struct proto_header *header = &message->header;

	assert(sent->bytes >= sizeof(*header));
	assert(memcmp(header, &sent->header, sizeof(*header)) == 0);
	assert(header->magic == PROTO_MAGIC && header->version == PROTO_VERSION);
	assert(header->payload_bytes == sent->bytes - sizeof(*header));
	assert(header->payload_bytes <= PROTO_PAYLOAD_MAX);
	assert(memcmp(message->payload, sent->payload, header->payload_bytes) == 0);
	assert(message->payload[header->payload_bytes] == '\0');
	assert(message->n_fds == sent->n_fds && message->n_fds <= PROTO_FDS_MAX);
	assert(message->n_fds == 0 || header->type == PROTO_LOAD ||
	       header->type == PROTO_COMMIT || header->type == PROTO_COMMITTED);
}

static void check_text(const char *text)
{
	json_t *json = json_string(text); /* NULL: not UTF-8 */

	assert(json);
	json_decref(json);
}

/* The supervisor's side. 0, or -EPROTO: the loader is to be killed. */
static int handle(const struct chan_message *message, enum generation_state *state,
                  struct generation_report *report)
{
	struct err err = ERR_NULL;
	enum generation_event event =
		generation_read_message(message, NUMBER, *state, report, &err);

	assert(event < GENERATION_EVENT_COUNT);
	check_text(report->weights_sha256);
	check_text(report->engine_version);
	if (event == GENERATION_EV_VIOLATION || event == GENERATION_EV_REFUSED) {
		assert(err.text[0] != '\0');
		check_text(err.text);
	}
	if (event == GENERATION_EV_VIOLATION)
		return -EPROTO;
	*state = generation_next(*state, event);
	assert(*state != GENERATION_NONE);
	return 0;
}

/* Raises the supervisor's own events, where the state allows them. */
static void advance(uint8_t how, enum generation_state *state)
{
	static const enum generation_event events[] = { GENERATION_EV_COMMIT,
		                                        GENERATION_EV_PROMOTE,
		                                        GENERATION_EV_RETIRE,
		                                        GENERATION_EV_DRAINED };
	enum generation_state next =
		generation_next(*state, events[how % FUZZ_COUNT(events)]);

	if (next != GENERATION_NONE)
		*state = next;
}

static void converse(struct chan *ours, int theirs, struct fuzz_bytes *bytes,
                     struct chan_message *message, unsigned char *payload)
{
	struct generation_report report = { .weights_bytes = 0 };
	enum generation_state state = GENERATION_SPAWNED;
	struct err err = ERR_NULL;
	struct sent sent;
	int r = 0;

	while (r == 0 && bytes->left > 0) {
		uint8_t how = fuzz_u8(bytes);

		if (how & 0x80)
			advance(how, &state);
		if (!send_one(theirs, bytes, &sent, payload))
			continue;
		r = chan_recv(ours, message, &err);
		assert(r == 0 || r == CHAN_E_MALFORMED);
		if (r == CHAN_E_MALFORMED)
			assert(err.text[0] != '\0' && message->n_fds == 0);
		if (r == 0) {
			check_message(message, &sent);
			r = handle(message, &state, &report);
			chan_message_fini(message);
			if (r == 0)
				assert(chan_recv(ours, message, &err) == CHAN_E_EMPTY);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct chan_message *message;
	static unsigned char *payload;
	struct fuzz_bytes bytes = { data, size };
	struct err err = ERR_NULL;
	struct chan ours;
	int theirs;
	int next;
	int probe;

	if (spare_fd < 0) {
		spare_fd = dup(STDERR_FILENO);
		message = malloc(sizeof(*message));
		payload = malloc(PAYLOAD_LIMIT);
		assert(spare_fd >= 0 && message && payload);
	}
	if (chan_pair(&ours, &theirs) < 0)
		return 0;
	next = dup(spare_fd);
	probe = next;
	close_fd(&probe);
	converse(&ours, theirs, &bytes, message, payload);
	/* Every descriptor that came was closed: the next free number is the same. */
	probe = dup(spare_fd);
	assert(probe == next);
	close_fd(&probe);
	close_fd(&theirs);
	assert(chan_recv(&ours, message, &err) == CHAN_E_CLOSED);
	chan_fini(&ours);
	return 0;
}
