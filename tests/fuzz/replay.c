/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Replaces libFuzzer where the compiler has none: runs the harness once with every file of the
 * folders that are named. Options of libFuzzer are ignored.
 */

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rbe");
	FREE uint8_t *data = NULL;
	size_t size = 0;
	long end;

	if (!file)
		return -errno;
	if (fseek(file, 0, SEEK_END) == 0 && (end = ftell(file)) >= 0) {
		rewind(file);
		/* A block of the exact size, so that a read behind it is found. */
		data = malloc(end > 0 ? (size_t)end : 1);
		size = data ? fread(data, 1, (size_t)end, file) : 0;
	}
	(void)fclose(file);
	if (!data)
		return -EIO;
	return LLVMFuzzerTestOneInput(data, size);
}

static int replay_folder(const char *path, size_t *n)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (entry = readdir(dir))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		r = replay_file(name);
		*n += 1;
	}
	(void)closedir(dir);
	return r;
}

int main(int argc, char **argv)
{
	size_t n = 0;

	for (int i = 1; i < argc; i++) {
		int r = argv[i][0] == '-' ? 0 : replay_folder(argv[i], &n);

		if (r < 0) {
			(void)fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
			return EXIT_FAILURE;
		}
	}
	(void)printf("%zu inputs, no finding\n", n);
	return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
