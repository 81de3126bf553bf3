/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs the golden requests of a directory: golden_file.c reads each one, rehearsal.c asks it,
 * golden_compare.c judges the answer. The first miss ends the run. Each answer counts as
 * progress, because the supervisor watches for a hang here, too.
 */
#include "loader/proof/golden.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "loader/serve/compute.h"
#include "loader/proof/golden_file.h"
#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/clock.h"

/* The best of so many runs counts: a latency bound is about the model, not about what else the
 * machine did at that moment. */
#define GOLDEN_LATENCY_RUNS 3

struct golden {
	const char *path;
	int dir_fd;
	uint64_t generation;
	struct lane *lane;
	struct compute compute;
	struct oip_request request;
};

static int golden_is_named(const struct dirent *entry)
{
	size_t bytes = strlen(entry->d_name);
	size_t tail = sizeof(PROTO_GOLDEN_SUFFIX) - 1;

	return entry->d_name[0] != '.' && bytes > tail &&
	       strcmp(entry->d_name + bytes - tail, PROTO_GOLDEN_SUFFIX) == 0;
}

static int golden_order(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Puts the file's name before a sentence, and a remedy behind it where the file is at fault. */
static int golden_malformed(const struct golden *golden, const char *name, int outcome,
                            struct err *err)
{
	const struct err why = *err;

	if (outcome != ENGINE_E_CONFIG)
		return err_prefix(err, outcome, "golden request '%.100s'", name);
	return err_set(err, outcome,
	               "golden request '%.100s': %.250s: correct it or take it out of "
	               "'%.100s'",
	               name, why.text, golden->path);
}

/* Runs the request once. 0 with its time, or an outcome with a sentence. */
static int golden_ask(struct golden *golden, const struct golden_file *file,
                      const char *name, double *ret_ms, struct err *err)
{
	struct engine_tensor outputs[ENGINE_TENSORS_MAX];
	uint64_t start_ns = clock_now_ns();
	int r;

	r = rehearsal_run(&file->request, &golden->compute, &golden->request,
	                  golden->generation, outputs, err);
	*ret_ms = clock_ns_to_ms(clock_now_ns() - start_ns);
	lane_progress(golden->lane);
	if (r == ENGINE_E_CONFIG)
		return golden_malformed(golden, name, r, err);
	if (r)
		return err_prefix(err, r, "golden request '%.100s'", name);
	for (size_t i = 0; i < file->n_outputs; i++) {
		const struct golden_output *output = &file->outputs[i];

		if (!golden_alike(&file->expected.inputs[i], &outputs[output->output],
		                  &output->tolerance, err))
			return err_prefix(err, ENGINE_E_MODEL,
			                  "golden request '%.100s' missed: output '%s'",
			                  name, file->specs[i].name);
	}
	return 0;
}

/* Runs the request until its answer comes in time. The values are judged in every run. */
static int golden_try(struct golden *golden, const struct golden_file *file,
                      const char *name, struct err *err)
{
	double best_ms = 0;

	for (unsigned int i = 0; i < GOLDEN_LATENCY_RUNS; i++) {
		double ms = 0;
		int r = golden_ask(golden, file, name, &ms, err);

		if (r)
			return r;
		if (i == 0 || ms < best_ms)
			best_ms = ms;
		if (file->max_latency_ms == 0 || best_ms <= file->max_latency_ms)
			return 0;
	}
	/* Another try may find the machine less busy: no verdict on the input. */
	return err_set(
		err, ENGINE_E_FAILED,
		"golden request '%.100s' missed: its answer took %.3f ms, the best "
		"of %d, and max_latency_ms is %g",
		name, best_ms, GOLDEN_LATENCY_RUNS, file->max_latency_ms);
}

static int golden_one(struct golden *golden, const char *name, struct err *err)
{
	struct golden_file *file = NULL;
	int r = golden_file_new(&file, golden->dir_fd, name, &golden->compute.model, err);

	if (r)
		r = golden_malformed(golden, name, r, err);
	else
		r = golden_try(golden, file, name, err);
	golden_file_free(file);
	return r;
}

static int golden_all(struct golden *golden, uint32_t *ret_requests, struct err *err)
{
	struct dirent **entries = NULL;
	int n = scandirat(golden->dir_fd, ".", &entries, golden_is_named, golden_order);
	int r = 0;

	if (n < 0)
		return err_set(err,
		               err_is_shortage(errno) ? ENGINE_E_FAILED : ENGINE_E_CONFIG,
		               "the directory of golden requests '%s' cannot be read: %s",
		               golden->path,
		               access_why(&(struct err)ERR_NULL, golden->path,
		                          R_OK | X_OK, errno));
	if (n > PROTO_GOLDEN_MAX)
		r = err_set(err, ENGINE_E_CONFIG,
		            "'%s' has %d golden requests and %d are allowed: take some "
		            "out",
		            golden->path, n, PROTO_GOLDEN_MAX);
	for (int i = 0; i < n && r == 0; i++)
		r = golden_one(golden, entries[i]->d_name, err);
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
	*ret_requests = (uint32_t)n;
	return r;
}

int golden_run(const struct model_config *config, struct lane *lane,
               const struct engine_api *api, struct engine *engine,
               uint32_t *ret_requests, struct err *err)
{
	struct golden golden = {
		.path = config->golden,
		.generation = lane->generation,
		.lane = lane,
	};
	int r;

	*ret_requests = 0;
	if (!config->golden)
		return 0;
	golden.dir_fd = open(config->golden, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (golden.dir_fd < 0)
		return err_set(err,
		               err_is_shortage(errno) ? ENGINE_E_FAILED : ENGINE_E_CONFIG,
		               "the directory of golden requests '%s' cannot be opened: "
		               "%s: make it, or remove the key golden",
		               config->golden,
		               access_why(&(struct err)ERR_NULL, config->golden,
		                          R_OK | X_OK, errno));
	oip_request_init(&golden.request);
	if (compute_init(&golden.compute, config, api, engine, 1) < 0)
		r = err_set(err, ENGINE_E_FAILED, "out of memory");
	else
		r = golden_all(&golden, ret_requests, err);
	compute_fini(&golden.compute);
	oip_request_fini(&golden.request);
	close_fd(&golden.dir_fd);
	return r;
}
