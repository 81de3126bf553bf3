# SPDX-License-Identifier: Apache-2.0
"""A request that ends loaders: it is found, told so and remembered; the others are answered."""
import hashlib
import json
import os
import signal
import threading
import time

import pytest

from harness import BUILD, Load, echo_body, echo_section, stretch, stretched, wait_for

ENGINES = f"engine_dir = {BUILD}\n"
MAGIC = 7654321  # longer than a pid: answers hold those


def poison_section(fault="crash", **keys):
    return echo_section(engine="fault", **{
        "option.magic": MAGIC, "option.magic_fault": fault, "max_delay": "100ms", **keys})


def bad_body(salt=0):
    return echo_body([MAGIC, salt, 0, 0])


def fingerprint(body):
    return f"sha256={hashlib.sha256(body.encode()).hexdigest()} bytes={len(body)}"


class Clients:
    """One request each, all at once."""

    def __init__(self, moult, bodies, headers=None):
        self.answers = [None] * len(bodies)
        self.threads = [threading.Thread(target=self.run, args=(moult, i, body, headers),
                                         daemon=True) for i, body in enumerate(bodies)]
        for thread in self.threads:
            thread.start()

    def run(self, moult, i, body, headers):
        self.answers[i] = moult.infer("echo", body, headers)

    def join(self):
        for thread in self.threads:
            thread.join()
        return [(status, body) for status, _, body in self.answers]


def deaths(moult):
    return sum("event=loader_exit" in line and "state=active" in line or
               "event=loader_exit" in line and "state=killing" in line
               for line in moult.log_lines())


def serves_innocent(moult):
    return moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200


@pytest.mark.parametrize("fault", ["crash", "abort", "exit", "broken", "hang", "spin"])
def test_only_the_culprit_of_a_batch_fails(start, fault):
    moult = start(poison_section(fault, stall_timeout=stretch(500)), supervisor=ENGINES)
    moult.note_fds()
    bodies = [echo_body([i, 2, 3, 4]) for i in range(9)]
    bodies.insert(5, bad_body())
    answers = Clients(moult, bodies).join()
    for i, (status, body) in enumerate(answers):
        if i != 5:
            assert status == 200, body
            assert json.loads(body)["outputs"][0]["data"] == \
                json.loads(bodies[i])["inputs"][0]["data"]
    status, body = answers[5]
    assert status == 500 and fingerprint(bodies[5]).encode() in body, body
    assert b"shape=FP32[1,4]" in body and str(MAGIC).encode() not in body.replace(
        hashlib.sha256(bodies[5].encode()).hexdigest().encode(), b"")
    assert deaths(moult) == 2
    requests = moult.status("echo")["requests"]
    assert requests["failures"]["poison"] == 1 == requests["failed"], requests
    assert requests["answered"] == 9
    # the log has the fingerprint too, and neither has the content
    assert "event=request_poison" in moult.log_text()
    assert bodies[5] not in moult.log_text()


def test_two_culprits_in_one_batch(start):
    moult = start(poison_section(), supervisor=ENGINES)
    bodies = [echo_body([i, 2, 3, 4]) for i in range(6)] + [bad_body(1), bad_body(2)]
    answers = Clients(moult, bodies).join()
    assert [status for status, _ in answers] == [200] * 6 + [500] * 2, answers
    assert deaths(moult) == 3


def test_culprit_is_remembered_and_forgotten(start):
    memory_s = stretched(3)
    moult = start(poison_section(poison_memory=f"{memory_s}s"), supervisor=ENGINES)
    status, _, first = moult.infer("echo", bad_body())
    assert status == 500
    convicted = time.monotonic()
    begun = deaths(moult)
    status, _, again = moult.infer("echo", bad_body())
    assert status == 500 and fingerprint(bad_body()).encode() in again
    assert b"poison_memory" in again
    assert deaths(moult) == begun == 2
    assert moult.status("echo")["poison"] == {"remembered": 1, "refused": 1}
    assert serves_innocent(moult)
    wait_for("forgetting", lambda: moult.status("echo")["poison"]["remembered"] == 0)
    assert time.monotonic() - convicted >= memory_s - 0.5
    assert moult.infer("echo", bad_body())[0] == 500
    assert deaths(moult) == 4


def test_a_reload_forgives(start):
    moult = start(poison_section(), supervisor=ENGINES)
    assert moult.infer("echo", bad_body())[0] == 500
    (moult.models / "0.conf").write_text(echo_section(engine="fault"))
    moult.wait_receipt("echo", lambda r: r["cause"] == "config")
    assert moult.infer("echo", bad_body())[0] == 200


def test_nothing_is_remembered_when_told_so(start):
    moult = start(poison_section(poison_memory="0"), supervisor=ENGINES)
    for n in (2, 4):
        assert moult.infer("echo", bad_body())[0] == 500
        assert deaths(moult) == n


def test_a_client_that_gives_up_leaves_a_suspicion(start):
    """Nobody waits for the second try; the same body sent again is its second try."""
    moult = start(poison_section("hang", stall_timeout=stretch(1000)), supervisor=ENGINES)
    status, _, body = moult.infer("echo", bad_body(), {"Moult-Timeout-Ms": "300"})
    assert status == 504, body
    wait_for("the first death", lambda: deaths(moult) == 1)
    status, _, body = moult.infer("echo", bad_body())
    assert status == 500 and fingerprint(bad_body()).encode() in body
    assert deaths(moult) == 2


def test_a_stranger_s_kill_is_no_crash(start):
    """SIGKILL from outside, twice, beside a long request: it is innocent."""
    moult = start(echo_section(warmup_runs=0, **{"option.delay_us": 600_000}))
    clients = Clients(moult, [echo_body([1, 2, 3, 4])])
    for _ in range(2):
        pid = wait_for("the lease", lambda: (lambda s: s["pid"] if s["requests"]["leased"]
                                             and s["pid"] else 0)(moult.status("echo")))
        os.kill(pid, signal.SIGKILL)
        wait_for("its end", lambda: moult.status("echo")["pid"] != pid)
    assert clients.join()[0][0] == 200
    assert moult.status("echo")["requests"]["replayed"] == 2


def test_a_drain_that_takes_too_long_is_no_crash(start):
    """More reloads than a stranger's kills are forgiven, each killing the old loader in the
    middle of the request."""
    moult = start(echo_section(warmup_runs=0, drain_timeout="200ms", stop_timeout="100ms",
                               strategy="stop-first",
                               **{"option.delay_us": stretched(1.5e6)}))
    clients = Clients(moult, [echo_body([1, 2, 3, 4])])
    for n in range(1, 7):
        wait_for("the lease", lambda: moult.status("echo")["requests"]["leased"] == 1)
        assert moult.reload("echo").returncode == 0
        assert moult.status("echo")["requests"]["replayed"] == n
    assert clients.join()[0][0] == 200
    assert "request_poison" not in moult.log_text()


def test_a_storm_of_poison_costs_the_innocent_only_time(start):
    """Each bad body is another one; the load beside them is answered completely."""
    moult = start(poison_section(max_delay="1ms"), supervisor=ENGINES)
    moult.note_fds()
    load = Load(moult.port, clients=4)
    load.wait_more(50)
    answers = Clients(moult, [bad_body(i) for i in range(12)]).join()
    assert [status for status, _ in answers] == [500] * 12
    load.wait_more(50)
    load.stop_and_check()
    assert "failed=yes" not in moult.log_text()
    assert moult.status("echo")["poison"]["remembered"] == 12
