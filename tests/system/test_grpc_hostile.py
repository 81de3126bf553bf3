# SPDX-License-Identifier: Apache-2.0
"""Clients of gRPC that do what no library does: floods, frames that lie, and nothing where
something is due. In each test others go on on connections of their own and lose nothing, health
answers, moultd's memory stays within a bound, and in the end nothing is left of the client."""
import contextlib
import pathlib
import re
import struct
import threading

import pytest

from counted import SANITIZED
from frames import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOATS, GOAWAY, HEADERS, LIVE,
                    MANY, PREFACE, RST, SETTINGS, Client, Others, call, data, field, fields, frame,
                    framed, head, message, ping, priority, reset, settings, window)
from harness import echo_section, free_port, stretch, wait_for
from test_crowd import CROWD, Health, many_files  # noqa: F401 (a fixture)

# Of moultd beside what it had: several connections with all that they may keep.
MOST_MIB = 48
MORE = 100
FLOODERS = 6
CODES = {"protocol": 1, "flow": 3, "closed": 5, "cancel": 8, "calm": 11}


def peak_mib(pid):
    """The most that has been resident."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) / 1024


class Under:
    def __init__(self, start, *sections, **keys):
        self.port = free_port()
        lines = {"grpc_listen": f"127.0.0.1:{self.port}", "header_timeout": stretch(3000),
                 "body_timeout": stretch(3000), **keys}
        self.moult = start(*sections or [echo_section(request_arena="4M", max_body="1M",
                                                      response_arena="4M")],
                           supervisor="".join(f"{k} = {v}\n" for k, v in lines.items()))
        self.moult.note_fds()
        self.others = Others(self.port)
        self.health = Health(self.moult)
        self.wait_more()
        self.before_mib = peak_mib(self.moult.pid)

    def client(self, **keys):
        return Client(self.port, **keys)

    def wait_more(self):
        target = self.others.answered + MORE
        wait_for("more answers to others",
                 lambda: self.others.lost or self.others.answered >= target)

    def check_memory(self):
        if not SANITIZED:
            grown = peak_mib(self.moult.pid) - self.before_mib
            print(f"moultd has grown by {grown:.1f} MiB")
            assert grown < MOST_MIB

    def grpc(self):
        return self.moult.status()["supervisor"]["grpc"]

    def end(self):
        self.wait_more()
        self.check_memory()
        self.others.stop_and_check()
        self.health.stop_and_check("beside it")
        wait_for("no connection", lambda: self.grpc()["connections"] == 0)
        assert self.grpc()["calls"] == 0
        wait_for("a free arena",
                 lambda: self.moult.status("echo")["request_arena_used_bytes"] == 0)


@pytest.fixture
def under(start, request):
    under = Under(start)
    yield under
    if not request.node.has_failed:
        under.end()


def until_it_ends(client, pieces):
    """Sends until the server ends the connection; whether it did."""
    return any(not client.try_send(piece) for piece in pieces)


def goodbye(client):
    """The code of the GOAWAY with which the server ends the connection; None: without one."""
    codes = [int.from_bytes(payload[4:8], "big") for kind, _, _, payload in client.frames()
             if kind == GOAWAY]
    return codes[-1] if codes else None


def in_batches(make, n=200, batch=100):
    for first in range(0, n * batch, batch):
        yield b"".join(make(2 * i + 1) for i in range(first, first + batch))


# Floods

RESETS = {
    # CVE-2023-44487, and the same with the server made to reset (CVE-2025-8671).
    "rapid": lambda i: call(i) + reset(i),
    "head": lambda i: head(i) + reset(i),
    "window overflow": lambda i: call(i) + window(i, MANY),
    "window of nothing": lambda i: call(i) + window(i, 0),
    "data behind the end": lambda i: call(i) + data(i, b"x"),
    "length of another head": lambda i: head(i, **{"content-length": "3"}) + data(i, b"12"),
    "a head that is none": lambda i: head(i, **{"Upper": "case"}),
}


@pytest.mark.parametrize("how", RESETS)
def test_calls_that_are_reset(under, how):
    with under.client() as client:
        reader = threading.Thread(target=client.frames)
        reader.start()
        assert until_it_ends(client, in_batches(RESETS[how]))
        reader.join()


FLOODS = {
    "ping": (b"", ping()),
    "ping answered": (b"", ping(ACK)),
    "settings": (b"", settings()),
    "settings that change": (b"", settings(table=0) + settings(table=MANY) +
                             settings(window=0) + settings(window=MANY)),
    "settings answered": (b"", frame(SETTINGS, ACK)),
    "priorities": (b"", b"".join(priority(2 * i + 1, 2 * i + 3) for i in range(100))),
    "windows": (b"", window(0, 1)),
    "unknown": (b"", frame(0x77, 0, 0, b"x")),
    "nothing of a message": (head(1), data(1, b"", 0)),
    "an end that was": (call(1) + reset(1), reset(1)),
}


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("how", FLOODS)
def test_floods(under, how, is_read):
    """As much as the socket takes, until others have had their turn."""
    first, piece = FLOODS[how]
    piece = piece * (1 + (1 << 20) // len(piece))
    is_over = threading.Event()

    def flood(client):
        while not is_over.is_set() and client.try_send(piece):
            pass

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(under.client()) for _ in range(FLOODERS)]
        threads = []
        for client in clients:
            client.send(first)
            client.sock.settimeout(None)
            threads.append(threading.Thread(target=flood, args=(client,), daemon=True))
            if is_read:
                threads.append(threading.Thread(target=client.frames, daemon=True))
        for thread in threads:
            thread.start()
        for _ in range(3):
            under.wait_more()
            under.check_memory()
        is_over.set()
        for client in clients:
            client.shut()
        for thread in threads:
            thread.join()


def test_refusals_that_nobody_reads(under):
    """More calls than may be at once, before the client has heard of that: what is to be said
    of them waits, within a bound, and the client with it until it is given up."""
    kept = fields().replace(b"\0", b"\x40")  # into the table
    assert kept.count(b"\x40") == 6
    first = frame(HEADERS, END_HEADERS, 1, kept)
    again = struct.pack(">I", 6)[1:] + bytes([HEADERS, END_HEADERS])
    ids = b"\xc3\xc2\xc1\xc0\xbf\xbe"
    with under.client(room=4096) as client:
        client.send(first)
        until_it_ends(client, (b"".join(again + struct.pack(">I", i) + ids
                                        for i in range(at, at + 20_000, 2))
                               for at in range(3, 2_000_003, 20_000)))
        under.wait_more()


@pytest.mark.parametrize("piece", [b"", field("x-more", "y" * 100)])
def test_a_head_that_never_ends(under, piece):
    with under.client() as client:
        client.send(frame(HEADERS, 0, 1, fields()))
        more = frame(CONTINUATION, 0, 1, piece) * 100
        assert until_it_ends(client, (more for _ in range(10_000)))


# Heads

def test_large_heads(under):
    """Refused, and the connection is as good as before."""
    with under.client() as client:
        lists = {"long": {"x-long": "y" * 9000}, "a token": {"authorization": "z" * 12_000},
                 "many": {f"x-{i}": "y" for i in range(60)}}
        for stream, (what, more) in zip((1, 5, 9), lists.items()):
            assert client.send(head(stream, **more) + data(stream, framed(message()))) \
                .answer(stream) == b"", what
            assert FLOATS in client.send(call(stream + 2)).answer(stream + 2)


def test_a_head_that_unfolds(under):
    """A field of the table, 16 000 times: 60 MB of text in 16 KB."""
    with under.client() as client:
        big = fields() + field("x-big", "y" * 4000, b"\x40")
        client.send(frame(HEADERS, END_HEADERS, 1, big) + data(1, framed(message())))
        client.answer(1)
        for stream in range(3, 103, 2):
            client.send(frame(HEADERS, END_HEADERS, stream, fields() + b"\xbe" * 16_000))
            assert client.answer(stream) == b""
        assert FLOATS in client.send(call(103)).answer(103)


def test_heads_that_cannot_be_read(under):
    for piece in (b"\xff" * 6, b"\x3f\xff\xff\xff\x7f", b"\xc8", b"\0\xff\xff\xff\xff\x7fname"):
        with under.client() as client:
            client.send(frame(HEADERS, END_HEADERS, 1, piece))
            assert goodbye(client) is not None, piece


# Windows

def test_answers_that_nobody_may_send(under):
    """A window of nothing: the calls end at their time, their answers make room."""
    with under.client(window=0) as client:
        calls = [2 * i + 1 for i in range(100)]
        client.send(b"".join(map(call, calls)))
        for stream in calls:
            assert int.from_bytes(client.until(RST)[3], "big") == CODES["cancel"]
        client.send(settings(window=65535))
        assert FLOATS in client.send(call(201)).answer(201)


def test_answers_that_come_by_the_byte(under):
    """A window that is opened by one byte at a time, and then no more."""
    with under.client(window=0) as client:
        client.send(call(1))
        for _ in range(10):
            assert len(client.send(window(1, 1)).until(DATA)[3]) == 1
        assert int.from_bytes(client.until(RST)[3], "big") == CODES["cancel"]


def test_answers_that_nobody_reads(start):
    """Of half a megabyte each, by clients that do not read: the answers wait where they are, and
    not for longer than others may have to wait for room."""
    floats = 131_072
    under = Under(start, echo_section(), echo_section(
        "big", input=f"x FP32 [-1,{floats}]", output=f"x FP32 [-1,{floats}]", max_batch=1,
        max_body="1M", request_arena="16M", response_arena="8M"))
    body = framed(message(b"big", FLOATS * (floats // 4)))
    pieces = [body[at:at + 16384] for at in range(0, len(body), 16384)]
    clients = [under.client(room=4096, window=MANY) for _ in range(8)]
    for client in clients:
        client.until(SETTINGS)
        client.send(frame(SETTINGS, ACK) + window(0, MANY - 65535))
        for stream in range(1, 9, 2):
            client.send(head(stream))
            for piece in pieces:
                client.send(data(stream, piece, 0))
            client.send(data(stream, b""))
    wait_for("the end of answers in the way", lambda: under.grpc()["expired_total"] > 0)
    assert under.moult.status("big")["requests"]["answered"] > 0
    under.check_memory()
    for client in clients:
        client.close()
    wait_for("a free arena",
             lambda: under.moult.status("big")["request_arena_used_bytes"] == 0)
    under.end()


WINDOWS = {
    "of the connection": (window(0, MANY) * 2, GOAWAY, CODES["flow"]),
    "of a call": (head(1) + window(1, MANY), RST, CODES["flow"]),
    "of nothing": (window(0, 0), GOAWAY, CODES["protocol"]),
    "by settings": (head(1) + window(1, MANY - 65535) + settings(window=MANY), None,
                    CODES["flow"]),
    "too large a setting": (settings(window=1 << 31), GOAWAY, CODES["flow"]),
    "of a call that never was": (window(99, 1), GOAWAY, CODES["protocol"]),
}


def test_windows_that_overflow(under):
    for what, (raw, kind, code) in WINDOWS.items():
        with under.client() as client:
            got = client.send(raw).until(*[kind] if kind else [RST, GOAWAY])
            assert got, what
            said = got[3] if got[0] == RST else got[3][4:8]
            assert int.from_bytes(said, "big") == code, what


def test_more_than_the_window(under):
    """What the client sends beyond it is no message of anybody."""
    with under.client() as client:
        client.send(head(1) + head(3))
        blob = data(1, b"\0" * 16384, 0) * 400
        until_it_ends(client, [blob])
        assert client.until(RST, GOAWAY)


# Frames in the wrong place

WRONG = {
    "data without a head": data(1, b"x"),
    "data of no call": data(0, b"x"),
    "an even number": head(2),
    "the same number": call(9) + head(9),
    "reset of none": reset(5),
    "a rest without a head": frame(CONTINUATION, END_HEADERS, 1, fields()),
    "a rest of another": frame(HEADERS, 0, 1, fields()) + frame(CONTINUATION, 4, 3, b""),
    "between head and rest": frame(HEADERS, 0, 1, fields()) + ping(),
    "a promise": frame(5, END_HEADERS, 1, b"\0\0\0\2" + fields()),
    "too long": frame(DATA, 0, 1, b"x" * 20_000),
    "a ping of seven": frame(6, 0, 0, b"1234567"),
    "settings of five": frame(SETTINGS, 0, 0, b"12345"),
    "settings of a call": frame(SETTINGS, 0, 1),
    "padding beyond the end": head(1) + frame(DATA, 8, 1, b"\xff12"),
}


@pytest.mark.parametrize("is_open", [False, True])
def test_wrong_places(under, is_open):
    """The connection ends, also where the client keeps it and has asked something before."""
    for what, raw in WRONG.items():
        with under.client(window=0 if is_open else 65535) as client:
            if is_open:
                client.send(call(1))
                client.until(HEADERS)
                client.send(head(3))
            client.send(raw).frames()
            wait_for(f"the end of the connection, after {what}",
                     lambda: under.grpc()["connections"] == 2)


def test_a_smaller_number(under):
    """A call that might have been is nobody's, and the connection goes on."""
    with under.client() as client:
        assert FLOATS in client.send(call(9)).answer(9)
        assert FLOATS in client.send(call(7) + call(11)).answer(11)


def test_what_stops_early(under):
    """Ended by the server, at header_timeout."""
    clients = [under.client(greet=False).send(raw) for raw in (
        b"", PREFACE[:10], PREFACE, PREFACE + b"\0\0",
        PREFACE + settings() + frame(HEADERS, 0, 1, fields()),
        PREFACE + settings() + head(1)[:20])]
    for client in clients:
        client.frames()
        client.close()


def test_other_protocols(under):
    for raw in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0" + b"x" * 30,
                PREFACE[:-2] + b"xx", PREFACE + ping()):
        with under.client(greet=False) as client:
            client.send(raw).frames()


# Messages

GOOD = message()
MESSAGES = {
    "nothing": b"",
    "half a prefix": b"\0\0\0",
    "nothing behind the prefix": framed(b"")[:4] + b"\7",
    "more than it says": framed(GOOD) + b"x",
    "two": framed(GOOD) * 2,
    "less than it says": framed(GOOD)[:-1],
    "all that can be said": b"\0\xff\xff\xff\xff" + GOOD,
    "compressed": framed(GOOD, 1),
    "another flag": framed(GOOD, 2),
    "no message": framed(b"\xff" * 50),
    "a field that is longer": framed(GOOD + b"\x3a\xff\xff\xff\xff\x0f"),
}


def test_messages_that_lie(under):
    with under.client() as client:
        stream = 1
        for what, body in MESSAGES.items():
            for path in ({}, {"path": LIVE}):
                if path and what in ("no message", "a field that is longer"):
                    continue
                got = client.send(head(stream, **path) + data(stream, body)).answer(stream)
                assert got == b"", (what, path, got)
                stream += 2
        client.send(head(stream) + b"".join(
            data(stream, bytes([byte]), 0) for byte in framed(GOOD)) + data(stream, b""))
        assert FLOATS in client.answer(stream)


def test_trailers(under):
    """Those of a client say nothing; what is none ends the call."""
    good = frame(HEADERS, END_HEADERS | END_STREAM, 1, field("x-end", "yes"))
    body = framed(GOOD)
    with under.client() as client:
        assert FLOATS in client.send(head(1) + data(1, body, 0) + good).answer(1)
        for stream, flags, more in ((3, END_HEADERS | END_STREAM, field(":path", "/x")),
                                    (5, END_HEADERS, field("x-end", "no"))):
            client.send(head(stream) + data(stream, body, 0) + frame(HEADERS, flags, stream, more))
            assert client.answer(stream) is None
        large = frame(HEADERS, END_HEADERS | END_STREAM, 7, field("x-end", "y" * 12_000))
        client.send(head(7) + data(7, body, 0) + large)
        assert FLOATS in client.answer(7)
        # A head that ends the stream brings no message.
        assert client.send(head(9, flags=END_HEADERS | END_STREAM)).answer(9) == b""


# Crowds

def test_ten_thousand_calls_that_wait(under):
    """Of each, a head and no message: as many as may be at once on each connection."""
    clients = [under.client() for _ in range(CROWD // 128)]
    for client in clients:
        client.until(SETTINGS)
        client.send(frame(SETTINGS, ACK) + b"".join(head(2 * i + 1) for i in range(128)))
    wait_for("more calls than there may be",
             lambda: under.grpc()["answers_total"].get("UNAVAILABLE"))
    under.wait_more()
    under.check_memory()
    for client in clients:
        client.close()


def test_more_connections_than_may_be(start, many_files):  # noqa: F811
    """Clients that come first are told to go when they want nothing, who works stays."""
    under = Under(start, max_connections=1000, header_timeout="1h")
    crowd = []
    for _ in range(CROWD):
        client = under.client()
        crowd.append(client)
        if len(crowd) > 2000:
            crowd.pop(0).close()
    wait_for("refusals", lambda: under.grpc()["refused_total"] > 0)
    assert under.grpc()["connections"] <= 1000
    under.wait_more()
    for client in crowd:
        client.close()
    under.end()
