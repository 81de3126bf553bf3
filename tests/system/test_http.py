# SPDX-License-Identifier: Apache-2.0
"""The endpoint byte by byte: framing, deadlines, refusals in mid-body, half-closed and
broken connections, draining."""
import json
import signal
import socket
import struct
import subprocess
import time

import pytest

from harness import (BUILD, ECHO_FLOATS, echo_body, echo_section, patience, slowness, stretched,
                     wait_for)

BODY = echo_body([1, 2, 3, 4]).encode()
INFER = "/v2/models/echo/infer"


class Client:
    """One connection, answers read one by one."""

    def __init__(self, moult, **options):
        self.begun = time.monotonic()
        self.socket = socket.socket()
        self.socket.settimeout(patience())
        if "receive_bytes" in options:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                   options["receive_bytes"])
        self.socket.connect(("127.0.0.1", moult.port))
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)
        return self

    def post(self, body=BODY, path=INFER, head="", version="1.1"):
        return self.send(f"POST {path} HTTP/{version}\r\nHost: x\r\n{head}"
                         f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def get(self, path, method="GET"):
        return self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def head(self):
        line = self.stream.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        fields = {}
        while (field := self.stream.readline().strip().decode()):
            name, _, value = field.partition(":")
            fields[name.lower()] = value.strip()
        return int(line.split()[1]), fields

    def answer(self, has_body=True):
        status, fields = self.head()
        size = int(fields["content-length"]) if has_body else 0
        body = self.stream.read(size)
        assert len(body) == size, "cut off"
        return status, fields, body

    def is_closed(self):
        try:
            return self.stream.read(1) == b""
        except ConnectionResetError:
            return True

    def rest(self):
        try:
            return self.stream.read()
        except ConnectionResetError:
            return b""

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.__exit__()


def test_a_model_whose_name_is_no_text(start):
    moult = start(echo_section())
    for target in ("/v2/models/%ff", "/v2/models/caf%e9/ready"):
        status, body = moult.get(target)
        assert status == 404 and b"there is no model" in body


def test_routes(start):
    moult = start(echo_section())
    with Client(moult) as client:
        for path, want in [("/v2/", 200), ("/healthz", 200), ("/v2/health/ready?x=1", 200),
                           ("/v2/models/echo/versions/1/config", 200),
                           ("/v2/models/echo/stats", 200), ("/v2/models/stats", 200),
                           ("/v2/models/echo/versions/2", 404), ("/v2/models/%zz", 404),
                           ("/v2/models/echo/versions/x", 404), ("/v2/models/a%2Fb", 404),
                           (INFER, 405), ("/v2/repository/index", 405)]:
            status, fields, body = client.get(path).answer()
            assert status == want, (path, body)
            assert fields["content-type"] == "application/json"
            assert ("error" in json.loads(body)) == (want != 200)
            assert want != 405 or "Allow" in json.loads(body)["error"]
            assert fields.get("allow") == ("POST" if want == 405 else None)
        for path in ("/", "/v2/models", "/V2", "/v2/models/echo/predict"):
            status, _, body = client.get(path).answer()
            assert (status, "moult-http(7)" in json.loads(body)["error"]) == (404, True), path
        for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
            status, fields, _ = client.get("/v2/models/echo", method).answer()
            assert (status, fields["allow"]) == (405, "GET, HEAD")
        for path in ("/v2/models/echo", "/metrics", "/nowhere", INFER):
            status, fields, _ = client.get(path, "HEAD").answer(has_body=False)
            assert int(fields["content-length"]) > 0
        for body in (b"", b"{}"):
            assert client.post(body, "/v2/repository/any/models/echo/load").answer()[0] == 501
            assert client.post(body, "/v2/repository/index").answer()[0] == 200
        assert client.post().answer()[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_log_names_the_port_that_the_kernel_chose(tmp_path, host):
    (tmp_path / "moult.conf").write_text(f"[supervisor]\nuser = root\nlisten = {host}:0\n"
                                         "control = c.sock\nstate_dir = state\n")
    with subprocess.Popen([BUILD / "moultd", "-c", tmp_path / "moult.conf"],
                          stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        process.terminate()
    if "start_failed" in line and host == "[::1]":
        pytest.skip(f"no IPv6 here: {line}")
    address, _, port = line.strip().partition("address=")[2].rpartition(":")
    assert address == host and int(port) > 0, line


BAD_FRAMING = [
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    ("Transfer-Encoding: gzip\r\n", 400),
    ("Host: y\r\n", 400),
    ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
    ("Content-Length: -1\r\n", 400),
    ("Content-Length: five\r\n", 400),
    ("Content-Length: 99999999999999999999999\r\n", 413),
    ("Content-Length: 18446744073709551615\r\n", 413),
    ("Content-Length : 5\r\n", 400),
    ("Transfer-Encoding : chunked\r\n", 400),
    ("".join(f"a{i}: b\r\n" for i in range(100)) + "Content-Length: 5\r\n", 431),
    ("a: " + "b" * 70000 + "\r\n", 431),
]


@pytest.mark.parametrize("path", [INFER, "/v2/repository/index", "/v2"])
def test_doubtful_framing_ends_the_connection(start, path):
    """What follows could be part of the body: it must not be taken for a request."""
    moult = start(echo_section())
    method = "GET" if path == "/v2" else "POST"
    for head, want in BAD_FRAMING:
        with Client(moult) as client:
            client.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() +
                        b"5\r\nhello\r\n0\r\n\r\nGET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            status, fields, _ = client.answer()
            assert status == want, head[:100]
            assert fields["connection"].lower() == "close"
            assert b" 200 " not in client.rest(), head[:100]


def test_chunks_of_an_old_version_are_doubtful(start):
    """HTTP/1.0 has none: somebody in front of us may have taken the body to end elsewhere."""
    moult = start(echo_section())
    for path, method in ((INFER, "POST"), ("/v2", "GET")):
        with Client(moult) as client:
            client.send(f"{method} {path} HTTP/1.0\r\nConnection: keep-alive\r\n"
                        f"Transfer-Encoding: chunked\r\n\r\n".encode() +
                        b"5\r\nhello\r\n0\r\n\r\nGET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = client.rest()
            assert answer.startswith(b"HTTP/1.") and b" 400 " in answer.split(b"\r\n")[0]
            assert b"HTTP/1.0 has no Transfer-Encoding" in answer and b" 200 " not in answer


def test_expect_continue(start):
    moult = start(echo_section(max_body="1M"))
    with Client(moult) as client:
        client.send(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    f"Content-Length: {len(BODY)}\r\n\r\n".encode())
        assert client.head()[0] == 100
        assert client.send(BODY).answer()[0] == 200
        client.send(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    "Content-Length: 2000000\r\n\r\n".encode())
        status, _, body = client.answer()
        assert status == 413 and "max_body" in json.loads(body)["error"]
        assert client.is_closed()


def flood(client, piece):
    """Sends until the server has had enough."""
    try:
        for _ in range(200):
            client.send(piece)
    except OSError:
        pass


def test_large_refusals_reach_clients_that_still_send(start):
    moult = start(echo_section(max_body="1M"))
    piece = b"x" * 100_000
    for path, want in ((INFER, 413), ("/v2/models/nosuch/infer", 404), ("/nowhere", 404)):
        with Client(moult) as client:
            client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\n"
                        f"Content-Length: {200 * len(piece)}\r\n\r\n".encode())
            flood(client, piece)
            status, fields, body = client.answer()
            assert (status, fields["connection"]) == (want, "close")
            assert json.loads(body)["error"]
        with Client(moult) as client:
            client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n".encode())
            flood(client, b"%x\r\n%s\r\n" % (len(piece), piece))
            assert client.answer()[0] == want


def test_small_refusals_keep_the_connection(start):
    moult = start(echo_section(max_body="64K"))
    with Client(moult) as client:
        for _ in range(3):
            assert client.post(b"x" * 500_000, "/nowhere").answer()[0] == 404
            assert client.post(b"x" * 500_000).answer()[0] == 413
            assert client.post(b"x", "/v2/models/echo").answer()[0] == 405
            client.send(f"POST {INFER} HTTP/1.1\r\nHost: x\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(20):
                client.send(b"1388\r\n" + b"x" * 5000 + b"\r\n")
            assert client.send(b"0\r\n\r\n").answer()[0] == 413
            assert client.post().answer()[0] == 200


def test_deadlines(start):
    factor = min(slowness(), 4)  # a slow body has five seconds, whatever its deadline
    moult = start(echo_section(), supervisor="".join(
        f"{what}_timeout = {int(ms * factor)}ms\n"
        for what, ms in (("header", 600), ("body", 900), ("idle", 700))))

    def took(client, seconds, status=None):
        if status:
            assert client.answer()[0] == status
        assert client.is_closed()
        ended = time.monotonic() - client.begun
        assert factor * seconds - 0.1 < ended < factor * seconds + 2 * slowness(), ended

    with Client(moult) as client:
        took(client, 0.6)
    with Client(moult) as client:
        took(client.send(b"GET /v2 HTTP/1.1\r\nHos"), 0.6, 408)
    with Client(moult) as client:
        took(client.post(BODY + b"xx").send(b"POST / HTTP"), 0.6, 400)
    with Client(moult) as client:
        took(client.send(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{"
                         .encode()), 0.9, 408)
    with Client(moult) as client:
        client.post().answer()
        took(client, 0.7)
    with Client(moult) as client:
        client.post().answer()
        client.begun = time.monotonic()
        took(client.send(b"GET /v2 HTTP/1.1\r\nHos"), 0.6, 408)


def test_deadlines_are_for_the_client_not_the_model(start):
    ms = stretched(400)
    moult = start(echo_section(warmup_runs=0, **{"option.delay_us": 5000 * ms}),
                  supervisor="".join(f"{what}_timeout = {ms}ms\n"
                                     for what in ("header", "body", "idle")))
    with Client(moult) as client:
        assert client.post().answer()[0] == 200


def test_reader_that_stops_gives_its_answer_back(start):
    moult = start(echo_section(input="x FP32 [-1]", output="x FP32 [-1]", max_batch=1,
                               max_body="32M", response_arena="64M"),
                  supervisor="body_timeout = 2s\n")
    moult.note_fds()
    data = bytes(24 * 1024 * 1024)
    header = json.dumps({"inputs": [{
        "name": "x", "shape": [len(data) // 4], "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True}}).encode()
    with Client(moult, receive_bytes=4096) as client:
        client.post(header + data, head=f"Inference-Header-Content-Length: {len(header)}\r\n")
        wait_for("the end of it", lambda: moult.status()["supervisor"]["http"]
                 ["connections"] == 0)


def test_half_closed_clients(start):
    """A client that has sent all it wants may still read; it is not waited for for ever."""
    moult = start(echo_section(), echo_section("slow", warmup_runs=0,
                                               **{"option.delay_us": 800_000}),
                  echo_section("stuck", warmup_runs=0, **{"option.delay_us": 20_000_000}))
    for model in ("echo", "slow"):
        with Client(moult) as client:
            client.post(path=f"/v2/models/{model}/infer").half_close()
            assert client.answer()[0] == 200
            assert client.is_closed()
    with Client(moult) as client:
        client.post().post().post().half_close()
        assert [client.answer()[0] for _ in range(3)] == [200] * 3
        assert client.is_closed()
    with Client(moult) as client:
        client.post(path="/v2/models/stuck/infer").half_close()
        assert client.is_closed()
        # The loader is at it still.
        assert moult.status("stuck")["requests"]["leased"] == 1
    for beginning in (b"POST /v2", b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123"):
        with Client(moult) as client:
            assert client.send(beginning).half_close().is_closed()


def test_resets_anywhere(start):
    moult = start(echo_section(), echo_section("slow", warmup_runs=0, max_batch=1, leases=2,
                                               **{"option.delay_us": 20_000}))
    moult.note_fds()
    request = (f"POST {INFER} HTTP/1.1\r\nHost: x\r\n"
               f"Content-Length: {len(BODY)}\r\n\r\n").encode() + BODY
    for at in range(0, len(request), 7):
        for leave in (Client.reset, Client.__exit__):
            leave(Client(moult).send(request[:at]))
    for i in range(60):
        client = Client(moult).post(path="/v2/models/slow/infer")
        if i % 2:
            client.post(path="/v2/models/slow/infer")
        client.reset()
    wait_for("free slots", lambda: all(
        m["requests"]["held"] == m["requests"]["leased"] == m["request_arena_used_bytes"] == 0
        for m in moult.status()["models"]))


def test_connection_limit(start):
    moult = start(echo_section(), supervisor="max_connections = 10\n")
    # Each asks as it comes: at the limit those go that have said nothing for a while.
    clients = [Client(moult).post() for _ in range(10)]
    assert [c.answer()[0] for c in clients] == [200] * 10
    # Idle ones make room for these, sooner or later.
    clients += [Client(moult) for _ in range(10)]
    clients[15].post()
    for client in clients[:10]:
        client.__exit__()
    assert clients[15].answer()[0] == 200
    for client in clients[10:]:
        client.__exit__()
    assert moult.log_text().count("event=http_full") >= 1


def test_old_versions(start):
    moult = start(echo_section())
    with Client(moult) as client:
        assert client.post(version="1.0").answer()[0] == 200
        assert client.is_closed()
    with Client(moult) as client:
        for _ in range(2):
            status, fields, _ = client.post(version="1.0",
                                            head="Connection: Keep-Alive\r\n").answer()
            assert (status, fields["connection"].lower()) == (200, "keep-alive")
    with Client(moult) as client:
        assert client.post(head="Connection: close\r\n").answer()[0] == 200
        assert client.is_closed()


def is_refused(moult):
    try:
        with Client(moult):
            return False
    except ConnectionRefusedError:
        return True


def test_drain_tells_clients_to_go(start):
    moult = start(echo_section(), echo_section("slow", warmup_runs=0,
                                               **{"option.delay_us": stretched(700_000)}))
    idle, busy, half, slow, fresh = (Client(moult) for _ in range(5))
    for client in (idle, busy):
        assert client.post().answer()[1].get("connection") is None
    half.send(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
              .encode() + BODY[:5])
    slow.post(path="/v2/models/slow/infer")
    wait_for("a lease", lambda: moult.status("slow")["requests"]["leased"] == 1)
    moult.process.send_signal(signal.SIGTERM)
    wait_for("the drain", lambda: is_refused(moult))
    half.send(BODY[5:])
    for client in (busy.post(), half, slow, fresh.post()):
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (200, "close")
        assert client.is_closed()
    assert idle.is_closed()
    assert moult.process.wait(patience()) == 0


def test_idle_connections_cost_no_wake_ups(start):
    moult = start(echo_section())
    clients = [Client(moult).post() for _ in range(300)]
    assert all(client.answer()[0] == 200 for client in clients)

    def runs():
        return moult.status()["supervisor"]["http"]["runs_total"]

    def is_quiet():
        before = runs()
        time.sleep(1)  # the window of the measurement
        return runs() - before < 4
    wait_for("a quiet second", is_quiet)
    for client in clients:
        client.__exit__()


@pytest.mark.parametrize("version", ["v2", "1.0", "latest", "2024-05_x", "7" * 40])
def test_the_version_that_metadata_names_can_be_asked_for(start, version):
    moult = start(echo_section(version=version))
    _, text = moult.get("/v2/models/echo")
    assert json.loads(text)["versions"] == [version]
    base = f"/v2/models/echo/versions/{version}"
    for path in ("", "/ready", "/config", "/stats"):
        assert moult.get(base + path)[0] == 200, path
    status, _, text = moult.post(base + "/infer", echo_body([0.0] * ECHO_FLOATS))
    assert status == 200 and json.loads(text)["model_version"] == version
    status, text = moult.get("/v2/models/echo/versions/other/ready")
    assert status == 404 and version in text.decode(), text
