/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client that saturates: N threads with a keep-alive connection each send infer requests
 * of the echo kind until standard input ends, and check every answer: status, the echoed
 * bytes, and that header and JSON name the same generation, which never goes back on a
 * connection. Prints one line of JSON.
 *
 * usage: flood PORT MODEL CLIENTS FLOATS
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
#include <unistd.h>

#define FLOOD_CLIENTS_MAX 256
#define FLOOD_FLOATS_MAX  16384
#define FLOOD_HEAD_MAX    1024
#define FLOOD_ANSWER_MAX  (FLOOD_HEAD_MAX * 4 + FLOOD_FLOATS_MAX * sizeof(float))
#define FLOOD_TIMEOUT_S   60

struct flood_client {
	pthread_t thread;
	unsigned int index;
	int fd;
	uint64_t sent;
	uint64_t answered;
	uint64_t lost;
	uint64_t wrong;
	uint64_t swaps; /* answers whose generation was newer than the one before */
	uint64_t generation;
	char reason[256]; /* of the last loss */
	float data[FLOOD_FLOATS_MAX];
	char request[FLOOD_HEAD_MAX * 2 + FLOOD_FLOATS_MAX * sizeof(float)];
	char answer[FLOOD_ANSWER_MAX];
};

static atomic_bool flood_is_over;
static uint16_t flood_port;
static const char *flood_model;
static size_t flood_floats;

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
		client->data[i] = (float)(client->sent % 100000) + (float)client->index +
		                  (float)i * 0.5f;
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
	client->generation = generation;
}

static void flood_lose(struct flood_client *client, const char *reason)
{
	client->lost++;
	(void)snprintf(client->reason, sizeof(client->reason), "%.250s", reason);
	for (char *at = client->reason; *at; at++)
		if (*at < ' ' || *at == '"' || *at == '\\')
			*at = ' ';
	(void)close(client->fd);
	client->fd = -1;
}

static void *flood_run(void *argument)
{
	struct flood_client *client = argument;

	while (!atomic_load_explicit(&flood_is_over, memory_order_relaxed)) {
		size_t body_bytes = 0;
		size_t bytes = flood_make(client);
		char *body;

		client->sent++;
		if (client->fd < 0)
			client->fd = flood_connect();
		if (client->fd < 0 || !flood_send(client->fd, client->request, bytes)) {
			flood_lose(client, strerror(errno));
			continue;
		}
		body = flood_receive(client, &body_bytes);
		if (!body) {
			flood_lose(client, "the connection ended without an answer");
		} else if (strncmp(client->answer + 8, " 200", 4) != 0) {
			flood_lose(client, client->answer);
		} else {
			client->answered++;
			flood_check(client, body, body_bytes);
		}
	}
	if (client->fd >= 0)
		(void)close(client->fd);
	return NULL;
}

static void flood_print(struct flood_client *const *clients, size_t n)
{
	uint64_t sent = 0, answered = 0, lost = 0, wrong = 0, swaps = 0, newest = 0;
	const char *reason = "";

	for (size_t i = 0; i < n; i++) {
		sent += clients[i]->sent;
		answered += clients[i]->answered;
		lost += clients[i]->lost;
		wrong += clients[i]->wrong;
		swaps += clients[i]->swaps;
		if (clients[i]->generation > newest)
			newest = clients[i]->generation;
		if (clients[i]->reason[0])
			reason = clients[i]->reason;
	}
	(void)printf("{\"sent\":%llu,\"answered\":%llu,\"lost\":%llu,\"wrong\":%llu,"
	             "\"swaps\":%llu,\"newest\":%llu,\"reason\":\"%s\"}\n",
	             (unsigned long long)sent, (unsigned long long)answered,
	             (unsigned long long)lost, (unsigned long long)wrong,
	             (unsigned long long)swaps, (unsigned long long)newest, reason);
}

int main(int argc, char **argv)
{
	struct flood_client *clients[FLOOD_CLIENTS_MAX];
	size_t n;

	if (argc != 5) {
		(void)fprintf(stderr, "usage: flood PORT MODEL CLIENTS FLOATS\n");
		return 2;
	}
	flood_port = (uint16_t)strtoul(argv[1], NULL, 10);
	flood_model = argv[2];
	n = strtoul(argv[3], NULL, 10);
	flood_floats = strtoul(argv[4], NULL, 10);
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
	while (getchar() != EOF)
		;
	atomic_store(&flood_is_over, true);
	for (size_t i = 0; i < n; i++)
		(void)pthread_join(clients[i]->thread, NULL);
	flood_print(clients, n);
	for (size_t i = 0; i < n; i++)
		free(clients[i]);
	return 0;
}
