/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/proto.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define PROTO_HEAD_MAGIC UINT32_C(0x4441454d) /* "MEAD" */

struct proto_head_fixed {
	uint32_t magic;
	uint16_t n_fields;
	uint16_t method_bytes;
	uint32_t target_bytes;
};

size_t proto_rings_bytes(uint32_t leases)
{
	return sizeof(struct proto_rings) +
	       ring_bytes(leases * 2, sizeof(struct proto_submit)) +
	       ring_bytes(proto_parts_max(leases), sizeof(struct proto_answer)) +
	       ring_bytes(proto_parts_max(leases), sizeof(struct proto_release));
}

void proto_rings_attach(struct proto_rings *base, uint32_t leases, struct ring *submit,
                        struct ring *answer, struct ring *release)
{
	unsigned char *memory = base->rings;
	uint32_t parts = proto_parts_max(leases);

	/* A lease is submitted once and cancelled at most once. */
	ring_init(submit, memory, leases * 2, sizeof(struct proto_submit));
	memory += ring_bytes(leases * 2, sizeof(struct proto_submit));
	ring_init(answer, memory, parts, sizeof(struct proto_answer));
	memory += ring_bytes(parts, sizeof(struct proto_answer));
	ring_init(release, memory, parts, sizeof(struct proto_release));
}

static unsigned char *proto_put(unsigned char *memory, const void *data, size_t bytes)
{
	if (bytes > 0)
		memcpy(memory, data, bytes);
	return memory + bytes;
}

/* Copies @bytes out and moves the cursor; false when they are not there. */
static bool proto_get(const unsigned char **cursor, const unsigned char *end,
                      void *ret_data, size_t bytes)
{
	if ((size_t)(end - *cursor) < bytes)
		return false;
	memcpy(ret_data, *cursor, bytes);
	*cursor += bytes;
	return true;
}

static bool proto_get_text(const unsigned char **cursor, const unsigned char *end,
                           size_t bytes, struct proto_text *ret_text)
{
	if ((size_t)(end - *cursor) < bytes)
		return false;
	*ret_text = (struct proto_text){ (const char *)*cursor, bytes };
	*cursor += bytes;
	return true;
}

size_t proto_head_bytes(struct proto_text method, struct proto_text target,
                        const struct proto_field *fields, size_t n_fields)
{
	size_t bytes = sizeof(struct proto_head_fixed) + method.bytes + target.bytes;

	for (size_t i = 0; i < n_fields; i++)
		bytes += sizeof(uint16_t) + sizeof(uint32_t) + fields[i].name.bytes +
		         fields[i].value.bytes;
	return bytes;
}

void proto_head_write(unsigned char *memory, struct proto_text method,
                      struct proto_text target, const struct proto_field *fields,
                      size_t n_fields)
{
	struct proto_head_fixed fixed = {
		.magic = PROTO_HEAD_MAGIC,
		.n_fields = (uint16_t)n_fields,
		.method_bytes = (uint16_t)method.bytes,
		.target_bytes = (uint32_t)target.bytes,
	};

	assert(n_fields <= PROTO_FIELDS_MAX && method.bytes <= UINT16_MAX &&
	       target.bytes <= UINT32_MAX);
	memory = proto_put(memory, &fixed, sizeof(fixed));
	memory = proto_put(memory, method.data, method.bytes);
	memory = proto_put(memory, target.data, target.bytes);
	for (size_t i = 0; i < n_fields; i++) {
		uint16_t name_bytes = (uint16_t)fields[i].name.bytes;
		uint32_t value_bytes = (uint32_t)fields[i].value.bytes;

		assert(fields[i].name.bytes <= UINT16_MAX);
		memory = proto_put(memory, &name_bytes, sizeof(name_bytes));
		memory = proto_put(memory, &value_bytes, sizeof(value_bytes));
		memory = proto_put(memory, fields[i].name.data, name_bytes);
		memory = proto_put(memory, fields[i].value.data, value_bytes);
	}
}

int proto_head_read(struct proto_head *ret_head, const unsigned char *memory,
                    size_t bytes)
{
	struct proto_head head = { .cursor = memory, .end = memory + bytes };
	struct proto_head_fixed fixed;

	if (!proto_get(&head.cursor, head.end, &fixed, sizeof(fixed)))
		return -EBADMSG;
	if (fixed.magic != PROTO_HEAD_MAGIC || fixed.n_fields > PROTO_FIELDS_MAX)
		return -EBADMSG;
	if (!proto_get_text(&head.cursor, head.end, fixed.method_bytes, &head.method) ||
	    !proto_get_text(&head.cursor, head.end, fixed.target_bytes, &head.target))
		return -EBADMSG;
	head.n_left = fixed.n_fields;
	*ret_head = head;
	return 0;
}

int proto_head_next(struct proto_head *head, struct proto_field *ret_field)
{
	uint16_t name_bytes;
	uint32_t value_bytes;

	if (head->n_left == 0)
		return head->cursor == head->end ? 0 : -EBADMSG;
	if (!proto_get(&head->cursor, head->end, &name_bytes, sizeof(name_bytes)) ||
	    !proto_get(&head->cursor, head->end, &value_bytes, sizeof(value_bytes)) ||
	    !proto_get_text(&head->cursor, head->end, name_bytes, &ret_field->name) ||
	    !proto_get_text(&head->cursor, head->end, value_bytes, &ret_field->value))
		return -EBADMSG;
	head->n_left--;
	return 1;
}

bool proto_text_equals(struct proto_text text, const char *other)
{
	return strlen(other) == text.bytes && memcmp(text.data, other, text.bytes) == 0;
}

size_t proto_secret_bytes(size_t name_bytes, size_t value_bytes)
{
	return 2 * sizeof(uint32_t) + name_bytes + value_bytes;
}

unsigned char *proto_secret_write(unsigned char *memory, struct proto_text name,
                                  struct proto_text value)
{
	uint32_t name_bytes = (uint32_t)name.bytes;
	uint32_t value_bytes = (uint32_t)value.bytes;

	memory = proto_put(memory, &name_bytes, sizeof(name_bytes));
	memory = proto_put(memory, &value_bytes, sizeof(value_bytes));
	memory = proto_put(memory, name.data, name.bytes);
	return proto_put(memory, value.data, value.bytes);
}

int proto_secrets_next(const unsigned char **cursor, const unsigned char *end,
                       struct proto_secret *ret_secret)
{
	uint32_t name_bytes;
	uint32_t value_bytes;

	if (*cursor == end)
		return 0;
	if (!proto_get(cursor, end, &name_bytes, sizeof(name_bytes)) ||
	    !proto_get(cursor, end, &value_bytes, sizeof(value_bytes)) ||
	    !proto_get_text(cursor, end, name_bytes, &ret_secret->name) ||
	    !proto_get_text(cursor, end, value_bytes, &ret_secret->value))
		return -EBADMSG;
	return 1;
}
