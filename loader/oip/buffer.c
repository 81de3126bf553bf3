/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "loader/oip/oip.h"

#define OIP_BUFFER_ALIGN     ((size_t)64)
#define OIP_BUFFER_MIN_BYTES ((size_t)4096)

bool oip_buffer_reserve(struct oip_buffer *buffer, size_t bytes)
{
	size_t capacity =
		buffer->capacity_bytes ? buffer->capacity_bytes : OIP_BUFFER_MIN_BYTES;
	unsigned char *data;

	assert(bytes <= SIZE_MAX / 2);
	/* Nothing has an address, too: whoever copies it may not copy to NULL. */
	if (buffer->data && bytes <= buffer->capacity_bytes)
		return true;
	while (capacity < bytes)
		capacity *= 2;
	data = aligned_alloc(OIP_BUFFER_ALIGN, capacity);
	if (!data)
		return false;
	if (buffer->used_bytes > 0)
		memcpy(data, buffer->data, buffer->used_bytes);
	free(buffer->data);
	buffer->data = data;
	buffer->capacity_bytes = capacity;
	return true;
}

bool oip_buffer_grow(struct oip_buffer *buffer, size_t capacity_bytes)
{
	unsigned char *data = realloc(buffer->data, capacity_bytes);

	if (!data)
		return false;
	buffer->data = data;
	buffer->capacity_bytes = capacity_bytes;
	return true;
}

void oip_buffer_use(struct oip_buffer *buffer, size_t bytes)
{
	assert(bytes <= buffer->capacity_bytes);
	buffer->used_bytes = bytes;
}

void oip_buffer_fini(struct oip_buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct oip_buffer){ 0 };
}
