/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The one seam between a loader and a framework.
 *
 * An engine is a shared object named moult-engine-NAME.so that exports one function,
 * moult_engine(). Neither moultd nor moult-loader links a framework: the loader opens the
 * shared object when it stages a model.
 *
 * An engine computes, or hosts. One that computes has infer: the loader reads requests of the
 * Open Inference Protocol, batches them, and writes the answers. One that hosts has host: it gets
 * the HTTP requests of the model's routes as clients have sent them, from as many threads as it
 * has, and answers in parts. One engine may have both; the model's section says which is called.
 *
 * Conventions
 *  1. A process has one engine instance, called from one thread, the first one. Children that
 *     the engine started there and did not wait for are reaped between two calls, the oldest
 *     first, once there are more than 64 of them. The functions of struct engine_host may be
 *     called from any thread.
 *  2. Calls come in this order: need, stage, commit, declare, then infer any number of times or
 *     host once, close. After stage, commit or host has failed, or infer with BROKEN, only close may
 *     follow.
 *  3. A call returns 0 or an outcome of enum engine_outcome, with a sentence for the
 *     operator in @err. stage and commit fail with
 *	CONFIG, MODEL           the same input would fail again
 *	DEVICE, MEMORY, FAILED  another try in a fresh process is worth it
 *	PRIVATE                 the engine cannot share the weights that it was given shared
 *	                        or placed, and holds no copy: after close the loader starts
 *	                        over with private ones
 *     infer fails with
 *	INPUT   the request is to blame, whoever computes it: answered 400
 *	MEMORY  the request does not fit into the device's memory: answered 413
 *	MODEL   the model cannot compute the request, or answers what was not declared, and
 *	        would do so again: answered 500
 *	FAILED  this computation failed (main memory ran out, say): answered 500
 *	BROKEN  not answered; the process ends, since nothing inside it can mend a sticky
 *	        device error
 *     After all but BROKEN the engine goes on. MODEL and FAILED count against the generation
 *     in its watch window. While warming up INPUT and MODEL refuse the generation's input;
 *     after MEMORY, FAILED and BROKEN another process may try.
 *  4. No call throws, exits or blocks for ever; none keeps a pointer that it was given
 *     longer than stated here.
 *  5. stage refuses an option that the engine does not know, with CONFIG. The engine declares
 *     its options in its file (shared/engine_options.h), where moultd -t looks them up.
 *  6. Tensors are little-endian and row-major (shared/tensor.h). A BYTES tensor holds, per
 *     element, a uint32 length and as many bytes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "shared/err.h"
#include "shared/tensor.h"

#define ENGINE_ABI         9
#define ENGINE_TENSORS_MAX 32

enum engine_outcome {
	_ENGINE_E_SUCCESS,
	ENGINE_E_CONFIG,  /* configuration, options or secrets are wrong */
	ENGINE_E_MODEL,   /* the model is bad, or is not what was declared */
	ENGINE_E_DEVICE,  /* no such device, or it does not work */
	ENGINE_E_INPUT,   /* the request cannot be computed; the next one can */
	ENGINE_E_FAILED,  /* the call failed; another one may succeed */
	ENGINE_E_BROKEN,  /* the process must be replaced */
	ENGINE_E_PRIVATE, /* the engine cannot share these weights */
	/* the device has too little memory, for the weights or for this request */
	ENGINE_E_MEMORY,
};

struct engine_secret {
	const char *name; /* terminated */
	const void *value;
	size_t value_bytes;
};

struct engine_option {
	const char *name;
	const char *value;
};

/* Weights that lie on the device already; all of it is the loader's. */
struct engine_placed {
	uint64_t address; /* of the file's first byte, on the device */
	const void *host; /* where the host can read the same; NULL: it cannot */
	/* A write ends the process, or its context: the engine has to copy first whatever
	 * inference writes to. */
	bool is_read_only;
	/* Copies @bytes from @at of the file to the host. 0 or -errno. */
	int (*read)(void *context, size_t at, void *buffer, size_t bytes);
	void *context;
};

/* Lives as long as the engine. */
struct engine_config {
	const char *model;  /* name, for messages */
	const char *device; /* "cpu", "cuda:0" */
	const void
		*weights; /* the model file's bytes, page-aligned; NULL: none, or lean */
	size_t weights_bytes;
	/* weights is one copy for all processes, and good until the process ends, unless stage
	 * returned PRIVATE: until close then. The engine makes none of its own. The engine
	 * may write to it: a written page is private from then on. */
	bool is_shared;
	/* Until commit the engine holds no copy of the weights in the memory of @device,
	 * because another process still fills it. weights is NULL in stage. In commit shared
	 * weights are there; private ones the engine reads from weights_fd with pread(). */
	bool is_lean;
	int weights_fd; /* lean and private only; else -1 */
	/* The weights will be on the device when commit is called, in placed, and stay there
	 * until close: the engine makes no copy of its own. is_lean is set as well. */
	bool is_placed;
	const struct engine_placed *placed; /* NULL before commit */
	uint32_t threads;                   /* computing threads, at least 1 */
	uint64_t working_bytes; /* at most, for one computation; 0: no limit */
	uint32_t max_batch;
	bool is_hosted; /* host is called, and infer never: the model has no tensors */
	/* 0 inputs or outputs: the configuration leaves them to the model. Before the first
	 * infer the loader sets them here, by what declare said. */
	const struct tensor_spec *inputs;
	size_t n_inputs;
	const struct tensor_spec *outputs;
	size_t n_outputs;
	const struct engine_option *options; /* the section's option.NAME = VALUE */
	size_t n_options;
	const struct engine_secret *secrets;
	size_t n_secrets;
	/* A folder in memory, where there is such a file system, that nobody else can enter. The
	 * engine empties it; moultd removes it behind the process. NULL: none was asked for. */
	const char *folder;
	unsigned int port; /* that the engine asked for */
	/* Readable once the loader is to end; never read by the engine. A long wait in commit
	 * ends then: commit fails, with whatever outcome, and close follows. */
	int quit_fd;
};

struct engine_tensor {
	enum tensor_dtype dtype;
	struct tensor_shape shape;
	const void *data; /* aligned to its element size */
	size_t bytes;
};

/* The datatype of an input that the model does not tell; its shape is not read. */
#define ENGINE_DTYPE_OPEN TENSOR_DTYPE_COUNT

/* Tensors as a model declares them. 0 of a kind: the model does not tell. Names differ, have no
 * control characters, and are not empty. */
struct engine_declared {
	struct tensor_spec inputs[ENGINE_TENSORS_MAX];
	size_t n_inputs;
	struct tensor_spec outputs[ENGINE_TENSORS_MAX];
	size_t n_outputs;
};

/* Memory of the device in the last infer, beyond what was held before; 0: not known. */
struct engine_use {
	uint64_t peak_bytes;
	uint64_t wanted_bytes;    /* after ENGINE_E_MEMORY: the least that it needs */
	uint64_t available_bytes; /* after ENGINE_E_MEMORY: as much was free */
};

/* Hosting */

struct engine_text {
	const char *data; /* not terminated */
	size_t bytes;
};

struct engine_field {
	struct engine_text name; /* in a request: in lower case */
	struct engine_text value;
};

/* A request of a route, as the client has sent it. All that it points to is good until the last
 * part of its answer has been given. */
struct engine_request {
	struct engine_text method;
	struct engine_text target; /* path and query, not decoded */
	const struct engine_field
		*fields; /* none of the connection's own: RFC 9110 7.6.1 */
	size_t n_fields;
	const void *body; /* whole, not chunked any more; the coding is the client's */
	size_t body_bytes;
	/* The other end of the connection that it came over: a client, or a proxy before
	 * moultd. The address is empty if nobody knows it. */
	struct engine_text client;
	unsigned int client_port;
	uint64_t accepted_ns; /* CLOCK_MONOTONIC */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC, or UINT64_MAX */
};

enum engine_part_flag {
	ENGINE_PART_LAST = 1, /* ends the answer, and the request with it */
	/* With the first part: the answer is the model's own failure, whatever its status. With
	 * LAST behind others: the rest cannot be made, and the client is made to see that. */
	ENGINE_PART_FAULT = 2,
	ENGINE_PART_NOWAIT = 4, /* AGAIN rather than wait for room */
};

/* Part of an answer, copied. */
struct engine_part {
	unsigned int flags;
	unsigned int status; /* HTTP, with the first part; else 0 */
	/* With the first part. Fields of the connection are dropped; Content-Length, if it is
	 * there, must be what all parts come to. */
	const struct engine_field *fields;
	size_t n_fields;
	const void *body;
	size_t body_bytes;
};

enum engine_host_outcome {
	_ENGINE_HOST_E_SUCCESS,
	ENGINE_HOST_E_AGAIN, /* nothing now: the bell rings when that has changed */
	ENGINE_HOST_E_END,   /* no request will come any more */
	ENGINE_HOST_E_GONE, /* nobody waits for this answer; it has to be ended nevertheless */
	ENGINE_HOST_E_INVALID, /* such an answer cannot be sent; nothing was */
};

/* What the loader lends an engine that hosts; good until close has returned. */
struct engine_host {
	struct host *host; /* the first argument of the calls */
	/* An eventfd for a loop with a poll of its own: readable when a request, room for
	 * an answer or the end has come. The engine reads it, then calls until AGAIN. */
	int bell;
	/* A body of so many bytes is sent as one part: NOWAIT never waits for less. */
	size_t part_bytes;
	/* Takes the next request; waits until @until_ns (CLOCK_MONOTONIC; 0: not at all,
	 * UINT64_MAX: for ever). 0, AGAIN or END. Each request that was taken is ended with
	 * one LAST part. */
	int (*take)(struct host *host, uint64_t until_ns,
	            struct engine_request **ret_request);
	/* Sends a part of an answer. Waits while clients have not read what was sent before,
	 * unless NOWAIT. A part may be larger than what fits at once: from its second piece
	 * on it waits, NOWAIT or not. 0, AGAIN (nothing was
	 * sent), GONE (dropped; with LAST the request has ended) or INVALID with a sentence.
	 * One thread at a time for one request. */
	int (*answer)(struct host *host, struct engine_request *request,
	              const struct engine_part *part, struct err *err);
	/* True once nobody waits for the answer: the client left, or the deadline passed. The
	 * bell rings for it, too. */
	bool (*is_gone)(struct host *host, const struct engine_request *request);
	/* The process must be replaced: it ends as after BROKEN, with @why for the operator. */
	void (*fail)(struct host *host, const char *why);
};

/* Walls: sandbox in moult.conf(5). */

/* What an engine needs of the machine beside its libraries, memory, and what it was handed. */
struct engine_walls {
	bool has_processes; /* starts others, which live inside the same walls */
	bool has_unix;      /* makes unix sockets that have a path */
	bool has_folder;    /* has files of its own in memory: engine_config.folder */
	unsigned int
		port; /* of TCP, on which it listens, and which it connects to; 0: none */
	/* Lets the process read what is at or below @path, and execute it if it starts
	 * processes. */
	void (*read)(struct engine_walls *walls, const char *path);
};

struct engine;

struct engine_api {
	uint32_t abi; /* ENGINE_ABI */
	const char *name;
	const char *version; /* of the framework, for the log */
	bool takes_placed;   /* the engine can compute with placed weights */
	/* Does everything that needs no device memory. *ret_engine is set even on failure when
	 * close must be called. Weights that are not shared are borrowed until stage has
	 * returned; if @device is not cpu, until commit has. */
	int (*stage)(const struct engine_config *config, struct engine **ret_engine,
	             struct err *err);
	/* Places the weights on the device. */
	int (*commit)(struct engine *engine, struct err *err);
	/* Computes one batch. @inputs are in the configuration's order and match its
	 * datatypes and shapes. @outputs has room for the configured outputs, in their
	 * order; their data belongs to the engine and is good until the next call. The
	 * caller checks datatypes, shapes and sizes against the configuration. NULL: the
	 * engine does not compute. */
	int (*infer)(struct engine *engine, const struct engine_tensor *inputs,
	             struct engine_tensor *outputs, struct err *err);
	/* Begins to serve the model's routes, and returns: what follows happens in threads of
	 * the engine's own. Fails as commit does. NULL: the engine hosts nothing. */
	int (*host)(struct engine *engine, const struct engine_host *host,
	            struct err *err);
	/* Waits for the device and frees everything. Accepts NULL. The engine that hosts has
	 * ended its threads when this returns; take says END by then. */
	void (*close)(struct engine *engine);
	/* Optional: the memory that the last infer took, whatever its outcome. */
	void (*measure)(const struct engine *engine, struct engine_use *ret_use);
	/* Optional, called first of all, in a spare. Does ahead what the first stage and the
	 * first computations would have to wait for: caches, tables, a compiler's start. Must
	 * not touch a device, nor even look which there are, and leaves no thread behind. */
	void (*prepare)(void);
	/* Optional, called before stage: says what the engine needs, into @walls. Nothing that
	 * it does not say can be reached from stage on. Must not look into the model. 0, or an
	 * outcome of enum engine_outcome with a sentence. */
	int (*need)(const struct engine_config *config, struct engine_walls *walls,
	            struct err *err);
	/* Optional, called after commit where the configuration leaves inputs or outputs out.
	 * First with @example NULL: says what the model's file declares, in the order in which
	 * infer takes and gives them. Then, if tensors are missing still, with the inputs of the
	 * warm-up, which match engine_config.inputs: computes them as infer does, with infer's
	 * outcomes or CONFIG, and says which outputs come; a dim that another request may change is
	 * TENSOR_DIM_ANY. @ret_declared is zeroed before. 0, or an outcome with a sentence. */
	int (*declare)(struct engine *engine, const struct engine_tensor *example,
	               struct engine_declared *ret_declared, struct err *err);
};

/* The one exported symbol. Never fails; the caller checks abi. */
const struct engine_api *moult_engine(void);

#ifdef __cplusplus
}
#endif
