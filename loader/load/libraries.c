/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/load/libraries.h"

#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "shared/file.h"

static int libraries_add(struct libraries *libraries, const char *path)
{
	struct library *rows;
	struct stat st;

	if (stat(path, &st) < 0)
		return 0; /* gone already: the supervisor finds such files in /proc */
	rows = reallocarray(libraries->rows, libraries->n_rows + 1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	libraries->rows = rows;
	rows[libraries->n_rows] = (struct library){
		.path = strdup(path),
		.file = st,
	};
	if (!rows[libraries->n_rows].path)
		return -ENOMEM;
	libraries->n_rows++;
	return 0;
}

/* The program itself has an empty name, the kernel's vDSO a name without a path. */
static int libraries_on_object(struct dl_phdr_info *info, size_t size, void *context)
{
	(void)size;
	if (!info->dlpi_name || !strchr(info->dlpi_name, '/'))
		return 0;
	return libraries_add(context, info->dlpi_name);
}

int libraries_init(struct libraries *libraries)
{
	int r;

	*libraries = (struct libraries){ 0 };
	r = dl_iterate_phdr(libraries_on_object, libraries);
	if (r < 0)
		libraries_fini(libraries);
	return r;
}

void libraries_fini(struct libraries *libraries)
{
	for (size_t i = 0; i < libraries->n_rows; i++)
		free(libraries->rows[i].path);
	free(libraries->rows);
	*libraries = (struct libraries){ 0 };
}

const char *libraries_find_replaced(const struct libraries *libraries)
{
	for (size_t i = 0; i < libraries->n_rows; i++) {
		const struct library *library = &libraries->rows[i];
		struct stat st;

		if (stat(library->path, &st) < 0 || !file_is_same(&st, &library->file))
			return library->path;
	}
	return NULL;
}
