/* SPDX-License-Identifier: Apache-2.0 */

/* What a generation makes of its loader's words, of their order, and of its death. */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/supervisor/loaders/generation_bench.h"

static void test_a_life(void **state)
{
	struct generation_bench bench;
	struct generation *generation;

	(void)state;
	generation_bench_begin(&bench);
	generation = bench.generation;
	assert_int_equal(generation->use.claim_bytes, GENERATION_BENCH_CLAIM);
	assert_false(bench.inputs->is_proven);
	generation_bench_rise(&bench, GENERATION_ACTIVE);
	assert_true(bench.inputs->is_proven);
	assert_int_equal(generation->use.claim_bytes, 0);
	assert_int_equal(generation->use.peak_bytes, 4096);
	generation_bench_rise(&bench, GENERATION_STOPPING);
	generation_bench_hear(&bench, PROTO_QUIT);
	generation_bench_say(&bench, PROTO_BYE, GENERATION_BENCH_NUMBER, "{}");
	assert_int_equal(generation->state, GENERATION_STOPPING);
	(void)sigqueue(generation->pid, SIGUSR1, (union sigval){ .sival_int = 0 });
	generation_bench_wait_for(&bench, GENERATION_DEAD);
	assert_string_equal(generation->failure.text, "");
	assert_true(generation_is_over(generation));
	assert_null(generation->use.device);
	/* From STAGING to DEAD. */
	assert_int_equal(bench.n_news, 10);
	generation_bench_end(&bench);
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
		struct generation_bench bench;
		struct generation *generation;

		generation_bench_begin(&bench);
		generation = bench.generation;
		generation_bench_rise(&bench, rows[row].state);
		generation_bench_say(&bench, type, GENERATION_BENCH_NUMBER,
		                     "{\"code\":\"model\",\"reason\":\"torn\"}");
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
		generation_bench_end(&bench);
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
		struct generation_bench bench;
		struct generation *generation;

		generation_bench_begin(&bench);
		generation = bench.generation;
		generation_bench_rise(&bench, rows[i].state);
		(void)sigqueue(generation->pid, rows[i].signal,
		               (union sigval){ .sival_int = rows[i].code });
		generation_bench_wait_for(&bench, GENERATION_DEAD);
		assert_string_equal(generation->failure.text, rows[i].failure);
		assert_int_equal(generation->is_permanent, rows[i].is_permanent);
		/* The lease of the one that was draining. */
		assert_int_equal(bench.n_lost, rows[i].state == GENERATION_DRAINING);
		generation_bench_end(&bench);
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
		struct generation_bench bench;
		struct generation *generation;
		siginfo_t info;
		ev_io *io;

		generation_bench_begin(&bench);
		generation = bench.generation;
		io = &generation->link.chan_io;
		generation_bench_rise(&bench, GENERATION_STAGING);
		/* The loop sees the message last. */
		ev_io_stop(bench.loop, io);
		ev_set_priority(io, EV_MINPRI);
		generation_bench_say(&bench, rows[i].type, GENERATION_BENCH_NUMBER,
		                     "{\"reason\":\"torn\"}");
		assert_int_equal(generation->state, GENERATION_STAGING);
		ev_io_start(bench.loop, io);
		if (rows[i].is_death) {
			assert_int_equal(kill(generation->pid, SIGKILL), 0);
			assert_int_equal(waitid(P_PID, (id_t)generation->pid, &info,
			                        WEXITED | WNOWAIT),
			                 0);
			ev_run(bench.loop, EVRUN_NOWAIT);
		} else {
			ev_invoke(bench.loop, &generation->patience.deadline, EV_TIMER);
		}
		assert_int_equal(generation->state, rows[i].then);
		assert_string_equal(generation->failure.text, rows[i].failure);
		generation_bench_end(&bench);
	}
}

/* A broken channel, in two ways. */
static void test_channel(void **state)
{
	struct generation_bench bench;
	struct err why = ERR_NULL;

	(void)state;
	generation_bench_begin(&bench);
	generation_bench_say(&bench, PROTO_HELLO, GENERATION_BENCH_NUMBER + 1, "{}");
	assert_int_equal(bench.generation->state, GENERATION_FAILED);
	generation_bench_end(&bench);

	generation_bench_begin(&bench);
	generation_bench_rise(&bench, GENERATION_STAGED);
	/* The loader reads nothing more: COMMIT does not fit. */
	while (chan_send(&bench.generation->link.chan, PROTO_QUIT,
	                 GENERATION_BENCH_NUMBER, NULL, NULL, 0) == 0)
		;
	generation_apply(bench.generation, GENERATION_EV_COMMIT);
	assert_int_equal(bench.generation->state, GENERATION_FAILED);
	assert_string_equal(bench.generation->failure.text,
	                    "the loader does not read its control channel");
	generation_bench_end(&bench);

	/* The first reason stays. */
	generation_bench_begin(&bench);
	generation_bench_rise(&bench, GENERATION_STAGED);
	(void)err_set(&why, 0, "no room");
	generation_dismiss(bench.generation, &why);
	assert_int_equal(bench.generation->state, GENERATION_STOPPING);
	generation_bench_hear(&bench, PROTO_QUIT);
	ev_invoke(bench.loop, &bench.generation->patience.deadline, EV_TIMER);
	assert_string_equal(bench.generation->failure.text, "no room");
	generation_bench_end(&bench);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_life),  cmocka_unit_test(test_messages),
		cmocka_unit_test(test_deaths),  cmocka_unit_test(test_words_come_first),
		cmocka_unit_test(test_channel),
	};

	generation_bench_be_loader(argc, argv);
	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
