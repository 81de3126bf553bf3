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
 *  1. One engine instance per process, called from one thread, the first one. Children that
 *     it started there and has not waited for when its call returns are reaped, the oldest
 *     first, once there are more than 64 of them.
 *  2. Calls come in this order: stage, commit, infer any number of times, close. After
 *     stage or commit has failed, or infer with BROKEN, only close may follow.
 *  3. A call returns 0 or an outcome of enum engine_outcome, with a sentence for the
 *     operator in @err. stage and commit fail with CONFIG or MODEL (the same input would
 *     fail again) or with DEVICE, MEMORY or FAILED (it is worth another try in a fresh
 *     process).
 *     Given shared or placed weights they may say PRIVATE, holding no copy: after close the
 *     loader starts over with private ones.
 *     infer fails with INPUT (the request is to blame, whoever computes it: answered 400,
 *     and counts for nothing), MODEL (the model
 *     cannot compute it or answers what was not declared, and would do so again) or FAILED
 *     (memory ran out, say; both answered 500, and held against the generation in its
 *     watch window; the engine goes on) or BROKEN (not
 *     answered: the process ends, since nothing inside it can mend a sticky device error).
 *     While warming up INPUT and MODEL refuse the input; FAILED and BROKEN do not.
 *  4. No call throws, exits or blocks for ever; none keeps a pointer that it was given
 *     longer than stated here.
 *  5. An option that the engine does not know is refused by stage, with CONFIG. What it has it
 *     declares in its file (shared/engine_options.h), where moultd -t looks it up.
 *  6. Tensors are little-endian and row-major (shared/tensor.h). BYTES tensors hold, per
 *     element, a uint32 length and that many bytes.
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
	ENGINE_E_INPUT,   /* this request cannot be computed; the next one can */
	ENGINE_E_FAILED,  /* this call failed; another one may succeed */
	ENGINE_E_BROKEN,  /* the process must be replaced */
	ENGINE_E_PRIVATE, /* it cannot compute with shared weights: to be tried without */
	/* too little memory of the device, for the weights or for this request; after infer the
	 * next one can be computed */
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

/* Weights that lie on the device already. */
struct engine_placed {
	uint64_t address; /* of the file's first byte, on the device */
	const void *host; /* where the host can read the same; NULL: it cannot */
	/* A write ends the process, or its context: what inference writes to has to be
	 * copied before. */
	bool is_read_only;
	/* Copies to the host. 0 or -errno. */
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
	 * of its own. It may be written to: a page that is written is private from then on. */
	bool is_shared;
	/* Until commit hold no copy of the weights in the memory of @device, because another
	 * process still fills it. weights is NULL in stage. In commit it is there when it is
	 * shared; else weights_fd is to be read with pread(). */
	bool is_lean;
	int weights_fd; /* lean and private only; else -1 */
	/* The weights will be on the device when commit is called, in placed, and stay there
	 * until close: the engine makes no copy of its own. It is lean then. */
	bool is_placed;
	const struct engine_placed *placed; /* NULL before commit */
	uint32_t threads;                   /* computing threads, at least 1 */
	uint64_t working_bytes; /* that one computation may take at most; 0: no limit */
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
	uint64_t wanted_bytes;    /* after ENGINE_E_MEMORY: it needs so much at least */
	uint64_t available_bytes; /* likewise: there is so much */
};

struct engine;

struct engine_api {
	uint32_t abi; /* ENGINE_ABI */
	const char *name;
	const char *version; /* of the framework, for the log */
	bool takes_placed;   /* it can compute with weights that are placed */
	/* Everything that needs no device memory. *ret_engine is set even on failure when
	 * close must be called. Weights that are not shared may go when it has returned; if
	 * @device is not cpu, when commit has. */
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
	/* Optional: what infer took, whatever its outcome. */
	void (*measure)(const struct engine *engine, struct engine_use *ret_use);
	/* Optional: for a process that was started before it is known for what. What the
	 * first stage and the first computations would have to wait for: caches, tables, a
	 * compiler's start. No device, not even a look which there are, and no thread that
	 * stays. Comes before anything else. */
	void (*prepare)(void);
};

/* The one exported symbol. Never fails; the caller checks abi. */
const struct engine_api *moult_engine(void);

#ifdef __cplusplus
}
#endif
