# SPDX-License-Identifier: Apache-2.0
"""What RFC 9112 and RFC 9110 demand of a server (http_cases.py), and that nothing behind a
request is taken for something else: one answer each, in JSON, then the next or the end."""
import re
import socket

import pytest

from harness import echo_body, echo_section, wait_for
from http_cases import CASES, INFER, OWS, chunked, get, is_json, name_of, post, sized

# Asks for what no case asks for.
NEXT = b"GET /v2/models/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]*")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~]*?)[ \t]*")


class Answers:
    """All that comes, read as strictly as it was asked."""

    def __init__(self, data, methods):
        self.data = data
        self.all = []
        while self.data:
            self.take(methods[min(len(self.all), len(methods) - 1)])

    def line(self):
        line, found, self.data = self.data.partition(b"\r\n")
        assert found and b"\n" not in line and b"\r" not in line, line
        return line

    def take(self, method):
        match = LINE.fullmatch(line := self.line())
        assert match, line
        status, fields = int(match[1]), {}
        while (line := self.line()):
            match = FIELD.fullmatch(line)
            assert match, line
            name = match[1].decode().lower()
            assert name not in fields, line
            fields[name] = match[2].decode()
        if status == 100:
            assert not fields
            return
        size = 0 if method == "HEAD" else int(fields["content-length"])
        assert len(self.data) >= size, "cut off"
        body, self.data = self.data[:size], self.data[size:]
        if fields.get("content-type") == "application/json" and method != "HEAD":
            assert is_json(body), body
        self.all.append((status, fields, body))


def exchange(moult, pieces):
    """Everything that is answered to @pieces until the connection ends."""
    data = b""
    with socket.create_connection(("127.0.0.1", moult.port), 60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has had enough
        while (more := client.recv(65536)):
            data += more
    return data


def cut(data, sizes):
    """@data in pieces of these sizes in turn."""
    at, i = 0, 0
    while at < len(data):
        yield data[at:at + sizes[i % len(sizes)]]
        at += sizes[i % len(sizes)]
        i += 1


def check(case, data):
    method = case.request.split()[0] if case.request.split() else ""
    answers = Answers(data, [method, "GET"]).all
    assert answers, "nothing"
    status, fields, body = answers[0]
    assert status == case.status, (status, body)
    assert fields["content-type"] == "application/json"
    if method != "HEAD":
        assert case.says in body.decode()
        assert (b'"error"' in body) == (status >= 400), body
    assert case.fields.items() <= fields.items(), fields
    if case.is_last:
        assert fields["connection"].lower() == "close"
        assert len(answers) == 1, answers[1:]
    else:
        assert fields.get("connection", "").lower() != "close"
        assert [a[0] for a in answers[1:]] == [404] and b"'next'" in answers[1][2], answers[1:]


@pytest.fixture
def moult(start):
    return start(echo_section(max_body="8K"))


def test_all_cases(moult):
    moult.note_fds()
    failed = []
    for case in CASES:
        data = case.request.encode("latin-1")
        for sizes in ([len(data) + len(NEXT)], [1], [7, 2, 1]):
            if len(data) > 2000 and sizes == [1]:
                continue
            try:
                check(case, exchange(moult, cut(data + NEXT, sizes)))
            except (AssertionError, KeyError, OSError) as error:
                failed.append(f"{name_of(case)} in pieces of {sizes}: {error!r}")
    assert not failed, "\n".join(failed)
    requests = moult.status("echo")["requests"]
    assert requests["held"] == requests["leased"] == 0
    assert moult.status("echo")["request_arena_used_bytes"] == 0


def in_chunks(body, extension):
    return "".join(f"{len(part):x}{extension}\r\n{part}\r\n"
                   for part in (body[i:i + 1000] for i in range(0, len(body), 1000))) + "0\r\n"


def long_requests(body):
    """Each has something that the reader takes out, and more behind it than one read holds."""
    size = f"Content-Length: {len(body)}"
    coding = "Transfer-Encoding: chunked\r\n"
    yield "an empty line", "\r\n" + post(f"{size}\r\n", body)
    for field in ("A: ", "A:\t \t", "A: b  ", f"A: b{OWS}", "Connection:  keep-alive ,  foo ",
                  "Cookie: a=b  ", "Accept-Encoding: "):
        yield repr(field), post(f"{field}\r\n{size}\r\n", body)
        yield f"{field!r}, last", post(f"{size}\r\n{field}\r\n", body)
    yield "behind a length", post(f"{size}   \r\n", body)
    for extension in (";a", " ;a=b", f";{'a' * 400}"):
        yield f"extensions {extension!r}", chunked(in_chunks(body, extension) + "\r\n")
    yield "trailers", chunked(in_chunks(body, "") + "A: b\r\n" * 1000 + "\r\n")
    yield "white space behind a coding", post(coding.replace("\r", "  \r"),
                                              in_chunks(body, "") + "\r\n")
    # White space that a read ends in, and a value that goes on behind it: each place of it.
    for pad in range(3900, 4200):
        yield f"behind {pad} bytes", post(
            f"A: {'b' * pad}\r\nConnection: keep-alive  ,  foo\r\n{size}\r\n", body)


def test_what_is_taken_out_of_long_requests(start):
    """The client sends all at once and waits: nothing else wakes the reader up."""
    moult = start(echo_section(max_body="1M"), supervisor="connection_memory = 8K\n")
    moult.note_fds()
    failed = []
    for rows in (600, 4000):
        body = echo_body([0.5] * 4 * rows).replace(f"[1, {4 * rows}]", f"[{rows}, 4]")
        for what, request in long_requests(body):
            with socket.create_connection(("127.0.0.1", moult.port), 60) as client:
                client.sendall(request.encode("latin-1") + NEXT)
                try:
                    data = b"".join(iter(lambda: client.recv(65536), b""))
                    codes = [answer[0] for answer in Answers(data, ["POST", "GET"]).all]
                except (OSError, AssertionError) as error:
                    codes = repr(error)
            if codes != [200, 404]:
                failed.append(f"{what}, {rows} rows: {codes}")
                break
    assert not failed, failed


def test_a_fault_behind_requests_that_wait(start):
    """The answers come in order, and the refusal after them all."""
    moult = start(echo_section(warmup_runs=0, **{"option.delay_us": 200_000}))
    good, bad = sized().encode(), get("GET /v2 HTTP/1.1", "Host : x\r\n").encode()
    for pieces in ([good + good + bad + good], [good, good + bad[:20], bad[20:] + good],
                   [good + good, bad, good]):
        answers = Answers(exchange(moult, pieces), ["POST"]).all
        assert [a[0] for a in answers] == [200, 200, 400], answers
        assert answers[2][1]["connection"] == "close"
    # A body that is at fault is never given to a model, however far it has come.
    before = moult.status("echo")["requests"]["answered"]
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for pieces in ([good + head + b"5\r\nhello\r\nzz\r\n"], [good, head + b"5\r\nhello\r\n", b"zz"],
                   [good + head, b"5\r\nhello", b"\r\nzz"]):
        answers = Answers(exchange(moult, pieces), ["POST"]).all
        assert [a[0] for a in answers] == [200, 400], answers
    wait_for("the end", lambda: moult.status("echo")["requests"]["leased"] == 0)
    assert moult.status("echo")["requests"]["answered"] == before + 3


def test_one_answer_where_a_body_is_not_waited_for(moult):
    """What comes behind such a body is at fault, and answers nothing any more."""
    for behind in (b"\0", b"POST \0 HTTP/1.1\r\n\r\n", NEXT):
        answers = Answers(exchange(moult, [sized("Expect: tea\r\n").encode() + behind]),
                          ["POST"]).all
        assert [a[0] for a in answers] == [417], answers


def test_nothing_behind_close(moult):
    """RFC 9112 9.6: what comes after it is not read at all, not even as a fault."""
    for last in (get(head="Host: x\r\nConnection: close\r\n"), get("GET /v2 HTTP/1.0")):
        for behind in (b"\0", NEXT, b"POST"):
            answers = Answers(exchange(moult, [last.encode() + behind]), ["GET"]).all
            assert [a[0] for a in answers] == [200], answers
