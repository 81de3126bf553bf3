/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The payload of LOAD (shared/proto.h): the model, read and checked.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/engine.h"
#include "loader/load/placed.h"
#include "loader/load/weights.h"
#include "shared/err.h"
#include "shared/tensor.h"

#define MODEL_CONFIG_NAMES_MAX   32
#define MODEL_CONFIG_OPTIONS_MAX 32

struct model_config {
	json_t *json; /* owned; every text below points into it */
	const char *model;
	const char *version;
	const char *engine;
	const char *engine_dir;
	const char *path; /* NULL: no model file */
	const char *device;
	const char *gpu;               /* UUID of the only card to see, or NULL */
	const char *warmup_request;    /* NULL: zeros */
	const char *golden;            /* directory; NULL: none */
	const char *secrets_env;       /* taken out of the options; NULL: none */
	const char *working_directory; /* NULL: that of moultd */
	const char *sandbox;      /* "strict", "net", "open" or "off"; NULL: strict */
	const char *sandbox_read; /* "/a, /b"; NULL: none */
	const char *sandbox_write;
	uint64_t user; /* whom the loader is to be; 0: nobody of its own */
	/* 0: no limit */
	uint64_t max_processes;
	uint64_t max_processes_together; /* of all loaders of that user */
	uint64_t max_memory_bytes;
	uint64_t group_limits; /* enum walls_limit: those that a control group keeps */
	bool is_hosted; /* the engine hosts the model's routes, and computes nothing */
	uint32_t threads;
	uint64_t working_bytes; /* 0: no limit */
	uint32_t max_batch;
	uint32_t warmup_runs;
	uint32_t leases;
	uint64_t max_delay_ns;
	uint64_t max_body_bytes;
	bool is_lean;   /* no copy of the model before COMMIT */
	bool is_urgent; /* no generation serves meanwhile */
	bool is_proven; /* the same recipe has served before */
	enum weights_share share;
	const char *weights_sha256; /* NULL: not known yet */
	enum placed_mode placed;
	uint64_t prefill_bytes;        /* may be taken of the device before COMMIT */
	struct gpu_arena_shape chunks; /* PLACED_MAP: the chunks to be mapped */
	const char *canary;            /* PLACED_MAP: their hash */
	const char *required_secrets[MODEL_CONFIG_NAMES_MAX];
	size_t n_required_secrets;
	struct tensor_spec inputs[ENGINE_TENSORS_MAX];
	size_t n_inputs;
	struct tensor_spec outputs[ENGINE_TENSORS_MAX];
	size_t n_outputs;
	struct engine_option options[MODEL_CONFIG_OPTIONS_MAX];
	size_t n_options;
};

/* Reads the payload of LOAD; unknown keys are left alone. 0, or -EINVAL or -ENOMEM with a
 * sentence. model_config_fini() in any case. */
int model_config_init(struct model_config *config, const char *payload, struct err *err);
void model_config_fini(struct model_config *config);

/* What the configuration leaves to the model, once that is known: at most ENGINE_TENSORS_MAX. */
void model_config_set_inputs(struct model_config *config, const struct tensor_spec *specs,
                             size_t n);
void model_config_set_outputs(struct model_config *config,
                              const struct tensor_spec *specs, size_t n);

/* Opens warmup_request, which the caller closes; *ret_bytes is at most max_body_bytes. 0 or an outcome
 * of enum engine_outcome with a sentence. */
int model_config_open_warmup(const struct model_config *config, int *ret_fd,
                             size_t *ret_bytes, struct err *err);
