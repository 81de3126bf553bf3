/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * gRPC's words: status codes (grpc.io, "Status codes"), their messages and the time that a
 * client waits, from and to those that the rest of moultd uses. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum grpc_code {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_UNAUTHENTICATED = 16,
	GRPC_CODE_COUNT = 17
};

/* The code for a status of HTTP. */
enum grpc_code grpc_code_of(unsigned int status);
/* "INVALID_ARGUMENT"; static. */
const char *grpc_code_name(enum grpc_code code);

/* Writes @text percent-encoded, as grpc-message has it, cut at @size. Returns its length. */
size_t grpc_encode_message(char *to, size_t size, const char *text);

/* Reads grpc-timeout: up to eight digits and a unit. 0 or -EINVAL. */
int grpc_read_timeout(const char *text, uint64_t *ret_ns);
