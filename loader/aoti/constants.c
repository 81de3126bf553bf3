/* SPDX-License-Identifier: Apache-2.0 */

/*
 * weights_config.json has for each constant its file, sizes, strides and offset, in elements; the
 * compiled code has its datatype. A package with its weights inside the code has no such file:
 * the container has copied them when it was made.
 */
#include "loader/aoti/constants.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loader/aoti/catch.h"
#include "loader/engine.h"

/* What torch aligns tensors to. */
#define CONSTANTS_ALIGNMENT 64
#define CONSTANTS_RANK_MAX  16

#define CONSTANTS_BESIDE                                                                 \
	"compile it with inductor_configs={\"aot_inductor.package_constants_in_so\": "   \
	"False, \"aot_inductor.package_constants_on_disk_format\": "                     \
	"\"pickle_weights\"}"

struct constants_one {
	const char *name;   /* for the container */
	const char *origin; /* in the model's Python */
	int32_t dtype;
	int64_t rank;
	int64_t sizes[CONSTANTS_RANK_MAX];
	int64_t strides[CONSTANTS_RANK_MAX];
	struct package_part part;  /* of its file */
	const unsigned char *data; /* its first element */
	size_t bytes;              /* up to the last one */
};

int constants_check_shared(const struct package *package, const struct code *code,
                           struct err *err)
{
	size_t n = 0;

	if (package->layout.data && code->model.use_pairs)
		return 0;
	if (code->model.count_constants(code->container, &n) == 0 && n == 0)
		return 0;
	if (package->layout.data)
		return err_set(
			err, ENGINE_E_MODEL,
			"the torch that compiled it cannot take weights from "
			"beside the code: compile it anew by torch 2.11 or a newer "
			"one, or with the weights inside the code");
	return err_set(err, ENGINE_E_PRIVATE,
	               "the weights are inside the package's code, which each loader "
	               "copies: to share them, " CONSTANTS_BESIDE);
}

/* Bytes of an element. The numbers are c10::ScalarType's; 0: not known. */
static size_t constants_element_bytes(int32_t dtype)
{
	static const unsigned char bytes[] = {
		1, 1, 2, 4, 8, 2, 4, 8, 4, 8, 16, 1, 1, 1, 4, 2, /* up to bfloat16 */
		0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1,                 /* float8: 23 to 26 */
		2, 4, 8,                                         /* uint16 and larger */
	};

	return dtype >= 0 && (size_t)dtype < sizeof(bytes) ? bytes[dtype] : 0;
}

static bool constants_read_list(json_t *list, int64_t *numbers, int64_t *ret_n)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n > CONSTANTS_RANK_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		json_t *number = json_array_get(list, i);

		if (!json_is_integer(number) || json_integer_value(number) < 0)
			return false;
		numbers[i] = json_integer_value(number);
	}
	*ret_n = (int64_t)n;
	return true;
}

/* Measures what @one reaches of its part, behind @offset elements. False: it is more than there
 * is. */
static bool constants_fit(struct constants_one *one, int64_t offset)
{
	size_t element = constants_element_bytes(one->dtype);
	size_t most = element ? one->part.bytes / element : 0;
	size_t last = (size_t)offset;
	bool is_empty = false;

	for (int64_t i = 0; i < one->rank; i++) {
		size_t step;

		is_empty |= one->sizes[i] == 0;
		if (one->sizes[i] <= 1)
			continue;
		if (__builtin_mul_overflow((size_t)one->sizes[i] - 1,
		                           (size_t)one->strides[i], &step) ||
		    __builtin_add_overflow(last, step, &last))
			return false;
	}
	if (element == 0 || offset < 0 || (!is_empty && last >= most))
		return false;
	one->bytes = is_empty ? 0 : (last - (size_t)offset + 1) * element;
	one->data = one->part.data + (is_empty ? 0 : (size_t)offset * element);
	return true;
}

static int constants_find(struct constants_one *one, json_t *layout,
                          const struct package *package, struct err *err)
{
	json_t *row = json_object_get(layout, one->origin);
	int64_t n_strides = 0;
	const char *file;

	if (!row)
		row = json_object_get(layout, one->name);
	file = json_string_value(json_array_get(row, 0));
	if (!file ||
	    !constants_read_list(json_array_get(row, 1), one->sizes, &one->rank) ||
	    !constants_read_list(json_array_get(row, 2), one->strides, &n_strides) ||
	    n_strides != one->rank || !json_is_integer(json_array_get(row, 3)))
		return err_set(err, ENGINE_E_MODEL,
		               "the package's weights_config.json does not describe the "
		               "weight '%s': compile it anew",
		               one->origin);
	if (!package_find_weight(package, file, &one->part) ||
	    !constants_fit(one, json_integer_value(json_array_get(row, 3))))
		return err_set(err, ENGINE_E_MODEL,
		               "the weight '%s' is not whole in the package's file '%s': "
		               "copy the package again",
		               one->origin, file);
	return 0;
}

static int constants_look(struct constants_one *one, size_t i, const struct code *code,
                          bool *ret_is_folded)
{
	const struct aoti_model *model = &code->model;

	*one = (struct constants_one){ .name = NULL };
	return model->constant_name(code->container, i, &one->name) ||
	       model->constant_origin(code->container, i, &one->origin) ||
	       model->constant_dtype(code->container, i, &one->dtype) ||
	       model->constant_folded(code->container, i, ret_is_folded);
}

/* Bytes of the copy that @one takes. */
static size_t constants_room(const struct constants_one *one)
{
	return (one->bytes + CONSTANTS_ALIGNMENT - 1) &
	       ~(size_t)(CONSTANTS_ALIGNMENT - 1);
}

/* Makes the tensor of @one, in the package or in the copy. */
static int constants_make(struct constants *constants, const struct constants_one *one,
                          const struct shim *shim, struct err *err)
{
	struct aoti_pair *pair = &constants->pairs[constants->n_pairs];
	void *data = (void *)(uintptr_t)one->data;

	if (constants->copy) {
		data = (char *)constants->copy + constants->copy_bytes;
		memcpy(data, one->data, one->bytes);
	} else if (one->bytes > 0 &&
	           (uintptr_t)data % constants_element_bytes(one->dtype) != 0) {
		return err_set(err, ENGINE_E_PRIVATE,
		               "the weight '%s' is not aligned in the package: write it "
		               "anew by torch to share it",
		               one->origin);
	}
	constants->copy_bytes += constants_room(one);
	pair->name = one->name;
	if (shim->torch.from_blob(data, one->rank, one->sizes, one->strides, 0,
	                          one->dtype, AOTI_DEVICE_CPU, 0, &pair->tensor))
		return err_set(err, ENGINE_E_FAILED,
		               "torch cannot make the tensor of the weight '%s'",
		               one->origin);
	constants->n_pairs++;
	return 0;
}

/* Calls for each constant of the model what is to be done: measure, or make. */
static int constants_go(struct constants *constants, json_t *layout, bool is_made,
                        const struct package *package, const struct code *code,
                        const struct shim *shim, struct err *err)
{
	size_t n = 0;
	int r = 0;

	constants->copy_bytes = 0;
	(void)code->model.count_constants(code->container, &n);
	for (size_t i = 0; i < n && r == 0; i++) {
		struct constants_one one;
		bool is_folded = false;

		if (constants_look(&one, i, code, &is_folded))
			return err_set(
				err, ENGINE_E_MODEL,
				"the package's code does not describe its weights: "
				"compile it anew");
		if (is_folded)
			continue;
		r = constants_find(&one, layout, package, err);
		if (r == 0 && is_made)
			r = constants_make(constants, &one, shim, err);
		else
			constants->copy_bytes += constants_room(&one);
	}
	return r;
}

static int constants_make_room(struct constants *constants, size_t n, bool is_lasting,
                               struct err *err)
{
	constants->pairs = calloc(n, sizeof(*constants->pairs));
	if (!constants->pairs ||
	    (!is_lasting && posix_memalign(&constants->copy, CONSTANTS_ALIGNMENT,
	                                   constants->copy_bytes + 1) != 0))
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	return 0;
}

static int constants_use(const struct constants *constants, const struct code *code,
                         struct err *err)
{
	char cause[ERR_TEXT_MAX];
	struct catch catch;
	int32_t failed;

	catch_begin(&catch);
	failed = code->model.use_pairs(code->container, constants->pairs,
	                               constants->n_pairs, false, false);
	catch_end(&catch, cause, sizeof(cause));
	return failed ? err_set(err, ENGINE_E_MODEL,
	                        "torch does not take the weights: %s", cause)
	              : 0;
}

int constants_place(struct constants *constants, const struct package *package,
                    const struct code *code, const struct shim *shim, bool is_lasting,
                    struct err *err)
{
	json_t *layout;
	size_t n = 0;
	int r;

	(void)code->model.count_constants(code->container, &n);
	if (n == 0 || !package->layout.data)
		return package->has_blob && n > 0
		               ? err_set(err, ENGINE_E_MODEL,
		                         "its weights are in one blob, which engine aoti "
		                         "does not read: " CONSTANTS_BESIDE)
		               : 0;
	layout = json_loadb((const char *)package->layout.data, package->layout.bytes, 0,
	                    NULL);
	r = constants_go(constants, layout, false, package, code, shim, err);
	if (r == 0)
		r = constants_make_room(constants, n, is_lasting, err);
	if (r == 0)
		r = constants_go(constants, layout, true, package, code, shim, err);
	json_decref(layout);
	return r ? r : constants_use(constants, code, err);
}

void constants_fini(struct constants *constants, const struct shim *shim)
{
	for (size_t i = 0; i < constants->n_pairs; i++)
		(void)shim->torch.free(constants->pairs[i].tensor);
	free(constants->pairs);
	free(constants->copy);
	*constants = (struct constants){ 0 };
}
