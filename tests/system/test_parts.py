# SPDX-License-Identifier: Apache-2.0
"""Bodies that come by parts (decision 35): servers and applications read them while their clients
send, however large they are, and moultd keeps no more of them than a window."""
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import threading

import pytest

from harness import BUILD, DEADLINE_S, children, wait_for

PROGRAM = pathlib.Path(__file__).resolve().parent / "streamed.py"
BLOCK = random.Random(1).randbytes(1 << 20)
# What sockets, libcurl and windows hold on the way, and more; far below what is sent.
HELD = 24 << 20
LARGE = 64 << 20

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-server.so").exists(),
                                reason="the server engine is not built here")


def begin(start, kind="server", supervisor="", **keys):
    if kind == "server":
        lines = {"engine": "server", "command": f"/usr/bin/python3 {PROGRAM} {{port}}",
                 "ready": "GET /seen 200"}
    else:
        if not (BUILD / "moult-engine-python.so").exists():
            pytest.skip("the python engine is not built here")
        lines = {"engine": "python", kind: f"streamed_apps:{kind}",
                 "working_directory": PROGRAM.parent, "environment.PYTHONDONTWRITEBYTECODE": 1}
        lines |= {"threads": 4} if kind == "wsgi" else {}
    lines |= {"route": "/", "request_arena": "4M", "max_body": "1G", **keys}
    return start("[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()),
                 supervisor=supervisor)


# An application of WSGI gets a body without a length whole: many cannot do without one.
KINDS = [("server", None), ("server", LARGE), ("asgi", None), ("asgi", LARGE), ("wsgi", LARGE)]


def worker(moult, kind):
    """The process that dies amid a body."""
    pid = moult.status("app")["pid"]
    return children(pid)[0] if kind == "server" else pid


def seen(moult, path="/seen"):
    return json.loads(moult.get(path)[1])


@contextlib.contextmanager
def sending(moult, path, length=None, fields=""):
    """A request whose body is due; the one that gets it answers with status and body."""
    kind = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    with socket.create_connection(("127.0.0.1", moult.port), DEADLINE_S) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{fields}{kind}\r\n\r\n".encode())
        yield client


def take(client):
    answer = http.client.HTTPResponse(client, method="POST")
    answer.begin()
    return answer.status, answer.read().decode()


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def expected(blocks, rest=b""):
    digest = hashlib.sha256(BLOCK * blocks + rest)
    return 200, f"{blocks * len(BLOCK) + len(rest)} {digest.hexdigest()}"


def settled(moult):
    wait_for("its end", lambda: moult.status("app")["requests"]["leased"] == 0)
    moult.check_conservation()


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.parametrize("kind", ["server", "asgi", "wsgi"])
def test_a_body_larger_than_the_arena(start, kind):
    moult = begin(start, kind)
    with sending(moult, "/sum", LARGE) as client:
        for _ in range(LARGE // len(BLOCK)):
            client.sendall(BLOCK)
        assert take(client) == expected(LARGE // len(BLOCK))
        # The connection is as good as before.
        client.sendall(b"POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert take(client) == expected(0, b"abc")
    settled(moult)


@pytest.mark.parametrize("kind", ["server", "asgi", "wsgi"])
@pytest.mark.parametrize("blocks", [0, 1, 20])
def test_a_body_of_unknown_length(start, kind, blocks):
    moult = begin(start, kind, **({"request_arena": "64M"} if kind == "wsgi" else {}))
    with sending(moult, "/sum") as client:
        for _ in range(blocks):
            client.sendall(chunk(BLOCK))
        client.sendall(chunk(b"the rest") + b"0\r\n\r\n")
        assert take(client) == expected(blocks, b"the rest")
    settled(moult)


@pytest.mark.parametrize("kind, length", KINDS)
def test_it_is_read_while_its_client_sends(start, kind, length):
    moult = begin(start, kind)
    with sending(moult, "/sum", length) as client:
        sent = 0
        for piece in (b"a", b"bc", BLOCK):
            client.sendall(piece if length else chunk(piece))
            sent += len(piece)
            # A chunk of the server's is read whole, and ends as libcurl cuts it.
            wait_for("the piece", lambda: seen(moult)["bytes"] == sent)
    wait_for("the news that the client has left", lambda: seen(moult)["cut"] == 1)
    settled(moult)


@pytest.mark.parametrize("kind, length", KINDS)
def test_one_that_reads_nothing(start, kind, length):
    """moultd reads no more from the client than fits on the way."""
    moult = begin(start, kind)
    length = length and 4 * length
    before = resident(moult.pid)
    with sending(moult, "/wait", length) as client:
        wait_for("the request", lambda: seen(moult)["begun"] == 1)
        client.setblocking(False)
        sent, piece = 0, BLOCK if length else chunk(BLOCK)
        left = memoryview(piece)
        quiet = 0
        # Nothing tells that nobody reads: many looks in a row at a socket that is full.
        while quiet < 200 and sent < 4 * LARGE:
            try:
                n = client.send(left)
            except BlockingIOError:
                quiet += 1
                seen(moult)
                continue
            quiet, sent = 0, sent + n
            left = left[n:] or memoryview(piece)
        assert sent < HELD and resident(moult.pid) - before < HELD
        seen(moult, "/go")
        client.setblocking(True)
        client.settimeout(DEADLINE_S)
        client.sendall(left[:len(left)])
        wait_for("the bytes", lambda: seen(moult)["bytes"] >= sent - len(piece))
    settled(moult)


@pytest.mark.parametrize("kind, length", KINDS)
def test_one_that_dies_amid_a_body(start, kind, length):
    """What was read is not kept, so that its successor cannot be asked: 503, at once."""
    moult = begin(start, kind)
    with sending(moult, "/sum", length) as client:
        client.sendall(BLOCK if length else chunk(BLOCK))
        wait_for("the piece", lambda: seen(moult)["bytes"] == len(BLOCK))
        os.kill(worker(moult, kind), signal.SIGKILL)
        status, body = take(client)
        assert status == 503 and "by parts" in body
    moult.wait_ready()
    settled(moult)
    assert moult.status("app")["requests"]["failures"]["crash"] == 1


def test_bodies_that_are_too_large(start):
    moult = begin(start, max_body="3M")
    # Of a length that is known, before a byte has come; else when it has come.
    with sending(moult, "/sum", 3 * len(BLOCK) + 1, "Expect: 100-continue\r\n") as client:
        assert take(client)[0] == 413
    with sending(moult, "/sum") as client:
        with contextlib.suppress(OSError):
            for _ in range(4):
                client.sendall(chunk(BLOCK))
            client.sendall(b"0\r\n\r\n")
        status, body = take(client)
        assert status == 413 and "max_body" in body
    settled(moult)


def test_a_client_that_stops(start):
    moult = begin(start, supervisor="body_timeout = 2s\n")
    with sending(moult, "/sum") as client:
        client.sendall(chunk(b"a"))
        status, body = take(client)
        assert status == 408 and "body_timeout" in body
    settled(moult)


@pytest.mark.parametrize("kind, length", KINDS)
def test_one_that_takes_too_long(start, kind, length):
    """Whose time runs is told apart: the client's is shorter here, and has stopped."""
    moult = begin(start, kind, request_timeout="4s", supervisor="body_timeout = 2s\n")
    with sending(moult, "/wait", length) as client:
        sender = threading.Thread(target=flood, args=(client, length))
        sender.start()
        status, body = take(client)
        assert status == 504 and "request_timeout" in body
        client.shutdown(socket.SHUT_RDWR)
        sender.join()
    settled(moult)


def flood(client, length):
    with contextlib.suppress(OSError):
        for _ in range(LARGE // len(BLOCK)):
            client.sendall(BLOCK if length else chunk(BLOCK))


@pytest.mark.parametrize("kind", ["server", "asgi", "wsgi"])
def test_an_answer_before_the_end(start, kind):
    """It comes when the body has: what nobody reads is dropped."""
    moult = begin(start, kind)
    with sending(moult, "/early", LARGE) as client:
        for _ in range(LARGE // len(BLOCK)):
            client.sendall(BLOCK)
        assert take(client) == (413, "too much")
    settled(moult)


def test_expect_and_a_reload_amid_a_body(start):
    moult = begin(start)
    with sending(moult, "/sum", 8 * len(BLOCK), "Expect: 100-continue\r\n") as client:
        assert client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BLOCK * 4)
        wait_for("the bytes", lambda: seen(moult)["bytes"] == 4 * len(BLOCK))
        asked = threading.Thread(target=moult.ctl, args=("reload", "app"))
        asked.start()
        client.sendall(BLOCK * 4)
        assert take(client) == expected(8)
        asked.join()
    settled(moult)
