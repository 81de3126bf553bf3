# SPDX-License-Identifier: Apache-2.0
"""Crowds of clients that want nothing, or want it slowly: those that work are served, and
health answers."""
import json
import os
import pathlib
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from harness import Load, echo_body, echo_section, patience, wait_for

BODY = echo_body([1, 2, 3, 4]).encode()
POST = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CROWD = 10_000


def connect(moult):
    sock = socket.create_connection(("127.0.0.1", moult.port), 30)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return sock


class Health:
    """An orchestrator's probe, in a process that the crowd does not slow down."""

    def __init__(self, moult):
        self.process = subprocess.Popen(
            [sys.executable, "-B", pathlib.Path(__file__).with_name("health_probe.py"),
             str(moult.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop_and_check(self, what):
        found = json.loads(self.process.communicate(timeout=patience())[0])
        times_ms = sorted(found["times_ms"])
        print(f"{what}: health asked {len(times_ms)} times, median "
              f"{times_ms[len(times_ms) // 2]:.1f} ms, p99 "
              f"{times_ms[int(len(times_ms) * .99)]:.1f} ms, worst {times_ms[-1]:.1f} ms, "
              f"{sum(ms > 100 for ms in times_ms)} over 100 ms")
        assert not found["bad"], found["bad"][:5]


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < (CROWD + 1000) * 4 // 3:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_mib(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@pytest.mark.parametrize("has_asked", [False, True])
def test_ten_thousand_idle(start, many_files, has_asked):
    moult = start(echo_section(), supervisor=f"max_connections = {CROWD + 100}\n")
    moult.note_fds()
    before = resident_mib(moult.pid)
    health = Health(moult)
    crowd = []
    for _ in range(CROWD):
        sock = connect(moult)
        if has_asked:
            sock.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        crowd.append(sock)
    wait_for("the crowd", lambda: moult.status()["supervisor"]["http"]["connections"] >= CROWD)
    load = Load(moult.port, clients=4)
    load.wait_more(2000)
    load.stop_and_check()
    print(f"resident: {before:.1f} MiB alone, {resident_mib(moult.pid):.1f} MiB with "
          f"{CROWD} connections")
    health.stop_and_check(f"{CROWD} idle connections")
    assert moult.status()["supervisor"]["http"]["evicted_total"] == 0
    for sock in crowd:
        sock.close()


def test_idle_ones_make_room(start, many_files):
    """With the limit of the default and ten times as many idle clients, who go for no other
    reason."""
    moult = start(echo_section(), supervisor="idle_timeout = 600s\nheader_timeout = 600s\n")
    moult.note_fds()
    load = Load(moult.port, clients=8)
    load.wait_more(100)
    health = Health(moult)
    crowd = [connect(moult) for _ in range(CROWD)]
    load.wait_more(500)
    health.stop_and_check("a crowd ten times the limit")
    load.stop_and_check()
    http = moult.status()["supervisor"]["http"]
    assert http["evicted_total"] > CROWD / 2 and http["expired_total"] == 0, http
    for sock in crowd:
        sock.close()


class Nibblers:
    """Clients that send one byte of a header and no more; a closed one comes again."""

    def __init__(self, moult, n, first=b"P"):
        self.moult, self.first = moult, first
        self.crowd = [self.make() for _ in range(n)]
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.came_again = 0

    def make(self):
        sock = connect(self.moult)
        sock.sendall(self.first)
        sock.setblocking(False)
        return sock

    def run(self):
        poll = select.poll()
        by_fd = {sock.fileno(): sock for sock in self.crowd}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        while not self.is_over.is_set():
            for fd, _ in poll.poll(50):
                poll.unregister(fd)
                by_fd.pop(fd).close()
                sock = self.make()
                by_fd[sock.fileno()] = sock
                poll.register(sock.fileno(), select.POLLIN)
                self.came_again += 1
        self.crowd = list(by_fd.values())

    def come_again(self):
        self.thread.start()
        return self

    def close(self):
        self.is_over.set()
        if self.thread.is_alive():
            self.thread.join()
        for sock in self.crowd:
            sock.close()


def test_heads_under_way_make_room(start):
    """Far more clients than connections, each with one byte of a header, which is allowed
    to take ten minutes: they are let go of one after the other, and come again."""
    moult = start(echo_section(), echo_section("slow", warmup_runs=0,
                                               **{"option.delay_us": 2_000_000}),
                  supervisor="max_connections = 64\nheader_timeout = 600s\n")
    moult.note_fds()
    # Has a request, and so it stays; its answer outlasts many rounds of the others.
    patient = connect(moult)
    patient.sendall(POST.replace(b"echo", b"slow") % len(BODY) + BODY)
    wait_for("its lease", lambda: moult.status("slow")["requests"]["leased"] == 1)
    crowd = Nibblers(moult, 300)

    def http():
        return moult.status()["supervisor"]["http"]
    wait_for("all of them", lambda: http()["accepted_total"] > 300)

    def ask(times):
        """Over fresh connections. The slowest answer about health."""
        slowest_s = 0.0
        for _ in range(times):
            begun = time.monotonic()
            assert moult.get("/v2/health/live")[0] == 200
            slowest_s = max(slowest_s, time.monotonic() - begun)
            status, _, body = moult.infer("echo", BODY)
            assert status == 200, body
        return slowest_s * 1e3
    slowest_ms = ask(20)
    crowd.come_again()
    print(f"health: {slowest_ms:.1f} ms at worst behind them, {ask(4):.1f} ms while they "
          "come again at once")
    wait_for("some of them again", lambda: crowd.came_again > 64)
    assert patient.recv(4096).startswith(b"HTTP/1.1 200")
    patient.close()
    crowd.close()
    assert http()["expired_total"] == 0 and http()["evicted_total"] > 300
    assert moult.log_text().count("event=http_full") >= 1


def test_who_makes_room_first(start):
    """Idle ones, though their headers are not late, before one whose header is on its way."""
    moult = start(echo_section(), supervisor="max_connections = 16\nheader_timeout = 600s\n")
    moult.note_fds()
    head = connect(moult)
    head.sendall(POST[:20])
    idle = [connect(moult) for _ in range(14)]
    for sock in idle:
        sock.sendall(POST % len(BODY) + BODY)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")

    def evicted():
        return moult.status()["supervisor"]["http"]["evicted_total"]
    late = []

    def come(until):
        """Each may be too early: those that go have been idle for a moment."""
        if not until():
            late.append(connect(moult))
            late[-1].sendall(b"P")
        return until()
    wait_for("room", lambda: come(lambda: evicted() >= 2))
    gone = evicted()
    assert all(sock.recv(1) == b"" for sock in idle[:gone])
    # A whole head and half a body have a place, whatever their age.
    for sock in idle[gone:]:
        sock.sendall(POST % len(BODY) + BODY[:5])
    wait_for("room once more", lambda: come(lambda: select.select([head], [], [], 0)[0]))
    answer = head.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in answer
    assert b"max_connections" in answer and answer.endswith(b"}"), answer
    for sock in idle[gone:]:
        sock.sendall(BODY[5:])
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    for sock in [head, *idle, *late]:
        sock.close()


def test_everything_slow_at_once(start):
    """Slow heads, slow bodies, slow readers, silent ones, half-closed ones, cut-off ones."""
    moult = start(echo_section(), supervisor="header_timeout = 2s\nbody_timeout = 2s\n"
                  "idle_timeout = 2s\nmax_connections = 600\n")
    moult.note_fds()
    health = Health(moult)
    load = Load(moult.port, clients=4)
    big = echo_body([1.0] * 4).encode()
    crowd = []
    for i in range(400):
        sock = connect(moult)
        if i % 5 == 0:
            sock.sendall(b"POST /v2/models/echo/in")
        elif i % 5 == 1:
            sock.sendall(POST % 100_000 + b"x" * 50_000)
        elif i % 5 == 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            sock.sendall((POST % len(big) + big) * 20)
        elif i % 5 == 3:
            sock.sendall(POST % len(BODY) + BODY[:10])
            sock.shutdown(socket.SHUT_WR)
        else:
            sock.sendall(POST % len(BODY) + BODY)
            sock.close()
            continue
        crowd.append(sock)
    # Each drips a byte now and then, which must not buy it time.
    expired = 0
    begun = time.monotonic()
    while expired < 80 * 2 and time.monotonic() < begun + patience():
        for sock in crowd:
            try:
                sock.send(b"x")
            except OSError:
                pass
        time.sleep(0.1)
        expired = moult.status()["supervisor"]["http"]["expired_total"]
    assert expired >= 80 * 2, expired
    load.wait_more(500)
    health.stop_and_check("slow clients of all kinds")
    load.stop_and_check()
    for sock in crowd:
        sock.close()
