/* SPDX-License-Identifier: Apache-2.0 */

/* The loader: loader.c, and all that can happen to a process. */

#define ME   generations[me]
#define RUNS (ME.process == PROCESS_RUNS)
/* Nothing but answers matters once it is told to end. Lies and processes that stick are
 * too much for one search. */
#define CAN_FAIL (MAY_FAIL && RUNS && !IS_DOOMED(me))
#ifdef MAY_STICK
#define CAN_LIE false
#else
#define CAN_LIE (CAN_FAIL && !IS_ENDING(me))
#endif

#define CAN_SEND    (RUNS && !IS_ENDING(me) && nfull(control[me]))
#define HAS_LOAD    (ME.phase == LOADER_STAGE && ME.state == GENERATION_STAGING)
#define HAS_COMMIT  (ME.phase == LOADER_COMMIT && ME.state == GENERATION_COMMITTING)
#define HAS_RINGS   (ME.phase == LOADER_WARM_UP || ME.phase == LOADER_SERVE)
#define CAN_PUBLISH(q)                                                                   \
	(RUNS && ME.phase == LOADER_SERVE && HAS(ME.submitted, q) && !ME.garbage)

inline loader_publish(q)
{
	ME.submitted = ME.submitted & ~BIT(q);
	ME.published = ME.published | BIT(q)
}

#ifdef MAY_SPLIT
#define LOADER_ANSWERS(q)                                                                \
	:: atomic { CAN_PUBLISH(q) -> loader_publish(q) }                                \
	:: atomic { CAN_PUBLISH(q) && !HAS(ME.parts, q) && !is_answering[q] && !calm ->  \
		ME.parts = ME.parts | BIT(q) }
#else
#define LOADER_ANSWERS(q) :: atomic { CAN_PUBLISH(q) -> loader_publish(q) }
#endif

/* At any instruction, whatever it was doing. Its memory stays until it is reclaimed, and
 * what it has written. */
inline loader_halt(how)
{
	ME.process = how;
	ME.phase = LOADER_HELLO;
	ME.submitted = 0
}

proctype loader(byte me)
{
end:
	do
	:: atomic { CAN_SEND && ME.phase == LOADER_HELLO ->
		control[me]!GENERATION_EV_HELLO;
		ME.phase = LOADER_STAGE }
	:: atomic { CAN_SEND && HAS_LOAD ->
		control[me]!GENERATION_EV_STAGED;
		ME.phase = LOADER_COMMIT }
	:: atomic { CAN_SEND && HAS_COMMIT ->
		control[me]!GENERATION_EV_COMMITTED;
		ME.phase = LOADER_WARM_UP }
	:: atomic { CAN_SEND && ME.phase == LOADER_WARM_UP ->
		control[me]!GENERATION_EV_READY;
		ME.phase = LOADER_SERVE }
	/* loader_quit(), leases or not; or SIGTERM. */
	:: atomic { RUNS && IS_ENDING(me) && !IS_DOOMED(me) && nfull(control[me]) ->
		control[me]!GENERATION_EV_BYE;
		loader_halt(PROCESS_EXITED) }
	:: atomic { (RUNS || ME.process == PROCESS_HANGS) && IS_DOOMED(me) ->
		loader_halt(PROCESS_EXITED) }
#ifdef POISON
	:: atomic { CAN_PUBLISH(POISON) -> loader_halt(PROCESS_EXITED) }
#endif
#if !defined(POISON) || POISON != 0
	LOADER_ANSWERS(0)
#endif
#if N_REQUESTS > 1 && (!defined(POISON) || POISON != 1)
	LOADER_ANSWERS(1)
#endif
#if N_REQUESTS > 2 && (!defined(POISON) || POISON != 2)
	LOADER_ANSWERS(2)
#endif
#ifndef POISON
	:: atomic { CAN_FAIL -> loader_halt(PROCESS_EXITED) }
#ifndef MAY_STICK
	:: atomic { CAN_FAIL -> loader_halt(PROCESS_HANGS) }
#endif
	:: atomic { CAN_LIE && CAN_SEND && ME.phase != LOADER_SERVE ->
		control[me]!GENERATION_EV_REFUSED;
		if
		:: loader_halt(PROCESS_EXITED)
		:: loader_halt(PROCESS_HANGS)
		fi }
	/* Garbage on the control channel is a message out of turn. */
	:: atomic { CAN_LIE && CAN_SEND && ME.phase == LOADER_HELLO ->
		control[me]!GENERATION_EV_READY }
	:: atomic { CAN_LIE && CAN_SEND && ME.phase != LOADER_HELLO ->
		control[me]!GENERATION_EV_HELLO }
	/* On the answer ring: behind it nothing is good. */
#ifndef MAY_STICK
	:: atomic { CAN_FAIL && HAS_RINGS && !ME.garbage -> ME.garbage = true }
#else
	:: atomic { CAN_FAIL && !IS_THERE(STUCK) -> loader_halt(PROCESS_STUCK) }
	:: atomic { STICKS(me) && IS_DOOMED(me) -> loader_halt(PROCESS_EXITED) }
#endif
#endif
	od
}
