# SPDX-License-Identifier: Apache-2.0
"""The PROXY protocol: a proxy that is trusted says whose each connection is, before its first byte.
The test comes from 127.0.0.2 as the proxy, and from other addresses as somebody else."""
import contextlib
import re
import socket
import struct
import subprocess

import pytest

from certificates import Authority, Pair
from harness import BUILD, echo_body, echo_section, free_port, wait_for, whole_lines
from test_grpc import grpc  # noqa: F401
from test_measure import N, get
from test_proxies import program
from test_visit import home, python_section, visit  # noqa: F401

PROXY = "127.0.0.2"
TRUST = "trusted_proxies = 127.0.0.2\nproxy_protocol = {}\n"
YES = TRUST.format("yes")
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\0\0\0"
LAST = get(fields="Connection: close\r\n")


def line(client, port=55555):
    """Version 1."""
    kind = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {kind} {client} {client} {port} 80\r\n".encode()


def block(client, port=55555, more=b""):
    """Version 2; @more: what may follow the addresses."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    address = socket.inet_pton(family, client)
    body = 2 * address + struct.pack("!HH", port, 80) + more
    kind = 0x21 if ":" in client else 0x11
    return SIGNATURE + bytes([0x21, kind]) + struct.pack("!H", len(body)) + body


def connect(moult, source=PROXY):
    return socket.create_connection(("127.0.0.1", moult.port), 60, (source, 0))


def read(client):
    """All that comes; nothing where the other side hangs up, however it does."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while (more := client.recv(65536)):
            data += more
    return data


def ask(moult, *pieces, source=PROXY):
    """The answers' statuses, and all that came."""
    with connect(moult, source) as client, contextlib.suppress(ConnectionError):
        for piece in pieces:
            client.sendall(piece)
        data = read(client)
        return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", data)], data
    return [], b""


def refused(moult):
    return moult.status()["supervisor"]["http"]["refused_total"]


def noted(path, wanted):
    """The access log's clients and ports, once it has a line with the last of @wanted."""
    def clients():
        lines = whole_lines(path) if path.exists() else []
        return [match.groups() for match in
                (re.search(r" client=(\S+) port=(\d+) .*target=\"/v2\?", text) for text in lines)
                if match]
    wait_for("the last line", lambda: len(clients()) >= len(wanted))
    assert clients() == wanted


def test_whose_it_is(start, tmp_path):
    """In the access log, however the head comes and however many requests follow."""
    path = tmp_path / "access.log"
    moult = start(echo_section(), supervisor=YES + f"access_log = {path}\n")
    first, last = get("/v2?x"), get("/v2?x", "Connection: close\r\n")
    assert ask(moult, line("203.0.113.1") + last)[0] == [200]
    assert ask(moult, block("203.0.113.2", 1) + first + last)[0] == [200, 200]
    assert ask(moult, block("2001:db8::1", 2, b"\x04\0\x04GET "), last)[0] == [200]
    for head in (line("203.0.113.3", 3), block("203.0.113.4", 4)):
        assert ask(moult, *(bytes([c]) for c in head + last))[0] == [200]
    noted(path, [("203.0.113.1", "55555"), ("203.0.113.2", "1"), ("203.0.113.2", "1"),
                 ("2001:db8::1", "2"), ("203.0.113.3", "3"), ("203.0.113.4", "4")])
    # The proxy for itself, and one that does not know: its own address.
    for head in (LOCAL, b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x21\0\0\0"):
        assert ask(moult, head + get("/v2?own", "Connection: close\r\n"))[0] == [200]
    wait_for("the lines", lambda: len([text for text in whole_lines(path)
                                       if "client=127.0.0.2 " in text and "?own" in text]) == 3)
    assert refused(moult) == 0


def test_limits_are_each_clients(start):
    moult = start(echo_section(), supervisor=YES + "requests_per_address = 1\n")
    statuses, _ = ask(moult, block("203.0.113.1"), get() * (N - 1) + LAST)
    assert len(statuses) == N and statuses[0] == 200 and statuses.count(429) > N // 2
    assert ask(moult, line("203.0.113.2") + LAST)[0] == [200]
    # A trusted proxy behind a trusted proxy: what both say.
    far = get(fields="X-Forwarded-For: 203.0.113.3\r\n")
    statuses, _ = ask(moult, block(PROXY), far * (N - 1) + LAST)
    assert statuses.count(429) > N // 2 and statuses[-1] == 200


def test_connections_of_each_client(start):
    moult = start(echo_section(), supervisor=YES + "max_connections_per_address = 2\n")

    def is_served(client):
        client.sendall(get())
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            if not more:
                return False
            data += more
        return b" 200 " in data

    with contextlib.ExitStack() as stack:
        for name in ("203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.2"):
            client = stack.enter_context(connect(moult))
            client.sendall(block(name))
            assert is_served(client)
        assert ask(moult, block("203.0.113.1") + LAST) == ([], b"")
        for _ in range(2):
            assert is_served(stack.enter_context(connect(moult, "127.0.0.3")))
        assert ask(moult, LAST, source="127.0.0.3") == ([], b"")
    assert "max_connections_per_address are open" in moult.log_text()


def test_who_is_not_believed(start):
    """A proxy without a head is closed, somebody else's head is a malformed request."""
    moult = start(echo_section(), supervisor=YES)
    for data in (LAST, b"\x16\x03\x01\x02\0", b"PROXY TCP4 203.0.113.1 203.0.113.1 1\r\n" + LAST,
                 SIGNATURE + b"\x21\x12\0\x0c" + bytes(12) + LAST,
                 SIGNATURE + b"\x31\x11\0\x0c" + bytes(12) + LAST):
        before = refused(moult)
        assert ask(moult, data) == ([], b""), data
        assert refused(moult) == before + 1
    wait_for("the metric", lambda: f"\nmoult_http_refused_total {before + 1}\n"
             in moult.get("/metrics")[1].decode())
    assert re.search(r"level=warning event=proxy_refused client=127\.0\.0\.2 reason=", moult.log_text())
    # Who leaves before has done nothing wrong: a check whether the port is open.
    before = refused(moult)
    for start_of in (b"", b"PROX", SIGNATURE):
        with connect(moult) as client:
            client.sendall(start_of)
            client.shutdown(socket.SHUT_WR)
            assert read(client) == b""
    assert refused(moult) == before
    for head in (line("203.0.113.1"), block("203.0.113.1")):
        assert ask(moult, head + LAST, source="127.0.0.3")[0] == [400]
    assert ask(moult, LAST, source="127.0.0.3")[0] == [200]


def test_nobody_but_proxies(start):
    admin = free_port()
    moult = start(echo_section(), ready=False, supervisor=TRUST.format("required") +
                  f"admin_listen = 127.0.0.1:{admin}\n")
    for data in (LAST, block("203.0.113.1") + LAST, b""):
        assert ask(moult, data, source="127.0.0.3") == ([], b"")
    assert ask(moult, block("203.0.113.1") + LAST)[0] == [200]
    # Probes have an address of their own, which has no proxy.
    with socket.create_connection(("127.0.0.1", admin), 60) as client:
        client.sendall(get("/v2/health/live", "Connection: close\r\n"))
        assert b" 200 " in read(client)
    # Who sends nothing is closed as well.
    with connect(moult, "127.0.0.3") as client:
        assert read(client) == b""


def test_who_comes_through_a_proxy_is_no_operator(start):
    moult = start(echo_section(), supervisor=YES)
    path = "POST /v2/repository/models/echo/load HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" \
           "Content-Length: 0\r\n\r\n"
    for head in (block("203.0.113.1"), line("127.0.0.1"), b"PROXY UNKNOWN\r\n"):
        assert ask(moult, head + path.encode())[0] == [403]
    assert ask(moult, LOCAL + path.encode())[0] == [200]


def test_slow_heads_are_late(start):
    moult = start(echo_section(), supervisor=YES + "header_timeout = 1s\n")
    with connect(moult) as client:
        client.sendall(SIGNATURE)
        assert b" 200 " not in read(client)
    assert moult.status()["supervisor"]["http"]["expired_total"] == 1


def test_before_tls(start, tmp_path):
    authority = Authority(tmp_path)
    path = tmp_path / "access.log"
    moult = start(echo_section(), context=authority.context(), supervisor=YES +
                  Pair(tmp_path, *authority.issue()).keys() + f"access_log = {path}\n")
    last = get("/v2?x", "Connection: close\r\n")
    for head in (line("203.0.113.1"), block("203.0.113.2", 7)):
        with connect(moult) as raw:
            raw.sendall(head)
            with authority.context().wrap_socket(raw, server_hostname="localhost") as client:
                client.sendall(last)
                assert b" 200 " in read(client)
    noted(path, [("203.0.113.1", "55555"), ("203.0.113.2", "7")])
    before = refused(moult)
    with connect(moult) as raw, pytest.raises(OSError):
        authority.context().wrap_socket(raw, server_hostname="localhost")
    assert refused(moult) == before + 1


@pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                    reason="the python engine is not built here")
def test_applications_are_told(start, home, visit):  # noqa: F811
    (home / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [(environ['REMOTE_ADDR'] + ' ' + environ['REMOTE_PORT']).encode()]\n")
    moult = start(python_section(home), supervisor=YES)
    assert ask(moult, block("2001:db8::9", 99) + get("/", "Connection: close\r\n"))[1] \
        .endswith(b"2001:db8::9 99")


HAPROXY = """
global
	maxconn 256
defaults
	mode {mode}
	timeout connect 60s
	timeout client 60s
	timeout server 60s
frontend f
	bind 127.0.0.1:{port} {bind}
	default_backend b
backend b
	{check}
	server m 127.0.0.1:{moultd} source 127.0.0.2 {options}
"""


@contextlib.contextmanager
def haproxy(folder, **keys):
    """A port that leads to moultd's."""
    path = program("haproxy")
    port = free_port()
    config = folder / f"haproxy-{port}.cfg"
    config.write_text(HAPROXY.format(port=port, **keys))
    with open(folder / "haproxy.log", "ab") as log, \
            subprocess.Popen([path, "-f", config], stdin=subprocess.DEVNULL, stdout=log,
                             stderr=log) as process:
        def answers():
            assert process.poll() is None, (folder / "haproxy.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        try:
            wait_for("haproxy", answers)
            yield port
        finally:
            process.kill()


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2",
                                  "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_haproxy(start, tmp_path, send):
    path = tmp_path / "access.log"
    moult = start(echo_section(), supervisor=TRUST.format("required") +
                  f"access_log = {path}\nadmin_listen = 127.0.0.1:{free_port()}\n", ready=False)
    # Its checks are there to be seen: none that comes late takes moultd away from the client.
    check = "option httpchk GET /v2/health/ready\n\thttp-check expect status 200"
    with haproxy(tmp_path, mode="http", bind="", check=check, moultd=moult.port,
                 options="check inter 100ms fall 1000 " + send) as port:
        def is_served():
            with socket.create_connection(("127.0.0.1", port), 60, ("127.0.0.9", 0)) as client:
                client.sendall(get("/v2?x", "Connection: close\r\n"))
                return b" 200 " in read(client)
        wait_for("the model behind HAProxy", is_served)
        body = echo_body([1, 2, 3, 4]).encode()
        with socket.create_connection(("127.0.0.1", port), 60, ("127.0.0.9", 0)) as client:
            client.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
                           b"Connection: close\r\n\r\n%s" % (len(body), body))
            assert b" 200 " in read(client)
        wait_for("the line", lambda: any(" client=127.0.0.9 " in text and "/infer" in text
                                         for text in whole_lines(path)))
        # Its own checks are its own.
        wait_for("a check", lambda: any(" client=127.0.0.2 " in text and "/v2/health/ready" in text
                                        for text in whole_lines(path)))
    assert "event=proxy_refused" not in moult.log_text()


def test_haproxy_before_grpc(start, grpc, tmp_path):  # noqa: F811
    path = tmp_path / "access.log"
    moult = start(echo_section(), supervisor=TRUST.format("required") + grpc.key +
                  f"access_log = {path}\nadmin_listen = 127.0.0.1:{free_port()}\n", ready=False)
    own = grpc.port
    with haproxy(tmp_path, mode="tcp", bind="", check="", moultd=own,
                 options="send-proxy-v2") as grpc.port:
        wait_for("the model", lambda: moult.status("echo")["state"] == "ready")
        assert grpc.says("slow", 60) == ["OK", ""]
    wait_for("the lines", lambda: any(" client=127.0.0.1 " in text and "ModelInfer" in text
                                      for text in whole_lines(path)))
    wait_for("no connection", lambda: moult.status()["supervisor"]["grpc"]["connections"] == 0)
    # Others are not served there either, nor is a proxy that says nothing.
    for source, data in (("127.0.0.3", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
                         (PROXY, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")):
        before = moult.status()["supervisor"]["grpc"]["refused_total"]
        with contextlib.suppress(ConnectionError), socket.create_connection(
                ("127.0.0.1", own), 60, (source, 0)) as client:
            client.sendall(data)
            read(client)
        wait_for("the refusal", lambda b=before: moult.status()["supervisor"]["grpc"]
                 ["refused_total"] == b + 1)


@pytest.mark.parametrize("lines, says", [
    ("proxy_protocol = yes\n", "whom to believe is missing"),
    ("proxy_protocol = required\n", "name the proxies with trusted_proxies"),
    ("proxy_protocol = v2\ntrusted_proxies = ::1\n", "allowed are no, yes or required")])
def test_what_check_says(tmp_path, lines, says):
    config = tmp_path / "moult.conf"
    config.write_text(f"[supervisor]\nuser = root\ncontrol = c.sock\nstate_dir = s\n{lines}"
                      + echo_section())
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 1 and says in result.stderr, result.stderr
