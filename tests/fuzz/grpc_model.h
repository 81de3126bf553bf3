/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is behind the endpoint of fuzz_grpc.c: a model "m" that is a queue and a lane, whose loader
 * answers with anything, and models that somebody loads. The functions of that name take the
 * place of the supervisor's (--wrap).
 */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "supervisor/gate/permit.h"
#include "supervisor/http/http.h"
#include "supervisor/loop/pump.h"
#include "supervisor/model/repository.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/traffic/queue.h"
#include "tests/fuzz/bytes.h"

#define ARENA_BYTES   ((size_t)64 * 1024)
#define ANSWERS_BYTES ((size_t)16 * 1024)
#define LEASES        8u

struct model *__wrap_permit_model(const struct permit_place *place,
                                  const struct http_route *route,
                                  struct request_refusal *refusal);
struct model *__real_permit_model(const struct permit_place *place,
                                  const struct http_route *route,
                                  struct request_refusal *refusal);
const struct config_model *__wrap_model_config(const struct model *model);
int __wrap_model_begin(struct model *model, const struct request_start *start,
                       struct request **ret_request, struct request_refusal *refusal);
int __wrap_model_submit(struct request *request, struct request_refusal *refusal);
bool __wrap_http_is_ready(const struct http *http);

/* What is behind the endpoint: one model "m" */

static struct pump pump;
static struct queue queue;
static struct lane *lane;
static struct proto_rings *rings;
static unsigned char *answers;
static struct ring submit;
static struct ring answer;
static struct ring release;
static uint64_t taken[LEASES]; /* leases that wait for an answer */
static unsigned int n_taken;

struct model *__wrap_permit_model(const struct permit_place *place,
                                  const struct http_route *route,
                                  struct request_refusal *refusal)
{
	if (route->kind == HTTP_ROUTE_INFER && strcmp(route->model, "m") == 0)
		return (struct model *)(void *)&queue;
	return __real_permit_model(place, route, refusal);
}

const struct config_model *__wrap_model_config(const struct model *model)
{
	static const struct config_model section;

	(void)model;
	return &section;
}

int __wrap_model_begin(struct model *model, const struct request_start *start,
                       struct request **ret_request, struct request_refusal *refusal)
{
	(void)model;
	return request_new(ret_request, &queue, start, refusal);
}

int __wrap_model_submit(struct request *request, struct request_refusal *refusal)
{
	request_complete(request, CLOCK_NEVER);
	if (lane_submit(lane, request) == 0)
		return 0;
	queue_hold(&queue, request);
	request_set_state(request, REQUEST_HELD);
	(void)refusal;
	return 0;
}

bool __wrap_http_is_ready(const struct http *http)
{
	(void)http;
	return true;
}

/* Models that somebody loads: "p" comes some time, "n" at once, others never. */

static struct repository_ask pending;

static int begin_loading(void *context, const struct repository_ask *ask,
                         struct repository_call **ret_call,
                         struct request_refusal *refusal)
{
	*ret_call = NULL;
	if (ask->model[0] == 'n')
		return 0;
	if (ask->model[0] != 'p' || pending.on_done)
		return request_refuse(refusal, 404, 0, "there is no such model");
	pending = *ask;
	*ret_call = context;
	return 0;
}

static void drop_loading(struct repository_call *call)
{
	(void)call;
	pending.on_done = NULL;
}

static bool find_unloaded(void *context, size_t i, struct repository_unloaded *ret_one)
{
	static char version[] = "1";
	static struct config_model section = { .name = "away", .version = version };

	(void)context;
	*ret_one = (struct repository_unloaded){ &section, i == 1 };
	return i < 2;
}

static char loading_context;
static const struct repository loading = { begin_loading, drop_loading, find_unloaded,
	                                   &loading_context };

static void end_loading(uint8_t how)
{
	const struct request_refusal refusal = { .status = 400u + how };
	struct repository_ask ask = pending;

	pending.on_done = NULL;
	if (ask.on_done)
		ask.on_done(ask.context, how & 1 ? &refusal : NULL);
}

static void on_look(void *context)
{
	(void)context;
}

static void open_model(struct ev_loop *loop)
{
	int fds[PROTO_LOAD_FD_COUNT];

	pump_init(&pump, loop);
	assert(queue_init(&queue, &pump, "m", ARENA_BYTES, ARENA_BYTES / 4) == 0);
	assert(lane_new(&lane, &queue, 1, LEASES, ANSWERS_BYTES) == 0);
	lane_start(lane, on_look, NULL);
	lane_fds(lane, -1, fds);
	rings = mmap(NULL, proto_rings_bytes(LEASES), PROT_READ | PROT_WRITE, MAP_SHARED,
	             fds[PROTO_LOAD_FD_RINGS], 0);
	answers = mmap(NULL, ANSWERS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
	               fds[PROTO_LOAD_FD_ANSWERS], 0);
	assert(rings != MAP_FAILED && answers != MAP_FAILED);
	proto_rings_attach(rings, LEASES, &submit, &answer, &release);
}

/* The loader */

static void answer_one(struct fuzz_bytes *bytes)
{
	static const char json[] =
		"{\"model_name\":\"m\",\"outputs\":[{\"name\":\"x\","
		"\"datatype\":\"FP32\",\"shape\":[1,4],\"parameters\":{"
		"\"binary_data_size\":16}}]}";
	uint8_t how = fuzz_u8(bytes);
	struct err err = ERR_NULL;
	struct proto_submit one;
	struct proto_release gone;
	struct proto_answer part = {
		.generation = 1,
		.status = how & 1 ? 400 : 200,
		.flags = PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST,
	};
	const struct proto_text none = { "", 0 };
	char length[8];
	size_t n = sizeof(json) - 1;

	while (ring_pop(&release, &gone) == 0)
		;
	/* A request that nobody waits for any more is answered all the same. */
	while (ring_pop(&submit, &one) == 0)
		if (one.kind == PROTO_SUBMIT_REQUEST)
			taken[n_taken++] = one.lease;
	if (n_taken == 0)
		return;
	memcpy(answers + 1024, json, n);
	memset(answers + 1024 + n, how, 16);
	if (how & 2) {
		n = fuzz_u8(bytes);
		fuzz_copy(bytes, answers + 1024, n);
	} else if (how & 4) {
		answers[1024 + fuzz_u8(bytes) % n] = fuzz_u8(bytes);
	}
	(void)snprintf(length, sizeof(length), "%zu", how & 8 ? fuzz_u16(bytes) : n);
	part.lease = part.token = taken[how % n_taken];
	taken[how % n_taken] = taken[n_taken - 1];
	n_taken--;
	part.body_offset = 1024;
	part.body_bytes = n + 16 + (how & 16 ? 4096 : 0);
	if (!(how & 32)) {
		const struct proto_field field = {
			proto_text_of("inference-header-content-length"),
			{ length, strlen(length) }
		};

		part.head_bytes = (uint32_t)proto_head_bytes(none, none, &field, 1);
		proto_head_write(answers, none, none, &field, 1);
	}
	if (how & 64)
		part.flags = PROTO_ANSWER_FIRST;
	(void)ring_push(&answer, &part);
	if (how & 64) {
		part.flags = PROTO_ANSWER_LAST;
		part.head_bytes = 0;
		part.status = 0;
		(void)ring_push(&answer, &part);
	}
	if (request_collect(lane, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

/* What waits gets its place, as a model would see to. */
static void lease_held(void)
{
	struct request *request;

	while ((request = queue_next(&queue, lane_leased(lane)))) {
		queue_take(&queue, request);
		if (lane_submit(lane, request) == 0)
			continue;
		queue_hold(&queue, request);
		return;
	}
}
