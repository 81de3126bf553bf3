/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The operator's configuration: [supervisor], [device NAME] and one [model NAME] per
 * model, from moult.conf and models.d/ *.conf.
 *
 * A configuration is read whole into a fresh struct, checked whole, and then used or
 * thrown away whole; once in use it never changes. Every key is one row of a table:
 * type, range, default, unit, help, reload class. moult.conf(5) is printed from the
 * same rows.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "shared/err.h"
#include "shared/log.h"
#include "shared/tensor.h"

#define CONFIG_MODELS_MAX   64
#define CONFIG_TENSORS_MAX  32
#define CONFIG_OPTIONS_MAX  32
#define CONFIG_NAMES_MAX    32
#define CONFIG_NAME_MAX     64
#define CONFIG_GPUS_MAX     16
#define CONFIG_DEVICE_MAX   64 /* bytes of a device's name, terminated */
#define CONFIG_REPLICAS_MAX 16
#define CONFIG_DEATHS_MAX   64

/* In lists of tokens: every token, and no token at all. */
#define CONFIG_TOKENS_ALL     "all"
#define CONFIG_TOKENS_ANYBODY "anybody"
/* In repository_tokens. */
#define CONFIG_TOKENS_NOBODY "nobody"
/* In a list of hosts. */
#define CONFIG_HOSTS_ANY "any"

/* Steps that a changed key needs before it counts. */
enum config_class {
	CONFIG_LIVE,           /* at once */
	CONFIG_NEW_GENERATION, /* the model is reloaded */
	CONFIG_RESTART,        /* moultd must be restarted: said, never ignored */
};

/* Detail for clients about a failure on this side. */
enum config_detail {
	CONFIG_DETAIL_BRIEF,
	CONFIG_DETAIL_FULL,
};

/* Whether proxies say in front of a connection whose it is. */
enum config_proxy { CONFIG_PROXY_NO, CONFIG_PROXY_YES, CONFIG_PROXY_REQUIRED };

enum config_access_format { CONFIG_ACCESS_PLAIN, CONFIG_ACCESS_JSON };

enum config_share { CONFIG_SHARE_MEMORY, CONFIG_SHARE_FILE, CONFIG_SHARE_OFF };

enum config_sandbox {
	CONFIG_SANDBOX_AUTO, /* OPEN for applications and servers, STRICT for others */
	CONFIG_SANDBOX_STRICT,
	CONFIG_SANDBOX_NET,
	CONFIG_SANDBOX_OPEN,
	CONFIG_SANDBOX_OFF
};

enum config_strategy {
	CONFIG_STRATEGY_AUTO,
	CONFIG_STRATEGY_OVERLAP,
	CONFIG_STRATEGY_STAGED,
	CONFIG_STRATEGY_STOP_FIRST,
};

/* LIVE. Memory that models may use; "host" is main memory. */
struct config_device {
	uint64_t budget_bytes;  /* 0: as much as there is */
	uint64_t reserve_bytes; /* to leave free */
};

struct config_gpu {
	char name[CONFIG_DEVICE_MAX]; /* "cuda:0", "cuda:GPU-..." */
	unsigned int line;
	struct config_device device;
};

struct config_option {
	char *name;
	char *value;
};

/* Durations in nanoseconds, sizes in bytes; paths are absolute. */
struct config_model {
	char name[CONFIG_NAME_MAX];
	char *file; /* file of its section, with the line: for messages */
	unsigned int line;
	char *doubts; /* of what it was read from, or NULL */
	bool is_in_dir; /* of models_dir, of model_repository; or kept, where nobody knows */

	/* NEW_GENERATION */
	char *version;  /* as the protocol shows it; default "1" */
	char *platform; /* as the protocol shows it; default the engine's name */
	char *engine;
	char *path; /* the model file, or NULL */
	char *device;
	struct tensor_spec inputs[CONFIG_TENSORS_MAX];
	size_t n_inputs;
	struct tensor_spec outputs[CONFIG_TENSORS_MAX];
	size_t n_outputs;
	char *secrets; /* directory, or NULL */
	char *required_secrets[CONFIG_NAMES_MAX];
	size_t n_required_secrets;
	struct config_option options[CONFIG_OPTIONS_MAX];
	size_t n_options;
	uint32_t threads;
	uint64_t working_memory_bytes; /* 0: no limit; the next two, too */
	uint32_t max_processes; /* of a loader, with all that it starts; threads count */
	uint64_t max_memory_bytes;
	uint32_t max_batch;
	uint64_t max_delay_ns;
	uint32_t warmup_runs;
	char *warmup_request; /* file with a request body, or NULL */
	char *golden;         /* directory of golden requests, or NULL */
	char *route;  /* "/a/, /b/": the paths that an engine hosts; NULL: it computes */
	char *python; /* the interpreter of engine python */
	/* What engine python serves, one of them: "module:name", a class's "file.py" too. */
	char *wsgi;
	char *asgi;
	char *python_class;
	char *command; /* what engine server hosts: a command line */
	char *ready;   /* "GET /health 200": what shows that it is ready; or NULL */
	uint64_t
		ready_interval_ns; /* it is asked so often while it serves; 0: it is not */
	unsigned int ready_failures; /* wrong answers in a row until it is replaced */
	char *working_directory;
	struct config_option environment[CONFIG_OPTIONS_MAX];
	size_t n_environment;
	enum config_sandbox sandbox;
	char *sandbox_read;  /* "/a, /b": what the loader may read; or NULL */
	char *sandbox_write; /* likewise write */
	uint32_t leases;     /* requests that a loader may hold: a power of two */
	uint64_t response_arena_bytes;

	/* LIVE */
	enum config_strategy strategy;
	enum config_share share; /* NEW_GENERATION */
	uint32_t replicas;
	bool disable_secrets_reload;
	bool watch_model_file;
	bool watch_code;
	bool keep_good;
	bool keep_secrets;
	bool spare;
	char *preload
		[CONFIG_NAMES_MAX]; /* modules that a spare of engine python imports */
	size_t n_preload;
	uint32_t max_held; /* requests that may wait */
	uint64_t max_held_bytes;
	uint64_t poison_memory_ns; /* 0: bodies that end loaders are not remembered */
	uint64_t request_timeout_ns;
	uint64_t stage_timeout_ns;
	uint64_t commit_timeout_ns;
	uint64_t warmup_timeout_ns;
	uint64_t drain_timeout_ns;
	uint64_t stop_timeout_ns;    /* from the question to SIGTERM */
	uint64_t reclaim_timeout_ns; /* from the end to its memory being back */
	uint64_t stall_timeout_ns;   /* leases held without any progress */
	uint32_t death_limit;        /* useless loaders within death_window: FAILED */
	uint64_t death_window_ns;
	uint64_t retry_delay_ns;  /* 0: never */
	uint64_t watch_window_ns; /* 0: none */
	uint32_t watch_errors;    /* percentage points */
	uint32_t unready_errors;  /* percent; 0: readiness asks for no answers */
	uint32_t watch_latency;   /* per cent of what it was */
	enum config_detail error_detail;
	/* What a loader may have answered, lived or grown until it is replaced; 0: no
	 * limit. */
	uint32_t max_requests;
	uint64_t max_age_ns;
	uint64_t max_growth_bytes;
	/* Names of tokens that may use the model, and ask about it; "all", "anybody". */
	char *infer_tokens[CONFIG_NAMES_MAX];
	size_t n_infer_tokens;
	char *metadata_tokens[CONFIG_NAMES_MAX];
	size_t n_metadata_tokens;
	char *replay; /* "POST, PATCH": methods that may be asked again; or NULL */

	/* RESTART: the arena outlives every generation of the model. */
	uint64_t request_arena_bytes;
	uint64_t max_body_bytes;
};

/* Uids that moultd may give to loaders. */
struct config_users {
	uint32_t first;
	uint32_t last;
};

struct config {
	char *file; /* absolute path of moult.conf */

	/* RESTART */
	char *listen;       /* ADDRESS:PORT, [ADDRESS]:PORT, or "systemd" */
	char *admin_listen; /* ADDRESS:PORT or [ADDRESS]:PORT; NULL: no listener of its own */
	char *grpc_listen;     /* the same; NULL: gRPC is not served */
	char *tls_certificate; /* NULL: plain HTTP; then the next two are NULL, too */
	char *tls_key;
	char *tls_client_ca; /* NULL: clients show no certificate */
	char *tokens;        /* directory of them, or NULL */
	char *control;       /* path of the control socket */
	char *state_dir;
	char *user; /* NULL: the user who started it */
	char *loader_users; /* "FIRST-LAST", a range of uids, or NULL: loaders are moultd's user */
	char *access_log; /* "off", "stderr" or the path of a file */
	enum config_access_format access_log_format;
	char *loader;     /* path of moult-loader */
	char *engine_dir; /* where moult-engine-*.so are */
	uint32_t max_connections;
	uint32_t max_connections_per_address; /* 0: any number */
	enum config_proxy proxy_protocol;
	uint32_t loads_at_once; /* LIVE; 0: as many as processors */
	uint32_t connection_memory_bytes;

	/* LIVE */
	char *models_dir;              /* directory of *.conf, or NULL */
	char *model_repository;        /* directory of models, or NULL */
	char *model_repository_python; /* interpreter of its models, or NULL */
	char *model_repository_name; /* of the one model that it is; NULL: it has several */
	bool model_repository_watch;
	char *allowed_hosts;   /* "a.example, *.b.example" or "any"; NULL: not said */
	char *trusted_proxies; /* "10.0.0.0/8, ::1", or NULL */
	uint32_t requests_per_address; /* a second; 0: any number */
	uint64_t bytes_per_address;    /* of bodies, a second; 0: any number */
	enum log_level log_level;
	uint64_t idle_timeout_ns;
	uint64_t header_timeout_ns;
	uint64_t body_timeout_ns;
	uint64_t body_rate_min; /* bytes per second; 0: none */
	uint64_t settle_ns;     /* quiet time after a change on disk */
	uint64_t settle_cap_ns; /* longest wait for quiet */
	uint64_t poll_ns;       /* safety net beside inotify */
	uint64_t shutdown_timeout_ns;
	uint64_t drain_delay_ns; /* still serving, and not ready any more */
	/* Models that make the whole ready: names, or "all" or "any". */
	char *ready[CONFIG_NAMES_MAX];
	size_t n_ready;
	char *metrics_tokens[CONFIG_NAMES_MAX]; /* as a model's lists are */
	size_t n_metrics_tokens;
	char *repository_tokens[CONFIG_NAMES_MAX]; /* none: operators of this machine */
	size_t n_repository_tokens;

	struct config_device host;
	struct config_device gpu_fallback; /* of GPUs without a section */
	struct config_gpu gpus[CONFIG_GPUS_MAX];
	size_t n_gpus;

	struct config_model *models[CONFIG_MODELS_MAX];
	size_t n_models;
	size_t n_in_dir;        /* files in models_dir */
	size_t n_in_repository; /* models of model_repository */

	unsigned int refs;
};

/* Reads @file and its models_dir. 0, or -errno with a sentence that names file, line, key
 * and what is allowed. Blocks on local files only; the caller owns the one reference to
 * *ret_config. */
int config_load(struct config **ret_config, const char *file, struct err *err);
/* Takes a reference: generations outlive the time in which their configuration is the
 * newest. */
struct config *config_ref(struct config *config);
void config_unref(struct config *config); /* accepts NULL */

/* The key of a folder that @config names and in which nothing is, with its path: its volume may be
 * mounted later. NULL: there is none. */
const char *config_empty_folder(const struct config *config, const char **ret_path);
/* True, with a sentence: a folder of @fresh is empty, and @running has models of a folder that
 * @fresh lacks. Somebody mounts there, or clears it to fill it again. */
bool config_is_emptied(const struct config *running, const struct config *fresh,
                       struct err *ret_why);

const struct config_model *config_find(const struct config *config, const char *name);

/* True: the key ready says all; any. Neither: it has names. */
bool config_ready_is_all(const struct config *config);
bool config_ready_is_any(const struct config *config);

/* Returns the word of the file. */
const char *config_sandbox_word(enum config_sandbox sandbox);

/* True: an interpreter is executed for the model's engine. */
static inline bool config_is_python(const struct config_model *model)
{
	return strcmp(model->engine, "python") == 0;
}

/* The interpreter of a section of engine python. */
static inline const char *config_python(const struct config_model *model)
{
	return model->python ? model->python : "/usr/bin/python3";
}

/* True: the model's engine starts a server and passes requests on to it. */
static inline bool config_is_server(const struct config_model *model)
{
	return strcmp(model->engine, "server") == 0;
}

/* True: the model's engine runs it by ONNX Runtime. */
static inline bool config_is_onnx(const struct config_model *model)
{
	return strcmp(model->engine, "onnx") == 0;
}

/* True: the model's engine takes a framework out of the environment that `python` names. */
static inline bool config_takes_framework(const struct config_model *model)
{
	return config_is_onnx(model) || strcmp(model->engine, "aoti") == 0;
}

/* What the section's `sandbox` comes to: never AUTO. */
static inline enum config_sandbox config_sandbox(const struct config_model *model)
{
	if (model->sandbox != CONFIG_SANDBOX_AUTO)
		return model->sandbox;
	return config_is_python(model) || config_is_server(model) ? CONFIG_SANDBOX_OPEN
	                                                          : CONFIG_SANDBOX_STRICT;
}

/* Goes through a list of texts, separated by commas: *cursor begins at the list. False: the end.
 * The text, without blanks around it, is borrowed and not terminated. */
bool config_list_next(const char **cursor, const char **ret_text, size_t *ret_bytes);
/* Bytes of the longest of @routes (key route) that @path begins with; "/a" is below "/a/". */
size_t config_route_match(const char *routes, const char *path, size_t path_bytes);

/* Prints the differing keys of [supervisor] of class RESTART, as "listen, control",
 * into @text. Returns how many. */
size_t config_restart_keys(const struct config *running, const struct config *fresh,
                           char *text, size_t size);
/* The same for one model's RESTART keys. */
size_t config_model_restart_keys(const struct config_model *running,
                                 const struct config_model *fresh, char *text,
                                 size_t size);

/* Gives @fresh and its models the RESTART keys that @running goes on with, so that it says
 * what is in use. Before @fresh is in use only. 0 or -ENOMEM. */
int config_keep_restart_keys(struct config *fresh, const struct config *running);

/* Path of moult's program @name: beside moultd, or where it is installed. The caller
 * frees *ret_path. 0 or -ENOMEM. */
int config_find_helper(const char *name, char **ret_path);

/* True when a key of class NEW_GENERATION differs. */
bool config_model_needs_generation(const struct config_model *running,
                                   const struct config_model *fresh);

/* Manner in which a loader shall build the model; texts are borrowed. */
/* Limits that a loader's control group can keep. */
enum config_limit {
	CONFIG_LIMIT_PROCESSES = 1,
	CONFIG_LIMIT_MEMORY = 2,
};

struct config_manner {
	unsigned int group_limits; /* of enum config_limit: those that its group keeps */
	bool is_lean;              /* no copy of the model before COMMIT */
	bool is_urgent;            /* nobody serves: do not stand back */
	bool is_proven;            /* the same has served: no golden requests */
	bool was_killed;           /* and a signal from outside ended it: no warm-up */
	/* Source of its weights, in the words of shared/proto.h. */
	const char *weights;        /* NULL: private */
	const char *weights_sha256; /* NULL: not known */
	const char *placed;         /* the weights on its device; NULL: not there */
	uint64_t chunk_bytes;       /* size of each chunk to map; 0: none */
	uint64_t mapped_bytes;
	const char *canary;
	uint64_t prefill_bytes; /* of the device: may be taken before COMMIT */
	const char *gpu;        /* UUID of the only card it sees; NULL: as moultd */
};

/* Prints the LOAD payload for a loader (shared/proto.h): only NEW_GENERATION keys and
 * what the loader needs of the others. The caller frees the text. NULL: out of memory. */
char *config_model_to_json(const struct config *config, const struct config_model *model,
                           struct config_manner manner);

/* The range of loader_users. False: there is none. */
bool config_users(const struct config *config, struct config_users *ret_users);
/* The user of loader_users that @model's loaders are to be, whatever other models there are; 0:
 * there is no such range. */
uint32_t config_user_of(const struct config *config, const char *model);

/* All values in effect, for `moultctl show-config`: a new reference. NULL: out of memory. */
struct json_t *config_to_json(const struct config *config);

/* Prints @model's section as it could stand in a file, every key with its value. The
 * caller frees the text. NULL: out of memory. */
char *config_model_to_text(const struct config_model *model);
/* The same of [supervisor] and every [device NAME]. */
char *config_head_to_text(const struct config *config);
/* Reads such a text into a configuration of that one model, with loader and engines as
 * @like has them. The caller owns the one reference to *ret_config. 0, or -errno with a
 * sentence. */
int config_of_section(struct config **ret_config, const struct config *like,
                      const char *text, struct err *err);

/* Prints the option tables as mdoc, for moult.conf(5). 0 or -errno. */
int config_print_mdoc(int fd);
