# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, rude, many, or gone."""
import json
import socket
import time
from pathlib import Path

from harness import ECHO_FLOATS, echo_body, echo_section, patience, wait_for

BODY = echo_body([1, 2, 3, 4]).encode()
REQUEST = (b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
           % len(BODY)) + BODY


def connect(moult):
    client = socket.create_connection(("127.0.0.1", moult.port), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def read_all(client):
    data = b""
    while chunk := client.recv(65536):
        data += chunk
    return data


def health_cost_ns(moult):
    """What moultd computes for so many answers, whatever else the machine does."""
    def spent_ns():
        return int(Path(f"/proc/{moult.pid}/schedstat").read_text().split()[0])
    begun = spent_ns()
    for _ in range(200):
        assert moult.get("/v2/health/live")[0] == 200
    return spent_ns() - begun


def test_vanished_clients_free_their_slots(start):
    moult = start(echo_section(leases=2, warmup_runs=0, **{"option.delay_us": 1_000_000}))
    moult.note_fds()
    clients = [connect(moult) for _ in range(40)]
    for client in clients:
        client.sendall(REQUEST)
    wait_for("all accepted", lambda: moult.status("echo")["requests"]["accepted"] == 40)
    for client in clients:
        client.close()

    def counts():
        return moult.status("echo")["requests"]
    wait_for("free slots", lambda: counts()["held"] == counts()["leased"] == 0)
    assert moult.status("echo")["request_arena_used_bytes"] == 0
    assert counts()["failed"] > 20


def test_pipelining(start):
    moult = start(echo_section())
    with connect(moult) as client:
        client.sendall(REQUEST * 10)
        data = b""
        while data.count(b"HTTP/1.1 200") < 10 or not data.endswith(b"}"):
            data += client.recv(65536)
    assert data.count(b"HTTP/1.1 200") == 10


def test_slow_head_and_slow_body_are_cut(start):
    moult = start(echo_section(), supervisor="header_timeout = 1s\nbody_timeout = 1s\n")
    for beginning in (b"POST /v2/models/echo/infer HTTP/1.1\r\n",
                      REQUEST[:-len(BODY)] + BODY[:5]):
        with connect(moult) as client:
            client.sendall(beginning)
            begin, is_cut = time.monotonic(), False
            try:
                while time.monotonic() - begin < patience():
                    client.settimeout(0.3)
                    try:
                        if client.recv(4096) == b"":
                            is_cut = True
                            break
                    except socket.timeout:
                        client.sendall(b"X")  # a byte now and then does not help
            except OSError:
                is_cut = True
            assert is_cut


def test_many_idle_connections(start):
    moult = start(echo_section())
    alone_ns = health_cost_ns(moult)
    clients = [connect(moult) for _ in range(800)]
    wait_for("all of them", lambda: moult.status()["supervisor"]["http"]["connections"] >= 800)
    crowded_ns = health_cost_ns(moult)
    print(f"200 answers: {alone_ns / 1e6:.1f} ms alone, {crowded_ns / 1e6:.1f} ms beside 800")
    assert crowded_ns < 4 * alone_ns
    for client in clients[::50]:
        client.sendall(REQUEST)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    for client in clients:
        client.close()


def test_chunked_body(start):
    moult = start(echo_section())
    with connect(moult) as client:
        client.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
                       b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(BODY), 7):
            piece = BODY[at:at + 7]
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        client.sendall(b"0\r\n\r\n")
        answer = read_all(client)
    assert b" 200 " in answer and b"[1.0,2.0,3.0,4.0]" in answer


def test_large_bodies(start):
    moult = start(echo_section(input="x FP32 [-1]", output="x FP32 [-1]", max_batch=1))
    for megabytes in (0, 1, 16):
        data = bytes(range(256)) * 4096 * megabytes
        header = json.dumps({"inputs": [{
            "name": "x", "shape": [len(data) // 4], "datatype": "FP32",
            "parameters": {"binary_data_size": len(data)}}],
            "parameters": {"binary_data_output": True}}).encode()
        status, headers, answer = moult.infer(
            "echo", header + data, {"Inference-Header-Content-Length": str(len(header))})
        assert status == 200, answer[:300]
        assert answer[int(headers["inference-header-content-length"]):] == data


def test_keep_alive_survives_errors(start):
    moult = start(echo_section())
    with connect(moult) as client:
        for path in (b"/nowhere", b"/v2/models/nosuch", b"/v2", b"/v2/models/echo"):
            client.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            assert client.recv(65536).startswith(b"HTTP/1.1 ")
        client.sendall(REQUEST.replace(b"FP32", b"FP64"))
        assert client.recv(65536).startswith(b"HTTP/1.1 400")
        client.sendall(REQUEST)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_head_and_old_http(start):
    moult = start(echo_section())
    with connect(moult) as client:
        client.sendall(b"HEAD /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = read_all(client)
    assert b" 200 " in answer and answer.endswith(b"\r\n\r\n")
    with connect(moult) as client:
        client.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        assert b'"live":true' in read_all(client)


def test_full_queue_says_so(start):
    moult = start(echo_section(leases=1, max_held=2, warmup_runs=0,
                               **{"option.delay_us": 500_000}))
    clients = [connect(moult) for _ in range(8)]
    for client in clients:
        client.sendall(REQUEST)
    answers = [client.recv(65536) for client in clients]
    refused = [a for a in answers if a.startswith(b"HTTP/1.1 503")]
    assert len(refused) == 5 and all(b"Retry-After: 1" in a and b"max_held" in a
                                     for a in refused)
    assert sum(a.startswith(b"HTTP/1.1 200") for a in answers) == 3
    for client in clients:
        client.close()


def test_announced_bodies_keep_nobody_out(start):
    """A length costs nothing to announce: those who send no body leave room for the others."""
    moult = start(echo_section(max_batch=65536, request_arena="4M", max_body="2M"))
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

    def used():
        return moult.status("echo")["request_arena_used_bytes"]
    crowd = [connect(moult) for _ in range(8)]
    for client in crowd:
        client.sendall(head % 1_000_000 + b"{")
    wait_for("two of a megabyte and six that are to grow",
             lambda: used() >= 2 * 2**20 + 6 * 2**16)
    assert used() < 3 * 2**20
    assert moult.post("/v2/models/echo/infer", echo_body([1, 2, 3, 4]))[0] == 200
    # One that has no place yet gets it as it comes.
    values = [float(i % 7) for i in range(4 * 10_000)]
    body = json.dumps({"inputs": [{"name": "x", "shape": [10_000, 4], "datatype": "FP32",
                                   "data": values}]}).encode()
    assert len(body) > 2**17
    status, _, answer = moult.post("/v2/models/echo/infer", body)
    assert status == 200, answer[:300]
    assert json.loads(answer)["outputs"][0]["data"] == values
    for client in crowd:
        client.close()
    wait_for("all of the room", lambda: used() == 0)
    # Nothing is left of what they announced.
    last = connect(moult)
    last.sendall(head % 2_000_000 + b"{")
    wait_for("a place at once", lambda: used() >= 2**21)
    last.close()


def test_answers_that_nobody_reads_keep_nobody_out(start):
    """They fill the arena in which the loader answers: whoever takes longest makes room."""
    moult = start(echo_section(input="x FP32 [-1]", output="x FP32 [-1]", max_batch=1,
                               request_arena="128M", response_arena="32M"))
    moult.note_fds()
    # More than the kernel takes off the hands of a sender whose peer does not read.
    kernel_takes = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    data = bytes(max(8 << 20, kernel_takes + (4 << 20)))
    assert len(data) < 12 << 20, "this machine's tcp_wmem needs larger arenas here"
    tensor = {"name": "x", "shape": [len(data) // 4], "datatype": "FP32",
              "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor],
                       "parameters": {"binary_data_output": True}}).encode()
    crowd = []
    for _ in range(8):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", moult.port))
        client.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
                       b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
                       % (len(head), len(head) + len(data)) + head + data)
        crowd.append(client)

    def is_stuck():
        requests = moult.status("echo")["requests"]
        return requests["accepted"] == len(crowd) and requests["leased"] > 0

    wait_for("a loader without room", is_stuck)
    small = json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32",
                                    "data": [1, 2]}]})
    # Less than body_timeout, after which they would be cut off anyway.
    assert moult.post("/v2/models/echo/infer", small)[0] == 200
    assert moult.status()["supervisor"]["http"]["evicted_total"] > 0
    assert moult.status()["supervisor"]["http"]["expired_total"] == 0
    for client in crowd:
        client.close()


def test_metadata(start):
    moult = start(echo_section())
    status, body = moult.get("/v2/models/echo")
    assert status == 200 and json.loads(body) == {
        "name": "echo", "versions": ["1"], "platform": "identity",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, ECHO_FLOATS]}],
        "outputs": [{"name": "x", "datatype": "FP32", "shape": [-1, ECHO_FLOATS]}]}
    dump = json.loads(moult.ctl("dump").stdout)
    assert dump["models"][0]["name"] == "echo" and dump["config"] and dump["ok"]
    assert json.loads(moult.get("/v2")[1])["name"] == "moult"
    assert moult.get("/v2/models/echo/versions/1/ready")[0] == 200
    assert moult.get("/v2/models/e%63ho")[0] == 200
    index = json.loads(moult.post("/v2/repository/index", "")[2])
    assert index[0]["name"] == "echo" and index[0]["state"] == "READY"
    assert b'moult_requests_accepted_total{model="echo"} 0' in moult.get("/metrics")[1]
