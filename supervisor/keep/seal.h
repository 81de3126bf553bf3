/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Codes that tell a manifest of moultd's from one that somebody else wrote: HMAC-SHA256 over its
 * number and text, with the key in STATE_DIR/good/.key. A loader inside its walls reads no file
 * there, and a loader with a user of its own none in any case.
 */

#include <stddef.h>
#include <stdint.h>

#define SEAL_HEX 65
#define SEAL_KEY ".key"

/* Makes another key in the folder @fd, in the place of any that is there. 0 or -errno. */
int seal_make_key(int fd);
/* Prints the code by the key @key_fd, in SEAL_HEX digits with the terminator. 0, or -errno: that
 * is no key. */
int seal_print(int key_fd, uint64_t number, const char *text, size_t bytes,
               char *ret_code);
/* 0; -EBADMSG: @code, of SEAL_HEX - 1 digits, is another one; -errno: that is no key. */
int seal_check(int key_fd, uint64_t number, const char *text, size_t bytes,
               const char *code);
