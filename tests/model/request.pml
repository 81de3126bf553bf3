/* SPDX-License-Identifier: Apache-2.0 */

/* Requests: traffic/request.c, answer.c, state.c, lane.c, queue.c, model/queue.c, model/poison.c. */

/* state.c, answer.c */

inline request_set_state(q, fresh)
{
	assert(fresh != requests[q]);
	requests[q] = fresh
}

/* Once it is answered or failed, and the client has been told, the next one may come. */
inline request_free(q)
{
	assert(is_over[q]);
	assert(requests[q] == REQUEST_ANSWERED || requests[q] == REQUEST_FAILED);
#ifdef POISON
	assert(requests[q] == (q == POISON -> REQUEST_FAILED : REQUEST_ANSWERED));
#endif
	requests[q] = REQUEST_RECEIVING;
	is_over[q] = false;
	is_suspect[q] = false
}

/* The last that a client gets to see. */
inline request_end(q)
{
	assert(!is_over[q]);
	is_over[q] = true;
	is_answering[q] = false
}

inline model_fail_request(q)
{
	request_set_state(q, REQUEST_FAILED);
	if
	:: is_over[q]
	:: else -> request_end(q)
	fi;
	request_free(q)
}

inline request_deliver_part(q)
{
	if
	:: is_over[q]
	:: else ->
		assert(!is_answering[q]);
		is_answering[q] = true
	fi
}

inline request_deliver_last(q)
{
#ifndef BREAK_EXPIRED
	if
	:: is_over[q] -> request_set_state(q, REQUEST_FAILED)
	:: else -> request_set_state(q, REQUEST_ANSWERED); request_end(q)
	fi;
#else
	request_set_state(q, REQUEST_ANSWERED);
	request_end(q);
#endif
	request_free(q)
}

/* lane.c */

/* Of the generation that takes requests. */
#define LANE generations[ACTIVE]

inline lane_submit(q)
{
	assert(!is_over[q] && !is_answering[q]);
	assert(!HAS(LANE.leases, q));
	LANE.leases = LANE.leases | BIT(q);
	LANE.submitted = LANE.submitted | (LANE.process == PROCESS_RUNS -> BIT(q) : 0);
	request_set_state(q, REQUEST_LEASED)
}

inline lane_take_in(q)
{
	assert(!HAS(generations[g].parts | generations[g].published, q) ||
	       HAS(generations[g].leases, q));
	if
	:: HAS(generations[g].parts, q) ->
		generations[g].parts = generations[g].parts & ~BIT(q);
		request_deliver_part(q)
	:: else
	fi;
	if
	:: HAS(generations[g].published, q) ->
		generations[g].published = generations[g].published & ~BIT(q);
		generations[g].leases = generations[g].leases & ~BIT(q);
		request_deliver_last(q)
	:: else
	fi
}

/* What was published before the garbage is good, nothing is taken in after it. */
inline request_collect(ret_is_violated)
{
	d_step {
		r = 0;
		do
		:: r == N_REQUESTS -> break
		:: else -> lane_take_in(r); r++
		od;
		ret_is_violated = generations[g].garbage;
		if
		:: generations[g].garbage ->
			generations[g].garbage = false;
			generations[g].submitted = 0
		:: else
		fi
	}
}

/* supervisor/model/queue.c */

#if N_REQUESTS == 1
#define IS_HELD     (requests[0] == REQUEST_HELD)
#define SUSPECTS    (BIT(0) * is_suspect[0])
#elif N_REQUESTS == 2
#define IS_HELD     (requests[0] == REQUEST_HELD || requests[1] == REQUEST_HELD)
#define SUSPECTS    (BIT(0) * is_suspect[0] + BIT(1) * is_suspect[1])
#else
#define IS_HELD                                                                          \
	(requests[0] == REQUEST_HELD || requests[1] == REQUEST_HELD ||                   \
	 requests[2] == REQUEST_HELD)
#define SUSPECTS                                                                         \
	(BIT(0) * is_suspect[0] + BIT(1) * is_suspect[1] + BIT(2) * is_suspect[2])
#endif

#define CAN_LEASE                                                                        \
	(LANE.state == GENERATION_ACTIVE && COUNT(LANE.leases) < N_LEASES)
/* A suspect goes alone. */
#ifndef BREAK_SUSPECTS_TOGETHER
#define CAN_GO(q) (!(LANE.leases & SUSPECTS) && (LANE.leases == 0 || !is_suspect[q]))
#else
#define CAN_GO(q) true
#endif

/* queue_next(): what may be leased now, suspects first, or N_REQUESTS. */
inline queue_next(q)
{
	q = 0;
	do
	:: q == N_REQUESTS -> break
	:: else ->
		if
		:: requests[q] == REQUEST_HELD && is_suspect[q] -> break
		:: else -> q++
		fi
	od;
	if
	:: q < N_REQUESTS
	:: else ->
		q = 0;
		do
		:: q == N_REQUESTS -> break
		:: else ->
			if
			:: requests[q] == REQUEST_HELD -> break
			:: else -> q++
			fi
		od
	fi
}

/*
 * generation_submit(): a loader that lies about what it has consumed of the submit ring
 * gets no lease, and is found out in the next round.
 */
inline generation_submit(q)
{
	if
	:: lane_submit(q)
	:: MAY_FAIL && LANE.process == PROCESS_RUNS ->
#ifndef BREAK_BAD_INDEX
		LANE.garbage = true;
#endif
		is_violated = true
	fi
}

inline model_dispatch()
{
	do
	:: !CAN_LEASE || is_violated -> break
	:: else ->
		queue_next(r);
		if
		:: r == N_REQUESTS -> break
		:: else ->
			if
			:: !CAN_GO(r) -> break
			:: else -> generation_submit(r)
			fi
		fi
	od;
	is_violated = false
}

/* A generation will come, or is expected to soon. */
#define RELOAD_IS_EXPECTED (!deaths_is_failed && (in_flight || IS_PENDING))

#define MAY_HOLD (!is_stopping && (model_active || RELOAD_IS_EXPECTED))

/* Without going through the queue only if nothing waits there. Being refused is failing
 * at once. */
inline model_submit(q)
{
	if
	:: !is_stopping && CAN_LEASE && !IS_HELD && CAN_GO(q) -> generation_submit(q)
	:: else
	fi;
	is_violated = false;
	if
	:: requests[q] == REQUEST_LEASED
	:: requests[q] != REQUEST_LEASED && !MAY_HOLD -> model_fail_request(q)
	:: requests[q] != REQUEST_LEASED && MAY_HOLD -> request_set_state(q, REQUEST_HELD)
	fi
}

/* spin 6.5.2 cannot have a loop at the end of a d_step. */
inline model_fail_held()
{
	d_step {
		r = 0;
		do
		:: r == N_REQUESTS -> break
		:: else ->
			if
			:: requests[r] == REQUEST_HELD -> model_fail_request(r)
			:: else
			fi;
			r++
		od;
		r = 0
	}
}

/* Its deadline, or its client leaves: for a lease both end when the loader says so. */
inline request_on_deadline(q)
{
	if
	:: requests[q] == REQUEST_HELD -> model_fail_request(q)
	:: requests[q] == REQUEST_LEASED -> request_end(q)
	fi
}

/* supervisor/model/poison.c */

/* model_judge(): how far the loader had come with it is the loader's word. */
inline model_judge(q, ret_is_guilty)
{
	ret_is_guilty = false;
	if
	:: blame != MODEL_BLAME_CRASH || is_stopping
	:: blame == MODEL_BLAME_CRASH && !is_stopping ->
		if
		:: true ->
#ifndef BREAK_POISON
			ret_is_guilty = is_suspect[q];
#endif
			is_suspect[q] = true
#ifdef POISON
		:: q != POISON /* had not begun */
#else
		:: true
#endif
		fi
	fi
}

#ifndef BREAK_REPLAY_ANSWERED
#define IS_LOST(q) (is_over[q] || is_answering[q] || is_stopping)
#else
#define IS_LOST(q) (is_over[q] || is_stopping)
#endif

inline model_on_lease_lost(q)
{
	model_judge(q, is_guilty);
	if
	:: is_guilty || IS_LOST(q) -> model_fail_request(q)
	:: else ->
#ifndef BREAK_FORGET
		request_set_state(q, REQUEST_HELD)
#else
		skip
#endif
	fi;
	is_guilty = false
}
