/* SPDX-License-Identifier: Apache-2.0 */

/* The words: their names, and when each may fire. */

#include "hostile.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/log.h"

#define FAULT_WORD_MAX 128

static const char *const fault_states[] = {
	[HOSTILE_SPAWNED] = "spawned",   [HOSTILE_STAGING] = "staging",
	[HOSTILE_STAGED] = "staged",     [HOSTILE_COMMITTING] = "committing",
	[HOSTILE_WARMING] = "warming",   [HOSTILE_READY] = "ready",
	[HOSTILE_ACTIVE] = "active",     [HOSTILE_DRAINING] = "draining",
	[HOSTILE_STOPPING] = "stopping", [HOSTILE_TERMINATING] = "terminating",
};

/* The meaning of =NUMBER is in the comments; the second member is its default. */
static const struct fault_row {
	const char *name;
	uint64_t number;
} fault_rows[] = {
	[HOSTILE_KILL] = { "kill", 0 },
	[HOSTILE_SEGV] = { "segv", 0 },
	[HOSTILE_ABORT] = { "abort", 0 },
	[HOSTILE_STOP] = { "stop", 0 },
	[HOSTILE_EXIT] = { "exit", 0 }, /* code */
	[HOSTILE_SPIN] = { "spin", 0 },
	[HOSTILE_SILENCE] = { "silence", 0 },
	[HOSTILE_DEAF] = { "deaf", 0 },      /* silence, SIGTERM ignored */
	[HOSTILE_REFUSE] = { "refuse", 69 }, /* exit code after REFUSED */
	[HOSTILE_UNKILLABLE] = { "unkillable",
	                         0 }, /* ms after SIGKILL; 0: until the file LOADER.release is there */
	[HOSTILE_STRAGGLER] = { "straggler", 30000 }, /* ms for which a child goes on */
	[HOSTILE_CHATTER] = { "chatter", 300 },       /* ms of writing to the log */
	[HOSTILE_SLEEP] = { "sleep", 100 },           /* ms */

	[HOSTILE_CHAN_GARBAGE] = { "chan-garbage", 200 }, /* bytes */
	[HOSTILE_CHAN_SHORT] = { "chan-short", 10 },      /* bytes of a header */
	[HOSTILE_CHAN_HALF] = { "chan-half", 0 },         /* half of the payload */
	[HOSTILE_CHAN_HUGE] = { "chan-huge", 1 },         /* bytes more than allowed */
	[HOSTILE_CHAN_LENGTH] = { "chan-length", 7 },     /* bytes more than announced */
	[HOSTILE_CHAN_RESERVED] = { "chan-reserved", 1 },
	[HOSTILE_CHAN_VERSION] = { "chan-version", 999 },
	[HOSTILE_CHAN_TYPE] = { "chan-type", 77 },
	[HOSTILE_CHAN_TURN] = { "chan-turn", 0 }, /* a good message, not allowed now */
	[HOSTILE_CHAN_GENERATION] = { "chan-generation",
	                              1 }, /* added to the loader's own */
	[HOSTILE_CHAN_JSON] = { "chan-json", 0 },
	[HOSTILE_CHAN_FDS] = { "chan-fds", 3 },
	[HOSTILE_CHAN_EMPTY] = { "chan-empty", 0 },
	[HOSTILE_CHAN_CLOSE] = { "chan-close", 0 },
	[HOSTILE_CHAN_STORM] = { "chan-storm", 300 }, /* ms */

	[HOSTILE_RING_BACK] = { "ring-back", 1 },
	[HOSTILE_RING_JUMP] = { "ring-jump", 1000000 },
	[HOSTILE_RING_STALE] = { "ring-stale", 1 }, /* entries that nobody wrote */
	[HOSTILE_RING_SCRIBBLE] = { "ring-scribble", 0xa5 },
	[HOSTILE_RING_CONSUMED] = { "ring-consumed", 1000000 },
	[HOSTILE_RING_PASSED] = { "ring-passed", UINT64_MAX }, /* bytes of the file */
	[HOSTILE_BELL_STORM] = { "bell-storm", 300 },          /* ms */
	[HOSTILE_BELL_FULL] = { "bell-full", 0 },

	[HOSTILE_PARTS] = { "parts", 2 },
	[HOSTILE_SLOW] = { "slow", 10 },        /* ms from part to part */
	[HOSTILE_DELAY] = { "delay", 10 },      /* ms before the first part */
	[HOSTILE_WITHHOLD] = { "withhold", 0 }, /* 1: shows progress, too */
	[HOSTILE_HEEDLESS] = { "heedless", 0 }, /* ignores a cancellation */
	[HOSTILE_AGAIN] = { "again", 0 },
	[HOSTILE_LEASE] = { "lease", 1 }, /* exclusive-or */
	[HOSTILE_GENERATION] = { "generation", 1 },
	[HOSTILE_OUTSIDE] = { "outside", 1 }, /* bytes past the end */
	[HOSTILE_WRAP] = { "wrap", 0 },
	[HOSTILE_LONG] = { "long", 0 },
	[HOSTILE_HEAD_OUTSIDE] = { "head-outside", 0 },
	[HOSTILE_HEAD_LONG] = { "head-long", 1 },
	[HOSTILE_HEAD_GARBAGE] = { "head-garbage", 0 },
	[HOSTILE_HEAD_INJECT] = { "head-inject", 0 },
	[HOSTILE_STATUS] = { "status", 0 },
	[HOSTILE_PART_STATUS] = { "part-status", 200 },
	[HOSTILE_NO_FIRST] = { "no-first", 0 },
	[HOSTILE_FIRST_TWICE] = { "first-twice", 0 },
	[HOSTILE_FLAGS] = { "flags", 0x80 },
	[HOSTILE_ROWS] = { "rows", 1 },
	[HOSTILE_NO_LAST] = { "no-last", 0 },
	[HOSTILE_ENDLESS] = { "endless", 1000 }, /* ms of empty parts */

	[HOSTILE_SHARE_EMPTY] = { "share-empty", 0 }, /* sealed, and not filled */
	[HOSTILE_SHARE_OPEN] = { "share-open", 0 },   /* filled, and not sealed */
	[HOSTILE_SHARE_HASH] = { "share-hash", 0 },   /* text that is no hash */
	[HOSTILE_SHARE_AHEAD] = { "share-ahead",
	                          0 }, /* says to have taken memory that it was not given */
	[HOSTILE_SHARE_PRIVATE] = { "share-private", 0 },
};

_Static_assert(sizeof(fault_rows) / sizeof(fault_rows[0]) == HOSTILE_ACTION_COUNT,
               "one row per action");
_Static_assert(sizeof(fault_states) / sizeof(fault_states[0]) == HOSTILE_STATE_COUNT,
               "one name per state");

static void fault_reject(const char *word)
{
	log_event(LOG_LEVEL_ERR, "hostile", "what=\"no such fault\" word=%s",
	          LOG_QUOTED(word));
	_exit(PROTO_EXIT_CONFIG);
}

static unsigned int fault_find_state(const char *name)
{
	unsigned int i = 0;

	while (i < HOSTILE_STATE_COUNT && strcmp(fault_states[i], name) != 0)
		i++;
	return i;
}

static unsigned int fault_find_action(const char *name)
{
	unsigned int i = 0;

	while (i < HOSTILE_ACTION_COUNT && strcmp(fault_rows[i].name, name) != 0)
		i++;
	return i;
}

/* Cuts @text at @mark. Returns the text behind the mark, or NULL. */
static char *fault_cut(char *text, const char *mark)
{
	char *at = strstr(text, mark);

	if (!at)
		return NULL;
	*at = '\0';
	return at + strlen(mark);
}

static void fault_parse_word(struct hostile_faults *faults, const char *word)
{
	struct hostile_fault *fault = &faults->rows[faults->n_rows];
	char text[FAULT_WORD_MAX];
	unsigned int state = HOSTILE_ACTIVE;
	unsigned int action;
	const char *tag;
	const char *skip;
	const char *on;
	const char *number;

	(void)snprintf(text, sizeof(text), "%s", word);
	tag = fault_cut(text, "#");
	skip = fault_cut(text, "+");
	on = fault_cut(text, "-on-");
	number = fault_cut(text, "=");
	action = fault_find_action(text);
	if (on)
		state = fault_find_state(on);
	if (action == HOSTILE_ACTION_COUNT || state == HOSTILE_STATE_COUNT ||
	    faults->n_rows == HOSTILE_FAULTS_MAX)
		fault_reject(word);
	*fault = (struct hostile_fault){
		.action = (enum hostile_action)action,
		.state = (enum hostile_state)state,
		.number = number ? strtoull(number, NULL, 0) : fault_rows[action].number,
		.skip = skip ? strtoull(skip, NULL, 10) : 0,
	};
	(void)snprintf(fault->tag, sizeof(fault->tag), "%s", tag ? tag : "");
	faults->n_rows++;
}

void hostile_parse(struct hostile_faults *faults, const char *text, size_t bytes)
{
	char word[FAULT_WORD_MAX];
	size_t n = 0;

	for (size_t i = 0; i <= bytes; i++) {
		bool is_end = i == bytes || strchr(" ,\t\r\n", text[i]);

		if (!is_end && n + 1 < sizeof(word)) {
			word[n++] = text[i];
			continue;
		}
		word[n] = '\0';
		if (n > 0)
			fault_parse_word(faults, word);
		n = 0;
	}
}

bool hostile_has(const struct hostile_faults *faults, enum hostile_state state)
{
	for (size_t i = 0; i < faults->n_rows; i++)
		if (faults->rows[i].state == state && !faults->rows[i].is_spent)
			return true;
	return false;
}

/* Creates the tag's file with this pid. False: another process, or an earlier call, has done
 * so. */
static bool fault_is_first(const struct hostile *hostile, const char *tag)
{
	char path[512];
	int fd;

	if (tag[0] == '\0')
		return true;
	(void)snprintf(path, sizeof(path), "%s.%s", hostile->path, tag);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	(void)dprintf(fd, "%d\n", (int)getpid());
	(void)close(fd);
	return true;
}

static bool fault_may_fire(const struct hostile *hostile, struct hostile_fault *fault)
{
	if (fault->is_spent)
		return false;
	if (fault->skip > 0) {
		fault->skip--;
		return false;
	}
	fault->is_spent = true;
	if (!fault_is_first(hostile, fault->tag))
		return false;
	log_event(LOG_LEVEL_WARNING, "hostile", "fault=%s number=%llu state=%s tag=%s",
	          fault_rows[fault->action].name, (unsigned long long)fault->number,
	          fault_states[fault->state], fault->tag);
	return true;
}

const struct hostile_fault *hostile_take(struct hostile *hostile,
                                         struct hostile_faults *faults,
                                         enum hostile_action action)
{
	for (size_t i = 0; i < faults->n_rows; i++)
		if (faults->rows[i].action == action &&
		    fault_may_fire(hostile, &faults->rows[i]))
			return &faults->rows[i];
	return NULL;
}

void hostile_fire(struct hostile *hostile, struct hostile_faults *faults,
                  enum hostile_state state)
{
	for (size_t i = 0; i < faults->n_rows; i++) {
		struct hostile_fault *fault = &faults->rows[i];

		if (fault->state != state || fault->action >= HOSTILE_ANSWER ||
		    !fault_may_fire(hostile, fault))
			continue;
		if (fault->action >= HOSTILE_RING_BACK)
			hostile_do_rings(hostile, fault);
		else if (fault->action >= HOSTILE_CHAN_GARBAGE)
			hostile_do_channel(hostile, fault);
		else
			hostile_do_process(hostile, fault);
	}
}

void hostile_move(struct hostile *hostile, struct hostile_faults *to)
{
	for (size_t i = 0; i < hostile->faults.n_rows; i++) {
		struct hostile_fault *fault = &hostile->faults.rows[i];

		if (fault->action < HOSTILE_ANSWER || fault->state != HOSTILE_ACTIVE ||
		    to->n_rows == HOSTILE_FAULTS_MAX || !fault_may_fire(hostile, fault))
			continue;
		to->rows[to->n_rows] = *fault;
		to->rows[to->n_rows].is_spent = false;
		to->rows[to->n_rows++].tag[0] = '\0';
	}
}
