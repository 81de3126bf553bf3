/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The rows of [supervisor] and [device NAME], in the order of moult.conf(5).
 *
 * A row here differs from one of keys.c in nothing but its object: struct config, or
 * struct config_device for budgets. All devices share the device rows; a GPU without a
 * section gets their defaults. Help texts are mdoc, a sentence per line; allowed
 * values, default and class are printed after them by mdoc.c.
 */

#include "supervisor/config/check.h"
#include "supervisor/config/rows.h"

static const struct config_word log_level_words[] = {
	{ "err", LOG_LEVEL_ERR },       { "warning", LOG_LEVEL_WARNING },
	{ "notice", LOG_LEVEL_NOTICE }, { "info", LOG_LEVEL_INFO },
	{ "debug", LOG_LEVEL_DEBUG },   { NULL, 0 },
};

/* clang-format would break the sentences elsewhere. */
/* clang-format off */

static const struct config_key supervisor_keys[] = {
	{
		.name = "listen",
		.type = CONFIG_TYPE_STRING,
		.class = CONFIG_RESTART,
		AT(config, listen),
		.fallback = "127.0.0.1:8080",
		.value = "ADDRESS:PORT, [ADDRESS]:PORT or systemd",
		.check = config_check_listen,
		.help = "Where HTTP is served.\n"
			"Port 0 lets the kernel choose one, which the log then names.\n"
			"With\n"
			".Cm systemd ,\n"
			"or whenever a socket unit passes a listener, that one is used.",
	},
	{
		.name = "control",
		.type = CONFIG_TYPE_PATH,
		.class = CONFIG_RESTART,
		AT(config, control),
		.fallback = "/run/moult/moultd.sock",
		.check = config_check_socket,
		.help = "The unix socket that\n"
			".Xr moultctl 1\n"
			"talks to.",
	},
	{
		.name = "state_dir",
		.type = CONFIG_TYPE_PATH,
		.class = CONFIG_RESTART,
		AT(config, state_dir),
		.fallback = "/var/lib/moult",
		.help = "Where receipts, generation numbers and the inputs that served "
			"well outlive a restart.",
	},
	{
		.name = "user",
		.type = CONFIG_TYPE_STRING,
		.class = CONFIG_RESTART,
		AT(config, user),
		.value = "NAME",
		.fallback_help = "none: moultd stays who started it.",
		.help = "The user that\n"
			".Xr moultd 8\n"
			"and its loaders run as when root starts it, with that user's groups.\n"
			"It changes to this user when its sockets are open, for good;\n"
			".Ic state_dir\n"
			"and the control socket become the user's, and the configuration, "
			"models and secrets must be readable for it.\n"
			"What an earlier run as root left in\n"
			".Ic state_dir\n"
			"is to be given to it by hand (chown -R).",
	},
	{
		.name = "loader",
		.type = CONFIG_TYPE_PATH,
		.class = CONFIG_RESTART,
		AT(config, loader),
		.fallback_help = "the one beside\n"
			".Xr moultd 8 ,\n"
			"else the one that was installed with it.",
		.help = "The\n"
			".Xr moult-loader 8\n"
			"program.",
	},
	{
		.name = "engine_dir",
		.type = CONFIG_TYPE_PATH,
		.class = CONFIG_RESTART,
		AT(config, engine_dir),
		.fallback_help = "the folder of\n"
			".Xr moultd 8\n"
			"when engines lie there, else where they were installed with it.",
		.help = "Where the engines are, as\n"
			".Pa moult-engine- Ns Ar NAME Ns Pa .so .",
	},
	{
		.name = "max_connections",
		.type = CONFIG_TYPE_UINT,
		.class = CONFIG_RESTART,
		AT(config, max_connections),
		.min = 1,
		.max = 65536,
		.fallback = "1024",
		.unit = "connections",
		.help = "HTTP connections at once.\n"
			"At this limit the ones that have been idle longest are closed, "
			"then those whose headers have been due for longest, with "
			"status 503.\n"
			"One that has sent the headers of a request is closed for "
			"another only while its body comes, slowest first, and at less "
			"than 16 times\n"
			".Ic body_rate_min .\n"
			"When nothing makes room, requests get status 503.\n"
			"An eighth more connections, 8 to 256, are accepted beyond it, so "
			"that requests without a body for health, metrics and metadata "
			"are always answered.\n"
			"A quarter of the descriptors that\n"
			".Xr moultd 8\n"
			"may open (RLIMIT_NOFILE) is never used for connections.",
	},
	{
		.name = "max_connections_per_address",
		.type = CONFIG_TYPE_UINT,
		.class = CONFIG_RESTART,
		AT(config, max_connections_per_address),
		.min = 0,
		.max = 65536,
		.fallback = "0",
		.unit = "connections",
		.help = "HTTP connections at once of one client address; more are closed "
			"as soon as they are accepted, health probes included.\n"
			"0: no limit, as it must be where all clients come through one "
			"proxy.",
	},
	{
		.name = "loads_at_once",
		.type = CONFIG_TYPE_UINT,
		.class = CONFIG_LIVE,
		AT(config, loads_at_once),
		.min = 0,
		.max = 1024,
		.unit = "models",
		.fallback = "0",
		.help = "Models whose loaders are built at the same time; 0: as many as "
			"there are processors for\n"
			".Xr moultd 8 .\n"
			"Models that serve already come first, then those with the smallest "
			"model file, then in the order of the configuration.\n"
			"A model that served and does not any more waits for nobody.",
	},
	{
		.name = "connection_memory",
		.type = CONFIG_TYPE_SIZE,
		.class = CONFIG_RESTART,
		AT(config, connection_memory_bytes),
		.min = 8 * KIB,
		.max = 1 * MIB,
		.fallback = "16K",
		.help = "Memory per connection for request and response headers.\n"
			"Larger headers are answered with status 431.",
	},
	{
		.name = "models_dir",
		.type = CONFIG_TYPE_PATH,
		.class = CONFIG_LIVE,
		AT(config, models_dir),
		.help = "A directory whose\n"
			".Pa *.conf\n"
			"files hold one\n"
			".Ic [model Ar NAME ]\n"
			"section each.\n"
			"They are read in the order of their names.\n"
			"Names that begin with a dot, and what is no regular file, are "
			"passed over.",
	},
	{
		.name = "log_level",
		.type = CONFIG_TYPE_ENUM,
		.class = CONFIG_LIVE,
		AT(config, log_level),
		.fallback = "info",
		.words = log_level_words,
		.help = "The least important messages that are logged.",
	},
	{
		.name = "access_log",
		.type = CONFIG_TYPE_STRING,
		.class = CONFIG_RESTART,
		AT(config, access_log),
		.fallback = "off",
		.value = "off, stderr or PATH",
		.check = config_check_access_log,
		.help = "Where each HTTP request that is over leaves a line: client, "
			"method, target, status\n"
			".Pq Cm - : No the client left ,\n"
			"size of its body, time up to the answer, model and generation.\n"
			"With\n"
			".Cm stderr\n"
			"they are log lines of the level notice.\n"
			"A file is written by a process of its own, which opens it for "
			"each lot of lines, so that it may be renamed at any time.\n"
			"Where it cannot keep up lines are dropped, counted\n"
			".Pq Ql moult_access_log_dropped_total\n"
			"and logged; no request waits.",
	},
	{
		.name = "idle_timeout",
		.type = CONFIG_TYPE_DURATION,
		.class = CONFIG_LIVE,
		AT(config, idle_timeout_ns),
		.min = 100 * MS,
		.max = 24 * HOUR,
		.fallback = "75s",
		.help = "How long a connection may stay open between requests.",
	},
	{
		.name = "header_timeout",
		.type = CONFIG_TYPE_DURATION,
		.class = CONFIG_LIVE,
		AT(config, header_timeout_ns),
		.min = 100 * MS,
		.max = 1 * HOUR,
		.fallback = "10s",
		.help = "How long a client may take to send a request's headers.",
	},
	{
		.name = "body_timeout",
		.type = CONFIG_TYPE_DURATION,
		.class = CONFIG_LIVE,
		AT(config, body_timeout_ns),
		.min = 100 * MS,
		.max = 24 * HOUR,
		.fallback = "60s",
		.help = "How long a client may take to send a request's body, or to "
			"read an answer.",
	},
	{
		.name = "body_rate_min",
		.type = CONFIG_TYPE_SIZE,
		.class = CONFIG_LIVE,
		AT(config, body_rate_min),
		.min = 0,
		.max = 1 * GIB,
		.fallback = "1K",
		.help = "Bytes per second that a request's body must come at on "
			"average, from its fifth second on; a slower one is answered "
			"with status 408.\n"
			"0: any rate, and no body makes room at\n"
			".Ic max_connections .",
	},
	{
		.name = "settle",
		.type = CONFIG_TYPE_DURATION,
		.class = CONFIG_LIVE,
		AT(config, settle_ns),
		.min = 1 * MS,
		.max = 60 * SEC,
		.fallback = "150ms",
		.help = "A change on disk is looked at when nothing else has changed "
			"for this long.",
	},
	{
		.name = "settle_cap",
		.type = CONFIG_TYPE_DURATION,
		.class = CONFIG_LIVE,
		AT(config, settle_cap_ns),
		.min = 1 * MS,
		.max = 600 * SEC,
		.fallback = "2s",
		.help = "A change on disk is looked at after this long even if changes "
			"keep coming.\n"
			"At least\n"
			".Cm settle .",
	},
	{
		.name = "poll",
		.type = CONFIG_TYPE_DURATION,
		.class = CONFIG_LIVE,
		AT(config, poll_ns),
		.min = 100 * MS,
		.max = 1 * HOUR,
		.fallback = "10s",
		.help = "How often watched files are looked at without any event, for "
			"file systems that give none.",
	},
	{
		.name = "shutdown_timeout",
		.type = CONFIG_TYPE_DURATION,
		.class = CONFIG_LIVE,
		AT(config, shutdown_timeout_ns),
		.min = 100 * MS,
		.max = 1 * HOUR,
		.fallback = "30s",
		.help = "How long running requests may take to end when\n"
			".Xr moultd 8\n"
			"is told to stop.\n"
			"What has no answer by then is answered with status 503.",
	},
	{
		.name = "drain_delay",
		.type = CONFIG_TYPE_DURATION,
		.class = CONFIG_LIVE,
		AT(config, drain_delay_ns),
		.min = 0,
		.max = 1 * HOUR,
		.fallback = "0",
		.help = "When told to stop,\n"
			".Xr moultd 8\n"
			"first answers for this long that it is not ready, and serves on "
			"and accepts connections meanwhile, so that a load balancer can "
			"send its clients elsewhere.\n"
			"Then\n"
			".Cm shutdown_timeout\n"
			"begins.",
	},
	{
		.name = "ready",
		.type = CONFIG_TYPE_NAMES,
		.class = CONFIG_LIVE,
		AT(config, ready),
		COUNTED_BY(config, n_ready),
		.max = CONFIG_NAMES_MAX,
		.fallback = "all",
		.help = "When\n"
			".Pa /v2/health/ready\n"
			"says that the whole is ready: when\n"
			".Cm all\n"
			"models are, when\n"
			".Cm any\n"
			"is, or when those are that are named here.",
	},
};

static const struct config_key device_keys[] = {
	{
		.name = "budget",
		.type = CONFIG_TYPE_SIZE,
		.class = CONFIG_LIVE,
		AT(config_device, budget_bytes),
		.min = 0,
		.max = 1024 * GIB,
		.fallback = "0",
		.help = "Memory that all loaders together may hold.\n"
			"With 0 it is what the machine and the control group, or the GPU, "
			"leave.\n"
			"A reload that would need more first lets the old generation "
			"go, see\n"
			".Cm strategy .",
	},
	{
		.name = "reserve",
		.type = CONFIG_TYPE_SIZE,
		.class = CONFIG_LIVE,
		AT(config_device, reserve_bytes),
		.min = 0,
		.max = 1024 * GIB,
		.fallback = "64M",
		.help = "Memory that is left free, except when nothing serves.",
	},
};

/* clang-format on */

_Static_assert(COUNT_OF(device_keys) <= CONFIG_KEYS_MAX, "tables of lines hold them");
_Static_assert(COUNT_OF(supervisor_keys) <= CONFIG_KEYS_MAX, "tables of lines hold them");

const struct config_table config_supervisor_table = {
	.keys = supervisor_keys,
	.n_keys = COUNT_OF(supervisor_keys),
};

const struct config_table config_device_table = {
	.keys = device_keys,
	.n_keys = COUNT_OF(device_keys),
};
