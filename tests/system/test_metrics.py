# SPDX-License-Identifier: Apache-2.0
"""/metrics: true numbers, in both formats, at little cost."""
import http.client
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from harness import (BUILD, Flood, Load, echo_body, echo_section, patience, wait_for,
                     whole_lines)

PYTHON = BUILD.parent / "venv" / "bin" / "python"
OPEN = "application/openmetrics-text; version=1.0.0"
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')

# prometheus_client's parsers, which raise; and every family that they found.
PARSE = """
import sys
from prometheus_client.parser import text_string_to_metric_families as text
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_
data = sys.stdin.read()
print("\\n".join(family.name for family in (open_ if sys.argv[1] == "open" else text)(data)))
"""


def scrape(moult, accept=None):
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=60)
    connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    assert response.status == 200
    return response.headers["content-type"], body


def read(text):
    """As promtool reads it, with rules of our own: samples by name and labels."""
    samples, types, family, done = {}, {}, None, set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in types and name not in done, line
            family = name
            done.add(name)
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family and family not in types, line
            types[family] = line.split()[3]
        elif line == "# EOF":
            assert text.endswith("\n# EOF\n")
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            suffix = name[len(family):]
            kind = types[family]
            assert name.startswith(family) and suffix in {
                "counter": ("", "_total"), "gauge": ("",), "info": ("_info",),
                "histogram": ("_bucket", "_sum", "_count")}[kind], line
            if kind == "counter":
                assert name.endswith("_total"), line
            key = name, labels or ""
            assert key not in samples, line
            samples[key] = float(value)
    check_histograms(samples)
    return samples, types


def check_histograms(samples):
    last = {}
    for (name, labels), value in samples.items():
        if name.endswith("_bucket"):
            series = name, re.sub(r',?le="[^"]+"', "", labels)
            assert value >= last.get(series, 0), (name, labels)
            last[series] = value
    for (name, labels), value in last.items():
        assert samples[name.removesuffix("_bucket") + "_count", labels] == value


def numbers(moult):
    return read(scrape(moult)[1])[0]


def test_both_formats_have_the_same_numbers(start):
    moult = start(echo_section(spare="yes"), echo_section("other"))
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    kind, text = scrape(moult)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    open_kind, open_text = scrape(moult, OPEN)
    assert open_kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    samples, types = read(text)
    open_samples, open_types = read(open_text)
    assert samples.keys() == open_samples.keys()
    # A counter is a family of its own name in one format, and without _total in the other.
    assert {name if kind != "counter" else name + "_total" for name, kind in
            open_types.items() if kind != "info"} == set(types) - {"moult_build_info"}


@pytest.mark.parametrize("kind, accept", [("text", None), ("open", OPEN)])
def test_prometheus_reads_it(start, kind, accept):
    if not PYTHON.exists() or subprocess.run(
            [PYTHON, "-c", "import prometheus_client"], capture_output=True).returncode:
        pytest.skip("prometheus_client is not installed: see tests/clients.sh")
    moult = start(echo_section(spare="yes"))
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    found = subprocess.run([PYTHON, "-c", PARSE, kind], input=scrape(moult, accept)[1],
                           capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    families = found.stdout.split()
    assert len(families) == len(set(families)) and "moult_request_seconds" in families


def test_responses_by_code(start):
    moult = start(echo_section(engine="fault", max_body=4096, request_arena="1M",
                               **{"option.magic": 13, "option.magic_fault": "fail"}))
    bodies = [echo_body([1, 2, 3, 4]), echo_body([13, 0, 0, 0]), echo_body([13, 0, 0, 0]),
              echo_body([1, 2, 3, 4]), echo_body([1, 2, 3]), "x" * 5000]
    codes = [moult.infer("echo", body)[0] for body in bodies]
    assert codes == [200, 500, 500, 200, 400, 413]
    assert moult.post("/v2/models/echo/versions/9/infer", bodies[0])[0] == 404
    assert moult.infer("none", bodies[0])[0] == 404
    # These ask for no inference.
    assert moult.get("/v2/models/echo/infer")[0] == 405
    assert moult.post("/v2/models/echo/infer/x", bodies[0])[0] == 404
    samples = numbers(moult)
    found = {re.search(r'code="(\d+)"', labels)[1]: value
             for (name, labels), value in samples.items() if name == "moult_responses_total"}
    assert found == {"200": 2, "400": 1, "404": 1, "413": 1, "500": 2, "503": 0, "504": 0}
    one = 'model="echo"'
    assert samples["moult_requests_answered_total", one] == 5
    assert samples["moult_inferences_total", one] == samples["moult_executions_total", one] == 2
    assert samples["moult_request_seconds_count", one] == 5
    assert samples["moult_queue_seconds_count", one] == 2
    assert samples["moult_compute_seconds_count", one] == 2
    assert samples["moult_batch_rows_sum", one] == 2
    assert 0 < samples["moult_request_seconds_sum", one] < 60


def test_responses_are_what_clients_got(start):
    moult = start(echo_section())
    load = Load(moult.port)
    load.wait_more(500)
    assert moult.reload("echo").returncode == 0
    load.stop_and_check()
    samples = numbers(moult)
    assert samples["moult_responses_total", 'model="echo",code="200"'] == load.answered
    assert samples["moult_inferences_total", 'model="echo"'] == load.answered


def test_moultd_and_its_loaders(start):
    moult = start(echo_section())
    samples = numbers(moult)
    assert samples["moult_memory_bytes", 'model="echo",device="host"'] > 100_000
    assert samples["moult_stale", 'model="echo"'] == 0
    build = [labels for name, labels in samples if name == "moult_build_info"]
    assert len(build) == 1 and 'version="' in build[0]
    status = open(f"/proc/{moult.pid}/status").read()
    resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024
    assert 0.5 < samples["process_resident_memory_bytes", ""] / resident < 2
    assert abs(samples["process_open_fds", ""] - moult.fds()) <= 3
    limits = open(f"/proc/{moult.pid}/limits").read()
    assert samples["process_max_fds", ""] == int(
        re.search(r"Max open files\s+(\d+)", limits)[1])
    stat = os.stat(f"/proc/{moult.pid}")
    assert abs(samples["process_start_time_seconds", ""] - stat.st_ctime) < 60
    assert samples["process_cpu_seconds_total", ""] > 0


def test_stale_inputs(start, tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    moult = start(echo_section(path=path))
    path.unlink()
    wait_for("what is stale", lambda: numbers(moult)["moult_stale", 'model="echo"'] == 1)


def test_inputs_that_do_not_serve(start):
    """Those that failed, and those that were rolled back from, for as long as they are there."""
    moult = start(echo_section(**{"option.delay_us": 1}))

    def put(delay):
        fresh = moult.home / "fresh"
        fresh.write_text(echo_section(**{"option.delay_us": delay}))
        fresh.rename(moult.models / "0.conf")

    def wait_stale(value):
        wait_for(f"stale {value}",
                 lambda: numbers(moult)["moult_stale", 'model="echo"'] == value)
        assert bool(moult.status("echo")["not_serving"]) == bool(value), moult.status("echo")

    wait_stale(0)
    put("x")
    wait_stale(1)
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"],
                          capture_output=True, text=True, check=True).stdout
    assert "echo: does not serve: what is on disk" in text
    put(1)
    wait_stale(0)
    put(2)
    wait_for("both", lambda: len([r for r in moult.receipts("echo") if r["cause"] == "config"
                                  and r["outcome"] == "ok"]) == 2)
    wait_stale(0)
    assert moult.ctl("rollback", "echo", "--wait").returncode == 0
    wait_stale(1)
    assert moult.reload("echo").returncode == 0
    wait_stale(0)


def reloads(moult):
    found = {}
    for (name, labels), value in numbers(moult).items():
        if name == "moult_reloads_total" and value > 0:
            found[tuple(re.findall(r'(?:cause|outcome)="([^"]+)"', labels))] = value
    return found


def test_reloads_by_cause_and_outcome(start, tmp_path):
    secrets = tmp_path / "secrets"
    section = {"engine": "fault", "secrets": secrets, "watch_window": 0,
               "option.fault": "refuse-on-warmup", "option.secret": "key",
               "option.secret_is": "bad"}
    secrets.mkdir()
    (secrets / "key").write_text("good")
    moult = start(echo_section(**section))
    before = numbers(moult)
    assert before["moult_reloads_total", 'model="echo",cause="secrets",outcome="failed"'] == 0
    moult.write_secret(secrets, "key", "better")
    moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and r["outcome"] == "ok")
    moult.write_secret(secrets, "key", "bad")
    moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and r["outcome"] == "failed")
    assert moult.ctl("rollback", "echo", "--wait").returncode == 0
    found = reloads(moult)
    assert found == {("start", "ok"): 1, ("secrets", "ok"): 1,
                     ("secrets", "failed"): found["secrets", "failed"], ("rollback", "ok"): 1}
    receipts = [(r["cause"], r["outcome"]) for r in moult.receipts("echo")]
    assert {pair: receipts.count(pair) for pair in receipts} == found


def test_many_scrapers_see_whole_pages(start):
    """The same text may be on its way to many while the next one is made."""
    moult = start(*(echo_section(f"m{i}") for i in range(8)))
    pages, failures = [], []

    def run(accept):
        try:
            for _ in range(30):
                text = scrape(moult, accept)[1]
                read(text)
                pages.append(len(text))
        except Exception as error:  # told in the thread that asserts
            failures.append(error)
    threads = [threading.Thread(target=run, args=(accept,)) for accept in (None, OPEN) * 3]
    for thread in threads:
        thread.start()
    flood = Flood(moult.port, model="m0", clients=4)
    for thread in threads:
        thread.join()
    flood.stop_and_check()
    assert not failures, failures[0]
    assert len(pages) == 180
    wait_for("a page of now",
             lambda: numbers(moult)["moult_requests_leased", 'model="m0"'] == 0)


class Stopped:
    """moultd stands still meanwhile, and then finds all that came in one round of its loop."""

    def __init__(self, moult):
        self.pid = moult.pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


def connect(moult, n, address):
    """Connections that moultd has accepted."""
    connections = []
    for _ in range(n):
        connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=patience(),
                                                source_address=(address, 0))
        connection.connect()
        connections.append(connection)
    return connections


CROWD = 600


@pytest.mark.parametrize("method, path", [
    ("GET", "/metrics"), ("GET", "/v2/models/stats"), ("GET", "/v2/models/m0/stats"),
    ("POST", "/v2/repository/index")])
def test_a_crowd_waits_and_another_does_not(start, tmp_path, method, path):
    """Who comes last, from another address, and who wants to know about health are before
    those of the crowd who wait."""
    access = tmp_path / "access"
    moult = start(*(echo_section(f"m{i}") for i in range(8)),
                  supervisor=f"access_log = {access}\n")
    # So many take more than what may be taken at once (supervisor/loop/turns.h).
    crowd = connect(moult, CROWD, "127.0.0.1")
    # Of one of four the queue is another than the crowd's, whatever the seed: 1 - 256 ** -4.
    others = [connect(moult, 1, f"127.0.0.{i}")[0] for i in range(2, 6)]
    health = connect(moult, 1, "127.0.0.1")[0]
    wait_for("all connections",
             lambda: moult.status()["supervisor"]["http"]["connections"] == CROWD + 5)
    before = len(whole_lines(access))
    with Stopped(moult):
        for connection in crowd[::2]:
            connection.request("GET", "/v2/models/stats")
        for connection in [*crowd[1::2], *others]:
            connection.request(method, path)
        health.request("GET", "/v2/health/live")
    for connection in [*crowd, *others, health]:
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    waited = int(numbers(moult)["moult_http_waited_total", ""])
    for connection in [*crowd, *others, health]:
        connection.close()
    lines = wait_for("all lines", lambda: (lines := whole_lines(access)[before:])
                     and len(lines) >= CROWD + 5 and lines)
    at_once = CROWD + 4 - waited
    assert 0 < at_once < CROWD - 5, waited
    # Queues are served in turn; the crowd's has begun when another round reads the others'.
    half = at_once + waited // 2
    assert min(index_of(lines, f"client=127.0.0.{i} ") for i in range(2, 6)) < half
    assert index_of(lines, "/v2/health/live") < half


def index_of(lines, text):
    return next(i for i, line in enumerate(lines) if text in line)


def deaf(moult, requests):
    """A client that asks, and reads nothing: not even the kernel takes much for it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.connect(("127.0.0.1", moult.port))
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * requests)
    return client


def test_those_who_do_not_read_make_room(start):
    """They would hold their answers, and their places, for as long as body_timeout."""
    moult = start(*(echo_section(f"m{i}") for i in range(8)),
                  supervisor="body_timeout = 1h\n")
    clients = [deaf(moult, 20) for _ in range(60)]

    def is_one_gone():
        assert moult.infer("m0", echo_body([1, 2, 3, 4]))[0] == 200
        return numbers(moult)["moult_http_evicted_total", ""] > 0
    wait_for("the end of one of them", is_one_gone)
    for client in clients:
        client.close()


def test_a_crowd_that_waits_leaves_connections_to_others(start):
    """At max_connections some of those who wait for a turn are refused."""
    moult = start(*(echo_section(f"m{i}") for i in range(8)),
                  supervisor="body_timeout = 1h\nmax_connections = 40\n")
    clients = [deaf(moult, 20) for _ in range(39)]
    for client in clients:
        client.setblocking(False)
    data = {client: b"" for client in clients}

    def refusal():
        assert moult.infer("m0", echo_body([1, 2, 3, 4]))[0] == 200
        for client in clients:
            try:
                data[client] += client.recv(1 << 20)
            except OSError:  # nothing has come, or it was hung up on
                pass
            found = re.search(rb"HTTP/1.1 503 .*\(max_connections\)", data[client], re.S)
            if found:
                return found[0]
        return None
    assert b"Retry-After: 1\r\n" in wait_for("a refusal", refusal)
    for client in clients:
        client.close()


def test_a_few_never_wait(start):
    moult = start(echo_section())
    for _ in range(5):
        assert moult.get("/v2/models/stats")[0] == 200
        assert moult.post("/v2/repository/index", "")[0] == 200
        assert numbers(moult)["moult_http_waited_total", ""] == 0


def test_a_reload_that_leaves_nothing_serving_failed(start):
    """The new generation serves and dies while the old one still has a request to answer."""
    moult = start(echo_section(engine="fault", watch_window=0, drain_timeout="30s",
                               **{"option.magic": 13, "option.magic_fault": "slow",
                                  "option.ms": 4000}))
    slow = threading.Thread(target=moult.infer, args=("echo", echo_body([13, 0, 0, 0])))
    slow.start()
    wait_for("its lease", lambda: moult.status("echo")["requests"]["leased"] == 1)
    assert moult.ctl("reload", "echo").returncode == 0

    def pid_of_two():
        status = moult.status("echo")
        return status["retiring"] and status["state"] == "ready" and status["pid"]
    pid = wait_for("the new generation beside the old one", pid_of_two)
    os.kill(pid, signal.SIGKILL)
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "manual")
    assert receipt["outcome"] == "failed", receipt
    slow.join()
    moult.wait_receipt("echo", lambda r: r["cause"] == "crash" and r["outcome"] == "ok")
    found = reloads(moult)
    assert found["manual", "failed"] == 1 and ("manual", "ok") not in found
