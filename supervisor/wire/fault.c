/* SPDX-License-Identifier: Apache-2.0 */

/* Status and sentence for a client whose request is at fault. */

#include "supervisor/wire/wire.h"

struct wire_fault {
	unsigned int status;
	const char *reason;
};

static const struct wire_fault faults[HTTP_WIRE_FAULT_COUNT] = {
	[HTTP_WIRE_GOOD] = { 200, "" },
	[HTTP_WIRE_BAD_LINE] = { 400, "too many empty lines stand before the request" },
	[HTTP_WIRE_BAD_METHOD] = { 400, "the request's method is no word and a space" },
	[HTTP_WIRE_LONG_METHOD] = { 501, "the request's method is not implemented" },
	[HTTP_WIRE_BAD_TARGET] = { 400, "the request line is not METHOD TARGET HTTP/1.1, "
	                                "with one space between and a target that holds "
	                                "none (percent-encode it)" },
	[HTTP_WIRE_LONG_TARGET] = { 414, "the request's target is longer than fits "
	                                 "(connection_memory)" },
	[HTTP_WIRE_BAD_VERSION] = { 400, "the request line does not end with HTTP/1.1" },
	[HTTP_WIRE_OTHER_VERSION] = { 505, "only HTTP/1.1 and HTTP/1.0 are spoken here" },
	[HTTP_WIRE_BARE] = { 400, "each line must end with CR LF, and neither may stand "
	                          "alone" },
	[HTTP_WIRE_FOLDED] = { 400, "a header's line begins with white space; send each "
	                            "header on one line" },
	[HTTP_WIRE_BAD_NAME] = { 400,
	                         "a header's name is empty, holds a character that no "
	                         "name may have, or has no colon right behind it" },
	[HTTP_WIRE_BAD_VALUE] = { 400, "a header's value holds a control character" },
	[HTTP_WIRE_LONG_VALUE] = { 431, "Host, Connection, Content-Length or "
	                                "Transfer-Encoding is longer than any that makes "
	                                "sense" },
	[HTTP_WIRE_LONG_HEAD] = { 431, "the request's headers are longer than fits "
	                               "(connection_memory)" },
	[HTTP_WIRE_MANY_FIELDS] = { 431, "the request has more than 64 headers" },
	[HTTP_WIRE_NO_HOST] = { 400, "the request has no Host" },
	[HTTP_WIRE_TWO_HOSTS] = { 400, "the request has more than one Host" },
	[HTTP_WIRE_BAD_HOST] = { 400, "the request's Host is no name and port" },
	[HTTP_WIRE_BAD_LENGTH] = { 400, "Content-Length is not one decimal number" },
	[HTTP_WIRE_LARGE_LENGTH] = { 413, "the body is larger than any that is allowed" },
	[HTTP_WIRE_TWO_LENGTHS] = { 400, "the request has more than one Content-Length" },
	[HTTP_WIRE_BOTH_LENGTHS] = { 400, "the request has both Content-Length and "
	                                  "Transfer-Encoding; send one of them" },
	[HTTP_WIRE_OLD_CHUNKS] = { 400, "HTTP/1.0 has no Transfer-Encoding; send "
	                                "Content-Length" },
	[HTTP_WIRE_TWO_CODINGS] = { 400, "the request has more than one "
	                                 "Transfer-Encoding" },
	[HTTP_WIRE_BAD_CODING] = { 400, "Transfer-Encoding can only be chunked" },
	[HTTP_WIRE_OTHER_CODING] = { 501, "Transfer-Encoding can only be chunked; a "
	                                  "compressed body has Content-Encoding" },
	[HTTP_WIRE_BAD_CHUNK] = { 400, "the chunks of the body are malformed" },
	[HTTP_WIRE_LARGE_CHUNK] = { 413, "a chunk is larger than any that is allowed" },
	[HTTP_WIRE_LONG_TRAILERS] = { 431, "the trailers are longer than 8192 bytes" },
};

unsigned int http_wire_status(enum http_wire_fault fault)
{
	return faults[fault].status;
}

const char *http_wire_reason(enum http_wire_fault fault)
{
	return faults[fault].reason;
}
