# SPDX-License-Identifier: Apache-2.0
"""Clients that hold connections with bodies that come slowly."""
import contextlib
import socket

import pytest

from harness import echo_body, echo_section, wait_for

BODY = echo_body([1, 2, 3, 4]).encode()
HEAD = (b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY))
ANSWERED_AT_ONCE = ("/healthz", "/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready",
                    "/metrics")


def http(moult):
    return moult.status()["supervisor"]["http"]


@contextlib.contextmanager
def crowd(moult, n, data):
    """@n connections over which @data has come, each where it must be. Each sends as it comes: at
    the limit those go that have said nothing for a while."""
    accepted = http(moult)["accepted_total"]
    clients = []
    for _ in range(n):
        clients.append(socket.create_connection(("127.0.0.1", moult.port), 60))
        clients[-1].sendall(data)
    wait_for("all of them", lambda: http(moult)["accepted_total"] >= accepted + n)
    yield clients
    for client in clients:
        client.close()


def finish(client):
    client.sendall(BODY[5:])
    return client.recv(65536)


def test_health_has_connections_of_its_own(start):
    """All that may have a request have one, which is never through; none of them is closed."""
    moult = start(echo_section(), supervisor="max_connections = 64\nbody_rate_min = 0\n"
                                             "body_timeout = 1h\n")
    moult.note_fds()
    with crowd(moult, 64, HEAD + BODY[:5]) as posters:
        wait_for("their bodies", lambda: moult.status("echo")["requests"]["held"] == 0 and
                 http(moult)["connections"] >= 64)
        for path in ANSWERED_AT_ONCE * 20:
            assert moult.get(path, timeout=60)[0] == 200
        # One that may last is told to come again, also with a body that nobody wants.
        for request, status in ((HEAD + BODY, b"503"), (HEAD.replace(b"infer", b"no"), b"404"),
                                (HEAD.replace(b"POST /v2/models/echo/infer", b"GET /healthz"),
                                 b"503")):
            with crowd(moult, 20, request) as late:
                for client in late:
                    answer = client.recv(65536)
                    assert answer.startswith(b"HTTP/1.1 " + status), answer
                    if status == b"503":
                        assert b"Retry-After: 1" in answer and b"max_connections" in answer
                assert moult.get("/healthz", timeout=60)[0] == 200
        assert http(moult)["connections"] >= 64
        for poster in posters:
            assert finish(poster).startswith(b"HTTP/1.1 200")
        assert moult.infer("echo", BODY)[0] == 200
    assert moult.log_text().count("event=http_full") >= 1


def test_nobody_keeps_the_reserve(start):
    """Connections beyond the limit over which nothing comes, or a refused request, or half of a
    head, or that read nothing, make room for one another."""
    moult = start(echo_section(), supervisor="max_connections = 32\nbody_rate_min = 0\n"
                                             "header_timeout = 600s\nidle_timeout = 600s\n")
    moult.note_fds()
    with crowd(moult, 32, HEAD + BODY[:5]) as posters:
        for data in (b"", b"GET", b"\0", HEAD + BODY, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
            with crowd(moult, 100, data) as useless:
                assert moult.get("/healthz", timeout=60)[0] == 200
                assert len(useless) == 100
        for poster in posters:
            assert finish(poster).startswith(b"HTTP/1.1 200")


def test_the_slowest_body_makes_room(start):
    moult = start(echo_section(max_body="64M"),
                  supervisor="max_connections = 4\nbody_rate_min = 64K\nbody_timeout = 1h\n")
    moult.note_fds()
    many = b"x" * 6_000_000
    head = HEAD.replace(b"%d" % len(BODY), b"%d" % (len(many) + 2))
    with crowd(moult, 3, head + many) as fast, crowd(moult, 1, HEAD + BODY[:5]) as slow:
        def is_taken():
            return moult.infer("echo", BODY)[0] == 200
        wait_for("its place", is_taken)
        answer = slow[0].recv(65536)
        assert answer.startswith(b"HTTP/1.1 503") and b"slowest" in answer, answer
        for client in fast:
            client.sendall(b"xx")
            assert client.recv(65536).startswith(b"HTTP/1.1 400")
    assert http(moult)["evicted_total"] == 1


@pytest.mark.parametrize("path", ["/v2/models/echo/infer", "/v2/repository/index"])
def test_a_body_has_a_least_rate(start, path):
    moult = start(echo_section(), supervisor="body_timeout = 10m\nbody_rate_min = 1K\n")
    moult.note_fds()
    head = HEAD.replace(b"/v2/models/echo/infer", path.encode())
    with crowd(moult, 8, head + BODY[:5]) as posters:
        for poster in posters:
            answer = poster.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408") and b"body_rate_min" in answer, answer
    assert http(moult)["expired_total"] == 8
    assert moult.status("echo")["request_arena_used_bytes"] == 0
    # What has come fast enough may pause.
    big = b"x" * 500_000
    with crowd(moult, 1, head.replace(b"%d" % len(BODY), b"%d" % (len(big) + 1)) + big) as posters, \
            crowd(moult, 1, head + BODY[:5]) as slow:
        assert slow[0].recv(65536).startswith(b"HTTP/1.1 408")
        posters[0].sendall(b"x")
        assert posters[0].recv(65536).startswith(
            (b"HTTP/1.1 400", b"HTTP/1.1 200", b"HTTP/1.1 413"))


def test_connections_per_address(start):
    moult = start(echo_section(), supervisor="max_connections_per_address = 3\n")
    moult.note_fds()
    with crowd(moult, 3, HEAD + BODY[:5]) as posters:
        with socket.create_connection(("127.0.0.1", moult.port), 60) as fourth:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                fourth.sendall(HEAD + BODY)
                assert fourth.recv(1) == b""
        with socket.create_connection(("127.0.0.1", moult.port), 60,
                                      source_address=("127.0.0.2", 0)) as other:
            other.sendall(HEAD + BODY)
            assert other.recv(65536).startswith(b"HTTP/1.1 200")
        for poster in posters:
            assert finish(poster).startswith(b"HTTP/1.1 200")
