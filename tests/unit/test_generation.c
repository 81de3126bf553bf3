/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The real generation.c, with a process that does nothing: this program itself, started as
 * a loader. The test speaks for that process, on a channel that it puts in the place of the
 * generation's, and ends it with any exit code. No case waits for a deadline: the timer is
 * asked how long it would take, and rung.
 */

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/loop/pump.h"
#include "supervisor/loaders/message.h"
#include "supervisor/loaders/spare.h"
#include "supervisor/memory/engine_base.h"
#include "supervisor/traffic/queue.h"
#include "tests/unit/config_bench.h"

#define NUMBER 7
#define CLAIM  (UINT64_C(1) << 20)
#define WAIT_S 60.
/* Between the beginning of a state and that of its timer. */
#define SLACK_S  0.9
#define TIMEOUTS "stage_timeout = 11s\ncommit_timeout = 12s\nwarmup_timeout = 13s\n"
/* Beside the times that are configured: see patience.c. */
#define SPAWN_S 10
#define TERM_S  2
#define KILL_S  10
#define SPARE_S 0.5

struct fixture {
	struct ev_loop *loop;
	struct pump pump;
	struct config *config;
	struct inputs *inputs;
	struct device device;
	struct queue queue;
	struct generation_listener listener;
	struct generation *generation;
	struct chan loader; /* the loader's end */
	struct chan_message message;
	unsigned int n_news;
	unsigned int n_lost;
	ev_timer late;
	bool is_late;
};

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

/* The fixture */

static void on_state(void *context, struct generation *generation,
                     enum generation_state from)
{
	struct fixture *fixture = context;

	assert_true(generation->state != from);
	fixture->n_news++;
}

static void on_lease_lost(void *context, struct generation *generation,
                          struct request *request)
{
	struct fixture *fixture = context;

	(void)generation;
	fixture->n_lost++;
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

static void on_late(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct fixture *fixture = timer->data;

	(void)loop;
	(void)revents;
	fixture->is_late = true;
}

static void begin_waiting(struct fixture *fixture)
{
	ev_timer_init(&fixture->late, on_late, WAIT_S, 0.);
	fixture->late.data = fixture;
	ev_timer_start(fixture->loop, &fixture->late);
}

static void go_round(struct fixture *fixture, const char *what)
{
	ev_run(fixture->loop, EVRUN_ONCE);
	if (fixture->is_late)
		fail_msg("too late: %s", what);
}

/* Waits until the generation is in @state, or its loader has said something (NONE). */
static void wait_for(struct fixture *fixture, enum generation_state state)
{
	const struct generation *generation = fixture->generation;

	begin_waiting(fixture);
	while (state ? generation->state != state : !generation->link.last_line[0])
		go_round(fixture, generation_state_name(state));
	ev_timer_stop(fixture->loop, &fixture->late);
}

static struct config *load(const char *more)
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

/* The test is the loader from now on. */
static void take_channel(struct fixture *fixture)
{
	struct chan ours;

	chan_fini(&fixture->loader);
	assert_int_equal(chan_pair(&ours, &fixture->loader.fd), 0);
	assert_true(dup3(ours.fd, fixture->generation->link.chan.fd, O_CLOEXEC) >= 0);
	chan_fini(&ours);
}

static void begin_with(struct fixture *fixture, struct spares *spares)
{
	struct generation_start start = {
		.number = NUMBER,
		.model = "m",
		.inputs = fixture->inputs,
		.section = config_find(fixture->config, "m"),
		.device = &fixture->device,
		.claim_bytes = CLAIM,
		.spares = spares,
		.queue = &fixture->queue,
	};
	struct err err = ERR_NULL;

	if (generation_new(&fixture->generation, fixture->loop, &start,
	                   &fixture->listener, &err) < 0)
		fail_msg("%s", err.text);
	/* Before the loop has seen the other one. */
	take_channel(fixture);
}

static void prepare(struct fixture *fixture)
{
	struct inputs_found found;
	struct err err = ERR_NULL;

	*fixture = (struct fixture){ .loader = { .fd = -1 } };
	fixture->loop = ev_loop_new(EVFLAG_AUTO);
	pump_init(&fixture->pump, fixture->loop);
	fixture->config = load("spare = yes\n");
	device_init(&fixture->device, "host", NULL);
	assert_int_equal(queue_init(&fixture->queue, &fixture->pump, "m", 1 << 20, 4096),
	                 0);
	assert_int_equal(inputs_new(&fixture->inputs, fixture->config,
	                            config_find(fixture->config, "m"),
	                            &(struct inputs_choice){ 0 }, &found, &err),
	                 0);
	fixture->listener = (struct generation_listener){
		.on_state = on_state,
		.on_lease_lost = on_lease_lost,
		.on_answers = on_answers,
		.context = fixture,
	};
}

static void begin(struct fixture *fixture)
{
	prepare(fixture);
	begin_with(fixture, NULL);
	/* A busy machine may take long to start the process. */
	ev_timer_stop(fixture->loop, &fixture->generation->patience.deadline);
	wait_for(fixture, GENERATION_NONE);
	generation_patience_begin(fixture->generation);
}

static void end(struct fixture *fixture)
{
	generation_free(fixture->generation);
	chan_fini(&fixture->loader);
	inputs_unref(fixture->inputs);
	device_fini(&fixture->device);
	queue_fini(&fixture->queue);
	config_unref(fixture->config);
	ev_loop_destroy(fixture->loop);
}

static void say(struct fixture *fixture, enum proto_type type, uint64_t number,
                const char *payload)
{
	assert_int_equal(chan_send(&fixture->loader, type, number, payload, NULL, 0), 0);
	ev_run(fixture->loop, EVRUN_NOWAIT);
}

/* The next message that the loader gets is of @type. */
static void hear(struct fixture *fixture, enum proto_type type)
{
	struct err err = ERR_NULL;

	assert_int_equal(chan_recv(&fixture->loader, &fixture->message, &err), 0);
	assert_int_equal(fixture->message.header.type, type);
	assert_int_equal(fixture->message.header.generation, NUMBER);
	chan_message_fini(&fixture->message);
}

static void lease(struct fixture *fixture)
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

	assert_int_equal(request_new(&request, &fixture->queue, &start, &refusal), 0);
	assert_int_equal(request_append(request, "abc", 3, &refusal), 0);
	assert_int_equal(generation_submit(fixture->generation, request), 0);
	request_release(request);
}

/* Takes the generation to @state, and checks what its loader hears on the way. */
static void rise(struct fixture *fixture, enum generation_state state)
{
	struct generation *generation = fixture->generation;

	while (generation->state != state) {
		switch (generation->state) {
		case GENERATION_SPAWNED:
			if (state == GENERATION_FAILED) {
				ev_invoke(fixture->loop, &generation->patience.deadline,
				          EV_TIMER);
				break;
			}
			say(fixture, PROTO_HELLO, NUMBER, "{}");
			hear(fixture, PROTO_LOAD);
			break;
		case GENERATION_STAGING:
			say(fixture, PROTO_STAGED, NUMBER, "{}");
			break;
		case GENERATION_STAGED:
			generation_apply(generation, GENERATION_EV_COMMIT);
			hear(fixture, PROTO_COMMIT);
			break;
		case GENERATION_COMMITTING:
			say(fixture, PROTO_COMMITTED, NUMBER, "{}");
			break;
		case GENERATION_WARMING:
			say(fixture, PROTO_READY, NUMBER, "{\"rss_anon_bytes\":4096}");
			break;
		case GENERATION_READY:
			generation_apply(generation, GENERATION_EV_PROMOTE);
			break;
		case GENERATION_ACTIVE:
			if (state == GENERATION_DRAINING)
				lease(fixture);
			generation_apply(generation, GENERATION_EV_RETIRE);
			break;
		case GENERATION_STOPPING:
		case GENERATION_TERMINATING:
		case GENERATION_KILLING:
			ev_invoke(fixture->loop, &generation->patience.deadline,
			          EV_TIMER);
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

/* Cases */

static void test_a_life(void **state)
{
	struct fixture fixture;
	struct generation *generation;

	(void)state;
	begin(&fixture);
	generation = fixture.generation;
	assert_int_equal(generation->use.claim_bytes, CLAIM);
	assert_false(fixture.inputs->is_proven);
	rise(&fixture, GENERATION_ACTIVE);
	assert_true(fixture.inputs->is_proven);
	assert_int_equal(generation->use.claim_bytes, 0);
	assert_int_equal(generation->use.peak_bytes, 4096);
	rise(&fixture, GENERATION_STOPPING);
	hear(&fixture, PROTO_QUIT);
	say(&fixture, PROTO_BYE, NUMBER, "{}");
	assert_int_equal(generation->state, GENERATION_STOPPING);
	(void)sigqueue(generation->pid, SIGUSR1, (union sigval){ .sival_int = 0 });
	wait_for(&fixture, GENERATION_DEAD);
	assert_string_equal(generation->failure.text, "");
	assert_true(generation_is_over(generation));
	assert_null(generation->use.device);
	/* From STAGING to DEAD. */
	assert_int_equal(fixture.n_news, 10);
	end(&fixture);
}

/* Time that each state has, and what follows then. */
static void test_deadlines(void **state)
{
	static const struct {
		enum generation_state state;
		unsigned int s; /* 0: as long as it likes */
		enum generation_state then;
	} rows[] = {
		{ GENERATION_SPAWNED, SPAWN_S, GENERATION_FAILED },
		{ GENERATION_STAGING, 11, GENERATION_FAILED },
		{ GENERATION_STAGED, 11 + 14 + 15 + TERM_S + KILL_S + 16 + 5,
		  GENERATION_FAILED },
		{ GENERATION_COMMITTING, 12, GENERATION_FAILED },
		{ GENERATION_WARMING, 13, GENERATION_FAILED },
		{ GENERATION_READY, 0, GENERATION_NONE },
		{ GENERATION_ACTIVE, 0, GENERATION_NONE },
		{ GENERATION_DRAINING, 14, GENERATION_STOPPING },
		{ GENERATION_STOPPING, 15, GENERATION_TERMINATING },
		{ GENERATION_TERMINATING, TERM_S, GENERATION_KILLING },
		{ GENERATION_KILLING, KILL_S, GENERATION_UNKILLABLE },
		{ GENERATION_FAILED, TERM_S, GENERATION_KILLING },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct fixture fixture;
		struct generation *generation;
		ev_timer *deadline;
		char text[64];

		begin(&fixture);
		generation = fixture.generation;
		deadline = &generation->patience.deadline;
		rise(&fixture, rows[i].state);
		assert_int_equal(ev_is_active(deadline) != 0, rows[i].s > 0);
		if (rows[i].s > 0) {
			double left_s = ev_timer_remaining(fixture.loop, deadline);

			/* The first state began before the process came up. */
			if (left_s > rows[i].s || (i > 0 && left_s < rows[i].s - SLACK_S))
				fail_msg("%s has %.3f s",
				         generation_state_name(rows[i].state), left_s);
			(void)snprintf(text, sizeof(text), "still %s after %u.0 s",
			               generation_state_name(rows[i].state), rows[i].s);
			ev_invoke(fixture.loop, deadline, EV_TIMER);
			assert_int_equal(generation->state, rows[i].then);
			/* What comes first is the reason. */
			if (rows[i].state <= GENERATION_STOPPING)
				assert_string_equal(generation->failure.text, text);
		}
		end(&fixture);
	}
}

/* One message is right in each state, and any other one costs the loader its life. */
static void test_messages(void **state)
{
	static const enum proto_type types[] = {
		PROTO_HELLO, PROTO_STAGED,  PROTO_COMMITTED,
		PROTO_READY, PROTO_REFUSED, PROTO_BYE,
	};
	static const struct {
		enum generation_state state;
		enum proto_type right; /* 0: none */
		enum generation_state then;
		enum generation_state after_wrong;
	} rows[] = {
		{ GENERATION_SPAWNED, PROTO_HELLO, GENERATION_STAGING,
		  GENERATION_FAILED },
		{ GENERATION_STAGING, PROTO_STAGED, GENERATION_STAGED,
		  GENERATION_FAILED },
		{ GENERATION_STAGED, 0, GENERATION_NONE, GENERATION_FAILED },
		{ GENERATION_COMMITTING, PROTO_COMMITTED, GENERATION_WARMING,
		  GENERATION_FAILED },
		{ GENERATION_WARMING, PROTO_READY, GENERATION_READY, GENERATION_FAILED },
		{ GENERATION_READY, 0, GENERATION_NONE, GENERATION_KILLING },
		{ GENERATION_ACTIVE, 0, GENERATION_NONE, GENERATION_KILLING },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(rows) * COUNT_OF(types); i++) {
		size_t row = i / COUNT_OF(types);
		enum proto_type type = types[i % COUNT_OF(types)];
		bool is_right = type == rows[row].right;
		bool is_refusal = type == PROTO_REFUSED &&
		                  rows[row].after_wrong == GENERATION_FAILED;
		struct fixture fixture;
		struct generation *generation;

		begin(&fixture);
		generation = fixture.generation;
		rise(&fixture, rows[row].state);
		say(&fixture, type, NUMBER, "{\"code\":\"model\",\"reason\":\"torn\"}");
		if (generation->state !=
		    (is_right ? rows[row].then : rows[row].after_wrong))
			fail_msg("%s and message %d: %s",
			         generation_state_name(rows[row].state), (int)type,
			         generation_state_name(generation->state));
		if (is_refusal)
			assert_string_equal(generation->failure.text, "torn");
		else
			assert_int_equal(generation->failure.text[0] == '\0', is_right);
		assert_int_equal(generation->is_permanent, is_refusal);
		end(&fixture);
	}
}

/* Ends of the process, whenever they come. */
static void test_deaths(void **state)
{
	static const struct {
		enum generation_state state;
		int signal; /* SIGUSR1: it exits with @code */
		int code;
		bool is_permanent;
		const char *failure;
	} rows[] = {
		{ GENERATION_SPAWNED, SIGKILL, 0, false,
		  "the loader died while spawned: signal 9 (Killed); its last words: "
		  "up" },
		{ GENERATION_STAGING, SIGUSR1, PROTO_EXIT_CONFIG, true,
		  "the loader died while staging: exit code 64; its last words: up" },
		{ GENERATION_STAGED, SIGUSR1, PROTO_EXIT_MODEL, true,
		  "the loader died while staged: exit code 65; its last words: up" },
		{ GENERATION_COMMITTING, SIGUSR1, PROTO_EXIT_MEMORY, false,
		  "the loader died while committing: exit code 72; its last words: up" },
		{ GENERATION_WARMING, SIGUSR1, PROTO_EXIT_OK, false,
		  "the loader died while warming: exit code 0; its last words: up" },
		{ GENERATION_READY, SIGTERM, 0, false,
		  "the loader died while ready: signal 15 (Terminated); its last words: "
		  "up" },
		{ GENERATION_ACTIVE, SIGSEGV, 0, false,
		  "the loader died while active: signal 11 (Segmentation fault); its "
		  "last words: up" },
		{ GENERATION_DRAINING, SIGKILL, 0, false,
		  "the loader died while draining: signal 9 (Killed); its last words: "
		  "up" },
		{ GENERATION_STOPPING, SIGUSR1, PROTO_EXIT_INTERNAL, false,
		  "the loader died while stopping: exit code 70; its last words: up" },
		{ GENERATION_STOPPING, SIGUSR1, PROTO_EXIT_OK, false, "" },
		/* What it was killed for is the reason. */
		{ GENERATION_TERMINATING, SIGKILL, 0, false,
		  "still stopping after 15.0 s" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct fixture fixture;
		struct generation *generation;

		begin(&fixture);
		generation = fixture.generation;
		rise(&fixture, rows[i].state);
		(void)sigqueue(generation->pid, rows[i].signal,
		               (union sigval){ .sival_int = rows[i].code });
		wait_for(&fixture, GENERATION_DEAD);
		assert_string_equal(generation->failure.text, rows[i].failure);
		assert_int_equal(generation->is_permanent, rows[i].is_permanent);
		/* The lease of the one that was draining. */
		assert_int_equal(fixture.n_lost, rows[i].state == GENERATION_DRAINING);
		end(&fixture);
	}
}

/* What the loader said before it died, or before time was up, counts first. */
static void test_words_come_first(void **state)
{
	static const struct {
		bool is_death; /* else a deadline */
		enum proto_type type;
		enum generation_state then;
		const char *failure;
	} rows[] = {
		{ true, PROTO_REFUSED, GENERATION_DEAD, "torn" },
		{ false, PROTO_REFUSED, GENERATION_FAILED, "torn" },
		{ false, PROTO_STAGED, GENERATION_STAGED, "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct fixture fixture;
		struct generation *generation;
		siginfo_t info;
		ev_io *io;

		begin(&fixture);
		generation = fixture.generation;
		io = &generation->link.chan_io;
		rise(&fixture, GENERATION_STAGING);
		/* The loop sees the message last. */
		ev_io_stop(fixture.loop, io);
		ev_set_priority(io, EV_MINPRI);
		say(&fixture, rows[i].type, NUMBER, "{\"reason\":\"torn\"}");
		assert_int_equal(generation->state, GENERATION_STAGING);
		ev_io_start(fixture.loop, io);
		if (rows[i].is_death) {
			assert_int_equal(kill(generation->pid, SIGKILL), 0);
			assert_int_equal(waitid(P_PID, (id_t)generation->pid, &info,
			                        WEXITED | WNOWAIT),
			                 0);
			ev_run(fixture.loop, EVRUN_NOWAIT);
		} else {
			ev_invoke(fixture.loop, &generation->patience.deadline, EV_TIMER);
		}
		assert_int_equal(generation->state, rows[i].then);
		assert_string_equal(generation->failure.text, rows[i].failure);
		end(&fixture);
	}
}

/* A broken channel, in two ways. */
static void test_channel(void **state)
{
	struct fixture fixture;
	struct err why = ERR_NULL;

	(void)state;
	begin(&fixture);
	say(&fixture, PROTO_HELLO, NUMBER + 1, "{}");
	assert_int_equal(fixture.generation->state, GENERATION_FAILED);
	end(&fixture);

	begin(&fixture);
	rise(&fixture, GENERATION_STAGED);
	/* The loader reads nothing more: COMMIT does not fit. */
	while (chan_send(&fixture.generation->link.chan, PROTO_QUIT, NUMBER, NULL, NULL,
	                 0) == 0)
		;
	generation_apply(fixture.generation, GENERATION_EV_COMMIT);
	assert_int_equal(fixture.generation->state, GENERATION_FAILED);
	assert_string_equal(fixture.generation->failure.text,
	                    "the loader does not read its control channel");
	end(&fixture);

	/* The first reason stays. */
	begin(&fixture);
	rise(&fixture, GENERATION_STAGED);
	(void)err_set(&why, 0, "no room");
	generation_dismiss(fixture.generation, &why);
	assert_int_equal(fixture.generation->state, GENERATION_STOPPING);
	hear(&fixture, PROTO_QUIT);
	ev_invoke(fixture.loop, &fixture.generation->patience.deadline, EV_TIMER);
	assert_string_equal(fixture.generation->failure.text, "no room");
	end(&fixture);
}

/* A new configuration counts at once, and one that changes nothing puts nothing off. */
static void test_patience(void **state)
{
	struct config *same = load("");
	struct config *other = load("version = 2\nstall_timeout = 3s\n");
	struct fixture fixture;
	struct generation *generation;
	ev_timer *deadline;
	double left_s;

	(void)state;
	begin(&fixture);
	generation = fixture.generation;
	deadline = &generation->patience.deadline;
	rise(&fixture, GENERATION_STAGING);
	left_s = deadline->at;
	generation_set_config(generation, config_find(same, "m"));
	assert_true(deadline->at == left_s);
	generation_hurry(generation, 60 * UINT64_C(1000000000));
	assert_true(deadline->at == left_s);
	generation_hurry(generation, 2 * UINT64_C(1000000000));
	assert_true(deadline->at < left_s - 8);
	/* A configuration does not take the hurry back. */
	generation_set_config(generation, config_find(other, "m"));
	assert_true(deadline->at < left_s - 8);
	assert_int_equal(generation->patience.stall_timeout_ns, 3 * UINT64_C(1000000000));
	end(&fixture);
	config_unref(same);
	config_unref(other);
}

static void be_silent(struct fixture *fixture)
{
	ev_timer *deadline = &fixture->generation->patience.deadline;

	assert_true(ev_timer_remaining(fixture->loop, deadline) <= SPARE_S);
	ev_invoke(fixture->loop, deadline, EV_TIMER);
}

static void be_odd(struct fixture *fixture)
{
	say(fixture, PROTO_STAGED, NUMBER, "{}");
}

static void die(struct fixture *fixture)
{
	pid_t pid = fixture->generation->pid;

	(void)kill(pid, SIGKILL);
	begin_waiting(fixture);
	while (fixture->generation->pid == pid)
		go_round(fixture, "the end of a spare");
	ev_timer_stop(fixture->loop, &fixture->late);
}

/* Another loader replaces a spare that fails before HELLO, and the listener does not
 * hear of it. */
static void test_spares(void **state)
{
	static void (*const faults[])(struct fixture *) = { be_silent, be_odd, die };
	const struct engine_bases bases = { 0 };

	(void)state;
	for (size_t i = 0; i <= COUNT_OF(faults); i++) {
		struct fixture fixture;
		struct generation *generation;
		struct spare_counts counts;
		struct spares *spares;
		pid_t pid;

		prepare(&fixture);
		assert_int_equal(spares_new(&spares, fixture.loop, &fixture.device,
		                            &bases),
		                 0);
		spares_set_config(spares, fixture.config);
		begin_waiting(&fixture);
		while (!spares_at(spares, 0, &counts) || !counts.is_ready)
			go_round(&fixture, "a spare");
		ev_timer_stop(fixture.loop, &fixture.late);
		begin_with(&fixture, spares);
		generation = fixture.generation;
		pid = generation->pid;
		assert_ptr_equal(generation->spares, spares);
		/* A busy machine must not make a fault a silence. */
		if (i < COUNT_OF(faults) && faults[i] != be_silent)
			ev_timer_stop(fixture.loop, &generation->patience.deadline);
		if (i < COUNT_OF(faults)) {
			faults[i](&fixture);
			assert_true(generation->pid != pid);
			assert_null(generation->spares);
			assert_int_equal(generation->state, GENERATION_SPAWNED);
			assert_int_equal(generation->use.pid, generation->pid);
			assert_int_equal(generation->use.claim_bytes, CLAIM);
			assert_string_equal(generation->failure.text, "");
			assert_int_equal(fixture.n_news, 0);
			take_channel(&fixture);
			rise(&fixture, GENERATION_STAGING);
		} else {
			rise(&fixture, GENERATION_STAGING);
			say(&fixture, PROTO_READY, NUMBER, "{}");
			assert_int_equal(generation->pid, pid);
			assert_int_equal(generation->state, GENERATION_FAILED);
		}
		generation_free(generation);
		fixture.generation = NULL;
		spares_free(spares);
		end(&fixture);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_life),           cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_messages),         cmocka_unit_test(test_deaths),
		cmocka_unit_test(test_words_come_first), cmocka_unit_test(test_channel),
		cmocka_unit_test(test_patience),         cmocka_unit_test(test_spares),
	};

	if (argc > 1 && strncmp(argv[1], "--parent=", strlen("--parent=")) == 0)
		be_loader(argc > 2 ? argv[2] : "");
	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
