/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fault engine as a host of routes: threads that answer with what they were asked. The
 * request says what is wanted otherwise, in header fields:
 *
 *	x-status: NUMBER      the answer's status
 *	x-field: NAME: VALUE  a field of the answer; may come several times
 *	x-body: BYTES         so many bytes 'b' as the body
 *	x-parts: N            the body once in each of N parts
 *	x-between: PATH       waits after each part until PATH exists, then removes it
 *	x-begun: PATH         a byte more in PATH, first of all
 *	x-until: PATH         waits before the answer until PATH exists
 *	x-secret: NAME        the value of that secret is the body
 *	x-action: ACTION      crash, hang, fail, fault, broken (after all parts)
 *
 * The body is else one line "METHOD TARGET", a line for each field, an empty line, and the
 * request's body.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine_fault.h"

#define FAULT_HOST_THREADS_MAX 64
#define FAULT_HOST_FIELDS_MAX  62

struct fault_host {
	const struct engine_host *lent;
	const struct engine_config *config;
	pthread_t threads[FAULT_HOST_THREADS_MAX];
	unsigned int n_threads;
};

static bool text_is(struct engine_text text, const char *other)
{
	return text.bytes == strlen(other) && memcmp(text.data, other, text.bytes) == 0;
}

/* Copies the @index-th field called @name. NULL: there is none; the caller frees it. */
static char *wish(const struct engine_request *request, const char *name, size_t index)
{
	for (size_t i = 0; i < request->n_fields; i++)
		if (text_is(request->fields[i].name, name) && index-- == 0)
			return strndup(request->fields[i].value.data,
			               request->fields[i].value.bytes);
	return NULL;
}

static unsigned long wish_number(const struct engine_request *request, const char *name,
                                 unsigned long fallback)
{
	char *text = wish(request, name, 0);
	unsigned long number = text ? strtoul(text, NULL, 10) : fallback;

	free(text);
	return number;
}

/* Waits until @path exists, or nobody waits for the answer any more. */
static void wait_for_file(const struct engine_host *host, struct engine_request *request,
                          const char *path)
{
	const struct timespec moment = { .tv_nsec = 2000000 };

	while (access(path, F_OK) < 0 && !host->is_gone(host->host, request))
		(void)nanosleep(&moment, NULL);
}

static void wait_as_wished(const struct engine_host *host, struct engine_request *request,
                           const char *name, bool removes)
{
	char *path = wish(request, name, 0);

	if (path) {
		wait_for_file(host, request, path);
		if (removes)
			(void)unlink(path);
	}
	free(path);
}

/* Lets a test count how many times the request was begun. */
static void tell_begun(const struct engine_request *request)
{
	char *path = wish(request, "x-begun", 0);
	FILE *file = path ? fopen(path, "ae") : NULL;

	if (file) {
		(void)fputc('1', file);
		(void)fclose(file);
	}
	free(path);
}

/* The secret that is wished for, as text. NULL: none is; the caller frees it. */
static char *tell_secret(const struct engine_config *config,
                         const struct engine_request *request, size_t *ret_bytes)
{
	char *name = wish(request, "x-secret", 0);
	char *text = NULL;

	for (size_t i = 0; name && i < config->n_secrets; i++)
		if (strcmp(config->secrets[i].name, name) == 0) {
			*ret_bytes = config->secrets[i].value_bytes;
			text = strndup(config->secrets[i].value, *ret_bytes);
		}
	free(name);
	return text;
}

/* What was asked, as text. The caller frees it. */
static char *echo(const struct engine_config *config,
                  const struct engine_request *request, size_t *ret_bytes)
{
	char *text = tell_secret(config, request, ret_bytes);
	unsigned long bytes = wish_number(request, "x-body", 0);
	FILE *stream;

	if (text)
		return text;
	stream = open_memstream(&text, ret_bytes);
	if (!stream)
		abort();
	for (unsigned long i = 0; i < bytes; i++)
		(void)putc('b', stream);
	if (bytes == 0) {
		(void)fprintf(stream, "%.*s %.*s\n", (int)request->method.bytes,
		              request->method.data, (int)request->target.bytes,
		              request->target.data);
		for (size_t i = 0; i < request->n_fields; i++)
			(void)fprintf(stream, "%.*s: %.*s\n",
			              (int)request->fields[i].name.bytes,
			              request->fields[i].name.data,
			              (int)request->fields[i].value.bytes,
			              request->fields[i].value.data);
		(void)putc('\n', stream);
		(void)fwrite(request->body, 1, request->body_bytes, stream);
	}
	if (fclose(stream) != 0)
		abort();
	return text;
}

/* Fills @fields with what was wished for; the texts lie in the request. */
static size_t read_fields(const struct engine_request *request,
                          struct engine_field *fields)
{
	size_t n = 0;

	for (size_t i = 0; i < request->n_fields && n < FAULT_HOST_FIELDS_MAX; i++) {
		struct engine_text value = request->fields[i].value;
		const char *colon = memchr(value.data, ':', value.bytes);
		const char *end = value.data + value.bytes;

		if (!text_is(request->fields[i].name, "x-field") || !colon)
			continue;
		fields[n].name =
			(struct engine_text){ value.data, (size_t)(colon - value.data) };
		colon++;
		while (colon < end && *colon == ' ')
			colon++;
		fields[n++].value = (struct engine_text){ colon, (size_t)(end - colon) };
	}
	return n;
}

static void answer(const struct fault_host *fault, struct engine_request *request,
                   unsigned int flags)
{
	const struct engine_host *host = fault->lent;
	unsigned long n_parts = wish_number(request, "x-parts", 1);
	char *action = wish(request, "x-action", 0);
	struct engine_field fields[FAULT_HOST_FIELDS_MAX];
	struct engine_part part = {
		.status = (unsigned int)wish_number(request, "x-status", 200),
		.fields = fields,
		.n_fields = read_fields(request, fields),
	};
	struct err err = ERR_NULL;
	char *body = echo(fault->config, request, &part.body_bytes);
	bool breaks = action && strcmp(action, "broken") == 0;
	bool is_last = false;
	int r = 0;

	part.body = body;
	for (unsigned long i = 0; i < n_parts && r == 0; i++) {
		is_last = i + 1 == n_parts && !breaks;
		part.flags = flags | (is_last ? ENGINE_PART_LAST : 0);
		r = host->answer(host->host, request, &part, &err);
		flags = part.status = 0;
		part.n_fields = 0;
		if (!is_last)
			wait_as_wished(host, request, "x-between", true);
	}
	if (r == ENGINE_HOST_E_INVALID || !is_last) {
		part = (struct engine_part){ .flags = ENGINE_PART_LAST };
		if (r == ENGINE_HOST_E_INVALID) {
			part.status = 500;
			part.body = err.text;
			part.body_bytes = strlen(err.text);
		} else {
			part.flags |= ENGINE_PART_FAULT;
		}
		(void)host->answer(host->host, request, &part, &err);
	}
	free(body);
	free(action);
}

static void serve(const struct fault_host *fault, struct engine_request *request)
{
	const struct engine_host *host = fault->lent;
	char *action = wish(request, "x-action", 0);
	unsigned int flags = 0;

	tell_begun(request);
	wait_as_wished(host, request, "x-until", false);
	if (action && strcmp(action, "crash") == 0)
		__builtin_trap();
	if (action && strcmp(action, "hang") == 0)
		for (;;)
			(void)pause();
	if (action && strcmp(action, "fail") == 0)
		host->fail(host->host, "the engine was asked to fail");
	if (action && strcmp(action, "fault") == 0)
		flags = ENGINE_PART_FAULT;
	if (!action || strcmp(action, "fail") != 0)
		answer(fault, request, flags);
	free(action);
}

static void *run(void *context)
{
	const struct fault_host *fault = context;
	const struct engine_host *host = fault->lent;
	struct engine_request *request;
	int r;

	while ((r = host->take(host->host, UINT64_MAX, &request)) != ENGINE_HOST_E_END)
		if (r == 0)
			serve(fault, request);
	return NULL;
}

int fault_host(struct fault_host **ret_host, const struct engine_config *config,
               const struct engine_host *lent, struct err *err)
{
	struct fault_host *host = calloc(1, sizeof(*host));

	*ret_host = host;
	if (!host)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	host->lent = lent;
	host->config = config;
	for (; host->n_threads < config->threads &&
	       host->n_threads < FAULT_HOST_THREADS_MAX;
	     host->n_threads++)
		if (pthread_create(&host->threads[host->n_threads], NULL, run, host) != 0)
			return err_set(err, ENGINE_E_FAILED, "no thread");
	return 0;
}

void fault_host_end(struct fault_host *host)
{
	for (unsigned int i = 0; host && i < host->n_threads; i++)
		(void)pthread_join(host->threads[i], NULL);
	free(host);
}
