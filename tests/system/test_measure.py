# SPDX-License-Identifier: Apache-2.0
"""Limits of each client's address. Requests come by the hundred in one piece, so that no clock of
this machine fills a bucket meanwhile."""
import re
import signal
import socket
import subprocess

import pytest

from harness import BUILD, echo_body, echo_section, wait_for

N = 100


def get(path="/v2", fields=""):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()


def ask(moult, *requests, source="127.0.0.1"):
    """The answers' statuses, and all that came; the last request ends the connection."""
    last = requests[-1].replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n", 1)
    data = b""
    with socket.create_connection(("127.0.0.1", moult.port), 60, (source, 0)) as client:
        client.sendall(b"".join(requests[:-1]) + last)
        while (more := client.recv(65536)):
            data += more
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", data)], data.decode()


def limited(moult):
    page = moult.get("/metrics")[1].decode()
    return int(re.search(r"^moult_http_limited_total (\d+)$", page, re.M)[1])


def test_requests_of_each_address(start):
    moult = start(echo_section(), supervisor="requests_per_address = 1\n")
    statuses, said = ask(moult, *[get()] * N, source="127.0.0.2")
    assert len(statuses) == N and statuses[0] == 200 and statuses.count(429) > N // 2
    assert "requests_per_address" in said and "\r\nRetry-After: 1\r\n" in said
    # Others, and health.
    assert ask(moult, get(), source="127.0.0.3")[0] == [200]
    assert ask(moult, *[get("/v2/health/live")] * N, source="127.0.0.2")[0] == [200] * N
    body = echo_body([1, 2, 3, 4]).encode()
    post = (b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body))
    statuses, _ = ask(moult, *[post] * N, source="127.0.0.4")
    assert statuses[0] == 200 and statuses.count(429) > N // 2
    assert moult.status("echo")["requests"]["accepted"] == statuses.count(200)


def test_no_limit_by_default(start):
    moult = start(echo_section())
    assert ask(moult, *[get()] * N)[0] == [200] * N
    assert limited(moult) == 0


def test_limits_change_without_a_restart(start):
    moult = start(echo_section(), supervisor="requests_per_address = 1\n")
    assert 429 in ask(moult, *[get()] * N, source="127.0.0.2")[0]
    moult.config.write_text(moult.config.read_text().replace("requests_per_address = 1",
                                                             "requests_per_address = 0"))
    moult.process.send_signal(signal.SIGHUP)
    wait_for("no limit", lambda: ask(moult, *[get()] * N, source="127.0.0.2")[0] == [200] * N)
    assert limited(moult) > 0


def test_bytes_of_each_address(start):
    """A body is taken whole; what follows waits until as much time is over."""
    moult = start(echo_section(max_body="4M"), supervisor="bytes_per_address = 1K\n")
    body = b" " * 2_000_000 + echo_body([1, 2, 3, 4]).encode()
    post = (b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body))
    assert ask(moult, post, source="127.0.0.2")[0] == [200]
    statuses, said = ask(moult, get(), source="127.0.0.2")
    assert statuses == [429] and "bytes_per_address" in said
    assert 1000 < int(re.search(r"Retry-After: (\d+)", said)[1]) < 2100
    assert ask(moult, get(), source="127.0.0.3")[0] == [200]


def forwarded(client):
    return get(fields=f"X-Forwarded-For: {client}\r\n")


def test_proxies_are_believed_if_they_are_trusted(start):
    moult = start(echo_section(), supervisor="requests_per_address = 1\n"
                  "trusted_proxies = 127.0.0.2, 10.0.0.0/8\n")
    one, other = forwarded("203.0.113.1"), forwarded("198.51.100.1, 203.0.113.2, 10.1.1.1")
    statuses, _ = ask(moult, *[one] * N, other, source="127.0.0.2")
    assert statuses.count(429) > N // 2 and statuses[-1] == 200
    # What a client writes in front does not count.
    liars = [forwarded(f"198.51.100.{i}, 203.0.113.3") for i in range(N)]
    assert ask(moult, *liars, source="127.0.0.2")[0].count(429) > N // 2
    # Nor what anybody else writes.
    liars = [forwarded(f"198.51.100.{i}") for i in range(N)]
    assert ask(moult, *liars, source="127.0.0.3")[0].count(429) > N // 2


@pytest.mark.parametrize("line, says", [
    ("requests_per_address = -1", "is no whole number"),
    ("requests_per_address = 1000001", "is out of range"),
    ("requests_per_address = 1/s", "is no whole number"),
    ("bytes_per_address = 1X", "is no size"), ("bytes_per_address =", "has no value"),
    ("trusted_proxies = ,", "there is no address in it"),
    ("trusted_proxies = proxy.example", "is no address"),
    ("trusted_proxies = 10.0.0.0/33", "is no address"),
    ("trusted_proxies = ::/129", "is no address"), ("trusted_proxies = 10.0.0.0/", "is no"),
    ("trusted_proxies = 10.0.0.1:80", "is no address")])
def test_what_check_says(tmp_path, line, says):
    config = tmp_path / "moult.conf"
    config.write_text("[supervisor]\nuser = root\n"
                      f"control = c.sock\nstate_dir = s\n{line}\n" + echo_section())
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 1 and says in result.stderr, result.stderr
