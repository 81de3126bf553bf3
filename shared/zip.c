/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/zip.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"

/* A zip archive ends with this record and a comment of at most 65535 bytes. */
#define ZIP_TAIL_BYTES      (65535 + ZIP_END_BYTES)
#define ZIP_END_BYTES       22
#define ZIP_ENTRY_BYTES     46
#define ZIP_LOCAL_BYTES     30
#define ZIP_DIRECTORY_BYTES ((uint64_t)16 << 20)

static uint64_t zip_number(const unsigned char *data, size_t bytes)
{
	uint64_t number = 0;

	while (bytes-- > 0)
		number = number << 8 | data[bytes];
	return number;
}

/* Finds the directory by the record at the archive's end. False: there is no such record. */
static bool zip_find_directory(const struct model_file *file, uint64_t *ret_at,
                               uint64_t *ret_bytes)
{
	size_t want = file->bytes < ZIP_TAIL_BYTES ? (size_t)file->bytes : ZIP_TAIL_BYTES;
	FREE unsigned char *tail = malloc(want + 1);
	size_t bytes =
		tail ? file->read(file->context, file->bytes - want, tail, want) : 0;

	for (size_t at = bytes < ZIP_END_BYTES ? 0 : bytes - ZIP_END_BYTES + 1;
	     at-- > 0;) {
		if (memcmp(tail + at, "PK\5\6", 4) != 0)
			continue;
		*ret_bytes = zip_number(tail + at + 12, 4);
		*ret_at = zip_number(tail + at + 16, 4);
		return true;
	}
	return false;
}

int zip_list(const struct model_file *file,
             void (*take)(void *context, const struct zip_entry *entry), void *context)
{
	FREE unsigned char *data = NULL;
	uint64_t start;
	uint64_t bytes;
	size_t at = 0;

	if (!zip_find_directory(file, &start, &bytes))
		return ZIP_E_CUT;
	if (start == UINT32_MAX || bytes > ZIP_DIRECTORY_BYTES ||
	    start + bytes > file->bytes)
		return ZIP_E_BEYOND;
	data = malloc((size_t)bytes + 1);
	if (!data || file->read(file->context, start, data, (size_t)bytes) != bytes)
		return ZIP_E_BEYOND;
	while (bytes - at >= ZIP_ENTRY_BYTES && memcmp(data + at, "PK\1\2", 4) == 0) {
		const unsigned char *entry = data + at;
		size_t name_bytes = (size_t)zip_number(entry + 28, 2);
		size_t more =
			(size_t)(zip_number(entry + 30, 2) + zip_number(entry + 32, 2));
		char name[ZIP_NAME_MAX] = "";

		if (bytes - at - ZIP_ENTRY_BYTES < name_bytes + more)
			return 0;
		if (name_bytes < sizeof(name))
			memcpy(name, entry + ZIP_ENTRY_BYTES, name_bytes);
		take(context, &(struct zip_entry){
				      .name = name,
				      .at = zip_number(entry + 42, 4),
				      .packed_bytes = zip_number(entry + 20, 4),
				      .bytes = zip_number(entry + 24, 4),
				      .method = (unsigned int)zip_number(entry + 10, 2),
			      });
		at += ZIP_ENTRY_BYTES + name_bytes + more;
	}
	return 0;
}

uint64_t zip_find_data(const struct model_file *file, uint64_t at)
{
	unsigned char local[ZIP_LOCAL_BYTES];

	if (file->read(file->context, at, local, sizeof(local)) != sizeof(local) ||
	    memcmp(local, "PK\3\4", 4) != 0)
		return 0;
	return at + sizeof(local) + zip_number(local + 26, 2) + zip_number(local + 28, 2);
}
