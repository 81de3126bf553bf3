/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/loader/tensors.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

const char tensors_one_to_four[] =
	"{\"id\":\"abc\",\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
	"\"shape\":[1,4],\"data\":[1,2,3,4]}]}";

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	(void)closedir(dir);
	return count;
}

int tensors_enter(void **state)
{
	static int fds;

	fds = count_fds();
	*state = &fds;
	return 0;
}

int tensors_leave(void **state)
{
	const int *fds = *state;

	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(count_fds(), *fds);
	return 0;
}

void tensors_set_option(json_t *config, const char *name, const char *value)
{
	assert_int_equal(json_object_set_new(json_object_get(config, "options"), name,
	                                     json_string(value)),
	                 0);
}

void tensors_set_number(json_t *config, const char *name, int value)
{
	assert_int_equal(json_object_set_new(config, name, json_integer(value)), 0);
}

size_t tensors_make_row(char *body, float first)
{
	return (size_t)sprintf(body,
	                       "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
	                       "\"shape\":[1,2],\"data\":[%g,0]}]}",
	                       (double)first);
}

void tensors_assert_has(const struct drive *drive, const struct proto_answer *answer,
                        const char *part)
{
	FILE *stream;
	char *text = NULL;
	size_t bytes = 0;

	stream = open_memstream(&text, &bytes);
	assert_non_null(stream);
	(void)fwrite(drive_body(drive, answer), 1, answer->body_bytes, stream);
	(void)fclose(stream);
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
	free(text);
}
