/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way to a loader: its process and its channel, from link_spawn() or from a spare to the end.
 * Messages go on to the listener as they come; the last line that the process wrote is kept for the
 * reason of its death.
 */
#include "supervisor/loaders/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/log.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/spares/spares.h"

/* News */

void generation_link_read(struct generation *generation)
{
	struct generation_link *link = &generation->link;
	struct chan_message *message;
	struct err err = ERR_NULL;
	int r = 0;

	if (!ev_is_active(&link->chan_io))
		return;
	message = malloc(sizeof(*message));
	if (!message)
		return; /* level-triggered: tried again in the next round */
	while (r == 0 && link->chan.fd >= 0) {
		r = chan_recv(&link->chan, message, &err);
		if (r == 0) {
			link->listener->on_message(generation, message);
			chan_message_fini(message);
		}
	}
	free(message);
	if (r == CHAN_E_CLOSED) /* the pidfd tells the rest */
		ev_io_stop(generation->loop, &link->chan_io);
	else if (r == CHAN_E_MALFORMED)
		link->listener->on_broken(generation, err.text);
	else if (r < 0)
		link->listener->on_broken(generation, strerror(-r));
}

static void link_on_chan(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)loop;
	(void)revents;
	generation_link_read(io->data);
}

static void link_on_exit(void *context, int status)
{
	struct generation *generation = context;

	/* Messages that the loader sent before it died come first: REFUSED has the
	 * reason. */
	generation_link_read(generation);
	generation->link.listener->on_exit(generation, status);
}

/* True: @line is what a program says whose call was refused. */
static bool link_is_refusal(const char *line)
{
	static const char *const words[] = { "Operation not permitted",
		                             "Permission denied",
		                             "EPERM",
		                             "EACCES",
		                             "readonly database",
		                             "unable to open database file" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(line, words[i]))
			return true;
	return false;
}

/* An application that its walls are in the way of says what it could not do, and not which key
 * would let it: once for each loader the log does. */
static void link_hint(struct generation *generation, const char *line)
{
	enum config_sandbox sandbox = config_sandbox(generation->inputs->section);

	if (generation->link.has_hint || sandbox == CONFIG_SANDBOX_OFF ||
	    sandbox == CONFIG_SANDBOX_OPEN || !link_is_refusal(line))
		return;
	generation->link.has_hint = true;
	log_event(LOG_LEVEL_NOTICE, "walls_hint",
	          "model=%s gen=%llu sandbox=%s hint=\"the line before may come of its "
	          "walls: %ssandbox_read = PATH and sandbox_write = PATH let it reach "
	          "files\"",
	          generation->model, (unsigned long long)generation->number,
	          config_sandbox_word(sandbox),
	          sandbox == CONFIG_SANDBOX_STRICT
	                  ? "sandbox = net lets it reach the network, "
	                  : "");
}

static void link_on_line(void *context, const char *line)
{
	struct generation *generation = context;
	struct generation_link *link = &generation->link;

	(void)snprintf(link->last_line, sizeof(link->last_line), "%s", line);
	log_event(LOG_LEVEL_INFO, "loader_log", "model=%s gen=%llu line=%s",
	          generation->model, (unsigned long long)generation->number,
	          LOG_QUOTED(line));
	link_hint(generation, line);
}

/* Birth and death */

void generation_link_init(struct generation *generation,
                          const struct generation_link_listener *listener)
{
	struct generation_link *link = &generation->link;

	link->listener = listener;
	child_init(&link->child);
	link->child_listener = (struct child_listener){
		.on_exit = link_on_exit,
		.on_line = link_on_line,
		.context = generation,
	};
	link->chan.fd = -1;
	ev_init(&link->chan_io, link_on_chan);
	link->chan_io.data = generation;
	programs_look(&generation->programs, generation->inputs->config,
	              generation->inputs->section->engine,
	              recipe_python(generation->inputs->section));
}

static int link_spawn(struct generation *generation, struct err *err)
{
	struct generation_link *link = &generation->link;
	const struct inputs *inputs = generation->inputs;
	struct recipe recipe;
	CLOSE_FD int theirs = -1;
	int r;

	r = recipe_init(&recipe, inputs->config, inputs->section, generation->number,
	                err);
	if (r == 0) {
		r = chan_pair(&link->chan, &theirs);
		if (r < 0)
			(void)err_set(err, r, "no control channel: %s", strerror(-r));
	}
	if (r == 0)
		r = recipe_spawn(&recipe, &link->child, generation->loop, theirs,
		                 &link->child_listener, err);
	recipe_fini(&recipe);
	return r;
}

/* @newest is the newest section of the model, whose wishes for spares count. */
static bool link_take_spare(struct generation *generation, struct spares *spares,
                            const struct config_model *newest)
{
	struct generation_link *link = &generation->link;
	const struct inputs *inputs = generation->inputs;
	struct err err = ERR_NULL;

	if (!spares ||
	    recipe_init_spare(&link->spare, inputs->config, inputs->section, newest,
	                      &err) < 0 ||
	    !spares_take(spares, &link->spare, generation->number, &link->child,
	                 &link->child_listener, &link->chan)) {
		recipe_fini(&link->spare);
		return false;
	}
	generation->spares = spares;
	log_event(LOG_LEVEL_INFO, "spare_taken", "model=%s gen=%llu pid=%d",
	          generation->model, (unsigned long long)generation->number,
	          (int)link->child.pid);
	return true;
}

int generation_link_open(struct generation *generation, struct spares *spares,
                         const struct config_model *newest, struct err *err)
{
	struct generation_link *link = &generation->link;
	int r = link_take_spare(generation, spares, newest) ? 0
	                                                    : link_spawn(generation, err);

	if (r < 0)
		return r;
	generation->pid = link->child.pid;
	orphans_limit(generation->loop, &link->child.kin, generation->inputs->section);
	ev_io_set(&link->chan_io, link->chan.fd, EV_READ);
	ev_io_start(generation->loop, &link->chan_io);
	return 0;
}

bool generation_link_is_untried(const struct generation *generation)
{
	return generation->spares && generation->state == GENERATION_SPAWNED;
}

int generation_link_replace(struct generation *generation, const char *why,
                            struct err *err)
{
	struct spares *spares = generation->spares;

	log_event(LOG_LEVEL_WARNING, "spare_useless",
	          "model=%s gen=%llu pid=%d reason=%s action=\"starting a loader\"",
	          generation->model, (unsigned long long)generation->number,
	          (int)generation->pid, LOG_QUOTED(why));
	generation_link_close(generation);
	generation->spares = NULL;
	spares_return(spares, &generation->link.spare, &generation->link.child);
	return generation_link_open(generation, NULL, NULL, err);
}

bool generation_link_send(struct generation *generation, enum proto_type type,
                          const char *payload, const int *fds, size_t n_fds)
{
	int r = chan_send(&generation->link.chan, type, generation->number, payload, fds,
	                  n_fds);

	/* EPIPE: the loader is dead, and the pidfd will say so. */
	return r == 0 || r == -EPIPE || r == -ECONNRESET;
}

void generation_link_close(struct generation *generation)
{
	ev_io_stop(generation->loop, &generation->link.chan_io);
	chan_fini(&generation->link.chan);
}

void generation_link_fini(struct generation *generation)
{
	generation_link_close(generation);
	child_fini(&generation->link.child);
	recipe_fini(&generation->link.spare);
}
