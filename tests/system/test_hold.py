# SPDX-License-Identifier: Apache-2.0
"""Requests that wait: for how long, how many, in which order, and when it is no use."""
import gzip
import json
import os
import signal
import socket
import struct
import threading
import time

import pytest

from harness import BUILD, Gate, Load, echo_body, echo_section, slowness, wait_for

ENGINES = f"engine_dir = {BUILD}\n"


def slow_section(ms, **keys):
    """Takes @ms to commit: a pause of that length at least, whenever it starts afresh."""
    return echo_section(engine="fault", strategy="stop-first", **{
        "option.fault": "slow-on-commit", "option.ms": ms, **keys})


def gated_section(gate, **keys):
    """A pause lasts until the gate is open."""
    return slow_section(0, **{**gate.keys, **keys})


def begin_gated(start, gate, **keys):
    """Serves; the next pause is to last."""
    gate.open()
    moult = start(gated_section(gate, **keys), supervisor=ENGINES)
    gate.shut()
    return moult


def body_with(values, **parameters):
    return json.dumps({**json.loads(echo_body(values)), "parameters": parameters})


class Request:
    """One request under way, and when its answer came."""

    def __init__(self, moult, body, headers=None):
        self.begun = time.monotonic()
        self.thread = threading.Thread(target=self.run, args=(moult, body, headers))
        self.thread.start()

    def run(self, moult, body, headers):
        self.status, self.headers, self.body = moult.infer("echo", body, headers)
        self.ended = time.monotonic()

    def join(self):
        self.thread.join()
        self.took = self.ended - self.begun
        return self


def requests_of(moult):
    return moult.status("echo")["requests"]


def wait_held(moult, n):
    wait_for(f"{n} held", lambda: requests_of(moult)["held"] == n)


def begin_pause(moult):
    """A reload whose pause has begun; its client."""
    reload = threading.Thread(target=moult.reload, args=("echo",))
    reload.start()
    wait_for("the pause", lambda: moult.status("echo")["hold"]["is_paused"])
    return reload


def test_first_in_first_out_by_priority(start):
    """One lease at a time: the order of the answers is the order of the queue. What comes
    back from a dead loader is the oldest of its level."""
    moult = start(echo_section(leases=1, max_batch=1, warmup_runs=1,
                               **{"option.delay_us": int(60_000 * slowness())}))
    pid = moult.status("echo")["pid"]
    os.kill(pid, signal.SIGSTOP)
    priorities = [0, 0, 9, 1, 0, 1, 0, 3]
    requests = []
    for i, priority in enumerate(priorities):
        requests.append(Request(moult, body_with([i, 0, 0, 0], priority=priority)))
        wait_for("the request", lambda: requests_of(moult)["accepted"] == i + 1)
    assert requests_of(moult)["held"] == len(priorities) - 1
    os.kill(pid, signal.SIGKILL)
    for request in requests:
        assert request.join().status == 200, request.body
    came = sorted(range(len(requests)), key=lambda i: requests[i].ended)
    assert came == sorted(came, key=lambda i: (priorities[i] or 5, i))
    assert requests_of(moult)["replayed"] == 1


def check_refused(moult, why, *request):
    """Before the pause is over."""
    refused = Request(moult, *request).join()
    assert refused.status == 503 and why in refused.body, refused.body
    assert moult.status("echo")["hold"]["is_paused"]
    return refused


def test_count_is_bounded(start, tmp_path):
    gate = Gate(tmp_path)
    moult = begin_gated(start, gate, max_held=3)
    reload = begin_pause(moult)
    held = [Request(moult, echo_body([i, 0, 0, 0])) for i in range(3)]
    wait_held(moult, 3)
    refused = check_refused(moult, b"max_held", echo_body([9, 9, 9, 9]))
    assert int(refused.headers["retry-after"]) >= 1
    gate.open()
    assert [request.join().status for request in held] == [200] * 3
    reload.join()


def test_bytes_are_bounded(start, tmp_path):
    gate = Gate(tmp_path)
    moult = begin_gated(start, gate, max_held_bytes="64K")

    def large(n):
        header = json.dumps({"inputs": [{"name": "x", "shape": [n, 4], "datatype": "FP32",
                                         "parameters": {"binary_data_size": 16 * n}}]}).encode()
        return header + bytes(16 * n), {"Inference-Header-Content-Length": str(len(header))}

    body, headers = large(1)
    assert moult.infer("echo", body, headers)[0] == 200
    reload = begin_pause(moult)
    held = [Request(moult, *large(16)) for _ in range(4)]
    wait_held(moult, 4)
    assert requests_of(moult)["held_bytes"] > 4 * 256
    check_refused(moult, b"max_held_bytes", *large(4096))
    gate.open()
    assert [request.join().status for request in held] == [200] * 4
    reload.join()
    assert requests_of(moult)["held_bytes"] == 0


@pytest.mark.parametrize("ask", ["configuration", "header", "parameter"])
def test_deadline_of_a_held_request(start, tmp_path, ask):
    """Nothing is known of the first pause: the request waits until its own deadline."""
    gate = Gate(tmp_path)
    keys = {"request_timeout": "400ms"} if ask == "configuration" else {}
    moult = start(gated_section(gate, **keys), supervisor=ENGINES, ready=False)
    wait_for("the endpoint", lambda: "event=listening" in moult.log_text())
    wait_for("the commit", lambda: "to=committing" in moult.log_text())
    body, headers = echo_body([1, 2, 3, 4]), None
    if ask == "header":
        headers = {"Moult-Timeout-Ms": "400"}
    if ask == "parameter":
        body = body_with([1, 2, 3, 4], timeout=400_000)
    patient = Request(moult, echo_body([5, 6, 7, 8])) if ask != "configuration" else None
    request = Request(moult, body, headers).join()
    name = {"configuration": b"request_timeout", "header": b"Moult-Timeout-Ms",
            "parameter": b"parameter timeout"}[ask]
    assert request.status == 504 and name in request.body, request.body
    # No sooner; and the pause is not over.
    assert request.took > 0.35, request.took
    gate.open()
    assert requests_of(moult)["failures"]["deadline"] == 1
    if patient:
        assert patient.join().status == 200
    moult.wait_ready()


def test_the_shortest_deadline_counts(start):
    moult = start(echo_section(warmup_runs=1, request_timeout="20s",
                               **{"option.delay_us": 1_500_000}))
    rows = [({"Moult-Timeout-Ms": "300"}, {"timeout": 9_000_000}, b"Moult-Timeout-Ms"),
            ({"Moult-Timeout-Ms": "9000"}, {"timeout": 300_000}, b"parameter timeout")]
    for headers, parameters, name in rows:
        request = Request(moult, body_with([1, 2, 3, 4], **parameters), headers).join()
        assert request.status == 504 and name in request.body, request.body
    request = Request(moult, body_with([1, 2, 3, 4], timeout=9_000_000),
                      {"Moult-Timeout-Ms": "9000"}).join()
    assert request.status == 200, request.body
    wait_for("both leases to end", lambda: requests_of(moult)["leased"] == 0)
    assert requests_of(moult)["failures"]["deadline"] == 2


def test_a_timeout_that_only_the_loader_sees(start, tmp_path):
    """Behind 16 KiB of JSON the supervisor does not look; the loader does."""
    gate = Gate(tmp_path)
    gate.open()
    moult = start(echo_section(engine="fault", input="x FP32 [-1,4]", max_batch=4096,
                               warmup_runs=1, leases=2,
                               **{"option.fault": "slow", "option.count": tmp_path / "runs",
                                  **gate.keys}), supervisor=ENGINES)
    gate.shut()
    before = (tmp_path / "runs").stat().st_size
    first = Request(moult, echo_body([1, 2, 3, 4]))
    # With a batch of both nobody would be late.
    wait_for("its run", lambda: (tmp_path / "runs").stat().st_size > before)
    body = json.dumps({"inputs": [{"name": "x", "shape": [2000, 4], "datatype": "FP32",
                                   "data": [0.5] * 8000}], "parameters": {"timeout": 100_000}})
    assert len(body) > 16384
    late = Request(moult, body)
    wait_for("both leases", lambda: requests_of(moult)["leased"] == 2)
    time.sleep(0.2)  # its 100 ms are over, whenever the loader looks
    gate.open()
    assert late.join().status == 504, late.body[:300]
    assert first.join().status == 200


def large_json(**parameters):
    """More JSON than the supervisor looks into."""
    body = json.dumps({"inputs": [{"name": "x", "shape": [2000, 4], "datatype": "FP32",
                                   "data": [0.5] * 8000}], "parameters": parameters})
    assert len(body) > 16384
    return body, {}


def compressed_json(**parameters):
    return (gzip.compress(body_with([1, 2, 3, 4], **parameters).encode()),
            {"Content-Encoding": "gzip"})


def large_binary(**parameters):
    data = bytes(16 * 2000)
    header = json.dumps({"inputs": [{"name": "x", "shape": [2000, 4], "datatype": "FP32",
                                     "parameters": {"binary_data_size": len(data)}}],
                         "parameters": parameters}).encode()
    return header + data, {"Inference-Header-Content-Length": str(len(header))}


def test_what_the_queue_sees_of_large_requests(start):
    """Their priority and timeout, when binary data keeps the JSON small. Else the queue does
    not know them, and only the header shortens how long they wait."""
    moult = start(echo_section(leases=1, max_batch=2000, warmup_runs=1,
                               **{"option.delay_us": int(60_000 * slowness())}))
    pid = moult.status("echo")["pid"]
    os.kill(pid, signal.SIGSTOP)
    requests = {}

    def send(name, body, headers):
        accepted = requests_of(moult)["accepted"]
        requests[name] = Request(moult, body, headers)
        wait_for(name, lambda: requests_of(moult)["accepted"] == accepted + 1)

    send("first", echo_body([1, 2, 3, 4]), {})
    send("plain", echo_body([1, 2, 3, 4]), {})
    send("large", *large_json(priority=1))
    send("compressed", *compressed_json(priority=1))
    send("binary", *large_binary(priority=1))
    send("late", *compressed_json(timeout=1000))
    for make in (large_json, compressed_json):
        body, headers = make(timeout=1000)
        hasty = Request(moult, body, {**headers, "Moult-Timeout-Ms": "200"}).join()
        assert hasty.status == 504 and b"Moult-Timeout-Ms" in hasty.body, hasty.body
    binary = Request(moult, *large_binary(timeout=1000)).join()
    assert binary.status == 504 and b"parameter timeout" in binary.body, binary.body
    # Its time was over long ago; nobody but a loader knows.
    assert requests_of(moult)["held"] == len(requests) - 1
    os.kill(pid, signal.SIGKILL)
    late = requests.pop("late").join()
    assert late.status == 504, late.body
    for name, request in requests.items():
        assert request.join().status == 200, (name, request.body[:300])
    came = sorted(requests, key=lambda name: requests[name].ended)
    assert came == ["binary", "first", "plain", "large", "compressed"]


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5", "", "99999999999999999999999"])
def test_bad_header(start, value):
    moult = start(echo_section())
    status, _, body = moult.infer("echo", echo_body([1, 2, 3, 4]), {"Moult-Timeout-Ms": value})
    assert status == 400 and b"Moult-Timeout-Ms" in body


@pytest.mark.parametrize("parameters", [{"timeout": -1}, {"timeout": "5"}, {"priority": -1},
                                        {"priority": 1.5}])
def test_bad_parameters(start, parameters):
    moult = start(echo_section())
    status, _, body = moult.infer("echo", body_with([1, 2, 3, 4], **parameters))
    assert status == 400 and next(iter(parameters)).encode() in body


def test_no_use_waiting(start):
    """The pauses of this model are known to be longer than the client waits: 503 at once."""
    moult = start(slow_section(2000), supervisor=ENGINES)
    assert moult.reload("echo").returncode == 0
    usual = moult.status("echo")["hold"]["usual_ms"]["reload"]
    assert usual >= 2000
    reload = begin_pause(moult)
    patient = Request(moult, echo_body([1, 2, 3, 4]))
    hasty = Request(moult, echo_body([1, 2, 3, 4]), {"Moult-Timeout-Ms": "300"}).join()
    # One that waits until its time is over has 504.
    assert hasty.status == 503, (hasty.status, hasty.took)
    assert b"expected to serve in" in hasty.body
    after_s = int(hasty.headers["retry-after"])
    assert 1 <= after_s <= usual / 1000 + 1
    # honest: who comes again then is served
    time.sleep(after_s)
    again = Request(moult, echo_body([1, 2, 3, 4]), {"Moult-Timeout-Ms": "25000"}).join()
    assert again.status == 200, again.body
    assert patient.join().status == 200
    reload.join()
    requests = requests_of(moult)
    assert requests["failed"] == 0, requests  # refused is not accepted


def test_hasty_clients_wait_where_pauses_are_short(start):
    """The same haste is no reason to refuse when this model is back in time."""
    moult = start(slow_section(50, stop_timeout="100ms"), supervisor=ENGINES)
    for _ in range(2):
        assert moult.reload("echo").returncode == 0
    load = Load(moult.port, clients=2)
    reload = begin_pause(moult)
    request = Request(moult, echo_body([1, 2, 3, 4]), {"Moult-Timeout-Ms": "25000"}).join()
    assert request.status == 200, request.body
    reload.join()
    load.stop_and_check()


def test_back_off_is_told(start):
    """Deaths that back off: Retry-After covers what is left of that, and the start."""
    moult = start(echo_section(engine="fault", death_limit=2,
                               **{"option.fault": "crash-on-commit"}),
                  supervisor=ENGINES, ready=False)
    begun = time.monotonic()
    wait_for("FAILED", lambda: moult.status("echo")["state"] == "failed")
    request = Request(moult, echo_body([1, 2, 3, 4])).join()
    assert request.status == 503, request.body
    assert 30 - (time.monotonic() - begun) <= int(request.headers["retry-after"]) <= 60


def test_clients_that_leave_are_counted(start, tmp_path):
    """What was held is given back and has a reason, whatever became of it."""
    gate = Gate(tmp_path)
    moult = begin_gated(start, gate)
    moult.note_fds()
    reload = begin_pause(moult)
    patient = Request(moult, echo_body([1, 2, 3, 4]))
    body = echo_body([1, 2, 3, 4]).encode()
    with socket.create_connection(("127.0.0.1", moult.port)) as client:
        client.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        wait_held(moult, 2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_held(moult, 1)
    gate.open()
    assert patient.join().status == 200
    reload.join()
    requests = requests_of(moult)
    assert requests["held"] == requests["held_bytes"] == 0
    assert requests["failures"] == {"left": 1, "deadline": 0, "poison": 0, "crash": 0,
                                    "down": 0}
    metrics = moult.get("/metrics")[1].decode()
    assert 'moult_requests_failures_total{model="echo",reason="left"} 1' in metrics
