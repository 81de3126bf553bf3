# SPDX-License-Identifier: Apache-2.0
"""Large bodies go past libmicrohttpd into their place (decision 31): in large pieces, whole and
in order, whatever they are cut into; and what limits bodies limits these, too."""
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import threading

import pytest

from certificates import Authority, Pair
from counted import Counted, unsanitized
from harness import BUILD, echo_section, patience, wait_for, whole_lines
from test_python import home, section  # noqa: F401 (a fixture)

MEMORY = 8192 + 1024  # connection_memory, and what the head of an answer has
INFER = "POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /v2/models/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ECHO = {"max_batch": 65536, "max_body": "8M", "request_arena": "64M"}


def binary(size, seed=1, columns=4):
    """A body of @size bytes, with a head that says how many of them are JSON, and its tensor."""
    row = 4 * columns
    rows = size // row
    while True:
        envelope = json.dumps({
            "inputs": [{"name": "x", "shape": [rows, columns], "datatype": "FP32",
                        "parameters": {"binary_data_size": rows * row}}],
            "outputs": [{"name": "x", "parameters": {"binary_data": True}}]}).encode()
        if len(envelope) + rows * row <= size:
            break
        rows -= 1
    envelope = envelope.ljust(size - rows * row)
    tensor = random.Random(seed).randbytes(rows * row)
    return f"Inference-Header-Content-Length: {len(envelope)}\r\n", envelope + tensor, tensor


def request(size, fields="", columns=4):
    head, body, tensor = binary(size, columns=columns)
    return f"{INFER}{head}{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body, tensor


def take(stream):
    """One answer: status and body."""
    status, length = int(stream.readline().split()[1]), 0
    for line in iter(stream.readline, b"\r\n"):
        assert line, "the answer is cut off"
        name, value = line.split(b":", 1)
        length = int(value) if name.lower() == b"content-length" else length
    return status, stream.read(length)


@contextlib.contextmanager
def connected(moult):
    with socket.create_connection(("127.0.0.1", moult.port), patience()) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if moult.context:
            client = moult.context.wrap_socket(client, server_hostname="localhost")
        with client, client.makefile("rb") as stream:
            yield client, stream


def exchange(moult, pieces, n):
    """Sends @pieces while it reads @n answers."""
    with connected(moult) as (client, stream):
        def send():
            for piece in pieces:
                client.sendall(piece)
        sender = threading.Thread(target=send)
        sender.start()
        answers = [take(stream) for _ in range(n)]
        sender.join()
        return answers


def cuts(data, generator):
    """@data in pieces of many sizes."""
    at = 0
    while at < len(data):
        size = generator.choice((1, 100, 5000, MEMORY, 70_000, 1 << 20))
        yield data[at:at + size]
        at += size


def check_sizes(moult):
    for size in (3 * MEMORY - 1, *range(3 * MEMORY + 2, 3 * MEMORY + 5), 600_000, 3_000_000):
        one, tensor = request(size)
        for pieces in ([one + NEXT], [one, NEXT], list(cuts(one + NEXT, random.Random(size)))):
            answers = exchange(moult, pieces, 2)
            assert [status for status, _ in answers] == [200, 404], (size, answers[0][1][:300])
            assert answers[0][1].endswith(tensor), size


def test_what_is_sent_arrives(start):
    moult = start(echo_section(**ECHO))
    check_sizes(moult)
    # Wherever a read ends in the head, and behind requests that wait.
    one, tensor = request(3 * MEMORY + 1000)
    small, _ = request(400)
    for at in (*range(one.index(b"Content-Length") - 2, one.index(b"\r\n\r\n") + 10), 8000, MEMORY):
        answers = exchange(moult, [one[:at], one[at:] + small + one + NEXT], 4)
        assert [status for status, _ in answers] == [200, 200, 200, 404], (at, answers)
        assert answers[0][1].endswith(tensor) and answers[2][1].endswith(tensor), at


def test_with_a_small_and_a_large_pool(start):
    for memory in ("8K", "1M"):
        moult = start(echo_section(**ECHO), supervisor=f"connection_memory = {memory}\n")
        check_sizes(moult)
        moult.stop()
        shutil.rmtree(moult.models)


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl(1)")
def test_under_tls(start, tmp_path):
    authority = Authority(tmp_path)
    moult = start(echo_section(**ECHO), supervisor=Pair(tmp_path, *authority.issue()).keys(),
                  context=authority.context(None))
    for size in (3 * MEMORY + 3, 600_000, 3_000_000):
        one, tensor = request(size)
        with connected(moult) as (client, stream):
            for pieces in ([one], [one[:40_000], one[40_000:] + NEXT]):
                for piece in pieces:
                    client.sendall(piece)
                status, body = take(stream)
                assert status == 200 and body.endswith(tensor)
            assert take(stream)[0] == 404


def test_a_client_that_waits_for_a_100(start):
    moult = start(echo_section(**ECHO))
    one, tensor = request(600_000, "Expect: 100-continue\r\n")
    head, body = one[:one.index(b"\r\n\r\n") + 4], one[one.index(b"\r\n\r\n") + 4:]
    with connected(moult) as (client, stream):
        for _ in range(2):
            client.sendall(head)
            assert take(stream) == (100, b"")
            client.sendall(body)
            status, answer = take(stream)
            assert status == 200 and answer.endswith(tensor)
        client.sendall(head.replace(b"echo", b"none"))
        assert take(stream)[0] == 404 and stream.read() == b""


@unsanitized
def test_in_large_pieces(start, tmp_path):
    """A body of 600 KB took 77 reads of 8 KB, and two looks for events for each."""
    counted = Counted(tmp_path)
    moult = start(echo_section(**ECHO), environment=counted.environment)
    counted.open()
    one, tensor = request(600_000)
    with connected(moult) as (client, stream):
        def ask():
            client.sendall(one)
            status, body = take(stream)
            assert status == 200 and body.endswith(tensor)
        each = sorted((counted.during(ask) for _ in range(21)), key=lambda counts: counts["reads"])
    assert each[10]["reads"] < 40 and each[10]["waits"] < 100, each
    assert counted.now()["largest_read"] >= 64 * 1024, counted.now()


def test_one_that_is_not_wanted(start):
    """Up to 1 MB is read, and the connection stays; what is longer is answered at once."""
    moult = start(echo_section(**{**ECHO, "max_body": "700K"}))
    one, tensor = request(600_000)
    for bad, status in ((one.replace(b"models/echo", b"models/none"), 404),
                        (one.replace(b"POST /v2/models/echo/infer", b"GET /healthz"), 200),
                        (request(900_000)[0], 413)):
        answers = exchange(moult, [bad + one + NEXT], 3)
        assert [answer[0] for answer in answers] == [status, 200, 404], (status, answers)
        assert answers[1][1].endswith(tensor)
    long, _ = request(5_000_000)
    with connected(moult) as (client, stream):
        client.sendall(long[:100_000])
        assert take(stream)[0] == 413


def test_no_room(start):
    """Bodies that outgrow the arena while they come are refused, and what serves goes on."""
    moult = start(echo_section(**{**ECHO, "max_body": "1M", "request_arena": "2M"}))
    one, tensor = request(1_000_000)
    cut = 500_000
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(moult)) for _ in range(8)]
        for client, _ in clients:
            client.settimeout(patience())
            client.sendall(one[:cut])

        def finish(pair):
            client, stream = pair
            client.sendall(one[cut:])
            return take(stream)
        with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
            answers = list(pool.map(finish, clients))
        assert {status for status, _ in answers} == {200, 503}, [a[:2] for a in answers]
        assert all(body.endswith(tensor) if status == 200 else b"request_arena" in body
                   for status, body in answers)
        # The connection of one that was refused is as good as before.
        for client, stream in clients:
            client.sendall(request(400)[0])
            assert take(stream)[0] == 200


def test_clients_that_leave_and_clients_that_stop(start):
    moult = start(echo_section(**ECHO), supervisor="body_timeout = 1s\nbody_rate_min = 0\n")
    moult.note_fds()
    one, _ = request(600_000)
    for at in (30_000, 300_000, len(one) - 1):
        with connected(moult) as (client, stream):
            client.sendall(one[:at])
        with connected(moult) as (client, stream):
            client.sendall(one[:at])
            client.shutdown(socket.SHUT_WR)
            assert stream.read() == b""
    with connected(moult) as (client, stream):
        client.sendall(one[:300_000])
        status, body = take(stream)
        assert status == 408 and b"body_timeout" in body
        assert stream.read() == b""
    assert moult.status("echo")["requests"]["held"] == 0


def test_the_access_log_has_all_bytes(start, tmp_path):
    path = tmp_path / "access.log"
    moult = start(echo_section(**ECHO), supervisor=f"access_log = {path}\n"
                                             "access_log_format = json\n")
    one, _ = request(600_000)
    assert exchange(moult, [one], 1)[0][0] == 200
    wait_for("the line", lambda: any(json.loads(line)["received_bytes"] == 600_000
                                     for line in whole_lines(path)))


def shared_bytes(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssShmem:\s+(\d+) kB", status)[1]) * 1024


def test_memory_of_answers_is_given_back(start):
    """What large answers took goes back when none has come for a while, and is there again. What the
    bodies of requests took stays: the kernel gives back none that is sealed."""
    moult = start(echo_section(**{**ECHO, "max_body": "24M", "response_arena": "64M",
                                  "input": "x FP32 [-1,1024]", "output": "x FP32 [-1,1024]"}))
    size = 20_000_000
    one, tensor = request(size, columns=1024)
    for _ in range(2):
        (status, body), = exchange(moult, [one], 1)
        assert status == 200 and body.endswith(tensor)
        wait_for("memory", lambda: shared_bytes(moult.pid) < 2 * size - 15_000_000)


@pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                    reason="the python engine is not built here")
def test_what_is_hosted_sees_the_length(start, home):  # noqa: F811
    (home / "app.py").write_text("""
import hashlib

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f'{environ["CONTENT_LENGTH"]} {hashlib.sha256(body).hexdigest()}'.encode()]
""")
    moult = start(section(home, max_body="8M", request_arena="16M"))
    body = os.urandom(600_000)
    head = f"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    status, answer = exchange(moult, [head + body], 1)[0]
    assert (status, answer.decode()) == (200, f"600000 {hashlib.sha256(body).hexdigest()}")
