/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/proof/rehearsal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "shared/cleanup.h"

void rehearsal_fini(struct rehearsal *rehearsal)
{
	if (rehearsal->body)
		(void)munmap(rehearsal->body, rehearsal->body_bytes);
	rehearsal->body = NULL;
}

int rehearsal_alloc(struct rehearsal *rehearsal, size_t bytes, struct err *err)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return err_set(err, ENGINE_E_FAILED,
		               "no memory for a request of %zu bytes", bytes);
	rehearsal->body = memory;
	rehearsal->body_bytes = bytes;
	return 0;
}

int rehearsal_seal(struct rehearsal *rehearsal, const struct proto_field *fields,
                   size_t n_fields)
{
	struct proto_text method = proto_text_of("POST");
	struct proto_text target = proto_text_of("/");
	size_t bytes = proto_head_bytes(method, target, fields, n_fields);

	if (bytes > sizeof(rehearsal->head))
		return -E2BIG;
	rehearsal->head_bytes = bytes;
	proto_head_write(rehearsal->head, method, target, fields, n_fields);
	(void)mprotect(rehearsal->body, rehearsal->body_bytes, PROT_READ);
	return 0;
}

/* Encodes the answer, too: only then a model shows numbers that JSON cannot say. */
static int rehearsal_encode(struct compute *compute, struct oip_request *request,
                            uint64_t generation, const struct engine_tensor *outputs,
                            struct err *err)
{
	const struct oip_origin origin = { .generation = generation };
	struct oip_answer answer;
	FREE unsigned char *memory =
		malloc(oip_answer_bound(request, &compute->model, outputs));

	if (!memory)
		return err_set(err, ENGINE_E_FAILED, "out of memory for an answer");
	return oip_encode(request, &compute->model, &origin, outputs, memory, &answer,
	                  err)
	               ? ENGINE_E_MODEL
	               : 0;
}

/* Translates an outcome of compute_run() into one for the generation. */
static int rehearsal_outcome(int outcome)
{
	if (outcome == ENGINE_E_INPUT || outcome == ENGINE_E_MODEL)
		return ENGINE_E_MODEL;
	if (outcome == ENGINE_E_BROKEN)
		return ENGINE_E_DEVICE;
	return outcome == ENGINE_E_MEMORY ? ENGINE_E_MEMORY : ENGINE_E_FAILED;
}

static int rehearsal_decode(const struct rehearsal *rehearsal,
                            const struct compute *compute, struct oip_request *request,
                            struct err *err)
{
	struct proto_head head;
	int r;

	if (proto_head_read(&head, rehearsal->head, rehearsal->head_bytes) < 0)
		return err_set(err, ENGINE_E_FAILED, "the request has no head");
	r = oip_decode(request, &compute->model, &head, rehearsal->body,
	               rehearsal->body_bytes, err);
	if (r)
		return r == 500 ? ENGINE_E_FAILED : ENGINE_E_CONFIG;
	return 0;
}

int rehearsal_ask(const struct rehearsal *rehearsal, struct compute *compute,
                  struct oip_request *request, struct engine_declared *ret_declared,
                  struct err *err)
{
	int r = rehearsal_decode(rehearsal, compute, request, err);

	if (r)
		return r;
	r = compute->api->declare(compute->engine, request->inputs, ret_declared, err);
	return r == 0 || r == ENGINE_E_CONFIG ? r : rehearsal_outcome(r);
}

int rehearsal_run(const struct rehearsal *rehearsal, struct compute *compute,
                  struct oip_request *request, uint64_t generation,
                  struct engine_tensor ret_outputs[ENGINE_TENSORS_MAX], struct err *err)
{
	int r = rehearsal_decode(rehearsal, compute, request, err);

	if (r)
		return r;
	batch_clear(&compute->batch);
	(void)batch_add(&compute->batch, request->inputs);
	r = compute_run(compute, err);
	if (r)
		return rehearsal_outcome(r);
	if (batch_split(&compute->batch, 0, ret_outputs, err))
		return ENGINE_E_MODEL;
	return rehearsal_encode(compute, request, generation, ret_outputs, err);
}
