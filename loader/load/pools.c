/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/load/pools.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What all of them are called by: a long holds each one's int, and BLIS's 64-bit number. */
typedef void pools_call(long threads);

/* Parts of a library's file name, and the function that it has for this. */
static const struct {
	const char *file;
	const char *function;
} pools_rows[] = {
	{ "blas", "openblas_set_num_threads" },   /* cblas.h of OpenBLAS */
	{ "blis", "bli_thread_set_num_threads" }, /* blis.h */
	{ "mkl_rt", "MKL_Set_Num_Threads" },      /* mkl_service.h */
};

void pools_prepare(unsigned int threads)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%u", threads);
	/* Without memory for it the pool is larger, until pools_set_threads(). */
	(void)setenv("OPENBLAS_NUM_THREADS", text, 1);
}

static int pools_on_object(struct dl_phdr_info *info, size_t size, void *context)
{
	const unsigned int *threads = context;
	const char *path = info->dlpi_name ? info->dlpi_name : "";
	const char *name = strrchr(path, '/');

	(void)size;
	for (size_t i = 0; name && i < sizeof(pools_rows) / sizeof(pools_rows[0]); i++) {
		void *library;
		pools_call *call = NULL;
		void *symbol;

		if (!strstr(name, pools_rows[i].file))
			continue;
		library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
		if (!library)
			continue;
		symbol = dlsym(library, pools_rows[i].function);
		/* POSIX has function pointers fit into a void *, and C has no cast for it. */
		memcpy(&call, &symbol, sizeof(call));
		if (call)
			call((long)*threads);
		(void)dlclose(library);
	}
	return 0;
}

void pools_set_threads(unsigned int threads)
{
	(void)dl_iterate_phdr(pools_on_object, &threads);
}
