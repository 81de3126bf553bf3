/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine that hosts a program which speaks HTTP. stage reads the command; commit starts it and
 * waits until it is ready (ready.c); host passes requests on (proxy.c); close ends
 * it with all that it has started (process.c).
 *
 * The program is started in commit and not before: a staged reload has no room for two of them
 * until then, and stage is made at idle priority, which the program would inherit.
 */
#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "loader/engine.h"
#include "loader/server/need.h"
#include "loader/server/place.h"
#include "loader/server/process.h"
#include "loader/server/proxy.h"
#include "loader/server/ready.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/command.h"
#include "shared/engine_options.h"

/* Without the supervisor's word. */
#define SERVER_START_MS 300000
#define SERVER_STOP_MS  10000
/* The engine speaks before the supervisor's patience ends: by a tenth of it, in these bounds. */
#define SERVER_EARLY_MIN_MS UINT64_C(1000)
#define SERVER_EARLY_MAX_MS UINT64_C(5000)

/* A server that did not become ready gets so long to end by itself. */
#define SERVER_REFUSED_NS (CLOCK_NS_PER_SEC / 2)

#define SERVER_SECRETS_VARIABLE "MOULT_SECRETS_DIR"

ENGINE_OPTIONS(server_options,
               "command, ready, ready_interval_ms, ready_failures, replay, "
               "start_ms, stop_ms");

struct engine {
	const struct engine_config *config;
	struct command command;
	char *path; /* of the program */
	struct ready ready;
	uint64_t start_ns;
	uint64_t stop_ns;
	struct server_place place;
	struct server_process process;
	struct server_proxy *proxy;
};

static const char *server_option(const struct engine_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_options; i++)
		if (strcmp(config->options[i].name, name) == 0)
			return config->options[i].value;
	return NULL;
}

/* Returns the option's number; 0: it is not there. */
static uint64_t server_number(const struct engine_config *config, const char *name)
{
	const char *text = server_option(config, name);

	return text ? strtoull(text, NULL, 10) : 0;
}

/* Returns how long something may take for which the supervisor waits as @name says. */
static uint64_t server_option_ns(const struct engine_config *config, const char *name,
                                 uint64_t fallback_ms)
{
	const char *text = server_option(config, name);
	uint64_t ms = text ? strtoull(text, NULL, 10) : fallback_ms;
	uint64_t early_ms = ms / 10;

	if (early_ms < SERVER_EARLY_MIN_MS)
		early_ms = SERVER_EARLY_MIN_MS;
	if (early_ms > SERVER_EARLY_MAX_MS)
		early_ms = SERVER_EARLY_MAX_MS;
	if (early_ms > ms / 2)
		early_ms = ms / 2;
	return (ms - early_ms) * CLOCK_NS_PER_MS;
}

/* Reads the options. 0 or an outcome of enum engine_outcome. */
static int server_read_options(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	const char *command = server_option(config, "command");

	for (size_t i = 0; i < config->n_options; i++)
		if (engine_options_check("server", server_options,
		                         config->options[i].name, err))
			return ENGINE_E_CONFIG;
	if (!command)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine server hosts what command names, and the section "
		               "has no such key");
	if (command_init(&engine->command, command, err) < 0 ||
	    command_find(&engine->command, getenv("PATH"), NULL, &engine->path, err) < 0)
		return err_prefix(err, ENGINE_E_CONFIG, "command");
	if (ready_read(&engine->ready, server_option(config, "ready"), err) < 0)
		return err_prefix(err, ENGINE_E_CONFIG, "ready");
	engine->start_ns = server_option_ns(config, "start_ms", SERVER_START_MS);
	engine->stop_ns = server_option_ns(config, "stop_ms", SERVER_STOP_MS);
	return 0;
}

/* What is wrong with the command shows in stage, which has the sentence for it. */
static int server_need(const struct engine_config *config, struct engine_walls *walls,
                       struct err *err)
{
	const char *text = server_option(config, "command");
	struct command command = COMMAND_NULL;
	struct err unused = ERR_NULL;
	int r = 0;

	walls->has_processes = true;
	walls->has_folder = true;
	if (text && command_init(&command, text, &unused) == 0) {
		walls->has_unix = command.has_socket;
		server_need_program(&command, walls);
		if (command.has_port)
			r = server_place_take_port(&walls->port, err);
	}
	command_fini(&command);
	return r < 0 ? ENGINE_E_FAILED : 0;
}

static int server_stage(const struct engine_config *config, struct engine **ret_engine,
                        struct err *err)
{
	struct engine *engine = calloc(1, sizeof(*engine));

	*ret_engine = engine;
	if (!engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	engine->config = config;
	engine->command = (struct command)COMMAND_NULL;
	engine->place = (struct server_place)SERVER_PLACE_NULL;
	engine->process = (struct server_process)SERVER_PROCESS_NULL;
	/* Nothing but HTTP in clear is spoken. */
	if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK)
		return err_set(err, ENGINE_E_FAILED, "libcurl cannot be used");
	return server_read_options(engine, err);
}

/* Fills in where the server is to listen. */
static int server_fill(struct engine *engine, struct err *err)
{
	char port[16];

	(void)snprintf(port, sizeof(port), "%u", engine->place.port);
	if (command_fill(&engine->command, COMMAND_PORT, port) < 0 ||
	    command_fill(&engine->command, COMMAND_SOCKET, engine->place.socket) < 0 ||
	    setenv(SERVER_SECRETS_VARIABLE, engine->place.secrets, 1) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

/* Starts the program and waits until it is ready. 0 or an outcome of enum engine_outcome. */
static int server_start(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	uint64_t until_ns = clock_now_ns() + engine->start_ns;
	int r = server_place_init(&engine->place, config, err);

	if (r == 0)
		r = server_fill(engine, err);
	if (r < 0)
		return ENGINE_E_FAILED;
	r = server_process_start(&engine->process, engine->path, engine->command.words,
	                         err);
	if (r < 0)
		return err_prefix(err,
		                  err_is_shortage(-r) ? ENGINE_E_FAILED : ENGINE_E_CONFIG,
		                  "command");
	r = server_ready_await(&engine->process, &engine->place, &engine->ready,
	                       config->quit_fd, until_ns, err);
	return r ? err_prefix(err, r, "command = %.120s",
	                      server_option(config, "command"))
	         : 0;
}

static bool server_is_to_end(const struct engine *engine)
{
	struct pollfd pollfd = { .fd = engine->config->quit_fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) > 0;
}

/* A loader that is refused ends without a close: what was started ends here. */
static int server_commit(struct engine *engine, struct err *err)
{
	int r = server_start(engine, err);

	if (r) {
		uint64_t grace_ns =
			server_is_to_end(engine) ? engine->stop_ns : SERVER_REFUSED_NS;

		server_process_stop(&engine->process, clock_now_ns() + grace_ns);
		server_place_fini(&engine->place);
	}
	return r;
}

static int server_host(struct engine *engine, const struct engine_host *host,
                       struct err *err)
{
	const char *replay = server_option(engine->config, "replay");
	const struct server_watch watch = {
		.ready = &engine->ready,
		.interval_ns = server_number(engine->config, "ready_interval_ms") *
		               CLOCK_NS_PER_MS,
		.n_failures =
			(unsigned int)server_number(engine->config, "ready_failures"),
	};

	return server_proxy_new(&engine->proxy, host, &engine->place,
	                        replay ? replay : "", &engine->process, &watch,
	                        engine->config->threads, err) < 0
	               ? ENGINE_E_FAILED
	               : 0;
}

static void server_close(struct engine *engine)
{
	if (!engine)
		return;
	server_proxy_free(engine->proxy);
	server_process_stop(&engine->process, clock_now_ns() + engine->stop_ns);
	server_place_fini(&engine->place);
	command_fini(&engine->command);
	free(engine->path);
	free(engine);
}

__attribute__((visibility("default"))) const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "server",
		.version = LIBCURL_VERSION,
		.need = server_need,
		.stage = server_stage,
		.commit = server_commit,
		.host = server_host,
		.close = server_close,
	};

	return &api;
}
