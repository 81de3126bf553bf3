/* SPDX-License-Identifier: Apache-2.0 */

/* From one generation to the next: reload.c and its parts. */

#define RELOAD_OLD (model_active || model_retiring)

/* Only as the table has it. */
inline reload_enter(next)
{
	assert(RELOAD_MAY_FOLLOW(step, next));
	step = next
}

/* reload_tell(): what the table says is in @action; the caller does it. */
inline reload_ask(what)
{
	happens = what;
	reload_do(step, happens, action);
	c_code { note_reload(now.step, now.happens); };
	assert(action != RELOAD_DO_REFUSE)
}

inline reload_give_up()
{
	if
	:: IS_ENDING(CANDIDATE)
	:: else ->
		reload_enter(RELOAD_GIVING_UP);
		todo!CANDIDATE,GENERATION_EV_RETIRE
	fi
}

/* What is pending starts as a handler of its own. */
inline reload_finish()
{
	reload_enter(RELOAD_IDLE);
	is_good = false;
	strategy = OVERLAP
}

/* Limit and window of deaths: any may be one too many. */
inline reload_schedule_restart()
{
	if
	:: is_stopping
	:: else ->
		pending_crash = true;
		if
		:: MAY_FAIL -> deaths_is_failed = true
		:: true
		fi;
		if
		:: deaths_is_failed -> model_fail_held()
		:: else
		fi
	fi
}

/* The candidate did not make it. */
inline reload_failed()
{
	must_fail = false;
	/* What an earlier run has kept: model_remember_good(). */
	if
	:: MAY_FAIL && !is_stopping -> good = true
	:: true
	fi;
	if
	:: model_active || is_stopping
	:: else ->
		if
		:: good && !is_good ->
#ifndef BREAK_REBUILD
			pending_rebuild = true
#else
			skip
#endif
		:: (good && is_good) || (!good && !fails_for_good) ->
			reload_schedule_restart()
		:: !good && fails_for_good -> model_fail_held()
		fi
	fi;
	fails_for_good = false;
	reload_finish()
}

inline reload_spawn()
{
	must_spawn = false;
	if
	:: true ->
		assert(!model_candidate);
		generations[CANDIDATE].state = GENERATION_SPAWNED;
		generations[CANDIDATE].process = PROCESS_RUNS;
		generations[CANDIDATE].is_lean = (strategy != OVERLAP);
		reload_enter(RELOAD_STAGING);
		strategy = OVERLAP
	:: MAY_FAIL -> must_fail = true /* no memory, no processes, no files */
	fi
}

inline reload_retire_active()
{
	generation_move(ACTIVE, RETIRING);
	todo!RETIRING,GENERATION_EV_RETIRE
}

inline reload_decide()
{
#if STRATEGY == STRATEGY_OVERLAP
	strategy = OVERLAP
#else
	if
	:: !RELOAD_OLD -> strategy = OVERLAP
	:: RELOAD_OLD -> strategy = STAGED
	:: RELOAD_OLD -> strategy = STOP_FIRST
	fi
#endif
}

#ifdef MAY_STICK
#define HAS_ROOM (STRATEGY == STRATEGY_OVERLAP || !generations[STUCK].copy)
#else
#define HAS_ROOM true
#endif

inline reload_begin()
{
	reload_decide();
	if
	:: MAY_FAIL || !HAS_ROOM -> must_fail = true /* refused */
	:: HAS_ROOM -> reload_go()
	fi
}

inline reload_go()
{
	if
	:: strategy != STOP_FIRST -> must_spawn = true
	:: strategy == STOP_FIRST ->
		reload_enter(RELOAD_STOPPING_OLD);
		if
		:: model_active -> reload_retire_active()
		:: else /* the old one is ending already */
		fi
	fi
}

/*
 * reload_plan_read_inputs(): a rebuild takes what served last. A restart does so, too,
 * unless there is something newer on disk, and so may a rollback.
 */
inline reload_try_start()
{
	reload_enter(RELOAD_DECIDING);
	if
	:: good -> is_good = true
	:: pending || pending_crash -> is_good = false
	fi;
	if
	:: !is_good && MAY_FAIL ->
		must_fail = true; /* unreadable */
		if
		:: fails_for_good = true
		:: true
		fi
	:: true -> reload_begin()
	fi;
	pending = false;
	pending_crash = false;
	pending_rebuild = false
}

inline reload_on_staged()
{
	reload_ask(RELOAD_EV_STAGED);
	assert(action == RELOAD_DO_WEIGH);
	if
	/* A file whose content is what already serves: reload_is_needless(). */
	:: model_active && !is_good -> reload_give_up()
	/* The file that served last was written over: reload_is_overwritten(). */
	:: is_good && MAY_FAIL ->
		generation_fail();
		reload_give_up()
	:: !generations[g].is_lean || !RELOAD_OLD ->
		reload_enter(RELOAD_COMMITTING);
		todo!g,GENERATION_EV_COMMIT
	:: generations[g].is_lean && RELOAD_OLD ->
		reload_enter(RELOAD_WAITING_OLD);
		if
		:: model_active -> reload_retire_active()
		:: else /* the old one is ending already */
		fi
	fi
}

inline reload_go_on()
{
	if
	:: is_stopping || model_retiring
	:: else ->
		reload_ask(RELOAD_EV_OLD_GONE);
		if
		:: action == RELOAD_DO_NOTHING
		:: action == RELOAD_DO_SPAWN -> must_spawn = true
		:: action == RELOAD_DO_COMMIT ->
			if
			:: generations[CANDIDATE].state == GENERATION_STAGED ->
				reload_enter(RELOAD_COMMITTING);
				todo!CANDIDATE,GENERATION_EV_COMMIT
			:: else /* its end leads on */
			fi
		:: action == RELOAD_DO_FINISH -> reload_finish()
		:: else -> assert(false)
		fi
	fi
}

inline reload_swap()
{
	good = true;
	is_good = false;
	deaths_is_failed = false;
	reload_ask(RELOAD_EV_ACTIVE);
	assert(action == RELOAD_DO_SWAP);
	reload_enter(RELOAD_RETIRING);
	if
	:: model_active -> reload_retire_active()
	:: else -> reload_go_on()
	fi;
	generation_move(CANDIDATE, ACTIVE);
#ifndef BREAK_DISPATCH
	must_dispatch = true
#endif
}

inline reload_judge_candidate()
{
	reload_ask(RELOAD_EV_CANDIDATE_DEAD);
	assert(action == RELOAD_DO_JUDGE);
	if
	:: is_stopping -> reload_finish()
	:: !is_stopping && has_failure ->
		must_fail = true;
		fails_for_good = is_permanent
	:: !is_stopping && !has_failure ->
		reload_finish();
#ifndef BREAK_NEEDLESS
		if
		:: !model_active -> reload_schedule_restart()
		:: else
		fi
#endif
	fi
}

inline reload_on_crash()
{
	reload_ask(RELOAD_EV_SERVING_DEAD);
	if
	:: action == RELOAD_DO_NOTHING
	:: action == RELOAD_DO_HURRY
	:: action == RELOAD_DO_LOSE -> reload_finish()
	:: else -> assert(false)
	fi;
	if
	:: !in_flight -> reload_schedule_restart()
	:: else
	fi
}

inline reload_on_dead()
{
	has_failure = generations[g].has_failure;
	is_permanent = generations[g].is_permanent;
	generation_free(g);
	if
	:: g == CANDIDATE -> reload_judge_candidate()
	:: g == ACTIVE -> reload_on_crash()
	:: g == RETIRING -> reload_go_on()
	:: else /* it was put aside */
	fi;
	must_dispatch = true
}

/* The old one keeps its memory. A reload that waits for that has failed; one whose new
 * generation serves is over. */
inline reload_on_retired_stuck()
{
	if
	:: is_stopping
	:: else ->
		reload_ask(RELOAD_EV_OLD_STUCK);
		if
		:: action == RELOAD_DO_NOTHING
		:: action == RELOAD_DO_FINISH -> reload_finish()
		:: action == RELOAD_DO_FAIL -> must_fail = true
		:: else -> assert(false)
		fi
	fi
}

/* A candidate that is to have the memory that is stuck is not to live beside it. */
inline reload_on_memory_stuck()
{
	reload_ask(RELOAD_EV_MEMORY_STUCK);
	if
	:: action == RELOAD_DO_NOTHING
#ifndef BREAK_STUCK
	:: action == RELOAD_DO_GIVE_UP_LEAN && generations[CANDIDATE].is_lean ->
#else
	:: action == RELOAD_DO_GIVE_UP_LEAN && generations[CANDIDATE].is_lean &&
	   g == RETIRING && generations[CANDIDATE].state == GENERATION_STAGED ->
#endif
		generations[CANDIDATE].has_failure = true;
		reload_give_up()
	:: else -> assert(action == RELOAD_DO_GIVE_UP_LEAN)
	fi
}

/* Puts it aside: nothing waits for it any more, and its memory counts until it is gone. With
 * too many of them everything waits. */
inline reload_on_unkillable()
{
#ifdef MAY_STICK
	if
	:: generations[STUCK].state == GENERATION_NONE ->
		generation_move(g, STUCK);
		has_failure = true;
		if
		:: g != CANDIDATE -> reload_on_memory_stuck()
		:: else
		fi;
		if
		:: g == CANDIDATE -> reload_judge_candidate()
		:: g == ACTIVE -> reload_on_crash()
		:: g == RETIRING -> reload_on_retired_stuck()
		fi;
		must_dispatch = true
	:: else
	fi
#else
	skip
#endif
}

inline reload_on_state()
{
	if
	:: to == GENERATION_STAGED -> reload_on_staged()
	:: to == GENERATION_READY ->
		reload_ask(RELOAD_EV_READY);
		assert(action == RELOAD_DO_PROVE);
		todo!g,GENERATION_EV_PROMOTE
	:: to == GENERATION_ACTIVE -> reload_swap()
	:: to == GENERATION_UNKILLABLE -> reload_on_unkillable()
	:: to == GENERATION_DEAD -> reload_on_dead()
#ifdef BREAK_COMMIT_EARLY
	:: to == GENERATION_STOPPING && g == RETIRING && model_candidate &&
	   generations[CANDIDATE].state == GENERATION_STAGED ->
		reload_enter(RELOAD_COMMITTING);
		todo!CANDIDATE,GENERATION_EV_COMMIT
#endif
#ifdef BREAK_SPAWN_EARLY
	:: to == GENERATION_STOPPING && g == RETIRING && !model_candidate &&
	   in_flight && strategy == STOP_FIRST ->
		strategy = OVERLAP;
		must_spawn = true
#endif
	:: else
	fi
}

/* model_stop() and reload_stop(): the active one becomes the retiring one, whose death is
 * no crash. */
inline model_stop()
{
	model_fail_held();
	is_stopping = true;
	pending = false;
	pending_crash = false;
	pending_rebuild = false;
	reload_ask(RELOAD_EV_STOP);
	if
	:: action == RELOAD_DO_NOTHING
	:: action == RELOAD_DO_FINISH -> reload_finish()
	:: action == RELOAD_DO_GIVE_UP -> reload_give_up()
	:: else -> assert(false)
	fi;
	if
	:: model_active && !model_retiring -> generation_move(ACTIVE, RETIRING)
	:: else
	fi;
	g = 0;
	do
	:: g == N_GENERATIONS -> break
	:: else ->
		if
		:: g != CANDIDATE && generations[g].state != GENERATION_NONE ->
			todo!g,GENERATION_EV_RETIRE
		:: else
		fi;
		g++
	od
}
