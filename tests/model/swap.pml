/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a model passes from one generation to the next, and what becomes of its requests.
 *
 * moultd is one process: its loop runs one handler to the end before the next, so each
 * handler is one atomic step here. Each slot for a generation has a loader, which works,
 * publishes, crashes, hangs and writes garbage between any two steps of moultd, as often
 * as it likes; clients send requests and ask for reloads without end. At any time the
 * world may become calm: then nothing fails any more and nobody asks for anything, and
 * what is left must come to a good end (check_end()).
 *
 * Numbers (-D): STRATEGY (below), N_REQUESTS at a time (1 to 3), N_LEASES of each loader.
 * Switches: MAY_EXPIRE, MAY_SPLIT (answers in parts), MAY_STOP and MAY_STICK (processes
 * survive SIGKILL) add what they say. POISON=r: request r crashes every loader that
 * computes it, and nothing else fails. BREAK_x: one thing is wrong on purpose (verify).
 * What is left out: README.md.
 */

/* Printed from supervisor/loaders/table.c and supervisor/parts/reload_table.c. */
#include "table.pml"

#define STRATEGY_OVERLAP  0
#define STRATEGY_ONE_COPY 1 /* staged or stop-first, each time anew */

#ifdef POISON
#define MAY_FAIL 0
#else
#define MAY_FAIL (!calm)
#endif

/* Slots are the pointers of struct model: a generation moves when its role changes. */
#define ACTIVE        0
#define CANDIDATE     1
#define RETIRING      2
#define STUCK         3 /* one place for those that are put aside */
#ifdef MAY_STICK
#define N_GENERATIONS 4
#else
#define N_GENERATIONS 3
#endif

mtype:request_state = {
	REQUEST_RECEIVING, REQUEST_HELD, REQUEST_LEASED, REQUEST_ANSWERED, REQUEST_FAILED
};

mtype:strategy = { OVERLAP, STAGED, STOP_FIRST };

mtype:process = { PROCESS_RUNS, PROCESS_HANGS, PROCESS_STUCK, PROCESS_EXITED };

/* What a loader does next (loader_live()). */
mtype:phase = {
	LOADER_HELLO, LOADER_STAGE, LOADER_COMMIT, LOADER_WARM_UP, LOADER_SERVE
};

mtype:blame = { MODEL_BLAME_NOBODY, MODEL_BLAME_KILL, MODEL_BLAME_CRASH };

mtype:handler = {
	ON_NOTHING, ON_MESSAGE, ON_ANSWERS, ON_EXIT, ON_DEADLINE, ON_STALL,
	ON_SUBMIT, ON_EXPIRY, ON_TRY_START, ON_STOP
};

/* Sets of requests are bits. */
typedef generation_t {
	/* moultd's */
	mtype:generation_state state;
	bool is_lean;
	bool has_failure;  /* failure.text is not "", of a candidate */
	bool is_permanent;
	byte leases;       /* lane.slots */
	byte submitted;    /* of those: in the submit ring or being computed */
	/* the loader's */
	mtype:process process;
	mtype:phase phase;
	byte parts;        /* in the answer ring: a first part */
	byte published;    /* in the answer ring: the last part */
	bool garbage;      /* in the answer ring, behind those */
	/* the kernel's */
	bool copy;         /* of the model, in the memory of the device */
};

/* Told to end by a signal that it cannot ignore, or ending by itself. */
#define IS_DOOMED(g)                                                                     \
	(generations[g].state == GENERATION_FAILED ||                                    \
	 generations[g].state == GENERATION_KILLING ||                                   \
	 generations[g].state == GENERATION_UNKILLABLE)
#define IS_ENDING(g)                                                                     \
	(IS_DOOMED(g) || generations[g].state == GENERATION_STOPPING ||                  \
	 generations[g].state == GENERATION_TERMINATING)

generation_t generations[N_GENERATIONS];
chan control[N_GENERATIONS] = [1] of { mtype:generation_event };

/* struct model */
#define model_active    (generations[ACTIVE].state != GENERATION_NONE)
#define model_candidate (generations[CANDIDATE].state != GENERATION_NONE)
#define model_retiring  (generations[RETIRING].state != GENERATION_NONE)
bool good;             /* some inputs have served */
bool deaths_is_failed;
bool is_stopping;
/* model.pending: causes of one kind are one bit */
bool pending = true;   /* somebody wants another generation; at first: start */
bool pending_crash;    /* or the timer runs that leads to it */
bool pending_rebuild;
#define IS_PENDING (pending || pending_crash || pending_rebuild)
/* struct model_reload */
mtype:reload_step step = RELOAD_IDLE;
#define in_flight (step != RELOAD_IDLE)
bool is_good;          /* inputs == model.good */
mtype:strategy strategy = OVERLAP;

/* struct request; after its end the next one takes its place */
mtype:request_state requests[N_REQUESTS] = REQUEST_RECEIVING;
bool is_suspect[N_REQUESTS];
bool is_answering[N_REQUESTS]; /* the client has got the first part */
/* The client has got all, an error, or was cut off after the first part; or it has left.
 * No news may come for it after that. */
bool is_over[N_REQUESTS];

bool calm;
bool settled; /* check_end() has passed */

#define BIT(r)      (1 << (r))
#define HAS(set, r) (((set) >> (r)) & 1)
#define COUNT(set)  (HAS(set, 0) + HAS(set, 1) + HAS(set, 2))

/* What moultd does before its handler ends: events for generation_apply(), then these. */
chan todo = [4] of { byte, mtype:generation_event };
bool must_spawn;
bool must_fail;
bool must_dispatch;
bool fails_for_good;

/* Scratch of one handler: as below between any two. */
mtype:handler handler = ON_NOTHING;
byte g;
byte r;
byte i;
bool is_guilty;
bool is_violated;
bool has_failure;
bool is_permanent;
mtype:blame blame = MODEL_BLAME_NOBODY;
mtype:generation_event event = GENERATION_EV_HELLO;
mtype:generation_state from = GENERATION_NONE;
mtype:generation_state to = GENERATION_NONE;
mtype:reload_event happens = RELOAD_EV_STAGED;
mtype:reload_action action = RELOAD_DO_NOTHING;

inline forget()
{
	d_step {
		handler = ON_NOTHING;
		g = 0;
		r = 0;
		i = 0;
		is_guilty = false;
		is_violated = false;
		has_failure = false;
		is_permanent = false;
		blame = MODEL_BLAME_NOBODY;
		event = GENERATION_EV_HELLO;
		from = GENERATION_NONE;
		to = GENERATION_NONE;
		happens = RELOAD_EV_STAGED;
		action = RELOAD_DO_NOTHING
	}
}

#include "request.pml"
#include "generation.pml"
#include "reload.pml"

/* What must hold between any two handlers. */

#define LANES(r)                                                                         \
	(HAS(generations[ACTIVE].leases, r) + HAS(generations[CANDIDATE].leases, r) +    \
	 HAS(generations[RETIRING].leases, r))
#define COPIES                                                                           \
	(generations[ACTIVE].copy + generations[CANDIDATE].copy +                        \
	 generations[RETIRING].copy)

inline check()
{
	d_step {
		assert(step != RELOAD_DECIDING);
		assert(RELOAD_HAS_CANDIDATE(step) == model_candidate);
		r = 0;
		do
		:: r == N_REQUESTS -> break
		:: else ->
			/* Nothing is lost: each request is in one place. */
			assert(LANES(r) == (requests[r] == REQUEST_LEASED));
			assert(!is_over[r] || requests[r] == REQUEST_LEASED);
			r++
		od;
#if STRATEGY != STRATEGY_OVERLAP
#ifdef MAY_STICK
		assert(COPIES + generations[STUCK].copy <= 1)
#else
		assert(COPIES <= 1)
#endif
#endif
	}
}

/* Nothing can happen any more: all must have come to an end, and a good one. */
inline check_end()
{
	r = 0;
	do
	:: r == N_REQUESTS -> break
	:: else ->
		assert(requests[r] == REQUEST_RECEIVING);
		r++
	od;
	assert(!model_candidate && !model_retiring);
	assert(is_stopping || !(in_flight || IS_PENDING));
	/* What has served once serves again. */
	if
	:: is_stopping -> assert(!model_active)
	:: !is_stopping && model_active -> assert(LANE.state == GENERATION_ACTIVE)
	:: !is_stopping && !model_active -> assert(!good)
	fi
}

/* The events of moultd's loop */

#define IS_THERE(g) (generations[g].state != GENERATION_NONE)
#define STICKS(g)   (generations[g].process == PROCESS_STUCK)
/* It hangs, or it is slow: a deadline passes. */
#define IS_SLOW(g)                                                                       \
	(generations[g].process == PROCESS_HANGS || STICKS(g) ||                         \
	 (MAY_FAIL && generations[g].process == PROCESS_RUNS))
#define HAS_DEADLINE(g)                                                                  \
	(IS_THERE(g) && generations[g].state != GENERATION_ACTIVE &&                     \
	 generations[g].state != GENERATION_KILLING &&                                   \
	 generations[g].state != GENERATION_UNKILLABLE)
#define HAS_STALL_TIMER(g)                                                               \
	(generations[g].leases != 0 && (generations[g].state == GENERATION_ACTIVE ||     \
	                                generations[g].state == GENERATION_DRAINING))

#define HAS_MESSAGE(g) (IS_THERE(g) && nempty(control[g]))
#define HAS_ANSWERS(g)                                                                   \
	(IS_THERE(g) &&                                                                  \
	 (generations[g].parts || generations[g].published || generations[g].garbage))
#define HAS_EXITED(g)                                                                    \
	(IS_THERE(g) && generations[g].process == PROCESS_EXITED && empty(control[g]))
#define IS_LATE(g)       (HAS_DEADLINE(g) && IS_SLOW(g))
#define IS_STALLED(g)    (HAS_STALL_TIMER(g) && IS_SLOW(g))
#define IS_UNKILLABLE(g) (generations[g].state == GENERATION_KILLING && STICKS(g))
#define CAN_SUBMIT(q)    (!calm && requests[q] == REQUEST_RECEIVING)
#define CAN_EXPIRE(q)    (!calm && !is_over[q] && requests[q] != REQUEST_RECEIVING)

#define EACH_GENERATION(condition, does)                                                 \
	:: condition(ACTIVE) -> g = ACTIVE; handler = does                               \
	:: condition(CANDIDATE) -> g = CANDIDATE; handler = does                         \
	:: condition(RETIRING) -> g = RETIRING; handler = does

/* Whose turn it is. */
inline supervisor_wait()
{
	if
	EACH_GENERATION(HAS_MESSAGE, ON_MESSAGE)
	EACH_GENERATION(HAS_ANSWERS, ON_ANSWERS)
	EACH_GENERATION(HAS_EXITED, ON_EXIT)
	EACH_GENERATION(IS_LATE, ON_DEADLINE)
#ifndef BREAK_STALL
	EACH_GENERATION(IS_STALLED, ON_STALL)
#endif
#ifdef MAY_STICK
	EACH_GENERATION(IS_UNKILLABLE, ON_DEADLINE)
	:: HAS_EXITED(STUCK) -> g = STUCK; handler = ON_EXIT
#endif
	:: CAN_SUBMIT(0) -> i = 0; handler = ON_SUBMIT
#if N_REQUESTS > 1
	:: CAN_SUBMIT(1) -> i = 1; handler = ON_SUBMIT
#endif
#if N_REQUESTS > 2
	:: CAN_SUBMIT(2) -> i = 2; handler = ON_SUBMIT
#endif
#ifdef MAY_EXPIRE
	:: CAN_EXPIRE(0) -> i = 0; handler = ON_EXPIRY
#if N_REQUESTS > 1
	:: CAN_EXPIRE(1) -> i = 1; handler = ON_EXPIRY
#endif
#endif
	:: !calm && !pending && !is_stopping -> pending = true; handler = ON_NOTHING
	:: IS_PENDING && !in_flight && !is_stopping -> handler = ON_TRY_START
#ifdef MAY_STOP
	:: !calm && !is_stopping -> handler = ON_STOP
#endif
	:: !calm -> calm = true; handler = ON_NOTHING
	fi
}

inline supervisor_handle()
{
	if
	:: handler == ON_MESSAGE -> generation_on_message()
	:: handler == ON_ANSWERS -> generation_collect()
	:: handler == ON_EXIT -> generation_on_exit()
	:: handler == ON_DEADLINE -> generation_fail(); todo!g,GENERATION_EV_DEADLINE
	:: handler == ON_STALL -> generation_fail(); todo!g,GENERATION_EV_STALLED
	:: handler == ON_SUBMIT -> model_submit(i)
	:: handler == ON_EXPIRY -> request_on_deadline(i)
	:: handler == ON_TRY_START -> reload_try_start()
	:: handler == ON_STOP -> model_stop()
	:: else
	fi;
	do
	:: todo?g,event -> generation_apply()
	:: empty(todo) && must_spawn -> reload_spawn()
	:: empty(todo) && !must_spawn && must_fail -> reload_failed()
	:: empty(todo) && !must_spawn && !must_fail && must_dispatch ->
		must_dispatch = false;
		model_dispatch()
	:: empty(todo) && !must_spawn && !must_fail && !must_dispatch -> break
	od
}

proctype supervisor()
{
end:
	do
	:: atomic {
		supervisor_wait();
		supervisor_handle();
		check();
		forget()
	}
	:: atomic { timeout -> check_end(); settled = true; goto over }
	od;
over:
	skip
}

#include "loader.pml"

init {
	atomic {
		do
		:: g < N_GENERATIONS ->
			generations[g].state = GENERATION_NONE;
			generations[g].process = PROCESS_EXITED;
			generations[g].phase = LOADER_HELLO;
			run loader(g);
			g++
		:: else -> break
		od;
		g = 0;
		run supervisor()
	}
}

/* No livelock. The other variants are searched without it. */
ltl settles { [] (calm -> <> settled) }
