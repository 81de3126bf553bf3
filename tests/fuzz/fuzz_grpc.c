/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client of gRPC against the endpoint as grpc_new() makes it, libnghttp2 included: frames of
 * any kind and content, in pieces, by a client that reads or not, in front of a model with a queue
 * and a loader of this file, which answers with anything. What is sent must be frames, none of a
 * stream that has ended; and when the client is gone nothing may be left of it.
 */

#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/log.h"
#include "supervisor/grpc/conn.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/grpc_model.h"

#define SENT_MAX    ((size_t)256 * 1024)
#define OUTPUT_MAX  ((size_t)256 * 1024)
#define STREAMS_MAX 512u
#define FRAME_HEAD  9u
#define FRAME_MAX   16384u
#define ROUNDS_MAX  10000
/* Frames of one kind at once: more than libnghttp2 and ours bear. */
#define MANY 1200u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static struct ev_loop *loop;
static struct grpc *grpc;
static struct config config = {
	.max_connections = 256,
	.idle_timeout_ns = 3600 * CLOCK_NS_PER_SEC,
	.header_timeout_ns = 3600 * CLOCK_NS_PER_SEC,
	.body_timeout_ns = 3600 * CLOCK_NS_PER_SEC,
};

static void start(void)
{
	static struct model *const none[1];
	static struct gate gate;
	struct grpc_models models = { .list = none,
		                      .gate = &gate,
		                      .repository = &loading };
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct err err = ERR_NULL;

	log_set_level(LOG_LEVEL_ERR);
	assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	assert(listen(fd, 1) == 0);
	loop = ev_loop_new(EVFLAG_NOENV);
	assert(loop && gate_open(&gate, loop, &config, &err) == 0);
	assert(grpc_new(&grpc, loop, &config, &models, fd, &err) == 0);
	open_model(loop);
}

/* The client */

struct client {
	int fd;
	unsigned char *sent; /* what is to be sent */
	size_t n_sent;
	size_t at;
	unsigned char *output; /* a frame that has not come whole */
	size_t n_output;
	uint8_t ended[STREAMS_MAX]; /* streams that the server has ended */
	bool has_left;
};

static void put(struct client *client, const void *data, size_t bytes)
{
	if (bytes > SENT_MAX - client->n_sent)
		return;
	if (bytes > 0)
		memcpy(client->sent + client->n_sent, data, bytes);
	client->n_sent += bytes;
}

static void put_frame(struct client *client, uint8_t type, uint8_t flags, uint32_t stream,
                      const void *data, size_t bytes)
{
	const unsigned char head[FRAME_HEAD] = {
		(unsigned char)(bytes >> 16),
		(unsigned char)(bytes >> 8),
		(unsigned char)bytes,
		type,
		flags,
		(unsigned char)(stream >> 24),
		(unsigned char)(stream >> 16),
		(unsigned char)(stream >> 8),
		(unsigned char)stream,
	};

	put(client, head, sizeof(head));
	put(client, data, bytes);
}

static void check_frame(struct client *client, const unsigned char *frame, size_t bytes)
{
	uint32_t stream = ((uint32_t)frame[5] << 24 | (uint32_t)frame[6] << 16 |
	                   (uint32_t)frame[7] << 8 | frame[8]) &
	                  0x7fffffff;
	uint8_t type = frame[3];

	assert(type <= NGHTTP2_CONTINUATION && type != NGHTTP2_PRIORITY &&
	       type != NGHTTP2_PUSH_PROMISE && type != NGHTTP2_CONTINUATION);
	if (stream == 0 || stream >= STREAMS_MAX) {
		assert(stream != 0 || (type != NGHTTP2_DATA && type != NGHTTP2_HEADERS));
		return;
	}
	/* What has ended may still be reset. */
	assert(!(client->ended[stream] & 1) || type == NGHTTP2_RST_STREAM ||
	       type == NGHTTP2_WINDOW_UPDATE);
	assert(!(client->ended[stream] & 2) || type == NGHTTP2_RST_STREAM);
	if (type == NGHTTP2_RST_STREAM)
		client->ended[stream] |= 2;
	else if (type <= NGHTTP2_HEADERS && frame[4] & NGHTTP2_FLAG_END_STREAM)
		client->ended[stream] |= 1;
	(void)bytes;
}

static void check_frames(struct client *client)
{
	size_t at = 0;

	while (client->n_output - at >= FRAME_HEAD) {
		const unsigned char *frame = client->output + at;
		size_t bytes = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];

		assert(bytes <= FRAME_MAX);
		if (client->n_output - at < FRAME_HEAD + bytes)
			break;
		check_frame(client, frame, bytes);
		at += FRAME_HEAD + bytes;
	}
	memmove(client->output, client->output + at, client->n_output - at);
	client->n_output -= at;
}

static void take(struct client *client)
{
	ssize_t n;

	while ((n = read(client->fd, client->output + client->n_output,
	                 OUTPUT_MAX - client->n_output)) > 0) {
		client->n_output += (size_t)n;
		check_frames(client);
	}
}

static void turn(struct client *client, bool is_read)
{
	ev_run(loop, EVRUN_NOWAIT);
	if (is_read)
		take(client);
}

static void send_some(struct client *client, size_t most)
{
	size_t left = client->n_sent - client->at;
	ssize_t n = send(client->fd, client->sent + client->at, left < most ? left : most,
	                 MSG_NOSIGNAL);

	if (n > 0)
		client->at += (size_t)n;
	if (client->at == client->n_sent)
		client->at = client->n_sent = 0;
}

/* Frames */

static size_t put_field(unsigned char *to, const char *name, const char *value)
{
	size_t n = strlen(name);
	size_t m = strlen(value);

	assert(n < 127 && m < 127);
	to[0] = 0;
	to[1] = (unsigned char)n;
	memcpy(to + 2, name, n);
	to[2 + n] = (unsigned char)m;
	memcpy(to + 3 + n, value, m);
	return 3 + n + m;
}

static size_t make_fields(struct fuzz_bytes *bytes, unsigned char *to)
{
#define S "/inference.GRPCInferenceService/"
	static const char *const paths[] = {
		S "ModelInfer",
		S "ModelInfer",
		S "ServerLive",
		S "ServerReady",
		S "ModelReady",
		S "ServerMetadata",
		S "ModelMetadata",
		S "RepositoryIndex",
		S "RepositoryModelLoad",
		S "RepositoryModelUnload",
		"/grpc.health.v1.Health/Check",
		"/else",
	};
#undef S
	static const char *const more[][2] = {
		{ "grpc-timeout", "5S" },
		{ "grpc-timeout", "1n" },
		{ "grpc-encoding", "gzip" },
		{ "authorization", "Bearer none" },
		{ "moult-timeout-ms", "10" },
		{ "content-length", "21" },
		{ "x-forwarded-for", "1.2.3.4" },
		{ "te", "trailers" },
		{ "Bad", "name" },
		{ "host", "elsewhere" },
		{ "origin", "http://x" },
		{ "connection", "close" },
	};
	uint8_t path = fuzz_u8(bytes);
	uint8_t how = fuzz_u8(bytes);
	size_t n = put_field(to, ":method", how & 1 ? "GET" : "POST");

	n += put_field(to + n, ":scheme", "http");
	n += put_field(to + n, ":path", paths[path % FUZZ_COUNT(paths)]);
	n += put_field(to + n, ":authority", how & 2 ? "elsewhere" : "localhost");
	n += put_field(to + n, "content-type",
	               how & 4 ? "text/plain" : "application/grpc");
	if (how & 8)
		n += put_field(to + n, more[path / 16 % FUZZ_COUNT(more)][0],
		               more[path / 16 % FUZZ_COUNT(more)][1]);
	if (how & 16) {
		size_t m = fuzz_u8(bytes) % 32;

		fuzz_copy(bytes, to + n, m);
		n += m;
	}
	return how & 32 ? n / 2 : n;
}

/* A message of gRPC: one of inference, or small fields. */
static size_t make_message(struct fuzz_bytes *bytes, unsigned char *to)
{
	static const char infer[] = "\x0a\x01m\x2a\x0d\x0a\x01x\x12\x04"
				    "FP32\x1a\x02\x01\x04\x3a\x10"
				    "0123456789abcdef";
	static const char typed[] = "\x0a\x01m\x2a\x21\x0a\x01x\x12\x04"
				    "FP32\x1a\x02\x01\x04\x2a\x12\x32\x10"
				    "0123456789abcdef";
	static const char named[] = "\x0a\x01p\x12\x01p";
	static const struct pb_text texts[] = {
		{ (const unsigned char *)infer, sizeof(infer) - 1 },
		{ (const unsigned char *)named, sizeof(named) - 1 },
		{ (const unsigned char *)typed, sizeof(typed) - 1 },
		{ (const unsigned char *)named, 3 },
	};
	uint8_t how = fuzz_u8(bytes);
	const unsigned char *text = texts[(how & 1) | (how >> 6 & 2)].data;
	size_t n = texts[(how & 1) | (how >> 6 & 2)].bytes;
	size_t said;

	memcpy(to + 5, text, n);
	if (how & 2)
		to[5 + fuzz_u8(bytes) % n] = fuzz_u8(bytes);
	if (how & 4) {
		size_t m = fuzz_u8(bytes);

		fuzz_copy(bytes, to + 5 + n, m);
		n += m;
	}
	said = how & 8 ? (size_t)fuzz_near(bytes, n) : n;
	to[0] = how & 16 ? fuzz_u8(bytes) : 0;
	for (size_t i = 0; i < 4; i++)
		to[1 + i] = (unsigned char)(said >> (24 - 8 * i));
	return how & 32 ? (5 + n) / 2 : 5 + n;
}

static void put_settings(struct fuzz_bytes *bytes, struct client *client)
{
	unsigned char values[12] = { 0 };

	for (size_t i = 0; i < sizeof(values); i += 6) {
		uint32_t value = (uint32_t)fuzz_near(bytes, i ? 0 : 65535);

		values[i + 1] = fuzz_u8(bytes) % 10;
		for (size_t j = 0; j < 4; j++)
			values[i + 2 + j] = (unsigned char)(value >> (24 - 8 * j));
	}
	put_frame(client, NGHTTP2_SETTINGS, fuzz_u8(bytes) & 1, 0, values,
	          sizeof(values));
}

static void put_many(struct fuzz_bytes *bytes, struct client *client, uint32_t stream)
{
	static const unsigned char nothing[8];
	static const uint8_t kinds[] = { NGHTTP2_PING,       NGHTTP2_SETTINGS,
		                         NGHTTP2_DATA,       NGHTTP2_CONTINUATION,
		                         NGHTTP2_RST_STREAM, NGHTTP2_WINDOW_UPDATE,
		                         NGHTTP2_PRIORITY,   0x20 };
	static const uint8_t sizes[] = { 8, 0, 0, 0, 4, 4, 5, 1 };
	uint8_t how = fuzz_u8(bytes);
	unsigned int n = how & 8 ? MANY : 16;

	for (unsigned int i = 0; i < n; i++)
		put_frame(client, kinds[how & 7], how >> 4 & 1,
		          kinds[how & 7] <= NGHTTP2_SETTINGS &&
		                          kinds[how & 7] != NGHTTP2_SETTINGS
		                  ? stream
		                  : 0,
		          nothing, sizes[how & 7]);
}

static void put_calls(struct fuzz_bytes *bytes, struct client *client, uint32_t *next)
{
	unsigned char fields[512];
	unsigned char message[512];
	uint8_t how = fuzz_u8(bytes);
	size_t n = make_fields(bytes, fields);
	size_t m = make_message(bytes, message);
	unsigned int calls = how & 1 ? how >> 2 : 1;

	for (unsigned int i = 0; i < calls && *next < STREAMS_MAX; i++, *next += 2) {
		put_frame(client, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, *next,
		          fields, n);
		put_frame(client, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, *next, message,
		          m);
		if (how & 2)
			put_frame(client, NGHTTP2_RST_STREAM, 0, *next, "\0\0\0\x08", 4);
	}
}

/* Time passes, or moultd stops. */
static void look(uint8_t how)
{
	const struct config kept = config;
	struct grpc_conn *conn = TAILQ_FIRST(&grpc->conns.list);

	if (how & 1)
		config.header_timeout_ns = 0;
	if (how & 2)
		config.body_timeout_ns = 0;
	if (how & 4)
		config.idle_timeout_ns = 0;
	if (how & 8 && conn && !conn->is_dead)
		grpc_conn_leave(conn, how & 16);
	grpc_deadline_sweep(grpc);
	config = kept;
}

static void step(struct fuzz_bytes *bytes, struct client *client, uint32_t *next)
{
	unsigned char block[1024];
	uint8_t op = fuzz_u8(bytes);
	uint8_t how = fuzz_u8(bytes);
	uint32_t stream = how & 1 ? *next : (uint32_t)(how >> 1);
	size_t n;

	switch (op & 15) {
	case 0:
	case 1:
		put_calls(bytes, client, next);
		break;
	case 2:
		n = make_fields(bytes, block);
		put_frame(client, how & 2 ? NGHTTP2_CONTINUATION : NGHTTP2_HEADERS,
		          op >> 4, stream, block, n);
		break;
	case 3:
	case 4:
		n = make_message(bytes, block);
		put_frame(client, NGHTTP2_DATA, op >> 4, stream, block, n);
		break;
	case 5:
		n = fuzz_u8(bytes);
		fuzz_copy(bytes, block, n);
		put_frame(client, fuzz_u8(bytes), op >> 4, stream, block, n);
		break;
	case 6:
		put_settings(bytes, client);
		break;
	case 7:
		put_many(bytes, client, stream);
		break;
	case 8:
		n = fuzz_u8(bytes);
		fuzz_copy(bytes, block, n);
		put(client, block, n);
		break;
	case 9:
		send_some(client, 1 + how);
		turn(client, op & 16);
		break;
	case 10:
	case 11:
		send_some(client, SENT_MAX);
		turn(client, op & 16);
		break;
	case 12:
		answer_one(bytes);
		lease_held();
		break;
	case 13:
		end_loading(how);
		break;
	case 14:
		look(how);
		break;
	default:
		if (how & 1)
			put_frame(client, NGHTTP2_WINDOW_UPDATE, 0, stream & ~1u,
			          &(uint32_t){ fuzz_u32(bytes) }, 4);
		else if (how > 250)
			(void)shutdown(client->fd, SHUT_WR);
		else if (how & 4)
			*next += 2;
		break;
	}
}

/* Everything that is under way comes to its end, the client's end first. */
static void end(struct client *client)
{
	struct request *request;
	struct fuzz_bytes none = { (const uint8_t *)"", 0 };

	(void)close(client->fd);
	for (int i = 0; grpc->conns.n_connections > 0; i++) {
		assert(i < ROUNDS_MAX);
		ev_run(loop, EVRUN_NOWAIT);
	}
	assert(grpc->conns.n_calls == 0 && grpc->asks.fields_bytes == 0);
	assert(!pending.on_done);
	while ((request = queue_next(&queue, 0))) {
		queue_take(&queue, request);
		request_fail(request, REQUEST_FAILURE_LEFT);
	}
	for (int i = 0; lane_leased(lane) > 0; i++) {
		assert(i < ROUNDS_MAX);
		answer_one(&none);
	}
	assert(queue.counts.held == 0 && queue.counts.leased == 0);
	assert(queue.counts.accepted == queue.counts.answered + queue.counts.failed);
	assert(queue.arena.used_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned char sent[SENT_MAX];
	static unsigned char output[OUTPUT_MAX];
	static const struct client_address nobody;
	static const int little = 1;
	struct fuzz_bytes bytes = { data, size };
	struct client client = { .sent = sent, .output = output };
	uint32_t next = 1;
	uint8_t how;
	int fds[2];

	if (!grpc)
		start();
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) ==
	       0);
	client.fd = fds[1];
	how = fuzz_u8(&bytes);
	/* The least that there may be: 2304 bytes, of which a part is the kernel's own. */
	if (how & 8)
		assert(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &little,
		                  sizeof(little)) == 0);
	grpc_session_open(grpc, fds[0], NULL, &nobody);
	put(&client, NGHTTP2_CLIENT_MAGIC, how == 1 ? 10 : NGHTTP2_CLIENT_MAGIC_LEN);
	if (!(how & 2))
		put_frame(&client, NGHTTP2_SETTINGS, 0, 0, "", 0);
	if (!(how & 4))
		put_frame(&client, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "", 0);
	while (bytes.left > 0)
		step(&bytes, &client, &next);
	send_some(&client, SENT_MAX);
	turn(&client, true);
	end(&client);
	return 0;
}
