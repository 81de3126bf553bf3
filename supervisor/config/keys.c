/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The rows of [model NAME], in the order of moult.conf(5).
 *
 * Help texts are mdoc, a sentence per line; mdoc.c prints allowed values, default and
 * class after each from the other members of the row, so help does not repeat them.
 * Each member of struct config_model that a file can set has one row. A row without
 * .fallback leaves the member zero. The class is a promise: a NEW_GENERATION key takes
 * part in inputs_equal(), a RESTART key is named to the operator and kept as it was, a
 * LIVE key counts when it is read.
 */

#include "supervisor/config/check.h"
#include "supervisor/config/rows.h"

static const struct config_word detail_words[] = {
	{ "brief", CONFIG_DETAIL_BRIEF },
	{ "full", CONFIG_DETAIL_FULL },
	{ NULL, 0 },
};

static const struct config_word share_words[] = {
	{ "memory", CONFIG_SHARE_MEMORY },
	{ "file", CONFIG_SHARE_FILE },
	{ "off", CONFIG_SHARE_OFF },
	{ NULL, 0 },
};

static const struct config_word sandbox_words[] = {
	{ "auto", CONFIG_SANDBOX_AUTO }, { "strict", CONFIG_SANDBOX_STRICT },
	{ "net", CONFIG_SANDBOX_NET },   { "open", CONFIG_SANDBOX_OPEN },
	{ "off", CONFIG_SANDBOX_OFF },   { NULL, 0 },
};

const char *config_sandbox_word(enum config_sandbox sandbox)
{
	return sandbox_words[sandbox].text;
}

static const struct config_word strategy_words[] = {
	{ "auto", CONFIG_STRATEGY_AUTO },
	{ "overlap", CONFIG_STRATEGY_OVERLAP },
	{ "staged", CONFIG_STRATEGY_STAGED },
	{ "stop-first", CONFIG_STRATEGY_STOP_FIRST },
	{ NULL, 0 },
};

/* clang-format would break the sentences elsewhere. */
/* clang-format off */

#define OBJECT config_model

static const struct config_key model_keys[] = {
	{ STRING("engine", NEW_GENERATION, engine,
		 "the name of an engine, such as torch or identity", config_check_name),
	  .is_required = true,
	  .help = "The engine that runs the model." },
	{ PATH("path", NEW_GENERATION, path),
	  .help = "The model file, for engines that need one." },
	{ STRING("version", NEW_GENERATION, version, "a name", config_check_name),
	  .fallback = "1",
	  .help = "The version that clients see." },
	{ STRING("platform", NEW_GENERATION, platform, "a name", config_check_name),
	  .fallback_help = "the name of the engine.",
	  .help = "The platform that the model's metadata names." },
	{ STRING("device", NEW_GENERATION, device, "cpu, cuda, cuda:N or cuda:GPU-UUID",
		 config_check_device),
	  .fallback = "cpu",
	  .help = "Where the model computes.\n"
		  ".Cm cuda:N\n"
		  "is the card of that number as\n"
		  ".Ql nvidia-smi -L\n"
		  "counts, or in\n"
		  ".Ev CUDA_VISIBLE_DEVICES\n"
		  "when\n"
		  ".Xr moultd 8\n"
		  "has that; it is known by its UUID from then on, and the loader "
		  "sees that card alone.\n"
		  "A card that is not there is refused.\n"
		  "The memory of a GPU counts like that of the host: the stricter "
		  "of the two decides how a reload goes." },
	{ LIST(TENSOR, "input", NEW_GENERATION, inputs, n_inputs, CONFIG_TENSORS_MAX),
	  .help = "A tensor that a request must bring, in the order in which the "
		  "model takes them.\n"
		  "A dim of -1 takes any size.\n"
		  "Left out: see\n"
		  ".Sx TENSORS .\n"
		  "Not allowed with\n"
		  ".Cm route ." },
	{ LIST(TENSOR, "output", NEW_GENERATION, outputs, n_outputs, CONFIG_TENSORS_MAX),
	  .help = "A tensor that the model answers with, in its order.\n"
		  "Left out, and not allowed, as\n"
		  ".Cm input\n"
		  "is." },
	{ STRING("route", NEW_GENERATION, route, "prefixes of paths, separated by commas",
		 config_check_route),
	  .help = "The paths that the model's engine hosts, such as\n"
		  ".Cm /app/ :\n"
		  "requests for them reach it as clients have sent them, see\n"
		  ".Sx ROUTES\n"
		  "in\n"
		  ".Xr moult-http 7 ." },
	{ STRING("replay", LIVE, replay, "methods, separated by commas",
		 config_check_methods),
	  .help = "Methods of requests for\n"
		  ".Cm route\n"
		  "that are asked again when the loader that had them died, beside "
		  "GET, HEAD, OPTIONS, PUT, DELETE and TRACE, which are safe to "
		  "repeat.\n"
		  "Others are answered with status 502 then: only the application "
		  "knows what it did." },
	{ PATH("python", NEW_GENERATION, python),
	  .fallback_help = "/usr/bin/python3, for engine python.",
	  .help = "The interpreter that engine python is executed by, such as the one "
		  "of a virtual environment.\n"
		  "Engines onnx and aoti take ONNX Runtime and torch out of it." },
	{ STRING("wsgi", NEW_GENERATION, wsgi, "MODULE:NAME", config_check_object),
	  .help = "The WSGI application that engine python hosts:\n"
		  ".Xr moult-python 7 ." },
	{ STRING("asgi", NEW_GENERATION, asgi, "MODULE:NAME", config_check_object),
	  .help = "The ASGI application that engine python hosts, in place of\n"
		  ".Cm wsgi :\n"
		  ".Xr moult-python 7 ." },
	{ STRING("model", NEW_GENERATION, python_class, "MODULE:CLASS",
		 config_check_class),
	  .help = "The class, or the archive of TorchServe's, that engine python serves in "
		  "the place of\n"
		  ".Cm wsgi ,\n"
		  "with tensors or below\n"
		  ".Cm route :\n"
		  ".Xr moult-python 7 ." },
	{ STRING("command", NEW_GENERATION, command, "a command line", config_check_command),
	  .help = "The program that engine server hosts, with its arguments: it "
		  "speaks HTTP on the port of 127.0.0.1 that takes the place of\n"
		  ".Cm {port} ,\n"
		  "or on the unix socket whose path takes that of\n"
		  ".Cm {socket} .\n"
		  "No shell reads it; words are quoted as for one:\n"
		  ".Xr moult-server 7 ." },
	{ STRING("ready", NEW_GENERATION, ready, "METHOD PATH STATUS", config_check_ready),
	  .fallback_help = "GET / with any status below 500, for engine server.",
	  .help = "The request that the server of\n"
		  ".Cm command\n"
		  "must have answered before it gets others, such as\n"
		  ".Ql GET /health 200 .\n"
		  "Without a method it is GET, without a status any from 200 to "
		  "299 will do." },
	{ DURATION("ready_interval", NEW_GENERATION, ready_interval_ns, 0, 24 * HOUR, "10s"),
	  .help = "How often a server that serves is asked the request of\n"
		  ".Cm ready ,\n"
		  "where that is set; 0: not at all." },
	{ UINT("ready_failures", NEW_GENERATION, ready_failures, 1, 1000, "3", "answers"),
	  .help = "So many answers in a row that are not what\n"
		  ".Cm ready\n"
		  "wants, and the server is replaced:\n"
		  ".Xr moult-server 7 ." },
	{ PATH("working_directory", NEW_GENERATION, working_directory),
	  .help = "The directory that the loader works in." },
	{ LIST(OPTION, "environment.", NEW_GENERATION, environment, n_environment,
	       CONFIG_OPTIONS_MAX),
	  .help = "A variable of the loader's environment." },
	{ ENUM("sandbox", NEW_GENERATION, sandbox, sandbox_words, "auto"),
	  .help = "What the loader may reach once the model is looked into.\n"
		  ".Cm auto\nis\n.Cm open\nwith engine python and server,\n.Cm strict\nwith any other.\n"
		  "With\n.Cm strict\nthat is libraries, what the engine needs, and what this section names: "
		  "no network, and no file of moultd's or of another model's.\n"
		  "With\n.Cm net\nit may use the network as well.\n"
		  "With\n.Cm open\nit has files and the network like any program of its user, and reaches "
		  "into no other process, nor to moultd's control socket.\n"
		  "With\n.Cm off\nthe model may do whatever moultd may:\n"
		  ".Xr moult-loader 8 ,\nsection WALLS." },
	{ STRING("sandbox_read", NEW_GENERATION, sandbox_read, "PATH, PATH, ...",
		 config_check_paths),
	  .help = "Files and folders that the loader may read beside those." },
	{ STRING("sandbox_write", NEW_GENERATION, sandbox_write, "PATH, PATH, ...",
		 config_check_paths),
	  .help = "Files that the loader may change, and folders below which it may "
		  "make, change and remove files." },
	{ UINT("max_processes", NEW_GENERATION, max_processes, 0, 1 << 22, "0", "processes"),
	  .help = "How many processes and threads a loader and all that it starts may "
		  "have; 0 sets no limit:\n.Xr moult-loader 8 ,\nsection WALLS." },
	{ SIZE("max_memory", NEW_GENERATION, max_memory_bytes, 0, 1024 * GIB, "0"),
	  .help = "How much memory they may have together, as the kernel counts it: likewise." },
	{ UINT("threads", NEW_GENERATION, threads, 1, 1024, "1", "threads"),
	  .help = "Threads that one inference may use, of the engine's and of the\n"
		  "libraries that it computes with (OpenBLAS, BLIS, MKL), whatever\n"
		  "the environment says;\n.Cm replicas\ntimes\n.Cm threads\n"
		  "should not be more than there are cores.\n"
		  "With\n.Cm route ,\nthose that serve requests; an application of\n"
		  ".Cm asgi\nhas its event loop.\n"
		  "For engine server it is the number of requests that the server "
		  "gets at once, and 64 where no line says it." },
	{ SIZE("working_memory", NEW_GENERATION, working_memory_bytes, 0, 1024 * GIB,
	       "0"),
	  .help = "Memory that computing one batch may take beside the weights, so "
		  "that no request takes what others need; 0 sets no limit.\n"
		  "A request that needs more is answered with status 413, which "
		  "says how much it needs, and the loader serves on.\n"
		  "For a minute requests as large in every dimension are refused "
		  "without being tried, unless one as large has fitted within the "
		  "last ten minutes; requests that do not fit together are computed "
		  "one by one.\n"
		  "For engine\n"
		  ".Cm torch ;\n"
		  "with any other the model is not loaded.\n"
		  "On a GPU it limits what libtorch takes of the card, 2 or 20 MiB "
		  "at a time, beyond what it has when the model is loaded; moult "
		  "has to be built where the headers of a CUDA toolkit are." },
	{ UINT("replicas", LIVE, replicas, 1, CONFIG_REPLICAS_MAX, "1", "loaders"),
	  .help = "How many loaders serve the model, from one queue and (see\n"
		  ".Cm share )\n"
		  "with one copy of its weights.\n"
		  "After a reload the first takes all the traffic until the others "
		  "have followed, one at a time and as memory allows.\n"
		  "A loader that dies costs no pause while another one serves.\n"
		  ".Ic moultctl scale\n"
		  "changes the number until the one in the file changes." },
	{ UINT("max_batch", NEW_GENERATION, max_batch, 1, 65536, "1", "rows"),
	  .help = "Requests that wait are computed together, up to this many "
		  "rows.\n"
		  "Above 1, every input and output must have -1 as its first dim." },
	{ DURATION("max_delay", NEW_GENERATION, max_delay_ns, 0, 10 * SEC, "0"),
	  .help = "How long a batch may wait to become full.\n"
		  "With 0 it takes what is there and never waits." },
	{ UINT("warmup_runs", NEW_GENERATION, warmup_runs, 0, 10000, "3", "runs"),
	  .help = "Inferences that must succeed before a generation may serve.\n"
		  "A loader that replaces one that served and died, and for which "
		  "clients wait, makes one; it makes none when a signal from "
		  "outside (SIGKILL, SIGTERM, SIGINT or SIGHUP) ended the other, "
		  "which says nothing against the model, unless moult-loader or "
		  "the engine was replaced meanwhile." },
	{ PATH("warmup_request", NEW_GENERATION, warmup_request),
	  .help = "A file with the JSON body of a request to warm up with.\n"
		  "Without it, zeros of the declared shapes are used.\n"
		  "With\n"
		  ".Cm route\n"
		  "the file has a request as HTTP has it: a line such as\n"
		  ".Ql POST /embed ,\n"
		  "lines such as\n"
		  ".Ql Content-Type: application/json ,\n"
		  "an empty line, and the body.\n"
		  "It must be answered with a status below 400; so what the application "
		  "does at its first request is done before clients ask.\n"
		  "Without it, none is made.\n"
		  ".Ql moultd -t\n"
		  "reads the file, and says if it is no request, or one for a path that\n"
		  ".Cm route\n"
		  "does not cover." },
	{ PATH("golden", NEW_GENERATION, golden),
	  .help = "A directory of\n"
		  ".Sx GOLDEN REQUESTS ,\n"
		  "at most 256 files named\n"
		  ".Pa *.json .\n"
		  "A new generation that answers one of them otherwise than "
		  "expected gets no traffic.\n"
		  "They are read when a generation is built; a change of the "
		  "directory alone builds none." },
	{ PATH("secrets", NEW_GENERATION, secrets),
	  .help = "A directory that is watched: each file in it is a secret, and "
		  "has the name of the secret.\n"
		  "At most 64 files of at most 64 KiB; their names have letters, "
		  "digits, dots, underscores and dashes, and do not begin with a "
		  "dot.\n"
		  "What else lies there is skipped, with a warning that names it "
		  "and in\n"
		  ".Ic moultctl status :\n"
		  "folders, other names, files that are empty for longer than two "
		  "seconds, that everybody may write or that cannot be read." },
	{ LIST(NAMES, "required_secrets", NEW_GENERATION, required_secrets,
	       n_required_secrets, CONFIG_NAMES_MAX),
	  .help = "Secrets without which a new generation is refused: the old one "
		  "serves on until all of them are there." },
	{ LIST(OPTION, "option.", NEW_GENERATION, options, n_options, CONFIG_OPTIONS_MAX),
	  .help = "A setting that the engine understands: moult-loader(8). Another one "
		  "is refused." },
	{ UINT("leases", NEW_GENERATION, leases, 1, 4096, "256", "requests"),
	  .help = "Requests that a loader may hold at once: a power of two." },
	{ SIZE("response_arena", NEW_GENERATION, response_arena_bytes, 64 * KIB, 64 * GIB,
	       "64M"),
	  .help = "Memory in which a loader puts its answers, rounded down to a "
		  "power of two.\n"
		  "When answers that clients do not read fill it and requests wait, "
		  "clients that have taken longer than two seconds are cut off." },
	{ ENUM("share", NEW_GENERATION, share, share_words, "memory"),
	  .help = "Whether all loaders that need the model file have one copy of "
		  "it between them.\n"
		  "With\n"
		  ".Cm memory\n"
		  "the first loader copies it into memory that outlives it and "
		  "that nobody can change: a reload that leaves the file alone, "
		  "and a loader in the place of one that died, take it as it "
		  "lies there.\n"
		  "With\n"
		  ".Cm file\n"
		  "the file itself is mapped, which costs no memory beyond the "
		  "page cache and no copying; a file that is written to in place "
		  "changes the model that serves, so files must be renamed into "
		  "place.\n"
		  "With\n"
		  ".Cm off\n"
		  "each loader has its own.\n"
		  "On a GPU both mean one copy in its memory, which outlives "
		  "its loaders and which they can only read; a model that writes "
		  "to its weights dies in the warm-up once and gets its own.\n"
		  "Loaders that share there trust each other.\n"
		  "Where the engine cannot compute with a shared copy (packed, "
		  "quantised models), or the GPU's driver shares none, each loader "
		  "has its own too, and\n"
		  ".Ic moultctl status\n"
		  "says why.\n"
		  "Of models that load a file at the same moment one makes the "
		  "copy and the others wait for it; those that serve nobody wait "
		  "no longer than 20 seconds while it does not grow.\n"
		  "Models of one file that are to leave it for another need room "
		  "for both copies: neither can let go of the old one alone." },
	{ ENUM("strategy", LIVE, strategy, strategy_words, "auto"),
	  .help = "How a new generation takes over.\n"
		  "With\n"
		  ".Cm overlap\n"
		  "the old one serves until the new one does: no pause, two "
		  "copies.\n"
		  "With\n"
		  ".Cm staged\n"
		  "the new one does first all that needs no copy of the model; "
		  "then the old one ends, and requests wait until the new one has "
		  "its copy.\n"
		  "On a GPU that has more room a part of the copy comes first, too, "
		  "if it can be shared\n"
		  ".Po see Cm share Pc .\n"
		  "With\n"
		  ".Cm stop-first\n"
		  "the old one ends before the new one begins.\n"
		  "On a GPU whose compute mode lets one process use it at a time "
		  "the first of these is refused.\n"
		  ".Cm auto\n"
		  "takes the first of these that fits into memory, see\n"
		  ".Ic moultctl reload --explain .\n"
		  "When the new one, before it takes its copy, turns out to need "
		  "more than was known (weights that cannot be shared after all, "
		  "say), it is decided again; what does not fit ends with the "
		  "numbers, and the old one serves on.\n"
		  "Where the weights are in memory already (see\n"
		  ".Cm share ) ,\n"
		  "what is an overlap otherwise needs one copy alone; status, "
		  "receipts and the log call it\n"
		  ".Cm handoff ." },
	{ BOOL("disable_secrets_reload", LIVE, disable_secrets_reload, "no"),
	  .help = "Whether a changed secret is left alone, for models whose "
		  "owners reload themselves." },
	{ BOOL("watch_model_file", LIVE, watch_model_file, "yes"),
	  .help = "Whether a changed model file makes a new generation." },
	{ BOOL("watch_code", LIVE, watch_code, "no"),
	  .help = "Whether changed source of Python below\n"
		  ".Cm working_directory\n"
		  "makes a new generation, for those who write it: where the new one "
		  "does not start, the log has why, and the old one serves on.\n"
		  "Files count whose names end in\n"
		  ".Ql .py\n"
		  "or\n"
		  ".Ql .mar ,\n"
		  "but for those in hidden folders and in virtual environments: at most "
		  "8192 files in 512 folders.\n"
		  "They are not kept in compiled form\n"
		  ".Pq Ev PYTHONDONTWRITEBYTECODE .\n"
		  "Changes that follow one another within seconds, as those of an "
		  "application that writes a source file when it starts, are waited "
		  "with for longer and longer.\n"
		  "moult keeps no copy of code: a rollback, or a loader in the place of "
		  "one that died, runs what lies there then." },
	{ LIST(NAMES, "infer_tokens", LIVE, infer_tokens, n_infer_tokens,
	       CONFIG_NAMES_MAX),
	  .fallback = CONFIG_TOKENS_ALL,
	  .help = "Names of\n"
		  ".Ic tokens\n"
		  "that may use the model, its routes among that;\n"
		  ".Cm all :\n"
		  "every token;\n"
		  ".Cm anybody :\n"
		  "none is needed." },
	{ LIST(NAMES, "metadata_tokens", LIVE, metadata_tokens, n_metadata_tokens,
	       CONFIG_NAMES_MAX),
	  .fallback = CONFIG_TOKENS_ALL,
	  .help = "The same of those that may read the model's metadata and whether it is "
		  "ready." },
	{ UINT("max_held", LIVE, max_held, 0, 1048576, "1024", "requests"),
	  .help = "Requests that may wait for a loader; more are answered with "
		  "status 503." },
	{ SIZE("max_held_bytes", LIVE, max_held_bytes, 0, 64 * GIB, "128M"),
	  .help = "Memory that requests which wait for a loader may occupy; more "
		  "are answered with status 503.\n"
		  "It is a part of\n"
		  ".Cm request_arena ,\n"
		  "which bounds them too." },
	{ DURATION("poison_memory", LIVE, poison_memory_ns, 0, 24 * HOUR, "5m"),
	  .help = "How long the body of a request that ended two loaders is "
		  "remembered, to be answered with status 500 at once.\n"
		  "The answer and the log have its SHA-256, size and shape.\n"
		  "A reload that is no restart after a crash forgets all of "
		  "them.\n"
		  "With 0 none is remembered." },
	{ DURATION("request_timeout", LIVE, request_timeout_ns, 1 * MS, 24 * HOUR, "60s"),
	  .help = "How long a request may take, waiting included.\n"
		  "A client may ask for less, with the header\n"
		  ".Ql Moult-Timeout-Ms\n"
		  "or the protocol's parameter\n"
		  ".Ql timeout ." },
	{ DURATION("stage_timeout", LIVE, stage_timeout_ns, 1 * MS, 24 * HOUR, "300s"),
	  .help = "How long a loader may take to read the model into host memory." },
	{ DURATION("commit_timeout", LIVE, commit_timeout_ns, 1 * MS, 24 * HOUR, "300s"),
	  .help = "How long a loader may take to place the model on its device." },
	{ DURATION("warmup_timeout", LIVE, warmup_timeout_ns, 1 * MS, 24 * HOUR, "120s"),
	  .help = "How long a loader may take to warm up." },
	{ DURATION("drain_timeout", LIVE, drain_timeout_ns, 1 * MS, 24 * HOUR, "30s"),
	  .help = "How long an old generation may take to finish the requests "
		  "that it holds." },
	{ DURATION("stop_timeout", LIVE, stop_timeout_ns, 1 * MS, 1 * HOUR, "10s"),
	  .help = "How long a loader that was asked to end may take before it is "
		  "terminated." },
	{ DURATION("reclaim_timeout", LIVE, reclaim_timeout_ns, 10 * MS, 1 * HOUR, "10s"),
	  .help = "How long the memory of a loader that is gone may take to be back "
		  "on its GPU.\n"
		  "The loader must have left the driver's list and the bytes in use "
		  "must be back where they were when it came.\n"
		  "What is not back by then is named in the receipt, and a reload "
		  "that needs it is refused.\n"
		  "Without a GPU nothing is waited for." },
	{ DURATION("stall_timeout", LIVE, stall_timeout_ns, 10 * MS, 24 * HOUR, "60s"),
	  .help = "A loader that holds requests and makes no progress for this "
		  "long is killed, and so is one that is stopped "
		  "(SIGSTOP), in whatever state.\n"
		  "The stall is noticed within a quarter more of this time.\n"
		  "With less than\n"
		  ".Ic request_timeout\n"
		  "a request that takes its time to compute counts as a stall:\n"
		  ".Ql moultd -t\n"
		  "warns of that." },
	{ UINT("death_limit", LIVE, death_limit, 1, CONFIG_DEATHS_MAX, "5", "deaths"),
	  .help = "When this many loaders die within\n"
		  ".Cm death_window\n"
		  "without having been of any use, the model is failed: requests "
		  "are turned away at once, and a loader is tried once a minute "
		  "and when an input changes.\n"
		  "A loader that answered a request, or served for a second, was "
		  "of use; it is replaced at once, however often that happens.\n"
		  "So is one that a signal from outside ended.\n"
		  "This many reloads in a row that are refused for want of memory "
		  "while nothing serves make the model failed as well; memory is "
		  "then looked for every 5 seconds." },
	{ DURATION("death_window", LIVE, death_window_ns, 1 * SEC, 24 * HOUR, "60s"),
	  .help = "See\n"
		  ".Cm death_limit ." },
	{ UINT("max_requests", LIVE, max_requests, 0, UINT32_MAX, "0", "requests"),
	  .help = "Requests that one loader may answer.\n"
		  "After them, and up to a tenth more so that not all machines do so at "
		  "once, a new generation of the same takes over, as in any reload: "
		  "nothing is lost, and where memory holds one copy requests wait "
		  "meanwhile.\n"
		  "For applications that grow.\n"
		  "A new generation that does not come is tried again after\n"
		  ".Cm retry_delay ,\n"
		  "then after twice as long, up to sixteen times as long; with 0 it is "
		  "tried once.\n"
		  "With 0 there is no such limit." },
	{ DURATION("max_age", LIVE, max_age_ns, 0, 366 * 24 * HOUR, "0"),
	  .help = "How long a loader may serve, and up to a tenth longer: as with\n"
		  ".Cm max_requests ." },
	{ SIZE("max_growth", LIVE, max_growth_bytes, 0, 1024 * GIB, "0"),
	  .help = "By how much a loader's own memory may grow beyond what it held when "
		  "it began to serve: as with\n"
		  ".Cm max_requests .\n"
		  "Its memory is looked at once a second; weights that loaders share "
		  "are no part of it." },
	{ BOOL("spare", LIVE, spare, "no"),
	  .help = "Keep a loader ready that has opened the engine's libraries, and "
		  "make it this model's next one: of any reload, and in the place of "
		  "a loader that died and left nobody serving.\n"
		  "These are sooner there by the time that opening libraries takes.\n"
		  "There is one for each engine and each set of\n"
		  ".Cm environment.\n"
		  "variables, shared by all models that ask for it; another one is "
		  "started a second after it was used, at idle priority.\n"
		  "It holds no model, no secret and no device.\n"
		  "Its memory counts as that of a loader on\n"
		  ".Cm [device host] ,\n"
		  "and it makes room for a reload that needs it, and when the reserve "
		  "there is not free.\n"
		  "Libraries that read the environment when they are opened do not "
		  "see what\n"
		  ".Cm option.secrets_env\n"
		  "puts there." },
	{ LIST(NAMES, "preload", LIVE, preload, n_preload, CONFIG_NAMES_MAX),
	  .help = "Modules of Python that a spare loader of engine python imports ahead, "
		  "before it knows the model, its secrets and its routes: those that "
		  "take long to import, such as\n"
		  ".Cm torch, flask .\n"
		  "Modules of the application's own are not imported ahead.\n"
		  "See\n"
		  ".Sx Spare interpreters\n"
		  "in\n"
		  ".Xr moult-python 7 ." },
	{ BOOL("keep_good", LIVE, keep_good, "yes"),
	  .help = "Keep the inputs that serve well in\n"
		  ".Cm state_dir :\n"
		  "the section as text and the model file as a hard link.\n"
		  "When moultd starts and what is on disk then is of no use, be "
		  "it the model, its secrets or the configuration itself, it "
		  "serves with that.\n"
		  "On another file system the model file itself must still be "
		  "there, unchanged." },
	{ BOOL("keep_secrets", LIVE, keep_secrets, "no"),
	  .help = "Keep the secrets, too, in files that only moultd's user may "
		  "read.\n"
		  "Files that others can read are not used.\n"
		  "Without kept secrets those on disk are used." },
	{ DURATION("retry_delay", LIVE, retry_delay_ns, 0, 24 * HOUR, "30s"),
	  .help = "A change on disk that failed for a reason that may pass, as "
		  "want of memory does, is tried again after this time, then "
		  "after twice as long, up to sixteen times as long, for as long "
		  "as what served before goes on.\n"
		  "Where the try failed after the old generation was gone, as may "
		  "be with\n"
		  ".Cm staged\n"
		  "and\n"
		  ".Cm stop-first ,\n"
		  "what served before is built again, and each further try costs "
		  "a pause: three are made.\n"
		  "A try for which there is too little memory is refused before "
		  "anything is stopped, and does not count.\n"
		  "After that, and with 0, the model waits for a change or for\n"
		  ".Ic moultctl reload ." },
	{ DURATION("watch_window", LIVE, watch_window_ns, 0, 24 * HOUR, "30s"),
	  .help = "For this long a generation with new inputs is compared with "
		  "the one before.\n"
		  "When it does worse, see\n"
		  ".Cm watch_errors\n"
		  "and\n"
		  ".Cm watch_latency ,\n"
		  "or when three of its loaders die, the model goes back by "
		  "itself to what served before.\n"
		  "Before that, up to four of the requests that failed, or that "
		  "ended loaders, are asked of what served before; when it fails "
		  "on them, too, they are to blame: the rollback is called off, "
		  "its receipt says so, and the comparison begins anew, at most "
		  "three times.\n"
		  "A loader that somebody else killed does not count; one that "
		  "the kernel killed for want of memory does.\n"
		  "With 0 nothing is compared." },
	{ UINT("watch_errors", LIVE, watch_errors, 0, 100, "5", "percentage points"),
	  .help = "By how much the share of errors in a generation's answers may be "
		  "above that of the one before, over at least 50 answers.\n"
		  "Errors are those that the model is to blame for: status 500, "
		  "and outputs that are not finite, whatever the status.\n"
		  "What the request is to blame for (400, 413), and what came too "
		  "late (504), counts for nothing.\n"
		  "With 0 errors are not compared." },
	{ UINT("unready_errors", LIVE, unready_errors, 0, 100, "0", "per cent"),
	  .help = "A model is not ready while at least so many of its answers are errors "
		  "as\n"
		  ".Cm watch_errors\n"
		  "has it, in the last half minute and of at least ten: an application "
		  "that is alive and fails at all that matters is taken out of service.\n"
		  "Requests that come are still asked; it is ready again when answers are "
		  "good again, or when there were none for that long.\n"
		  "With 0 a model is ready when a generation serves, whatever it answers." },
	{ ENUM("error_detail", LIVE, error_detail, detail_words, "brief"),
	  .help = "What clients are told when the model or its loader fails (status "
		  "500 and above).\n"
		  "With\n"
		  ".Cm brief\n"
		  "a sentence, and a reference under which the log has the rest\n"
		  ".Pq Ql event=request_failed ,\n"
		  "for at most ten requests in ten seconds.\n"
		  "With\n"
		  ".Cm full\n"
		  "all of it: paths and what the engine\'s library says." },
	{ UINT("watch_latency", LIVE, watch_latency, 0, 100000, "300", "per cent"),
	  .help = "How long a generation may compute, in per cent of the time before: the "
		  "time within which nine in ten answers are computed, above 2 ms and above "
		  "ten times what a computation waits for a processor.\n"
		  "With 0 times are not compared." },
	{ SIZE("request_arena", RESTART, request_arena_bytes, 64 * KIB, 64 * GIB, "256M"),
	  .help = "Memory for requests that wait or are being answered, rounded "
		  "down to a power of two.\n"
		  "Bodies that are announced and have not come yet take half of it "
		  "at most; others get their room as they come." },
	{ SIZE("max_body", RESTART, max_body_bytes, 1 * KIB, 32 * GIB, "64M"),
	  .help = "The largest request body, at most half of\n"
		  ".Cm request_arena .\n"
		  "Larger ones are answered with status 413." },
};

/* clang-format on */

_Static_assert(COUNT_OF(model_keys) <= CONFIG_KEYS_MAX, "tables of lines hold them");

const struct config_table config_model_table = {
	.keys = model_keys,
	.n_keys = COUNT_OF(model_keys),
};
