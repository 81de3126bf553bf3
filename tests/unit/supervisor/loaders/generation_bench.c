/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/supervisor/loaders/generation_bench.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/cleanup.h"

/*
 * The test speaks for the process on a channel that take_channel() puts in the place of the
 * generation's, and ends it with any exit code. Where time must pass, the deadline's timer is
 * rung: nothing waits for it.
 */

#define WAIT_S   60.
#define TIMEOUTS "stage_timeout = 11s\ncommit_timeout = 12s\nwarmup_timeout = 13s\n"

/* The process */

static void be_loader_exit(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	_exit(info->si_value.sival_int);
}

static _Noreturn void be_loader(const char *what)
{
	struct chan chan = { .fd = PROTO_CONTROL_FD };
	const struct sigaction action = { .sa_sigaction = be_loader_exit,
		                          .sa_flags = SA_SIGINFO };

	(void)sigaction(SIGUSR1, &action, NULL);
	(void)signal(SIGSEGV, SIG_DFL); /* no report of a sanitizer */
	(void)!write(STDERR_FILENO, "up\n", 3);
	if (strncmp(what, "--spare=", strlen("--spare=")) == 0)
		(void)chan_send(&chan, PROTO_HELLO, 0, "{}", NULL, 0);
	for (;;)
		(void)pause();
}

void generation_bench_be_loader(int argc, char **argv)
{
	if (argc > 1 && strncmp(argv[1], "--parent=", strlen("--parent=")) == 0)
		be_loader(argc > 2 ? argv[2] : "");
}

/* What the generation tells */

static void on_state(void *context, struct generation *generation,
                     enum generation_state from)
{
	struct generation_bench *bench = context;

	assert_true(generation->state != from);
	bench->n_news++;
}

static void on_lease_lost(void *context, struct generation *generation,
                          struct request *request)
{
	struct generation_bench *bench = context;

	(void)generation;
	bench->n_lost++;
	request_fail(request, REQUEST_FAILURE_CRASH);
}

static void on_answers(void *context, struct generation *generation)
{
	(void)context;
	(void)generation;
}

static void on_part(struct request *request, void *context)
{
	(void)request;
	(void)context;
}

/* Waiting */

static void on_late(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct generation_bench *bench = timer->data;

	(void)loop;
	(void)revents;
	bench->is_late = true;
}

void generation_bench_begin_waiting(struct generation_bench *bench)
{
	ev_timer_init(&bench->late, on_late, WAIT_S, 0.);
	bench->late.data = bench;
	ev_timer_start(bench->loop, &bench->late);
}

void generation_bench_go_round(struct generation_bench *bench, const char *what)
{
	ev_run(bench->loop, EVRUN_ONCE);
	if (bench->is_late)
		fail_msg("too late: %s", what);
}

void generation_bench_end_waiting(struct generation_bench *bench)
{
	ev_timer_stop(bench->loop, &bench->late);
}

void generation_bench_wait_for(struct generation_bench *bench,
                               enum generation_state state)
{
	const struct generation *generation = bench->generation;

	generation_bench_begin_waiting(bench);
	while (state ? generation->state != state : !generation->link.last_line[0])
		generation_bench_go_round(bench, generation_state_name(state));
	generation_bench_end_waiting(bench);
}

/* Beginning and end */

struct config *generation_bench_load(const char *more)
{
	FREE char *text = NULL;
	FREE char *self = realpath("/proc/self/exe", NULL);

	assert_non_null(self);
	assert_true(asprintf(&text,
	                     "[supervisor]\nloader = %s\n" MODEL TIMEOUTS
	                     "drain_timeout = 14s\nstop_timeout = 15s\n"
	                     "reclaim_timeout = 16s\n%s",
	                     self, more) > 0);
	return config_bench_load_good(text);
}

void generation_bench_take_channel(struct generation_bench *bench)
{
	struct chan ours;

	chan_fini(&bench->loader);
	assert_int_equal(chan_pair(&ours, &bench->loader.fd), 0);
	assert_true(dup3(ours.fd, bench->generation->link.chan.fd, O_CLOEXEC) >= 0);
	chan_fini(&ours);
}

void generation_bench_begin_with(struct generation_bench *bench, struct spares *spares)
{
	struct generation_start start = {
		.number = GENERATION_BENCH_NUMBER,
		.model = "m",
		.inputs = bench->inputs,
		.section = config_find(bench->config, "m"),
		.device = &bench->device,
		.claim_bytes = GENERATION_BENCH_CLAIM,
		.spares = spares,
		.queue = &bench->queue,
	};
	struct err err = ERR_NULL;

	if (generation_new(&bench->generation, bench->loop, &start, &bench->listener,
	                   &err) < 0)
		fail_msg("%s", err.text);
	/* Before the loop has seen the other one. */
	generation_bench_take_channel(bench);
}

void generation_bench_prepare(struct generation_bench *bench)
{
	struct inputs_found found;
	struct err err = ERR_NULL;

	*bench = (struct generation_bench){ .loader = { .fd = -1 } };
	bench->loop = ev_loop_new(EVFLAG_AUTO);
	pump_init(&bench->pump, bench->loop);
	bench->config = generation_bench_load("spare = yes\n");
	device_init(&bench->device, "host", NULL);
	assert_int_equal(queue_init(&bench->queue, &bench->pump, "m", 1 << 20, 4096), 0);
	assert_int_equal(inputs_new(&bench->inputs, bench->config,
	                            config_find(bench->config, "m"),
	                            &(struct inputs_choice){ 0 }, &found, &err),
	                 0);
	bench->listener = (struct generation_listener){
		.on_state = on_state,
		.on_lease_lost = on_lease_lost,
		.on_answers = on_answers,
		.context = bench,
	};
}

void generation_bench_begin(struct generation_bench *bench)
{
	generation_bench_prepare(bench);
	generation_bench_begin_with(bench, NULL);
	/* A busy machine may take long to start the process. */
	ev_timer_stop(bench->loop, &bench->generation->patience.deadline);
	generation_bench_wait_for(bench, GENERATION_NONE);
	generation_patience_begin(bench->generation);
}

void generation_bench_end(struct generation_bench *bench)
{
	generation_free(bench->generation);
	chan_fini(&bench->loader);
	inputs_unref(bench->inputs);
	device_fini(&bench->device);
	queue_fini(&bench->queue);
	config_unref(bench->config);
	ev_loop_destroy(bench->loop);
}

/* What the loader says and hears */

void generation_bench_say(struct generation_bench *bench, enum proto_type type,
                          uint64_t number, const char *payload)
{
	assert_int_equal(chan_send(&bench->loader, type, number, payload, NULL, 0), 0);
	ev_run(bench->loop, EVRUN_NOWAIT);
}

void generation_bench_hear(struct generation_bench *bench, enum proto_type type)
{
	struct err err = ERR_NULL;

	assert_int_equal(chan_recv(&bench->loader, &bench->message, &err), 0);
	assert_int_equal(bench->message.header.type, type);
	assert_int_equal(bench->message.header.generation, GENERATION_BENCH_NUMBER);
	chan_message_fini(&bench->message);
}

static void lease(struct generation_bench *bench)
{
	const struct request_start start = {
		.method = { "POST", 4 },
		.target = { "/", 1 },
		.body_bytes = 3,
		.json_bytes = UINT64_MAX,
		.timeout_ns = UINT64_MAX,
		.on_part = on_part,
	};
	struct request_refusal refusal;
	struct request *request;

	assert_int_equal(request_new(&request, &bench->queue, &start, &refusal), 0);
	assert_int_equal(request_append(request, "abc", 3, &refusal), 0);
	assert_int_equal(generation_submit(bench->generation, request), 0);
	request_release(request);
}

void generation_bench_rise(struct generation_bench *bench, enum generation_state state)
{
	struct generation *generation = bench->generation;

	while (generation->state != state) {
		switch (generation->state) {
		case GENERATION_SPAWNED:
			if (state == GENERATION_FAILED) {
				ev_invoke(bench->loop, &generation->patience.deadline,
				          EV_TIMER);
				break;
			}
			generation_bench_say(bench, PROTO_HELLO, GENERATION_BENCH_NUMBER,
			                     "{}");
			generation_bench_hear(bench, PROTO_LOAD);
			break;
		case GENERATION_STAGING:
			generation_bench_say(bench, PROTO_STAGED, GENERATION_BENCH_NUMBER,
			                     "{}");
			break;
		case GENERATION_STAGED:
			generation_apply(generation, GENERATION_EV_COMMIT);
			generation_bench_hear(bench, PROTO_COMMIT);
			break;
		case GENERATION_COMMITTING:
			generation_bench_say(bench, PROTO_COMMITTED,
			                     GENERATION_BENCH_NUMBER, "{}");
			break;
		case GENERATION_WARMING:
			generation_bench_say(bench, PROTO_READY, GENERATION_BENCH_NUMBER,
			                     "{\"rss_anon_bytes\":4096}");
			break;
		case GENERATION_READY:
			generation_apply(generation, GENERATION_EV_PROMOTE);
			break;
		case GENERATION_ACTIVE:
			if (state == GENERATION_DRAINING)
				lease(bench);
			generation_apply(generation, GENERATION_EV_RETIRE);
			break;
		case GENERATION_STOPPING:
		case GENERATION_TERMINATING:
		case GENERATION_KILLING:
			ev_invoke(bench->loop, &generation->patience.deadline, EV_TIMER);
			break;
		case GENERATION_NONE:
		case GENERATION_DRAINING:
		case GENERATION_UNKILLABLE:
		case GENERATION_FAILED:
		case GENERATION_RECLAIMING:
		case GENERATION_DEAD:
		case GENERATION_STATE_COUNT:
			fail_msg("%s leads nowhere",
			         generation_state_name(generation->state));
		}
	}
}
