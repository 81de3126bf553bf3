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

static const struct config_word proxy_words[] = {
	{ "no", CONFIG_PROXY_NO },
	{ "yes", CONFIG_PROXY_YES },
	{ "required", CONFIG_PROXY_REQUIRED },
	{ NULL, 0 },
};

static const struct config_word access_format_words[] = {
	{ "plain", CONFIG_ACCESS_PLAIN },
	{ "json", CONFIG_ACCESS_JSON },
	{ NULL, 0 },
};

/* clang-format would break the sentences elsewhere. */
/* clang-format off */

#define OBJECT config

static const struct config_key supervisor_keys[] = {
	{ STRING("listen", RESTART, listen, "ADDRESS:PORT, [ADDRESS]:PORT or systemd",
		 config_check_listen),
	  .fallback = "127.0.0.1:8080",
	  .help = "Where HTTP is served.\n"
		  "Port 0 lets the kernel choose one, which the log then names.\n"
		  "With\n"
		  ".Cm systemd ,\n"
		  "or whenever a socket unit passes a listener, that one is used.\n"
		  "At another address than a loopback one, without\n"
		  ".Ic tokens\n"
		  "and\n"
		  ".Ic tls_certificate ,\n"
		  ".Xr moultd 8\n"
		  "warns that whoever reaches it may use every model." },
	{ STRING("admin_listen", RESTART, admin_listen,
		 "ADDRESS:PORT or [ADDRESS]:PORT", config_check_own_listen),
	  .fallback_help = "none: all is served at listen.",
	  .help = "Where metrics, statistics and the index are served in the place of\n"
		  ".Ic listen ,\n"
		  "and health and metadata as well as there, over plain HTTP and "
		  "connections of their own; see\n"
		  ".Xr moultd 8 ,\n"
		  "A listener for administration." },
	{ STRING("grpc_listen", RESTART, grpc_listen,
		 "ADDRESS:PORT or [ADDRESS]:PORT", config_check_own_listen),
	  .fallback_help = "none: gRPC is not served.",
	  .help = "Where the Open Inference Protocol is served over gRPC, besides\n"
		  ".Ic listen ,\n"
		  "with the same certificate, tokens and limits; see\n"
		  ".Xr moult-http 7 ,\n"
		  "gRPC." },
	{ PATH("tls_certificate", RESTART, tls_certificate),
	  .fallback_help = "none: plain HTTP is served.",
	  .help = "A PEM file with the certificate of the endpoint and behind it those "
		  "that lead to its authority: HTTPS is served, TLS 1.2 and 1.3.\n"
		  "It is read again when it changes, with\n"
		  ".Ic tls_key ,\n"
		  "and what is of no use changes nothing; see\n"
		  ".Xr moultd 8 ,\n"
		  "TLS." },
	{ PATH("tls_key", RESTART, tls_key),
	  .help = "A PEM file with the private key of\n"
		  ".Ic tls_certificate ,\n"
		  "without a password." },
	{ PATH("tls_client_ca", RESTART, tls_client_ca),
	  .fallback_help = "none: clients show no certificate.",
	  .help = "A PEM file with certificates of authorities.\n"
		  "Only clients that show a certificate of one of them are served." },
	{ PATH("tokens", RESTART, tokens),
	  .fallback_help = "none: nobody is asked for a token.",
	  .help = "A directory of bearer tokens, a file each, which is watched; the "
		  "file's name is the token's.\n"
		  "Clients send one as\n"
		  ".Ql Authorization: Bearer Ar TOKEN ;\n"
		  "see\n"
		  ".Xr moultd 8 ,\n"
		  "Tokens." },
	{ LIST(NAMES, "metrics_tokens", LIVE, metrics_tokens, n_metrics_tokens,
	       CONFIG_NAMES_MAX),
	  .fallback = CONFIG_TOKENS_ALL,
	  .help = "Names of\n"
		  ".Ic tokens\n"
		  "that may read metrics and statistics;\n"
		  ".Cm all :\n"
		  "every token;\n"
		  ".Cm anybody :\n"
		  "none is needed." },
	{ LIST(NAMES, "repository_tokens", LIVE, repository_tokens, n_repository_tokens,
	       CONFIG_NAMES_MAX),
	  .fallback_help = "with\n"
			   ".Ic tokens\n"
			   "nobody, and without them clients of this machine.",
	  .help = "Names of\n"
		  ".Ic tokens\n"
		  "that may load and unload models by request;\n"
		  ".Cm all :\n"
		  "every token;\n"
		  ".Cm anybody :\n"
		  "none is needed;\n"
		  ".Cm nobody :\n"
		  "it is done by\n"
		  ".Xr moultctl 1\n"
		  "alone." },
	{ STRING("allowed_hosts", LIVE, allowed_hosts, "NAMES, *.NAME or any",
		 config_check_hosts),
	  .fallback_help = "on loopback, for paths of moult's own, names without a "
			   "dot; elsewhere any.",
	  .help = "Names by which clients may call the endpoint (the header\n"
		  ".Ql Host ) ,\n"
		  "without a port; others are answered with status 421.\n"
		  ".Ql localhost\n"
		  "and addresses in numbers may always be.\n"
		  "A browser's pages from other origins than these names and the "
		  "endpoint's own may not change anything; see\n"
		  ".Xr moultd 8 ,\n"
		  "Browsers." },
	{ PATH("control", RESTART, control),
	  .fallback = "/run/moult/moultd.sock", .check = config_check_socket,
	  .help = "The unix socket that\n"
		  ".Xr moultctl 1\n"
		  "talks to." },
	{ PATH("state_dir", RESTART, state_dir),
	  .fallback = "/var/lib/moult",
	  .help = "Where receipts, generation numbers and the inputs that served "
		  "well outlive a restart." },
	{ STRING("user", RESTART, user, "NAME", NULL),
	  .fallback_help = "none: moultd stays who started it, and is refused where that is "
			   "root.",
	  .help = "The user that\n"
		  ".Xr moultd 8\n"
		  "and its loaders run as when root starts it, with that user's groups.\n"
		  "It changes to this user when its sockets are open, for good;\n"
		  ".Ic state_dir\n"
		  "and the control socket become the user's, and the configuration, "
		  "models and secrets must be readable for it.\n"
		  "What an earlier run as root left in\n"
		  ".Ic state_dir\n"
		  "is to be given to it by hand (chown -R).\n"
		  "With\n"
		  ".Cm root\n"
		  "moultd stays who started it, root too, and so do the loaders: the log "
		  "warns of that at each start." },
	{ STRING("loader_users", RESTART, loader_users, "FIRST-LAST",
		 config_check_users),
	  .fallback_help = "none: loaders are moultd's own user.",
	  .help = "Users, by number, that are nobody else's.\n"
		  "Loaders of a model are one of them then, which comes from the model's "
		  "name, so that no model signals, traces or reads another.\n"
		  "That takes rights that root has; see\n"
		  ".Xr moultd 8 ,\n"
		  "As whom it runs." },
	{ PATH("loader", RESTART, loader),
	  .fallback_help = "the one beside\n"
			   ".Xr moultd 8 ,\n"
			   "else the one that was installed with it.",
	  .help = "The\n"
		  ".Xr moult-loader 8\n"
		  "program." },
	{ PATH("engine_dir", RESTART, engine_dir),
	  .fallback_help = "the folder of\n"
			   ".Xr moultd 8\n"
			   "when engines lie there, else where they were installed with "
			   "it.",
	  .help = "Where the engines are, as\n"
		  ".Pa moult-engine- Ns Ar NAME Ns Pa .so ." },
	{ UINT("max_connections", RESTART, max_connections, 1, 65536, "1024",
	       "connections"),
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
		  "may open (RLIMIT_NOFILE) is never used for connections." },
	{ UINT("max_connections_per_address", RESTART, max_connections_per_address, 0,
	       65536, "0", "connections"),
	  .help = "HTTP connections at once of one client address; more are closed "
		  "as soon as they are accepted, health probes included.\n"
		  "0: no limit, as it must be where all clients come through one "
		  "proxy." },
	{ UINT("requests_per_address", LIVE, requests_per_address, 0, 1000000, "0",
	       "requests per second"),
	  .help = "What one client's address may ask for; more are answered with status "
		  "429.\n"
		  "As many may come at once.\n"
		  "Of an IPv6 address the first 64 bits count.\n"
		  "Health is answered in any case.\n"
		  "0: any number." },
	{ SIZE("bytes_per_address", LIVE, bytes_per_address, 0, 1024 * GIB, "0"),
	  .help = "Bytes per second that the bodies of one client's address may have; "
		  "after a body that is larger, requests are answered with status 429 until "
		  "that much time is over.\n"
		  "0: any number." },
	{ STRING("trusted_proxies", LIVE, trusted_proxies, "ADDRESSES, ADDRESS/BITS",
		 config_check_proxies),
	  .fallback_help = "none: the client is who has connected.",
	  .help = "Proxies whose\n"
		  ".Ql X-Forwarded-For\n"
		  "says whom the two limits above are about: the last address there that is "
		  "not one of these." },
	{ ENUM("proxy_protocol", RESTART, proxy_protocol, proxy_words, "no"),
	  .help = "With\n"
		  ".Cm yes ,\n"
		  "connections of\n"
		  ".Ic trusted_proxies\n"
		  "begin with the PROXY protocol, version 1 or 2, which says whose they are, "
		  "and others begin with HTTP; with\n"
		  ".Cm required\n"
		  "others are closed.\n"
		  "See\n"
		  ".Xr moultd 8 ,\n"
		  "Limits of each client." },
	{ UINT("loads_at_once", LIVE, loads_at_once, 0, 1024, "0", "models"),
	  .help = "Models whose loaders are built at the same time; 0: as many as "
		  "there are processors for\n"
		  ".Xr moultd 8 .\n"
		  "Models that serve already come first, then those with the smallest "
		  "model file, then in the order of the configuration.\n"
		  "A model that served and does not any more waits for nobody." },
	{ SIZE("connection_memory", RESTART, connection_memory_bytes, 8 * KIB, 1 * MIB,
	       "8K"),
	  .help = "Memory of each connection for the headers of a request, kept as long as "
		  "the connection is open, with 1 KiB more for those of the answer.\n"
		  "Larger headers are answered with status 431, and a hosted application's "
		  "that take more than half of all that with 502.\n"
		  "Bodies of any size do with the default." },
	{ PATH("models_dir", LIVE, models_dir),
	  .help = "A directory whose\n"
		  ".Pa *.conf\n"
		  "files hold one\n"
		  ".Ic [model Ar NAME ]\n"
		  "section each.\n"
		  "They are read in the order of their names.\n"
		  "Names that begin with a dot, and what is no regular file, are "
		  "passed over; a link that leads nowhere is an error." },
	{ PATH("model_repository", LIVE, model_repository),
	  .help = "A folder of models as Triton has it, each of which becomes a section: "
		  "files\n"
		  ".Pa NAME.pt ,\n"
		  ".Pa NAME.onnx\n"
		  "and\n"
		  ".Pa NAME.ort ;\n"
		  "and folders\n"
		  ".Pa NAME\n"
		  "with\n"
		  ".Pa model.pt ,\n"
		  ".Pa model.onnx ,\n"
		  ".Pa model.ort\n"
		  "or\n"
		  ".Pa model.py ,\n"
		  "or with folders 1, 2, ... of versions, of which the highest serves.\n"
		  "A\n"
		  ".Pa config.pbtxt\n"
		  "says more; what in it has no meaning here is logged, and what cannot be "
		  "done is refused.\n"
		  "The folder is looked at again when something in it changes, by "
		  "SIGHUP, and before a model is loaded by request.\n"
		  "A model's file itself is watched as that of any other section." },
	{ BOOL("model_repository_watch", LIVE, model_repository_watch, "yes"),
	  .help = "Whether folders and files that come to\n"
		  ".Ic model_repository\n"
		  "or go are noticed.\n"
		  "With\n"
		  ".Cm no\n"
		  "it is looked at by SIGHUP and before a model is loaded by request, "
		  "as Triton does in its explicit mode." },
	{ PATH("model_repository_python", LIVE, model_repository_python),
	  .help = "The interpreter of those models of\n"
		  ".Ic model_repository\n"
		  "that engine python serves, in whose environment engine onnx looks for "
		  "its runtime, too." },
	{ STRING("model_repository_name", LIVE, model_repository_name, "a name",
	         config_check_name),
	  .help = "The folder of\n"
		  ".Ic model_repository\n"
		  "is one model of this name, whatever its file is called." },
	{ ENUM("log_level", LIVE, log_level, log_level_words, "info"),
	  .help = "The least important messages that are logged." },
	{ STRING("access_log", RESTART, access_log, "off, stderr or PATH",
		 config_check_access_log),
	  .fallback = "off",
	  .help = "Where each HTTP request that is over leaves a line: client, "
		  "method, target, status\n"
		  ".Pq Cm - : No the client left ,\n"
		  "size of its body, time up to the answer, model and generation, and the "
		  "name of the token where one was taken.\n"
		  "With\n"
		  ".Cm stderr\n"
		  "they are log lines of the level notice.\n"
		  "A file is written by a process of its own, which opens it for "
		  "each lot of lines, so that it may be renamed at any time.\n"
		  "Where it cannot keep up lines are dropped, counted\n"
		  ".Pq Ql moult_access_log_dropped_total\n"
		  "and logged; no request waits." },
	{ ENUM("access_log_format", RESTART, access_log_format, access_format_words,
	       "plain"),
	  .help = "The form of a file's lines:\n"
		  ".Cm plain ,\n"
		  "the time and KEY=VALUE, or\n"
		  ".Cm json ,\n"
		  "an object with the same members and\n"
		  ".Ql time ;\n"
		  "what is not known is null there." },
	{ DURATION("idle_timeout", LIVE, idle_timeout_ns, 100 * MS, 24 * HOUR, "75s"),
	  .help = "How long a connection may stay open between requests." },
	{ DURATION("header_timeout", LIVE, header_timeout_ns, 100 * MS, 1 * HOUR, "10s"),
	  .help = "How long a client may take to send a request's headers." },
	{ DURATION("body_timeout", LIVE, body_timeout_ns, 100 * MS, 24 * HOUR, "60s"),
	  .help = "How long a client may take to send a request's body, or to "
		  "read an answer." },
	{ SIZE("body_rate_min", LIVE, body_rate_min, 0, 1 * GIB, "1K"),
	  .help = "Bytes per second that a request's body must come at on "
		  "average, from its fifth second on; a slower one is answered "
		  "with status 408.\n"
		  "0: any rate, and no body makes room at\n"
		  ".Ic max_connections ." },
	{ DURATION("settle", LIVE, settle_ns, 1 * MS, 60 * SEC, "150ms"),
	  .help = "A change on disk is looked at when nothing else has changed "
		  "for this long." },
	{ DURATION("settle_cap", LIVE, settle_cap_ns, 1 * MS, 600 * SEC, "2s"),
	  .help = "A change on disk is looked at after this long even if changes "
		  "keep coming.\n"
		  "At least\n"
		  ".Cm settle ." },
	{ DURATION("poll", LIVE, poll_ns, 100 * MS, 1 * HOUR, "10s"),
	  .help = "How often watched files are looked at without any event, for "
		  "file systems that give none." },
	{ DURATION("shutdown_timeout", LIVE, shutdown_timeout_ns, 100 * MS, 1 * HOUR,
		   "30s"),
	  .help = "How long running requests may take to end when\n"
		  ".Xr moultd 8\n"
		  "is told to stop.\n"
		  "What has no answer by then is answered with status 503." },
	{ DURATION("drain_delay", LIVE, drain_delay_ns, 0, 1 * HOUR, "0"),
	  .help = "When told to stop,\n"
		  ".Xr moultd 8\n"
		  "first answers for this long that it is not ready, and serves on "
		  "and accepts connections meanwhile, so that a load balancer can "
		  "send its clients elsewhere.\n"
		  "Then\n"
		  ".Cm shutdown_timeout\n"
		  "begins." },
	{ LIST(NAMES, "ready", LIVE, ready, n_ready, CONFIG_NAMES_MAX),
	  .fallback = "all",
	  .help = "When\n"
		  ".Pa /v2/health/ready\n"
		  "says that the whole is ready: when\n"
		  ".Cm all\n"
		  "models are, when\n"
		  ".Cm any\n"
		  "is, or when those are that are named here." },
};

#undef OBJECT
#define OBJECT config_device

static const struct config_key device_keys[] = {
	{ SIZE("budget", LIVE, budget_bytes, 0, 1024 * GIB, "0"),
	  .help = "Memory that all loaders together may hold.\n"
		  "With 0 it is what the machine and the control group, or the GPU, "
		  "leave.\n"
		  "A reload that would need more first lets the old generation "
		  "go, see\n"
		  ".Cm strategy ." },
	{ SIZE("reserve", LIVE, reserve_bytes, 0, 1024 * GIB, "64M"),
	  .help = "Memory that is left free, except when nothing serves." },
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
