/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Threads of the mathematical libraries that an engine brings along. Frameworks set the number
 * of their own threads and of OpenMP's; OpenBLAS, BLIS and MKL have pools beside those, as large
 * as the machine has cores where nobody tells them.
 */

/* Called before an engine is opened: OpenBLAS starts its threads when it is opened, and is to
 * start no more than @threads. */
void pools_prepare(unsigned int threads);

/* Has the pools of all libraries that are open use @threads from now on. */
void pools_set_threads(unsigned int threads);
