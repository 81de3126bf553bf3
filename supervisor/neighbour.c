/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sends the command status to the other moultd and adds up its answer: the private memory
 * of each loader, which /proc tells by the loader's pid, and each copy of shared weights
 * once. Blocking is allowed here: nothing runs on the loop yet.
 */

#include "supervisor/neighbour.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "supervisor/memory/memory.h"

/* The status of CONFIG_MODELS_MAX models is some hundred KiB. */
#define NEIGHBOUR_ANSWER_MAX ((size_t)8 << 20)

static int neighbour_connect(const char *control, int *ret_fd, struct err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLOSE_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (strlen(control) >= sizeof(address.sun_path))
		return NEIGHBOUR_E_NONE; /* nobody can listen there */
	memcpy(address.sun_path, control, strlen(control));
	if (fd >= 0 &&
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
		*ret_fd = take_fd(&fd);
		return 0;
	}
	if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR)
		return NEIGHBOUR_E_NONE;
	return err_set(err, NEIGHBOUR_E_UNKNOWN, "control %s: %s", control,
	               access_why(&(struct err)ERR_NULL, control, W_OK, errno));
}

/* Reads to the end of the connection. NULL: it has no end in time, or within the size. */
static char *neighbour_read(int fd)
{
	uint64_t until_ns = clock_now_ns() + NEIGHBOUR_WAIT_MS * CLOCK_NS_PER_MS;
	size_t capacity = 65536;
	FREE char *text = malloc(capacity);
	size_t bytes = 0;

	while (text && capacity <= NEIGHBOUR_ANSWER_MAX) {
		struct pollfd pollfd = { .fd = fd, .events = POLLIN };
		uint64_t now_ns = clock_now_ns();
		char *larger;
		ssize_t n;

		if (now_ns >= until_ns ||
		    poll(&pollfd, 1, (int)((until_ns - now_ns) / CLOCK_NS_PER_MS) + 1) ==
		            0)
			return NULL;
		n = recv(fd, text + bytes, capacity - bytes - 1, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return NULL;
		bytes += (size_t)n;
		text[bytes] = '\0';
		if (n == 0)
			return take_ptr(&text);
		if (bytes + 1 < capacity)
			continue;
		capacity *= 2;
		larger = realloc(text, capacity);
		if (!larger)
			return NULL;
		text = larger;
	}
	return NULL;
}

static uint64_t neighbour_number(const json_t *object, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(object, key));

	return number > 0 ? (uint64_t)number : 0;
}

static uint64_t neighbour_held(const json_t *process)
{
	pid_t pid = (pid_t)neighbour_number(process, "pid");

	return pid > 0 ? memory_size_of(pid).anon_bytes : 0;
}

static uint64_t neighbour_held_by_all(const json_t *processes)
{
	uint64_t bytes = 0;
	const json_t *process;
	size_t i;

	json_array_foreach(processes, i, process) bytes += neighbour_held(process);
	return bytes;
}

/* Whether a model before @at in the list shares the same copy of weights. */
static bool neighbour_is_counted(const json_t *models, size_t at)
{
	const char *sha256 = json_string_value(json_object_get(json_array_get(models, at),
	                                                       "weights_sha256"));

	for (size_t i = 0; sha256 && i < at; i++) {
		const char *other =
			json_string_value(json_object_get(json_array_get(models, i),
		                                          "weights_sha256"));

		if (other && strcmp(other, sha256) == 0)
			return true;
	}
	return false;
}

static uint64_t neighbour_sum(const json_t *status)
{
	const json_t *models = json_object_get(status, "models");
	uint64_t bytes =
		neighbour_held_by_all(json_object_get(json_object_get(status,
	                                                              "supervisor"),
	                                              "spares"));
	const json_t *model;
	size_t i;

	json_array_foreach(models, i, model)
	{
		bytes += neighbour_held(model);
		bytes += neighbour_held(json_object_get(model, "candidate"));
		bytes += neighbour_held(json_object_get(model, "retiring"));
		bytes += neighbour_held_by_all(json_object_get(model, "stuck"));
		bytes +=
			neighbour_held_by_all(json_object_get(json_object_get(model,
		                                                              "replicas"),
		                                              "others"));
		if (!neighbour_is_counted(models, i))
			bytes += neighbour_number(json_object_get(model, "weights"),
			                          "shared_bytes");
	}
	return bytes;
}

static void neighbour_take_text(char *to, size_t size, const json_t *object,
                                const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	(void)snprintf(to, size, "%s", text ? text : "");
}

static void neighbour_note_gpus(struct neighbour *neighbour, const json_t *devices)
{
	const json_t *device;
	size_t i;

	json_array_foreach(devices, i, device)
	{
		struct neighbour_gpu *gpu = &neighbour->gpus[neighbour->n_gpus];

		if (neighbour->n_gpus == CONFIG_GPUS_MAX)
			return;
		neighbour_take_text(gpu->name, sizeof(gpu->name), device, "name");
		neighbour_take_text(gpu->uuid, sizeof(gpu->uuid), device, "uuid");
		gpu->bytes = neighbour_number(device, "loaders_bytes");
		neighbour->n_gpus++;
	}
}

int neighbour_look(struct neighbour *ret_neighbour, const char *control, struct err *err)
{
	static const char question[] = "{\"command\":\"status\"}\n";
	CLOSE_FD int fd = -1;
	FREE char *answer = NULL;
	json_t *status;
	int r = neighbour_connect(control, &fd, err);

	*ret_neighbour = (struct neighbour){ 0 };
	if (r)
		return r;
	/* A fresh socket has room for the question. */
	if (send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) ==
	    (ssize_t)sizeof(question) - 1)
		answer = neighbour_read(fd);
	status = answer ? json_loads(answer, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	if (json_is_true(json_object_get(status, "ok"))) {
		const json_t *supervisor = json_object_get(status, "supervisor");

		ret_neighbour->pid = (pid_t)neighbour_number(supervisor, "pid");
		ret_neighbour->host_bytes = neighbour_sum(status);
		neighbour_note_gpus(ret_neighbour,
		                    json_object_get(supervisor, "devices"));
	} else {
		r = err_set(err, NEIGHBOUR_E_UNKNOWN,
		            "control %s: a moultd listens there and gives no status",
		            control);
	}
	json_decref(status);
	return r;
}

uint64_t neighbour_gpu_bytes(const struct neighbour *neighbour, const char *name,
                             const char *uuid)
{
	for (size_t i = 0; i < neighbour->n_gpus; i++) {
		const struct neighbour_gpu *gpu = &neighbour->gpus[i];

		if (strcmp(gpu->name, name) == 0 ||
		    (*gpu->uuid && strcmp(gpu->uuid, uuid) == 0))
			return gpu->bytes;
	}
	return 0;
}
