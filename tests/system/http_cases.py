# SPDX-License-Identifier: Apache-2.0
"""What RFC 9112 and RFC 9110 demand of a server, one case a demand: test_rfc9112.py sends
them to moultd, test_proxies.py through others, and the fuzzer begins with them."""
import json
from typing import NamedTuple

from harness import echo_body

BODY = echo_body([1, 2, 3, 4])
INFER = "/v2/models/echo/infer"
N = len(BODY)
# Without a body's end of their own these must never be seen as a request.
INNER = "GET /v2/models/echo HTTP/1.1\r\nHost: inner\r\n\r\n"


class Case(NamedTuple):
    clause: str
    why: str
    request: str          # latin-1
    status: int           # of the one answer
    is_last: bool = True  # the connection ends with it
    says: str = ""        # in the answer's body
    fields: dict = {}     # of the answer


def get(line="GET /v2 HTTP/1.1", head="Host: x\r\n"):
    return f"{line}\r\n{head}\r\n"


def post(head="", body=BODY, line=f"POST {INFER} HTTP/1.1"):
    return f"{line}\r\nHost: x\r\n{head}\r\n{body}"


def sized(head="", body=BODY):
    return post(f"{head}Content-Length: {len(body)}\r\n", body)


def chunked(text, head="Transfer-Encoding: chunked\r\n"):
    return post(head, text)


HALF = N // 2
CHUNKS = f"{HALF:x}\r\n{BODY[:HALF]}\r\n{N - HALF:X}\r\n{BODY[HALF:]}\r\n0\r\n\r\n"
OK, GOES_ON = 200, False
OWS = " \t" * 40 + " " * 40

LINES = [
    Case("9112-2.2", "one empty line before a request is ignored", "\r\n" + get(), OK, GOES_ON),
    Case("9112-2.2", "but not any number of them", "\r\n" * 40 + get(), 400),
    Case("9112-2.2", "a line of CR alone is none", "\r" + get(), 400),
    Case("9112-2.2", "LF alone does not end the request line",
         get().replace("1.1\r\n", "1.1\n"), 400),
    Case("9112-2.2", "LF alone does not end a header", "GET /v2 HTTP/1.1\r\nHost: x\n\r\n", 400),
    Case("9112-2.2", "LF alone does not end the head", "GET /v2 HTTP/1.1\r\nHost: x\r\n\n", 400),
    Case("9112-2.2", "LF alone is no empty line before a request", "\n" + get(), 400),
    Case("9112-2.2", "CR in a value", get(head="Host: x\r\na: b\rc\r\n"), 400),
    Case("9112-2.2", "CR before CR LF", get(head="Host: x\r\na: b\r\r\n"), 400),
    Case("9112-2.2", "CR in the request line", get("GET /v2\r HTTP/1.1"), 400),
    Case("9112-2.2", "CR ends no request line", "GET /v2 HTTP/1.1\rHost: x\r\n\r\n", 400),
    Case("9112-2.2", "white space before the first header",
         get(head=" Host: x\r\nHost: x\r\n"), 400),
    Case("9112-2.2", "a tab before the first header", get(head="\tHost: x\r\nHost: x\r\n"), 400),
    Case("9112-2.2", "white space before the request line", " " + get(), 400),
    Case("9112-2.2", "what is no HTTP at all", "\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    Case("9112-2.3", "HTTP is written so", get("GET /v2 http/1.1"), 400),
    Case("9112-2.3", "two digits and no more", get("GET /v2 HTTP/1.10"), 400),
    Case("9112-2.3", "a version is not left out", "GET /v2\r\n\r\n", 400),
    Case("9112-2.3", "a version of letters", get("GET /v2 HTTP/a.b"), 400),
    Case("9112-2.3", "white space behind the version", get("GET /v2 HTTP/1.1 "), 400),
    Case("9110-2.5", "a later minor version is the highest known", get("GET /v2 HTTP/1.2"), OK,
         GOES_ON),
    Case("9110-15.6.6", "another major version", get("GET /v2 HTTP/2.0"), 505),
    Case("9110-15.6.6", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    Case("9110-15.6.6", "HTTP/0.9 by name", get("GET /v2 HTTP/0.9"), 505),
    Case("9112-3", "two spaces before the target", get("GET  /v2 HTTP/1.1"), 400),
    Case("9112-3", "two spaces before the version", get("GET /v2  HTTP/1.1"), 400),
    Case("9112-3", "a tab for a space", get("GET\t/v2 HTTP/1.1"), 400),
    Case("9112-3", "a space in the target", get("GET /v2 /x HTTP/1.1"), 400),
    Case("9112-3", "no target", get("GET HTTP/1.1"), 400),
    Case("9112-3", "a method alone", "GET\r\n\r\n", 400),
    Case("9112-3.1", "a method is a token", get("GE(T /v2 HTTP/1.1"), 400),
    Case("9112-3.1", "methods have a case", get("get /v2 HTTP/1.1"), 501, GOES_ON),
    Case("9110-15.6.2", "a method that nobody knows", get("BREW /v2 HTTP/1.1"), 501, GOES_ON),
    Case("9110-15.6.2", "its body ends where it says",
         sized().replace("POST", "BREW"), 501, GOES_ON),
    Case("9112-3", "a method longer than any that is implemented",
         get("A" * 5000 + " /v2 HTTP/1.1"), 501),
    Case("9112-3", "a longer target than any that is wanted",
         get("GET /" + "a" * 17000 + " HTTP/1.1"), 414),
    Case("9112-3", "a target of many arguments", get("GET /v2?" + "a&" * 4000 + " HTTP/1.1"), 414),
    Case("9112-3", "8000 octets are read", get("GET /v2?" + "a" * 8000 + " HTTP/1.1"), OK, GOES_ON),
    Case("9112-3.2", "NUL in the target",
         get("GET /v2/models/echo\0/infer HTTP/1.1"), 400),
    Case("9112-3.2", "NUL behind the target", get("GET /v2\0 HTTP/1.1"), 400),
    Case("9112-3.2", "a control character in the target", get("GET /v2\x7f HTTP/1.1"), 400),
    Case("9112-3.2", "octets beyond ASCII in the target", get("GET /v2/\xe9 HTTP/1.1"), 400),
    Case("9112-3.2", "a fragment is not sent", get("GET /v2#x HTTP/1.1"), 400),
    Case("9112-3.2", "no target of a form that is known", get("GET v2 HTTP/1.1"), 400, GOES_ON),
    Case("9112-3.2.2", "absolute-form", get("GET http://h:81/v2/models/echo?x HTTP/1.1"), OK,
         GOES_ON, '"platform"'),
    Case("9112-3.2.2", "absolute-form, in capitals",
         get("GET HTTPS://h/v2/health/live HTTP/1.1"), OK, GOES_ON, "live"),
    Case("9112-3.2.2", "absolute-form needs its Host all the same",
         get("GET http://h/v2 HTTP/1.1", ""), 400),
    Case("9110-4.2.1", "absolute-form without a host", get("GET http:///v2 HTTP/1.1"), 400, GOES_ON),
    Case("9110-4.2.4", "userinfo in absolute-form", get("GET http://u@h/v2 HTTP/1.1"), 400, GOES_ON),
    Case("9112-3.2.2", "absolute-form without a path", get("GET http://h HTTP/1.1"), 404, GOES_ON),
    Case("9112-3.2.3", "authority-form is for CONNECT", get("GET h:80 HTTP/1.1"), 400, GOES_ON),
    Case("9110-9.3.6", "no tunnel, and nothing behind it is a request",
         get("CONNECT h:80 HTTP/1.1"), 501),
    Case("9112-3.2.4", "OPTIONS *", get("OPTIONS * HTTP/1.1"), OK, GOES_ON, "moult",
         {"allow": "GET, HEAD, POST, OPTIONS"}),
    Case("9112-3.2.4", "asterisk-form is for OPTIONS", get("GET * HTTP/1.1"), 400, GOES_ON),
    Case("9110-9.3.7", "OPTIONS of a model", get("OPTIONS /v2/models/echo HTTP/1.1"), 405, GOES_ON,
         "", {"allow": "GET, HEAD"}),
    Case("9110-15.5.6", "a known method that this resource has not",
         get("DELETE /v2 HTTP/1.1"), 405, GOES_ON, "", {"allow": "GET, HEAD"}),
    Case("9110-15.5.6", "Allow is sent", get(f"GET {INFER} HTTP/1.1"), 405, GOES_ON, "",
         {"allow": "POST"}),
    Case("9110-9.3.8", "TRACE shows nobody's headers", get("TRACE /v2 HTTP/1.1"), 405, GOES_ON),
]

HEADS = [
    Case("9112-3.2", "HTTP/1.1 without Host", get(head=""), 400),
    Case("9112-3.2", "two Hosts", get(head="Host: x\r\nHost: y\r\n"), 400),
    Case("9112-3.2", "two Hosts, alike", get(head="Host: x\r\nhost: x\r\n"), 400),
    Case("9112-3.2", "Host with a space", get(head="Host: x y\r\n"), 400),
    Case("9112-3.2", "Host with a path", get(head="Host: x/y\r\n"), 400),
    Case("9112-3.2", "Host with a user", get(head="Host: u@x\r\n"), 400),
    Case("9112-3.2", "Host with two ports", get(head="Host: x:1:2\r\n"), 400),
    Case("9112-3.2", "Host with half a bracket", get(head="Host: [::1\r\n"), 400),
    Case("9112-3.2", "an empty Host", get(head="Host:\r\n"), OK, GOES_ON),
    Case("9112-3.2", "an address and a port", get(head="Host: [::1]:8000\r\n"), OK, GOES_ON),
    Case("9112-3.2", "HTTP/1.0 needs no Host", get("GET /v2 HTTP/1.0", ""), OK),
    Case("9110-5.1", "names have no case", get(head="hOsT: x\r\n"), OK, GOES_ON),
    Case("9112-5.1", "a space before the colon", sized("a : b\r\n"), 400),
    Case("9112-5.1", "a space before the colon of Content-Length",
         post(f"Content-Length : {N}\r\n"), 400),
    Case("9112-5.1", "a space before the colon of Transfer-Encoding",
         chunked("0\r\n\r\n", "Transfer-Encoding : chunked\r\n"), 400),
    Case("9112-5.1", "a tab before the colon", sized("a\t: b\r\n"), 400),
    Case("9112-5.1", "an empty name", sized(": b\r\n"), 400),
    Case("9112-5.1", "an empty name before a length", post(f":Content-Length: {N}\r\n"), 400),
    Case("9112-5.1", "no colon", sized("a b\r\n"), 400),
    Case("9110-5.1", "a name is a token", sized("a@b: c\r\n"), 400),
    Case("9110-5.1", "NUL in a name", sized("a\0b: c\r\n"), 400),
    Case("9110-5.1", "NUL before a name", post(f"\0Content-Length: {N}\r\n"), 400),
    Case("9110-5.1", "octets beyond ASCII in a name", sized("caf\xe9: c\r\n"), 400),
    Case("9110-5.5", "NUL in a value", sized("a: b\0c\r\n"), 400),
    Case("9110-5.5", "NUL behind a value", sized("a: b\0\r\n"), 400),
    Case("9110-5.5", "NUL in a length", post(f"Content-Length: {N}\0\r\n"), 400),
    Case("9110-5.5", "other control characters in a value", sized("a: b\x01\r\n"), 400),
    Case("9110-5.5", "octets beyond ASCII in a value", sized("a: caf\xe9\r\n"), OK, GOES_ON),
    Case("9110-5.5", "a tab within a value", sized("a: b\tc\r\n"), OK, GOES_ON),
    Case("9110-5.5", "an empty value", sized("a:\r\nb: \r\nc:   \t \r\n"), OK, GOES_ON),
    Case("9110-5.5", "white space around a length",
         post(f"Content-Length:\t {N} \t \r\n"), OK, GOES_ON),
    Case("9110-5.5", "white space around a coding",
         chunked(CHUNKS, "Transfer-Encoding: \t chunked \t\r\n"), OK, GOES_ON),
    Case("9110-5.5", "no white space before a value",
         post(f"Content-Length:{N}\r\n"), OK, GOES_ON),
    Case("9110-5.5", "white space behind Content-Encoding",
         sized("Content-Encoding: identity  \r\n"), OK, GOES_ON),
    Case("9110-5.5", "white space behind the length of the JSON part",
         sized(f"Inference-Header-Content-Length: {N} \t\r\n"), OK, GOES_ON),
    Case("9110-5.5", "white space behind a time limit",
         sized("Moult-Timeout-Ms: 60000 \r\n"), OK, GOES_ON),
    Case("9110-5.5", "white space behind Expect",
         sized("Expect: 100-continue \r\n"), OK, GOES_ON),
    Case("9110-5.5", "white space behind close", get(head="Host: x\r\nConnection: close \r\n"), OK),
    Case("9110-5.5", "white space behind Host", get(head="Host: x \t\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "white space behind a value, any amount of it",
         sized(f"a: b{OWS}\r\nc:{OWS}d\r\ne:{OWS}\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "within one", sized(f"a: b{OWS}c\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "around a length",
         post(f"Content-Length:{OWS}{N}{OWS}\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "around a coding",
         chunked(CHUNKS, f"Transfer-Encoding:{OWS}chunked{OWS}\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "around Host", get(head=f"Host:{OWS}x{OWS}\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "around close", get(
        head=f"Host: x\r\nConnection:{OWS}foo{OWS},{OWS}close{OWS}\r\n"), OK),
    Case("9110-5.6.3", "within two words that are no close",
         get(head=f"Host: x\r\nConnection: clo{OWS}se\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "within two numbers", post(f"Content-Length: 1{OWS}0\r\n"), 400),
    Case("9110-5.6.3", "around Expect", sized(f"Expect:{OWS}100-continue{OWS}\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "behind what moultd reads of the others", sized(
        f"Content-Encoding: identity{OWS}\r\nMoult-Timeout-Ms: 60000{OWS}\r\n"
        f"Inference-Header-Content-Length: {N}{OWS}\r\n"), OK, GOES_ON),
    Case("9110-5.6.3", "more of it than of headers",
         sized(f"a: b{' ' * 17000}\r\n"), 431),
    Case("9110-5.6.3", "more of it than of headers, around a length",
         post(f"Content-Length: {N}{' ' * 17000}\r\n"), 431),
    Case("9112-5.2", "a folded value", sized("a: b\r\n c\r\n"), 400),
    Case("9112-5.2", "a folded value, with a tab", sized("a: b\r\n\tc\r\n"), 400),
    Case("9112-5.2", "a fold of nothing", sized("a: b\r\n \r\n"), 400),
    Case("9112-5.2", "a folded length", post(f"Content-Length:\r\n {N}\r\n"), 400),
    Case("9112-5.2", "half a length, folded", post(f"Content-Length: {N}\r\n 0\r\n"), 400),
    Case("9112-5.2", "a folded name that would be Content-Length",
         post(f"Content-Len: {N}\r\n gth\r\n"), 400),
    Case("9112-5.2", "a folded name that would be Transfer-Encoding",
         post("Transfer-E: chunked\r\n ncoding\r\n", CHUNKS), 400),
    Case("9112-5.2", "a folded coding",
         chunked(CHUNKS, "Transfer-Encoding:\r\n chunked\r\n"), 400),
    Case("9112-5.2", "a folded Host", get(head="Host: x\r\n y\r\n"), 400),
    Case("9112-5.2", "a fold behind the last header", get(head="Host: x\r\n  \r\n"), 400),
    Case("9110-5.4", "more headers than are taken",
         sized("".join(f"a{i}: b\r\n" for i in range(100))), 431),
    Case("9110-5.4", "as many headers as are taken",
         sized("".join(f"a{i}: b\r\n" for i in range(60))), OK, GOES_ON),
    Case("9110-5.4", "a longer header than is taken", sized("a: " + "b" * 17000 + "\r\n"), 431),
    Case("9110-5.4", "a name longer than is taken", sized("a" * 17000 + ": b\r\n"), 431),
    Case("9110-5.4", "many cookies", sized("Cookie: " + "a=b;" * 3000 + "\r\n"), 431),
    Case("9110-5.4", "a few cookies", sized("Cookie: " + "a=b; " * 30 + "\r\n"), OK, GOES_ON),
    Case("9110-10.1.1", "100-continue, in capitals",
         sized("Expect: 100-Continue\r\n"), OK, GOES_ON),
    Case("9110-10.1.1", "an expectation that nobody meets", sized("Expect: tea\r\n"), 417),
    Case("9110-10.1.1", "two expectations", sized("Expect: 100-continue, tea\r\n"), 417),
    Case("9110-10.1.1", "HTTP/1.0 has no expectations",
         sized("Expect: 100-continue\r\n").replace("1.1", "1.0"), OK),
    Case("9110-7.8", "Upgrade is not taken up",
         sized("Upgrade: h2c, websocket\r\nConnection: upgrade\r\n"), OK, GOES_ON),
    Case("9110-7.8", "no change to HTTP/2",
         get(head="Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
             "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"), OK, GOES_ON),
    Case("9112-9.6", "close", get(head="Host: x\r\nConnection: close\r\n"), OK, True, "moult",
         {"connection": "close"}),
    Case("9112-9.6", "close among others",
         get(head="Host: x\r\nConnection: foo ,, CLOSE,bar\r\n"), OK),
    Case("9112-9.6", "two words are no token",
         get(head="Host: x\r\nConnection: foo close\r\n"), OK, GOES_ON),
    Case("9112-9.6", "close in a header of its own",
         get(head="Host: x\r\nConnection: foo\r\nConnection: close\r\n"), OK),
    Case("9112-9.6", "close after a body", sized("Connection: close\r\n"), OK),
    Case("9112-9.3", "HTTP/1.0 ends", sized().replace("1.1", "1.0"), OK),
    Case("9112-9.3", "HTTP/1.0 that is kept alive",
         sized("Connection: Keep-Alive\r\n").replace("1.1", "1.0"), OK, GOES_ON),
    Case("9112-9.3", "close counts more than keep-alive",
         get(head="Host: x\r\nConnection: keep-alive, close\r\n"), OK),
    Case("9112-9.3", "no token but a part of one",
         get(head="Host: x\r\nConnection: closed\r\n"), OK, GOES_ON),
    Case("9110-8.4", "an encoding that nobody has", sized("Content-Encoding: br\r\n"), 415,
         GOES_ON, "gzip"),
]

BODIES = [
    Case("9112-6.3", "a body of that length", sized(), OK, GOES_ON, '"outputs"'),
    Case("9112-6.3", "leading zeros", post(f"Content-Length: 0000{N}\r\n"), OK, GOES_ON),
    Case("9112-6.3", "a GET with a body", sized(body=INNER).replace(f"POST {INFER}", "GET /v2"),
         OK, GOES_ON, "moult"),
    Case("9112-6.3", "no length is no body", post("", ""), 400, GOES_ON),
    Case("9112-6.3", "two lengths",
         post(f"Content-Length: {N}\r\nContent-Length: 0\r\n"), 400),
    Case("9112-6.3", "two lengths, alike",
         post(f"Content-Length: {N}\r\nContent-Length: {N}\r\n"), 400),
    Case("9112-6.3", "a list of lengths", post(f"Content-Length: {N}, {N}\r\n"), 400),
    Case("9112-6.3", "a list of different lengths", post(f"Content-Length: {N}, 0\r\n"), 400),
    Case("9110-8.6", "a sign", post(f"Content-Length: +{N}\r\n"), 400),
    Case("9110-8.6", "a negative length", post("Content-Length: -1\r\n"), 400),
    Case("9110-8.6", "a hexadecimal length", post(f"Content-Length: 0x{N:x}\r\n"), 400),
    Case("9110-8.6", "an empty length", post("Content-Length: \r\n"), 400),
    Case("9110-8.6", "a length in words", post("Content-Length: five\r\n"), 400),
    Case("9110-8.6", "a length and a letter", post(f"Content-Length: {N}a\r\n"), 400),
    Case("9110-8.6", "a length and a space and a digit", post("Content-Length: 1 0\r\n"), 400),
    Case("9110-8.6", "a fraction", post(f"Content-Length: {N}.0\r\n"), 400),
    Case("9110-8.6", "quotes", post(f'Content-Length: "{N}"\r\n'), 400),
    Case("9110-8.6", "beyond 63 bits", post("Content-Length: 9223372036854775808\r\n"), 413),
    Case("9110-8.6", "beyond 64 bits", post("Content-Length: 18446744073709551690\r\n"), 413),
    Case("9110-8.6", "far beyond", post(f"Content-Length: {'9' * 60}\r\n"), 413),
    Case("9112-6.1", "both lengths", chunked(
        CHUNKS, f"Content-Length: {N}\r\nTransfer-Encoding: chunked\r\n"), 400),
    Case("9112-6.1", "both lengths, the other way round", chunked(
        CHUNKS, f"Transfer-Encoding: chunked\r\nContent-Length: {N}\r\n"), 400),
    Case("9112-6.1", "both lengths, of nothing", chunked(
        "0\r\n\r\n", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400),
    Case("9112-6.1", "chunks of HTTP/1.0", chunked(
        CHUNKS, "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n").replace(
            "HTTP/1.1", "HTTP/1.0"), 400),
    Case("9112-6.1", "a coding that is not known",
         chunked(CHUNKS, "Transfer-Encoding: gzip, chunked\r\n"), 501),
    Case("9112-6.3", "chunked is not the last", chunked(
        CHUNKS, "Transfer-Encoding: chunked, gzip\r\n"), 400),
    Case("9112-6.3", "no chunked at all", chunked(CHUNKS, "Transfer-Encoding: gzip\r\n"), 400),
    Case("9112-6.3", "identity is no coding any more",
         chunked(CHUNKS, "Transfer-Encoding: identity\r\n"), 400),
    Case("9112-6.1", "chunked twice", chunked(
        CHUNKS, "Transfer-Encoding: chunked, chunked\r\n"), 400),
    Case("9112-6.1", "chunked in two headers", chunked(
        CHUNKS, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
    Case("9112-6.1", "something like it", chunked(CHUNKS, "Transfer-Encoding: xchunked\r\n"), 400),
    Case("9112-6.1", "with a parameter", chunked(CHUNKS, "Transfer-Encoding: chunked;a\r\n"), 400),
    Case("9112-6.1", "quoted", chunked(CHUNKS, 'Transfer-Encoding: "chunked"\r\n'), 400),
    Case("9112-6.1", "empty", chunked(CHUNKS, "Transfer-Encoding:\r\n"), 400),
    Case("9110-5.6.1", "an empty element: refused, as nobody needs one here",
         chunked(CHUNKS, "Transfer-Encoding: ,chunked\r\n"), 400),
    Case("9112-7", "chunks", chunked(CHUNKS), OK, GOES_ON, '"outputs"'),
    Case("9112-7", "Chunked, in capitals", chunked(CHUNKS, "TRANSFER-ENCODING: CHUNKED\r\n"), OK,
         GOES_ON),
    Case("9112-7.1", "leading zeros", chunked("000" + CHUNKS), OK, GOES_ON),
    Case("9112-7.1", "more zeros for an end", chunked(CHUNKS.replace("\r\n0\r\n", "\r\n000\r\n")),
         OK, GOES_ON),
    Case("9112-7.1", "no size", chunked("\r\n" + CHUNKS), 400),
    Case("9112-7.1", "no hexadecimal size", chunked("zz\r\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "a sign", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "a negative size", chunked("-5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "white space before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "white space behind the size", chunked("5 \r\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "a size beyond 64 bits",
         chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 413),
    Case("9112-7.1", "a size far beyond", chunked("f" * 18 + "\r\nhello\r\n0\r\n\r\n"), 413),
    Case("9112-7.1", "more than the size says", chunked("5\r\nhelloworld\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "no line end behind the data", chunked("5\r\nhello0\r\n\r\n"), 400),
    Case("9112-7.1", "LF alone behind the data", chunked("5\r\nhello\n0\r\n\r\n"), 400),
    Case("9112-7.1", "LF alone behind the size", chunked("5\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "CR alone behind the size", chunked("5\rhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1", "LF alone behind the last size", chunked("5\r\nhello\r\n0\n\r\n"), 400),
    Case("9112-7.1", "LF alone for an end", chunked("5\r\nhello\r\n0\r\n\n"), 400),
    Case("9112-7.1.1", "extensions are ignored", chunked(
        CHUNKS.replace("\r\n", ';a=b;c="d;e" \t;f\r\n', 1)), OK, GOES_ON),
    Case("9112-7.1.1", "white space before an extension", chunked(
        CHUNKS.replace("\r\n", " ;a\r\n", 1)), OK, GOES_ON),
    Case("9112-7.1.1", "LF in an extension", chunked("5;a\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1.1", "NUL in an extension", chunked("5;\0\r\nhello\r\n0\r\n\r\n"), 400),
    Case("9112-7.1.1", "extensions beyond any sense", chunked(f"5;{'a' * 9000}\r\nhello\r\n0\r\n\r\n"),
         400),
    Case("9112-7.1.2", "trailers are ignored", chunked(
        CHUNKS[:-2] + "Content-Length: 3\r\nConnection: close\r\nTransfer-Encoding: x\r\n\r\n"),
        OK, GOES_ON),
    Case("9112-7.1.2", "a folded trailer", chunked(CHUNKS[:-2] + "a: b\r\n c\r\n\r\n"), 400),
    Case("9112-7.1.2", "a trailer without a colon", chunked(CHUNKS[:-2] + "GET /v2\r\n\r\n"), 400),
    Case("9112-7.1.2", "a request for a trailer", chunked(CHUNKS[:-2] + INNER), 400),
    Case("9112-7.1.2", "trailers beyond any sense", chunked(CHUNKS[:-2] + "a: b\r\n" * 3000 + "\r\n"),
         431),
    Case("9110-9.3.2", "HEAD has no body", get("HEAD /v2 HTTP/1.1"), OK, GOES_ON),
    Case("9110-9.3.2", "nor have its errors", get("HEAD /nowhere HTTP/1.1"), 404, GOES_ON),
    Case("9110-9.3.2", "nor has what refuses its target", get("HEAD /" + "a" * 17000 + " HTTP/1.1"),
         414),
    Case("9110-9.3.2", "its version", get("HEAD /v2 HTTP/2.0"), 505),
    Case("9110-9.3.2", "its lack of a Host", get("HEAD /v2 HTTP/1.1", ""), 400),
    Case("9110-9.3.2", "a header of it", get("HEAD /v2 HTTP/1.1", "Host: x\r\na b\r\n"), 400),
    Case("9110-9.3.2", "a body of it",
         get("HEAD /v2 HTTP/1.1", "Host: x\r\nTransfer-Encoding: chunked\r\n") + "zz\r\n", 400),
    Case("9110-15.5.14", "what is larger than allowed",
         sized(body="x" * 9000).replace("infer", "infer?"), 413, GOES_ON, "max_body"),
    Case("9112-11.2", "a body that looks like a request", sized(body=INNER), 400, GOES_ON, "JSON"),
]

CASES = LINES + HEADS + BODIES


def name_of(case):
    return f"{case.clause}-{case.why}".replace(" ", "_")


def is_json(body):
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
