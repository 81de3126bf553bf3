/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/oip/json.h"

#include <stdint.h>
#include <string.h>

/* Parsed JSON may take so many times max_body. Lists of numbers as people write them take 10 to
 * 20 times their text, empty lists up to 128 times. */
#define OIP_JSON_FACTOR 16
#define OIP_JSON_MIN    ((size_t)1024 * 1024)

/* Estimates the most memory that jansson takes for @text: so much for an object, a list, and a
 * value or the two quotes of a string, each with its share of its container. */
static size_t oip_json_parsed_bytes(const unsigned char *text, size_t bytes)
{
	static const uint16_t costs[UINT8_MAX + 1] = {
		['{'] = 256,
		['['] = 128,
		[','] = 48,
		['"'] = 24,
	};
	size_t cost = bytes;

	for (size_t i = 0; i < bytes; i++)
		cost += costs[text[i]];
	return cost;
}

static size_t oip_json_max_bytes(size_t max_body_bytes)
{
	size_t max_bytes;

	if (__builtin_mul_overflow(max_body_bytes, OIP_JSON_FACTOR, &max_bytes))
		max_bytes = SIZE_MAX;
	return max_bytes < OIP_JSON_MIN ? OIP_JSON_MIN : max_bytes;
}

bool oip_json_is_small(size_t bytes, size_t max_body_bytes)
{
	return bytes <= oip_json_max_bytes(max_body_bytes) / UINT8_MAX;
}

int oip_json_parse(const unsigned char *text, size_t bytes, size_t max_body_bytes,
                   json_t **ret_json, struct err *err)
{
	const size_t max_bytes = oip_json_max_bytes(max_body_bytes);
	json_error_t error;

	/* Most bodies are too small to be worth counting. */
	if (!oip_json_is_small(bytes, max_body_bytes) &&
	    oip_json_parsed_bytes(text, bytes) > max_bytes)
		return err_set(err, 413,
		               "the JSON would take more than %zu bytes of memory to "
		               "read, %d times max_body: send the tensors as binary data",
		               max_bytes, OIP_JSON_FACTOR);
	*ret_json = json_loadb((const char *)text, bytes, OIP_JSON_FLAGS, &error);
	if (*ret_json)
		return 0;
	return err_set(err, 400, "the request is no JSON: %s, at byte %d%s", error.text,
	               error.position,
	               json_error_code(&error) == json_error_numeric_overflow
	                       ? "; integers end at 9223372036854775807: send larger "
	                         "ones as binary data"
	                       : "");
}

const json_t *oip_json_get(const json_t *object, const char *key)
{
	const json_t *member = json_object_get(object, key);

	return json_is_null(member) ? NULL : member;
}

const char *oip_json_text(const json_t *json)
{
	const char *text = json_string_value(json);

	return text && strlen(text) == json_string_length(json) ? text : NULL;
}
