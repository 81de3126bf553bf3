/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A directory with a moult.conf in it. Every failure ends the test. */

#include <stddef.h>

#include "supervisor/config/config.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The shortest model; what a case adds comes behind it. */
#define MODEL                                                                            \
	"[model m]\nengine = identity\ninput = a FP32 [-1,4]\noutput = b FP32 [-1,4]\n"

/* Set-up and tear-down of a group. */
int config_bench_enter(void **state);
int config_bench_leave(void **state);

const char *config_bench_folder(void);
/* The path of a file in it: the caller's to free. */
char *config_bench_path(const char *name);
void config_bench_write_bytes(const char *name, const char *text, size_t bytes);
void config_bench_write(const char *name, const char *text);
void config_bench_remove(const char *name);

/* config_load() of @text as moult.conf. */
int config_bench_load(const char *text, struct config **ret_config, struct err *err);
struct config *config_bench_load_good(const char *text);
