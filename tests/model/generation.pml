/* SPDX-License-Identifier: Apache-2.0 */

/* One generation: generation.c. */

/* Whom a death speaks against: model_blame_of(). */
inline model_blame_of()
{
	if
	:: from == GENERATION_STOPPING || from == GENERATION_TERMINATING ->
		blame = MODEL_BLAME_NOBODY
	:: else ->
		if
		:: blame = MODEL_BLAME_CRASH
#ifndef POISON
		:: blame = MODEL_BLAME_KILL
#endif
		fi
	fi
}

/* The process is gone, or as good as that. What it had published is still good and is
 * delivered first. */
inline generation_close()
{
	model_blame_of();
	request_collect(is_violated);
	is_violated = false;
	r = 0;
	do
	:: r == N_REQUESTS -> break
	:: else ->
		if
		:: HAS(generations[g].leases, r) ->
			generations[g].leases = generations[g].leases & ~BIT(r);
			model_on_lease_lost(r)
		:: else
		fi;
		r++
	od
}

/* The reason matters for candidates. */
inline generation_fail()
{
	generations[g].has_failure = (g == CANDIDATE)
}

/* A loader that does not read its channel loses its life. */
inline generation_send()
{
	if
	:: true
	:: MAY_FAIL -> generation_fail(); todo!g,GENERATION_EV_VIOLATION
	fi
}

/* It ends: how far it had come does not matter any more, but for leases. */
inline loader_forget()
{
	if
	:: generations[g].submitted == 0 -> generations[g].phase = LOADER_HELLO
	:: else
	fi;
	if
	:: IS_DOOMED(g) && generations[g].process == PROCESS_HANGS ->
		generations[g].process = PROCESS_RUNS
	:: else
	fi
}

inline generation_enter()
{
	if
	:: IS_ENDING(g) -> loader_forget()
	:: else
	fi;
	if
	:: to == GENERATION_STAGING ->
		generations[g].copy = !generations[g].is_lean;
		generation_send()
	:: to == GENERATION_COMMITTING ->
		generations[g].copy = true;
		generations[g].is_lean = false;
		generation_send()
	:: to == GENERATION_DRAINING ->
		if
		:: generations[g].leases == 0 -> todo!g,GENERATION_EV_DRAINED
		:: else
		fi
	:: to == GENERATION_STOPPING ->
		generation_send()
#ifdef BREAK_REPLAY_EARLY
		; r = 0;
		do
		:: r == N_REQUESTS -> break
		:: else ->
			if
			:: HAS(generations[g].leases, r) ->
				generations[g].leases = generations[g].leases & ~BIT(r);
				request_set_state(r, REQUEST_HELD);
				must_dispatch = true
			:: else
			fi;
			r++
		od
#endif
	:: to == GENERATION_UNKILLABLE || to == GENERATION_RECLAIMING ->
		generation_close();
		do
		:: control[g]?event
		:: empty(control[g]) -> break
		od;
		if
		/* Host memory is back when the process is reaped. */
		:: to == GENERATION_RECLAIMING -> todo!g,GENERATION_EV_RECLAIMED
		:: else
		fi
	:: else
	fi
}

#define IS_MESSAGE(event)                                                                \
	(event == GENERATION_EV_HELLO || event == GENERATION_EV_STAGED ||                \
	 event == GENERATION_EV_COMMITTED || event == GENERATION_EV_READY ||             \
	 event == GENERATION_EV_BYE || event == GENERATION_EV_REFUSED)

/* For verify: which rows of the tables were used. */
c_decl {
	static void note(int from, int event)
	{
		static char noted[32][32];

		if (!noted[from][event])
			printf("noted %d %d\n", from, event);
		noted[from][event] = 1;
	}

	static void note_reload(int step, int event)
	{
		static char noted[32][32];

		if (!noted[step][event])
			printf("reload %d %d\n", step, event);
		noted[step][event] = 1;
	}
};

/* With its listener, and with what generation_on_message() asks first. */
inline generation_apply()
{
	from = generations[g].state;
	generation_next(from, event, to);
	c_code { note(now.from, now.event); };
	if
	:: to == GENERATION_NONE ->
		assert(IS_MESSAGE(event));
		generation_fail();
		todo!g,GENERATION_EV_VIOLATION
	:: to == from
	:: to != GENERATION_NONE && to != from ->
		generations[g].state = to;
		generation_enter();
		reload_on_state()
	fi
}

inline generation_on_message()
{
	control[g]?event;
	/* A loader that broke the rings must not become ACTIVE. */
	if
	:: event == GENERATION_EV_READY -> generation_collect()
	:: else
	fi;
	if
	:: event == GENERATION_EV_REFUSED ->
		generation_fail();
		generations[g].is_permanent = !good && g == CANDIDATE
	:: event == GENERATION_EV_REFUSED -> generation_fail()
	:: else
	fi;
	todo!g,event
}

inline generation_collect()
{
	i = generations[g].leases;
	request_collect(is_violated);
	if
	:: is_violated ->
		generation_fail();
		if
		:: IS_DOOMED(g) && generations[g].state != GENERATION_FAILED
		:: else -> todo!g,GENERATION_EV_VIOLATION
		fi
	:: !is_violated && generations[g].leases != i ->
		if
		:: generations[g].state == GENERATION_DRAINING &&
		   generations[g].leases == 0 ->
			todo!g,GENERATION_EV_DRAINED
		:: else -> must_dispatch = true
		fi
	:: else
	fi;
	is_violated = false
}

/* Messages that it sent before it died come first: HAS_EXITED. */
inline generation_on_exit()
{
	if
	:: generations[g].state == GENERATION_STOPPING && MAY_FAIL ->
		generation_fail() /* not with 0 */
	:: generations[g].state == GENERATION_STOPPING
	:: generations[g].state != GENERATION_STOPPING -> generation_fail()
	fi;
	todo!g,GENERATION_EV_EXITED
}

inline generation_free(old)
{
	d_step {
		generations[old].state = GENERATION_NONE;
		generations[old].is_lean = false;
		generations[old].has_failure = false;
		generations[old].is_permanent = false;
		generations[old].leases = 0;
		generations[old].submitted = 0;
		generations[old].process = PROCESS_EXITED;
		generations[old].phase = LOADER_HELLO;
		generations[old].parts = 0;
		generations[old].published = 0;
		generations[old].garbage = false;
		generations[old].copy = false
	}
}

/* To another role, with its loader. */
inline generation_move(old, fresh)
{
	d_step {
		assert(generations[fresh].state == GENERATION_NONE);
		assert(empty(control[fresh]));
		generations[fresh].state = generations[old].state;
		generations[fresh].is_lean = generations[old].is_lean;
		generations[fresh].leases = generations[old].leases;
		generations[fresh].submitted = generations[old].submitted;
		generations[fresh].process = generations[old].process;
		generations[fresh].phase = generations[old].phase;
		generations[fresh].parts = generations[old].parts;
		generations[fresh].published = generations[old].published;
		generations[fresh].garbage = generations[old].garbage;
		generations[fresh].copy = generations[old].copy;
		do
		:: control[old]?event -> control[fresh]!event
		:: empty(control[old]) -> break
		od;
		skip
	};
	generation_free(old)
}
