/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/proof/golden_body.h"

#include <errno.h>
#include <nettle/base64.h>
#include <stdlib.h>
#include <string.h>

#include "loader/oip/compress.h"
#include "loader/engine.h"
#include "shared/cleanup.h"

int golden_check_keys(json_t *object, const char *what, const char *const *known,
                      struct err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return err_set(err, ENGINE_E_CONFIG, "%s has no key '%.64s'",
			               what, key);
	}
	return 0;
}

/* Decodes the base64 of a body that went over the wire. */
static int golden_body_decode(struct golden_body *body, const json_t *text,
                              const char *what, struct err *err)
{
	size_t length = json_string_length(text);
	size_t bytes = BASE64_DECODE_LENGTH(length);
	struct base64_decode_ctx context;

	body->data = malloc(bytes + 1);
	if (!body->data)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	base64_decode_init(&context);
	if (!json_is_string(text) ||
	    !base64_decode_update(&context, &bytes, body->data, length,
	                          json_string_value(text)) ||
	    !base64_decode_final(&context) || bytes == 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "the base64 of '%s' must be that of at least one byte",
		               what);
	body->bytes = bytes;
	return 0;
}

/* Reads {"headers": ..., "base64": ...}. Another header than the two known ones is refused: the
 * loader would not heed it. */
static int golden_body_read_wire(struct golden_body *body, json_t *json, const char *what,
                                 struct err *err)
{
	static const char *const keys[] = { "headers", "base64", NULL };
	static const char *const names[] = { GOLDEN_LENGTH, GOLDEN_ENCODING, NULL };
	json_t *headers = json_object_get(json, "headers");
	const json_t *length = json_object_get(headers, GOLDEN_LENGTH);
	const json_t *encoding = json_object_get(headers, GOLDEN_ENCODING);
	int r;

	body->length = json_string_value(length);
	body->encoding = json_string_value(encoding);
	r = golden_check_keys(json, what, keys, err);
	if (r == 0)
		r = golden_check_keys(headers, "headers", names, err);
	if (r)
		return r;
	if ((headers && !json_is_object(headers)) || (length && !body->length) ||
	    (encoding && !body->encoding))
		return err_set(err, ENGINE_E_CONFIG,
		               "the headers of '%s' must be texts in an object", what);
	return golden_body_decode(body, json_object_get(json, "base64"), what, err);
}

int golden_body_init(struct golden_body *ret_body, json_t *json, const char *what,
                     struct err *err)
{
	int r = 0;

	*ret_body = (struct golden_body){ 0 };
	if (!json_is_object(json))
		return err_set(err, ENGINE_E_CONFIG,
		               "'%s' must be an object: a body in JSON, or headers and "
		               "base64",
		               what);
	if (json_object_get(json, "base64")) {
		r = golden_body_read_wire(ret_body, json, what, err);
	} else {
		ret_body->data = (unsigned char *)json_dumps(json, JSON_COMPACT);
		if (!ret_body->data)
			return err_set(err, ENGINE_E_FAILED, "out of memory");
		ret_body->bytes = strlen((const char *)ret_body->data);
	}
	if (r)
		golden_body_fini(ret_body);
	return r;
}

void golden_body_fini(struct golden_body *body)
{
	free(body->data);
	body->data = NULL;
}

int golden_body_inflate(struct golden_body *body, size_t max_bytes, struct err *err)
{
	struct oip_buffer buffer = { 0 };

	if (!body->encoding)
		return 0;
	if (compress_inflate(&buffer, body->data, body->bytes, max_bytes, err)) {
		oip_buffer_fini(&buffer);
		return ENGINE_E_CONFIG;
	}
	free(body->data);
	body->data = buffer.data;
	body->bytes = buffer.used_bytes;
	body->encoding = NULL;
	return 0;
}

int golden_body_json_bytes(const struct golden_body *body, size_t *ret_bytes,
                           struct err *err)
{
	unsigned long long bytes = body->bytes;
	char *end = NULL;

	if (body->length) {
		errno = 0;
		bytes = strtoull(body->length, &end, 10);
		if (end == body->length || *end || errno || bytes > body->bytes)
			return err_set(err, ENGINE_E_CONFIG,
			               GOLDEN_LENGTH
			               " '%.32s' is no number that %zu bytes allow",
			               body->length, body->bytes);
	}
	*ret_bytes = (size_t)bytes;
	return 0;
}
