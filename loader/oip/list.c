/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/oip/list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "loader/oip/number.h"

/* The state while one `data` is measured or written. */
struct oip_list {
	enum tensor_dtype dtype;
	const struct tensor_shape *shape;
	uint32_t levels; /* lists within lists: 1 when data is flat */
	size_t count;
	size_t text_bytes; /* the sum of all strings */
	unsigned char *at; /* where the next element goes */
	size_t n_stored;
};

static void oip_list_init(struct oip_list *list, enum tensor_dtype dtype,
                          const struct tensor_shape *shape, const json_t *data)
{
	*list = (struct oip_list){
		.dtype = dtype,
		.shape = shape,
		.levels = json_is_array(json_array_get(data, 0)) ? shape->rank : 1,
	};
	(void)tensor_count(shape, &list->count);
}

/* Measures the lists of one level, and of those below. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as the shape */
static int oip_list_measure_level(struct oip_list *list, const json_t *data,
                                  uint32_t level, struct err *err)
{
	const bool is_flat = list->levels == 1;
	const size_t want = is_flat ? list->count : (size_t)list->shape->dims[level];
	const size_t got = json_array_size(data);
	const json_t *value;
	size_t i;
	int r = 0;

	if (!json_is_array(data))
		return err_set(err, -EINVAL,
		               "data must be nested like its shape, or flat");
	if (got != want)
		return is_flat ? err_set(err, -EINVAL,
		                         "data has %zu elements, %s than the %zu of its "
		                         "shape",
		                         got, got > want ? "more" : "fewer", want)
		               : err_set(err, -EINVAL,
		                         "data has a list of %zu where dim %u of its "
		                         "shape "
		                         "is %zu",
		                         got, level, want);
	if (level + 1 == list->levels && list->dtype != TENSOR_DTYPE_BYTES)
		return 0;
	json_array_foreach(data, i, value)
	{
		if (level + 1 == list->levels)
			list->text_bytes += json_string_length(value);
		else
			r = oip_list_measure_level(list, value, level + 1, err);
		if (r)
			break;
	}
	return r;
}

static int oip_list_store(struct oip_list *list, const json_t *value, struct err *err)
{
	int r = 0;

	if (list->dtype != TENSOR_DTYPE_BYTES) {
		r = oip_number_store(list->dtype, value, list->at, err);
		list->at += tensor_dtype_bytes(list->dtype);
	} else if (!json_is_string(value) || json_string_length(value) > UINT32_MAX) {
		r = err_set(err, -EINVAL, "must be a string");
	} else {
		uint32_t length = (uint32_t)json_string_length(value);

		memcpy(list->at, &length, sizeof(length));
		memcpy(list->at + sizeof(length), json_string_value(value), length);
		list->at += sizeof(length) + length;
	}
	if (r < 0)
		return err_prefix(err, r, "element %zu", list->n_stored);
	list->n_stored++;
	return 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the shape */
static int oip_list_fill_level(struct oip_list *list, const json_t *data, uint32_t level,
                               struct err *err)
{
	const json_t *value;
	size_t i;
	int r = 0;

	json_array_foreach(data, i, value)
	{
		r = level + 1 == list->levels
		            ? oip_list_store(list, value, err)
		            : oip_list_fill_level(list, value, level + 1, err);
		if (r)
			break;
	}
	return r;
}

int oip_list_measure(enum tensor_dtype dtype, const struct tensor_shape *shape,
                     const json_t *data, size_t *ret_bytes, struct err *err)
{
	struct oip_list list;
	int r;

	if (dtype == TENSOR_DTYPE_FP16 || dtype == TENSOR_DTYPE_BF16)
		return err_set(err, -EINVAL, "%s has no form in JSON: send binary data",
		               tensor_dtype_name(dtype));
	oip_list_init(&list, dtype, shape, data);
	if (list.levels == 0)
		return err_set(err, -EINVAL, "data of shape [] must be one element");
	r = oip_list_measure_level(&list, data, 0, err);
	if (r < 0)
		return r;
	*ret_bytes = dtype == TENSOR_DTYPE_BYTES
	                     ? list.count * sizeof(uint32_t) + list.text_bytes
	                     : list.count * tensor_dtype_bytes(dtype);
	return 0;
}

int oip_list_fill(enum tensor_dtype dtype, const struct tensor_shape *shape,
                  const json_t *data, unsigned char *to, struct err *err)
{
	struct oip_list list;

	oip_list_init(&list, dtype, shape, data);
	list.at = to;
	return oip_list_fill_level(&list, data, 0, err);
}
