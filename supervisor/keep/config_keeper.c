/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/keep/config_keeper.h"

#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"

/* Models that begin to serve one after the other are kept together. */
#define CONFIG_KEEPER_SOON_S 0.1

struct config_keeper_text {
	const char *state_dir;
	const char *text;
};

/* Runs in the writer. */
static int config_keeper_save(const void *what, uint64_t number, struct err *err)
{
	const struct config_keeper_text *kept = what;

	return config_kept_save(kept->state_dir, kept->text, number, err);
}

static void config_keeper_write(struct config_keeper *keeper)
{
	struct config_kept kept = { .n_sections = 0 };
	struct config_keeper_text what;
	FREE char *text = NULL;
	char sha256[KEEP_SHA256_HEX];

	keeper->collect(keeper->context, &kept);
	text = kept.n_sections > 0 ? config_kept_print(&kept) : strdup("");
	if (!text)
		return; /* the next change may find memory */
	keep_digest(text, strlen(text), sha256);
	if (strcmp(sha256, keeper->sha256) == 0 &&
	    keeper->n_lost == keeper->keeper->n_lost)
		return;
	(void)strcpy(keeper->sha256, sha256);
	keeper->n_lost = keeper->keeper->n_lost;
	what = (struct config_keeper_text){ kept.config->state_dir, text };
	keeper_start(keeper->keeper, &(struct keeper_job){ .of = "config=kept",
	                                                   .save = config_keeper_save,
	                                                   .what = &what,
	                                                   .fds = { -1, -1 } });
}

static void config_keeper_on_soon(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	config_keeper_write(timer->data);
}

void config_keeper_on_change(struct config_keeper *keeper)
{
	if (!keeper->has_good || ev_is_active(&keeper->soon))
		return;
	ev_timer_set(&keeper->soon, CONFIG_KEEPER_SOON_S, 0.);
	ev_timer_start(keeper->loop, &keeper->soon);
}

void config_keeper_on_good(struct config_keeper *keeper)
{
	keeper->has_good = true;
	config_keeper_on_change(keeper);
}

void config_keeper_flush(struct config_keeper *keeper)
{
	if (!ev_is_active(&keeper->soon))
		return;
	ev_timer_stop(keeper->loop, &keeper->soon);
	config_keeper_write(keeper);
}

void config_keeper_init(struct config_keeper *keeper)
{
	ev_timer_init(&keeper->soon, config_keeper_on_soon, 0., 0.);
	keeper->soon.data = keeper;
}

void config_keeper_fini(struct config_keeper *keeper)
{
	ev_timer_stop(keeper->loop, &keeper->soon);
}
