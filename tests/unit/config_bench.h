/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A bench for configurations: a directory with a moult.conf. Every failure ends the test. */

#include <stddef.h>

#include "supervisor/config/config.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The shortest model; a case adds lines behind it. */
#define MODEL                                                                            \
	"[model m]\nengine = identity\ninput = a FP32 [-1,4]\noutput = b FP32 [-1,4]\n"

/* Set-up and tear-down of a group. */
int config_bench_enter(void **state);
int config_bench_leave(void **state);

const char *config_bench_folder(void);
/* Returns the path of a file in the directory; the caller frees it. */
char *config_bench_path(const char *name);
void config_bench_write_bytes(const char *name, const char *text, size_t bytes);
void config_bench_write(const char *name, const char *text);
void config_bench_remove(const char *name);

/* Calls config_load() with @text as moult.conf. */
int config_bench_load(const char *text, struct config **ret_config, struct err *err);
struct config *config_bench_load_good(const char *text);
/* @text is refused with a sentence that begins with the file and has @want; @name is the case's. */
void config_bench_refuses(const char *name, const char *text, const char *want);
