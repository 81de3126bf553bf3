# SPDX-License-Identifier: Apache-2.0
"""A loader that lies, withholds, makes noise or cannot be killed: one fault at a time.

The words are those of tests/fakes/hostile.h; the loader answers with the request's body.
"""
import contextlib
import ctypes
import http.client
import os
import pathlib
import signal
import threading
import time

import pytest

from harness import Load, echo_section, patience, slowness, stretch, wait_for
from hostile import Hostile, call, renew, status, wait_settled

SMALL = {"request_arena": "4M", "max_body": "1M", "response_arena": "4M", "watch_window": 0}


@pytest.fixture
def hostile(tmp_path):
    return Hostile(tmp_path)


def begin(start, hostile, **keys):
    moult = start(echo_section(**{**SMALL, **keys}), supervisor=hostile.supervisor)
    moult.note_fds()
    return moult


def ask(moult, words, body=b"the body", timeout=60):
    """A request that carries its own faults; status, headers and the body that must be."""
    sent = b"!" + words.encode() + b"\n" + body
    code, headers, answer = moult.post("/v2/models/echo/infer", sent, timeout=timeout)
    return code, headers, answer == sent, answer


def pid_of(moult):
    return status(moult, "echo")["pid"]


# Answers in parts

@pytest.mark.parametrize("parts", [1, 2, 7, 63, 64, 65, 1000])
@pytest.mark.parametrize("size", [0, 1, 4096, 300_000])
def test_parts_make_the_body(one_moult, parts, size):
    """More parts than may be under way, parts without a byte, parts in the thousands."""
    code, headers, is_right, _ = ask(one_moult, f"parts={parts}", os.urandom(size))
    assert code == 200 and is_right
    if parts > 1:
        assert headers["transfer-encoding"] == "chunked"
    assert "moult-generation" in headers


@pytest.fixture(scope="module")
def one_moult(tmp_path_factory):
    """One for tests that leave it as it was."""
    from harness import Moult
    home = tmp_path_factory.mktemp("parts")
    moult = Moult(home, [echo_section(leases=16, **SMALL)], Hostile(home).supervisor)
    try:
        moult.wait_ready().note_fds()
        yield moult
        moult.stop()
    finally:
        moult.kill()


def test_parts_of_many_side_by_side(one_moult):
    """Streams do not mix, and neither arena nor parts run out."""
    before = pid_of(one_moult)
    results = []

    def run(index):
        for i in range(10):
            body = bytes([index]) * (20_000 + 1000 * i)
            results.append(ask(one_moult, f"parts={9 + i},slow=1", body)[::2])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(200, True)] * 80
    assert pid_of(one_moult) == before


def test_clients_that_leave_between_parts(one_moult):
    """Each part is released once, sent or not: the loader checks that and would abort."""
    before = pid_of(one_moult)
    failed = status(one_moult, "echo")["requests"]["failed"]
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", one_moult.port, timeout=10)
        connection.request("POST", "/v2/models/echo/infer", b"!parts=40,slow=20\n" + b"x" * 40000)
        assert connection.getresponse().read(10) == b"!parts=40,"
        connection.close()
    wait_for("the end of all leases",
             lambda: status(one_moult, "echo")["requests"]["leased"] == 0)
    assert ask(one_moult, "parts=200", b"y" * 100_000)[2]
    assert pid_of(one_moult) == before
    requests = status(one_moult, "echo")["requests"]
    assert requests["accepted"] == requests["answered"] + requests["failed"]
    assert requests["failed"] >= failed


def test_parts_end_with_their_loader(start, hostile):
    """Bytes were sent: no replay, the client is told by a connection that ends early."""
    moult = begin(start, hostile)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        threading.Timer(0.5, lambda: os.kill(pid_of(moult), signal.SIGKILL)).start()
        ask(moult, "parts=50,slow=100", b"x" * 1000)
    wait_settled(moult, "echo")
    requests = status(moult, "echo")["requests"]
    assert requests["failed"] == 1 and requests["replayed"] == 0, requests
    assert ask(moult, "parts=2")[2]


# Lies about an answer

# Found before a byte was sent: the loader is killed, its successor answers.
LIES = ["lease=1", "lease=0x10000", "lease=0x3f", "generation=1", "outside=1", "outside=4096",
        "wrap", "long", "head-outside", "head-long", "status=0", "status=99", "status=600",
        "no-first", "flags=16", "flags=0x8000", "rows=1"]
# Found after the first part: that cannot be taken back.
LATE_LIES = ["part-status=200", "first-twice"]
# Not worth a life: the answer goes out without what cannot be believed.
HARMLESS = ["head-garbage", "head-inject"]


def test_lies_cost_the_loader_its_life(start, hostile):
    moult = begin(start, hostile)
    for number, lie in enumerate(LIES):
        before = wait_settled(moult, "echo")
        code, headers, is_right, answer = ask(moult, f"{lie}#{number}")
        assert code == 200 and is_right, (lie, code, answer)
        assert int(headers["moult-generation"]) > before["generation"], lie
        assert not pathlib.Path(f"/proc/{before['pid']}").exists(), lie
    # A second answer to one request: the first was good.
    before = wait_settled(moult, "echo")
    assert ask(moult, "again#again")[2]
    wait_for("its successor", lambda: pid_of(moult) not in (0, before["pid"]))
    requests = status(moult, "echo")["requests"]
    assert requests["failed"] == 0 and requests["replayed"] == len(LIES), requests


def test_late_lies_end_the_connection(start, hostile):
    moult = begin(start, hostile)
    for number, lie in enumerate(LATE_LIES):
        before = wait_settled(moult, "echo")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(moult, f"parts=3,slow=50,{lie}#{number}", b"x" * 90)
        wait_for("its successor", lambda: pid_of(moult) not in (0, before["pid"]))
    assert status(moult, "echo")["requests"]["failed"] == len(LATE_LIES)


def test_no_header_is_smuggled(start, hostile):
    moult = begin(start, hostile)
    before = pid_of(moult)
    for lie in HARMLESS:
        code, headers, is_right, _ = ask(moult, lie)
        assert code == 200 and is_right
        assert "x-smuggled" not in headers and "x-injected" not in headers
    assert pid_of(moult) == before


# Answers that do not come

def test_withheld_answer_has_a_deadline(start, hostile):
    """It makes progress, so nobody kills it; the request alone runs out of time."""
    moult = begin(start, hostile, request_timeout="700ms", drain_timeout="300ms",
                  stop_timeout="300ms")
    before = pid_of(moult)
    for words in ("withhold=1", "withhold=1,heedless"):
        code, _, _, answer = ask(moult, words)
        assert code == 504 and b"request_timeout" in answer
        assert ask(moult, "delay=1")[2]
    assert pid_of(moult) == before


def test_withheld_answer_without_progress_is_a_hang(start, hostile):
    moult = begin(start, hostile, stall_timeout=stretch(400))
    before = pid_of(moult)
    assert ask(moult, "withhold#once")[2]
    assert pid_of(moult) != before


def test_half_an_answer_has_a_deadline(start, hostile):
    """The last part never comes."""
    moult = begin(start, hostile, request_timeout="700ms", stall_timeout="60s",
                  drain_timeout="300ms", stop_timeout="300ms")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(moult, "parts=2,no-last#once")
    wait_for("its failure", lambda: status(moult, "echo")["requests"]["leased"] <= 1)
    renew(moult, "echo")
    wait_for("the end of the lease", lambda: status(moult, "echo")["requests"]["failed"] == 1)


# Noise

NOISE = ["bell-storm=700#a", "chatter=700#a", "endless=700#a", "bell-full#a",
         "chan-storm=700-on-stopping#a"]


@pytest.mark.parametrize("words", NOISE)
def test_noise_does_not_hold_up_others(start, hostile, words):
    moult = start(echo_section("noisy", **SMALL), echo_section("echo", **SMALL),
                  supervisor=hostile.supervisor)
    hostile.say("noisy", words)
    renew(moult, "noisy")
    load = Load(moult.port, clients=2)
    load.wait_more(20)
    begun = time.monotonic()
    if "stopping" in words:
        hostile.hush("noisy")
        call(moult, "reload", model="noisy")
    else:
        code, _, answer = moult.post("/v2/models/noisy/infer", b"x")
        assert code == 200 and answer == b"x"
    slowest_s = 0.0
    while time.monotonic() < begun + 0.7:
        asked = time.monotonic()
        assert moult.get("/v2/health/live")[0] == 200
        slowest_s = max(slowest_s, time.monotonic() - asked)
    assert hostile.fired("a")
    wait_settled(moult, "noisy")
    load.wait_more(20)
    load.stop_and_check()
    print(f"{words}: slowest health answer {slowest_s * 1000:.0f} ms")
    assert slowest_s < 1.0 * slowness()


def test_a_child_of_the_dead_loader_changes_nothing(start, hostile):
    """It keeps the rings, the channel and the log, and goes on writing to all of them."""
    moult = begin(start, hostile)
    hostile.say("echo", "straggler=1500-on-active#a")
    load = Load(moult.port, clients=4)
    load.wait_more(20)
    renew(moult, "echo")
    pid = wait_for("its child", lambda: hostile.fired("a"))
    hostile.hush("echo")
    with contextlib.suppress(ProcessLookupError):  # moultd may have seen what it writes
        os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: not pathlib.Path(f"/proc/{pid}").exists())
    # It may end before moultd has seen that its loader did.
    wait_for("the next loader", lambda: "event=reload model=echo outcome=ok cause=crash"
             in moult.log_text())
    before = wait_settled(moult, "echo")
    begun = time.monotonic()
    while time.monotonic() < begun + 1.5:
        load.wait_more(50)
    load.stop_and_check()
    assert pid_of(moult) == before["pid"]


@pytest.mark.parametrize("words", ["chan-close", "chan-empty"])
def test_a_closed_channel_keeps_nobody_from_reloading(start, hostile, words):
    moult = begin(start, hostile, stop_timeout="300ms")
    hostile.say("echo", f"{words}-on-active#a")
    load = Load(moult.port, clients=2)
    renew(moult, "echo")
    pid = wait_for("it to fire", lambda: hostile.fired("a"))
    hostile.hush("echo")
    load.wait_more(20)
    call(moult, "reload", model="echo")
    wait_for("its end", lambda: not pathlib.Path(f"/proc/{pid}").exists())
    wait_settled(moult, "echo")
    load.wait_more(20)
    load.stop_and_check()


@pytest.mark.parametrize("state", ["staging", "warming", "active"])
def test_counts_of_requests_that_cannot_be(start, hostile, state):
    """Nothing shows until a request is to be handed over; then at once."""
    moult = begin(start, hostile)
    hostile.say("echo", f"ring-consumed-on-{state}#a")
    load = Load(moult.port, clients=2)
    call(moult, "reload", model="echo")
    pid = wait_for("it to fire", lambda: hostile.fired("a"))
    wait_for("its end", lambda: not pathlib.Path(f"/proc/{pid}").exists())
    wait_settled(moult, "echo")
    load.wait_more(20)
    load.stop_and_check()


# What SIGKILL does not end

def release(hostile):
    hostile.file("release").write_text("")


def stuck_pids(moult, model):
    return [g["pid"] for g in status(moult, model)["stuck"] if g["state"] == "unkillable"]


def end_stuck(moult, hostile, pids):
    hostile.file("release").write_text("")
    for pid in pids:
        wait_for(f"the end of {pid}", lambda: not pathlib.Path(f"/proc/{pid}").exists())


def may_trace():
    child = os.fork()
    if child == 0:
        os._exit(0 if ctypes.CDLL(None).ptrace(0, 0, None, None) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


traced = pytest.mark.skipif(not may_trace(), reason="no process may be traced here, which is "
                            "what makes one that survives SIGKILL")
UNKILLABLE = {**SMALL, "stop_timeout": stretch(300), "stall_timeout": stretch(300)}


@traced
def test_unkillable(start, hostile):
    """A loader that survives SIGKILL is seen, said, and not waited for: with overlap the
    reload is over and the next one works, with stop-first it fails and what served last is
    built again if there is room, and requests that it held are answered by another."""
    names = ["over", "first", "serving", "candidate"]
    for name in names[:2]:
        hostile.say(name, "unkillable-on-ready,deaf-on-stopping")
    moult = start(echo_section("over", strategy="overlap", **UNKILLABLE),
                  echo_section("first", strategy="stop-first", **UNKILLABLE),
                  *(echo_section(name, **UNKILLABLE) for name in names[2:]),
                  supervisor=hostile.supervisor)
    moult.note_fds()
    pids = {name: status(moult, name)["pid"] for name in names[:2]}
    hostile.say("serving", "unkillable-on-ready,silence-on-active+5")
    renew(moult, "serving")
    pids["serving"] = status(moult, "serving")["pid"]
    for name in names[:3]:
        hostile.hush(name)
    hostile.say("candidate", "unkillable-on-staging#x,chan-garbage-on-staging#c")
    loads = [Load(moult.port, clients=2, model=name, pause_s=0.01)
             for name in ("over", "first", "serving", "candidate")]
    begun = time.monotonic()
    for name in ("over", "first", "candidate"):
        call(moult, "reload", model=name)
    for name in names:
        wait_for(f"{name}'s in the kernel's hands", lambda: stuck_pids(moult, name))
    pids["candidate"] = hostile.fired("c")
    assert {name: stuck_pids(moult, name) for name in names} == {
        name: [pids[name]] for name in names}
    assert moult.log_text().count("event=loader_unkillable") == 4
    for name, outcome in (("over", "ok"), ("first", "failed"), ("candidate", "failed")):
        receipt = moult.wait_receipt(name, lambda r: r["cause"] == "manual")
        assert receipt["outcome"] == outcome and "survives SIGKILL" in receipt["reason"]
        assert f"process {pids[name]}" in receipt["reason"], receipt
    for name in names:
        wait_settled(moult, name)
        before = status(moult, name)["generation"]
        hostile.hush(name)
        assert renew(moult, name)["generation"] > before
    for load in loads:
        load.wait_more(20)
        load.stop_and_check()
    print(f"over after {time.monotonic() - begun:.1f} s")
    end_stuck(moult, hostile, pids.values())
    for name in names:
        wait_for("nobody stuck", lambda: not status(moult, name)["stuck"])


@traced
def test_no_second_copy_beside_one_that_is_stuck(start, hostile):
    """A lean candidate is still loading when the old one turns out to survive SIGKILL."""
    hostile.say("echo", "unkillable-on-ready,silence-on-active")
    moult = begin(start, hostile, strategy="staged", stage_timeout="600s", **UNKILLABLE)
    pid = pid_of(moult)
    hostile.say("echo", f"sleep={int(16000 * slowness())}-on-staging#slept")
    call(moult, "reload", model="echo")
    wait_for("a candidate that loads", lambda: hostile.fired("slept"))
    client = threading.Thread(target=lambda: moult.post(
        "/v2/models/echo/infer", b"the body", timeout=patience()))
    client.start()
    wait_for("one in the kernel's hands", lambda: stuck_pids(moult, "echo") == [pid])
    hostile.hush("echo")
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "manual")
    client.join()
    end_stuck(moult, hostile, [pid])
    assert receipt["outcome"] == "failed" and "survives SIGKILL" in receipt["reason"]
    wait_settled(moult, "echo")


@traced
def test_unkillable_does_not_hold_up_the_end(start, hostile):
    hostile.say("echo", "unkillable-on-ready,deaf-on-stopping")
    moult = begin(start, hostile, **UNKILLABLE)
    hostile.hush("echo")
    call(moult, "reload", model="echo")
    wait_for("one in the kernel's hands", lambda: stuck_pids(moult, "echo"))
    moult.process.send_signal(signal.SIGTERM)
    assert moult.process.wait(patience()) == 0
    hostile.file("release").write_text("")


def test_a_hung_candidate_does_not_keep_back_what_served(start, hostile):
    """The serving loader crashes while a candidate hangs in staging, which has minutes for
    that: what served is built again long before."""
    moult = begin(start, hostile, stage_timeout="300s", request_timeout="240s")
    wait_for("of use", lambda: ask(moult, "parts=1")[2])
    hostile.say("echo", "silence-on-staging#hung")
    call(moult, "reload", model="echo")
    wait_for("a candidate that hangs", lambda: hostile.fired("hung"))
    os.kill(pid_of(moult), signal.SIGSEGV)
    # In less than the candidate's own five minutes.
    assert ask(moult, "parts=1", timeout=240)[2]
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "manual")
    assert receipt["outcome"] == "failed" and "still staging after" in receipt["reason"], receipt


def test_a_pause_of_the_supervisor_ends_no_candidate(start, hostile):
    """What the loader said meanwhile counts before the deadline that passed."""
    deadline_s = slowness()
    moult = begin(start, hostile, warmup_timeout=f"{int(deadline_s * 1000)}ms")
    hostile.say("echo", "sleep=300-on-warming#slept")
    before = status(moult, "echo")["receipts"]
    call(moult, "reload", model="echo")
    wait_for("a candidate that warms up", lambda: hostile.fired("slept"))
    os.kill(moult.pid, signal.SIGSTOP)
    time.sleep(2 * deadline_s)  # longer than its deadline: that is what this is about
    os.kill(moult.pid, signal.SIGCONT)
    wait_for("a receipt", lambda: status(moult, "echo")["receipts"] > before)
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "manual")
    assert receipt["outcome"] == "ok", receipt
