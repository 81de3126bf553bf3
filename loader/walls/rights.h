/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The rights of root (capabilities(7)), of which a loader has some where moultd runs as root.
 */

/* Gives away, in all threads and for good, those that reach into other processes or change the
 * machine. no_new_privs keeps a program that is executed from getting them back. 0 or -errno. */
int rights_drop(void);
