/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Large bodies. libmicrohttpd is shown as many bytes of them as a connection has memory: all but
 * the last come first. No read brings more, so none that ends a head brings a byte of what goes
 * past the library. The last byte is shown behind that, so that the end of what is shown is the
 * body's end (docs/adr/0031).
 */

#include <stdio.h>

#include "supervisor/wire/steps.h"

/* A body goes past libmicrohttpd when it is so many times as large as the memory of a
 * connection: to have the library read again costs as much as a few small reads. */
#define HTTP_WIRE_LARGE 3

size_t wire_show_length(const struct http_wire *wire, char *text, size_t size)
{
	if (wire->fault != HTTP_WIRE_GOOD ||
	    wire->values.length_bytes / HTTP_WIRE_LARGE <= wire->memory_bytes)
		return 0;
	return (size_t)snprintf(text, size, "%zu", wire->memory_bytes);
}

size_t http_wire_most(const struct http_wire *wire, size_t bytes)
{
	if (wire->aside_bytes > 0 && bytes > wire->left_bytes - 1)
		return (size_t)wire->left_bytes - 1;
	return bytes;
}

uint64_t http_wire_length_bytes(const struct http_wire *wire)
{
	return wire->state == WIRE_BODY && wire->has_aside ? wire->values.length_bytes
	                                                   : 0;
}

uint64_t http_wire_aside_bytes(const struct http_wire *wire)
{
	return wire->left_bytes == 1 ? wire->aside_bytes : 0;
}
