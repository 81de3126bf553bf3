/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The one seam between a loader and a framework.
 *
 * An engine is a shared object named moult-engine-NAME.so that exports one function,
 * moult_engine(). Neither moultd nor moult-loader links a framework: the loader opens the
 * shared object when it stages a model.
 *
 * Conventions
 *  1. A process has one engine instance, called from one thread, the first one. Children that
 *     the engine started there and did not wait for are reaped between two calls, the oldest
 *     first, once there are more than 64 of them.
 *  2. Calls come in this order: stage, commit, infer any number of times, close. After
 *     stage or commit has failed, or infer with BROKEN, only close may follow.
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

#define ENGINE_ABI         6
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
	/* weights is one copy for all processes, and good until close; the engine makes none
	 * of its own. The engine may write to it: a written page is private from then on. */
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
	const struct tensor_spec *inputs;
	size_t n_inputs;
	const struct tensor_spec *outputs;
	size_t n_outputs;
	const struct engine_option *options; /* the section's option.NAME = VALUE */
	size_t n_options;
	const struct engine_secret *secrets;
	size_t n_secrets;
};

struct engine_tensor {
	enum tensor_dtype dtype;
	struct tensor_shape shape;
	const void *data; /* aligned to its element size */
	size_t bytes;
};

/* Memory of the device in the last infer, beyond what was held before; 0: not known. */
struct engine_use {
	uint64_t peak_bytes;
	uint64_t wanted_bytes;    /* after ENGINE_E_MEMORY: the least that it needs */
	uint64_t available_bytes; /* after ENGINE_E_MEMORY: as much was free */
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
	 * caller checks datatypes, shapes and sizes against the configuration. */
	int (*infer)(struct engine *engine, const struct engine_tensor *inputs,
	             struct engine_tensor *outputs, struct err *err);
	/* Waits for the device and frees everything. Accepts NULL. */
	void (*close)(struct engine *engine);
	/* Optional: the memory that the last infer took, whatever its outcome. */
	void (*measure)(const struct engine *engine, struct engine_use *ret_use);
	/* Optional, called first of all, in a spare. Does ahead what the first stage and the
	 * first computations would have to wait for: caches, tables, a compiler's start. Must
	 * not touch a device, nor even look which there are, and leaves no thread behind. */
	void (*prepare)(void);
};

/* The one exported symbol. Never fails; the caller checks abi. */
const struct engine_api *moult_engine(void);

#ifdef __cplusplus
}
#endif
