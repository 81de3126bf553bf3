/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client that saturates: N threads with a keep-alive connection each send infer requests
 * of the echo kind until standard input ends, and check every answer: status, the echoed
 * bytes, and that header and JSON name the same generation, which never goes back on a
 * connection. An answer that says in JSON why there is none is a failed request; whatever
 * else is not 200 is a lost one. Prints one line of JSON at the end, and one for every line
 * of standard input: the totals, or for the line "firsts" when (CLOCK_MONOTONIC, ns) the
 * first answer of each generation came.
 *
 * usage: flood PORT MODEL CLIENTS FLOATS [PAUSE_US]
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FLOOD_CLIENTS_MAX 256
#define FLOOD_FLOATS_MAX  16384
#define FLOOD_HEAD_MAX    1024
#define FLOOD_ANSWER_MAX  (FLOOD_HEAD_MAX * 4 + FLOOD_FLOATS_MAX * sizeof(float))
#define FLOOD_TIMEOUT_S   300
#define FLOOD_FIRSTS_MAX  65536

struct flood_client {
	pthread_t thread;
	unsigned int index;
	int fd;
	_Atomic uint64_t sent;
	_Atomic uint64_t answered;
	_Atomic uint64_t failed;
	_Atomic uint64_t lost;
	_Atomic uint64_t wrong;
	_Atomic uint64_t
		swaps; /* answers whose generation was newer than the one before */
	_Atomic uint64_t slowest_ns; /* since the last line that was printed */
	uint64_t generation;
	char reason[256]; /* of the last loss or failure */
	float data[FLOOD_FLOATS_MAX];
	char request[FLOOD_HEAD_MAX * 2 + FLOOD_FLOATS_MAX * sizeof(float)];
	char answer[FLOOD_ANSWER_MAX];
};

static atomic_bool flood_is_over;
static uint16_t flood_port;
static const char *flood_model;
static size_t flood_floats;
static useconds_t flood_pause_us;
static _Atomic uint64_t flood_first_ns[FLOOD_FIRSTS_MAX]; /* by generation */

static uint64_t flood_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int flood_connect(void)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(flood_port),
		.sin_addr = { htonl(INADDR_LOOPBACK) },
	};
	const struct timeval timeout = { .tv_sec = FLOOD_TIMEOUT_S };
	const int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

static size_t flood_make(struct flood_client *client)
{
	size_t data_bytes = flood_floats * sizeof(float);
	char json[FLOOD_HEAD_MAX];
	int json_bytes;
	int head_bytes;

	for (size_t i = 0; i < flood_floats; i++)
		client->data[i] = (float)(atomic_load(&client->sent) % 100000) +
		                  (float)client->index + (float)i * 0.5f;
	json_bytes = snprintf(json, sizeof(json),
	                      "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,%zu],"
	                      "\"datatype\":\"FP32\",\"parameters\":{"
	                      "\"binary_data_size\":%zu}}],"
	                      "\"parameters\":{\"binary_data_output\":true}}",
	                      flood_floats, data_bytes);
	head_bytes = snprintf(client->request, FLOOD_HEAD_MAX,
	                      "POST /v2/models/%s/infer HTTP/1.1\r\nHost: x\r\n"
	                      "Inference-Header-Content-Length: %d\r\n"
	                      "Content-Length: %zu\r\n\r\n",
	                      flood_model, json_bytes, (size_t)json_bytes + data_bytes);
	memcpy(client->request + head_bytes, json, (size_t)json_bytes);
	memcpy(client->request + head_bytes + json_bytes, client->data, data_bytes);
	return (size_t)head_bytes + (size_t)json_bytes + data_bytes;
}

static bool flood_send(int fd, const char *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		bytes -= (size_t)n;
	}
	return true;
}

static uint64_t flood_header(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Reads one answer. The start of its body, or NULL when the connection failed. */
static char *flood_receive(struct flood_client *client, size_t *ret_body_bytes)
{
	size_t used = 0;
	char *body = NULL;
	size_t want = 0;

	while (!body || used < want) {
		ssize_t n = recv(client->fd, client->answer + used,
		                 sizeof(client->answer) - 1 - used, 0);

		if (n <= 0)
			return NULL;
		used += (size_t)n;
		client->answer[used] = '\0';
		if (!body && (body = strstr(client->answer, "\r\n\r\n"))) {
			body += 4;
			*ret_body_bytes =
				flood_header(client->answer, "\r\ncontent-length: ");
			want = (size_t)(body - client->answer) + *ret_body_bytes;
			if (want >= sizeof(client->answer))
				return NULL;
		}
	}
	return body;
}

static void flood_note_first(uint64_t generation)
{
	uint64_t none = 0;

	(void)atomic_compare_exchange_strong(&flood_first_ns[generation], &none,
	                                     flood_now_ns());
}

static void flood_check(struct flood_client *client, const char *body, size_t body_bytes)
{
	size_t json_bytes =
		flood_header(client->answer, "\r\ninference-header-content-length: ");
	uint64_t generation = flood_header(client->answer, "\r\nmoult-generation: ");
	size_t data_bytes = flood_floats * sizeof(float);

	if (json_bytes + data_bytes != body_bytes ||
	    memcmp(body + json_bytes, client->data, data_bytes) != 0 ||
	    flood_header(body, "\"generation\":") != generation || generation == 0 ||
	    generation < client->generation)
		client->wrong++;
	if (generation > client->generation && client->generation > 0)
		client->swaps++;
	if (generation > client->generation && generation < FLOOD_FIRSTS_MAX)
		flood_note_first(generation);
	client->generation = generation;
}

static void flood_explain(struct flood_client *client, const char *reason)
{
	(void)snprintf(client->reason, sizeof(client->reason), "%.250s", reason);
	for (char *at = client->reason; *at; at++)
		if (*at < ' ' || *at == '"' || *at == '\\')
			*at = ' ';
}

static void flood_lose(struct flood_client *client, const char *reason)
{
	client->lost++;
	flood_explain(client, reason);
	(void)close(client->fd);
	client->fd = -1;
}

/* Any answer that came whole. */
static void flood_judge(struct flood_client *client, const char *body, size_t body_bytes)
{
	if (strncmp(client->answer + 8, " 200", 4) == 0) {
		client->answered++;
		flood_check(client, body, body_bytes);
	} else if (strncmp(body, "{\"error\":", 9) == 0) {
		client->failed++;
		flood_explain(client, body);
	} else {
		flood_lose(client, client->answer);
	}
}

static void flood_ask(struct flood_client *client)
{
	uint64_t begun_ns = flood_now_ns();
	size_t body_bytes = 0;
	size_t bytes = flood_make(client);
	uint64_t took_ns;
	char *body;

	client->sent++;
	if (client->fd < 0)
		client->fd = flood_connect();
	if (client->fd < 0 || !flood_send(client->fd, client->request, bytes)) {
		flood_lose(client, strerror(errno));
		return;
	}
	body = flood_receive(client, &body_bytes);
	if (body)
		flood_judge(client, body, body_bytes);
	else
		flood_lose(client, "the connection ended without an answer");
	took_ns = flood_now_ns() - begun_ns;
	if (took_ns > client->slowest_ns)
		client->slowest_ns = took_ns;
}

static void *flood_run(void *argument)
{
	struct flood_client *client = argument;

	while (!atomic_load_explicit(&flood_is_over, memory_order_relaxed)) {
		flood_ask(client);
		if (flood_pause_us > 0)
			(void)usleep(flood_pause_us);
	}
	if (client->fd >= 0)
		(void)close(client->fd);
	return NULL;
}

static void flood_print(struct flood_client *const *clients, size_t n)
{
	uint64_t sent = 0, answered = 0, failed = 0, lost = 0, wrong = 0, swaps = 0;
	uint64_t newest = 0, slowest_ns = 0;
	const char *reason = "";

	for (size_t i = 0; i < n; i++) {
		uint64_t took_ns = atomic_exchange(&clients[i]->slowest_ns, 0);

		sent += clients[i]->sent;
		answered += clients[i]->answered;
		failed += clients[i]->failed;
		lost += clients[i]->lost;
		wrong += clients[i]->wrong;
		swaps += clients[i]->swaps;
		if (took_ns > slowest_ns)
			slowest_ns = took_ns;
		if (clients[i]->generation > newest)
			newest = clients[i]->generation;
		if (clients[i]->reason[0])
			reason = clients[i]->reason;
	}
	(void)printf("{\"sent\":%llu,\"answered\":%llu,\"failed\":%llu,\"lost\":%llu,"
	             "\"wrong\":%llu,\"swaps\":%llu,\"newest\":%llu,"
	             "\"slowest_ms\":%.1f,\"reason\":\"%s\"}\n",
	             (unsigned long long)sent, (unsigned long long)answered,
	             (unsigned long long)failed, (unsigned long long)lost,
	             (unsigned long long)wrong, (unsigned long long)swaps,
	             (unsigned long long)newest, (double)slowest_ns / 1e6, reason);
	(void)fflush(stdout);
}

static void flood_print_firsts(void)
{
	const char *comma = "";

	(void)printf("{\"firsts\":{");
	for (size_t i = 0; i < FLOOD_FIRSTS_MAX; i++) {
		if (flood_first_ns[i] == 0)
			continue;
		(void)printf("%s\"%zu\":%llu", comma, i,
		             (unsigned long long)flood_first_ns[i]);
		comma = ",";
	}
	(void)printf("}}\n");
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	struct flood_client *clients[FLOOD_CLIENTS_MAX];
	char line[32];
	size_t n;

	if (argc != 5 && argc != 6) {
		(void)fprintf(stderr,
		              "usage: flood PORT MODEL CLIENTS FLOATS [PAUSE_US]\n");
		return 2;
	}
	flood_port = (uint16_t)strtoul(argv[1], NULL, 10);
	flood_model = argv[2];
	n = strtoul(argv[3], NULL, 10);
	flood_floats = strtoul(argv[4], NULL, 10);
	flood_pause_us = argc == 6 ? (useconds_t)strtoul(argv[5], NULL, 10) : 0;
	if (n == 0 || n > FLOOD_CLIENTS_MAX || flood_floats > FLOOD_FLOATS_MAX)
		return 2;
	for (size_t i = 0; i < n; i++) {
		clients[i] = calloc(1, sizeof(*clients[i]));
		if (!clients[i])
			return 1;
		clients[i]->index = (unsigned int)i;
		clients[i]->fd = -1;
		if (pthread_create(&clients[i]->thread, NULL, flood_run, clients[i]) != 0)
			return 1;
	}
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "firsts\n") == 0)
			flood_print_firsts();
		else
			flood_print(clients, n);
	}
	atomic_store(&flood_is_over, true);
	for (size_t i = 0; i < n; i++)
		(void)pthread_join(clients[i]->thread, NULL);
	flood_print(clients, n);
	for (size_t i = 0; i < n; i++)
		free(clients[i]);
	return 0;
}
