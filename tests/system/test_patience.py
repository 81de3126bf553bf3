# SPDX-License-Identifier: Apache-2.0
"""How long things may take: in every state, as configured now, and said when it is over."""
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import BUILD, Load, echo_body, echo_section, wait_for

ENGINES = f"engine_dir = {BUILD}\n"
LONG = "600s"


def fault_section(**keys):
    return echo_section(engine="fault", **keys)


def configure(moult, section):
    (moult.models / "0.conf").write_text(section)


def stop_with_a_request(moult):
    """Its loader is stopped, and a client waits."""
    pid = moult.status("echo")["pid"]
    os.kill(pid, signal.SIGSTOP)
    client = threading.Thread(target=moult.infer, args=("echo", echo_body([1, 2, 3, 4])))
    client.start()
    wait_for("a lease", lambda: moult.status("echo")["requests"]["leased"])
    return pid, client


def wait_successor(moult, pid):
    wait_for("another loader", lambda: moult.status("echo")["pid"] not in (0, pid))


@pytest.mark.parametrize("crash", [False, True])
def test_stall_timeout_counts_at_once(start, crash):
    """For the loader that serves, and for one that took its place after a crash: which must
    not wait for another reading of the configuration to be told."""
    moult = start(echo_section(stall_timeout=LONG))
    moult.config.write_text(moult.config.read_text().replace("poll = 1s", "poll = 1h"))
    wait_for("the key", lambda: '"1h"' in moult.ctl("show-config").stdout)
    pid = moult.status("echo")["pid"]
    if not crash:
        pid, client = stop_with_a_request(moult)
    configure(moult, echo_section(stall_timeout="500ms"))
    if crash:
        wait_for("the key", lambda: "500ms" in moult.ctl("show-config").stdout)
        os.kill(pid, signal.SIGKILL)
        wait_successor(moult, pid)
        pid, client = stop_with_a_request(moult)
    wait_successor(moult, pid)
    client.join()
    receipt = moult.wait_receipt("echo", lambda r: "stall_timeout" in r["death"])
    assert "0.5 s (stall_timeout)" in receipt["death"], receipt


def test_a_configuration_written_over_and_over_puts_nothing_off(start):
    """Neither a verdict about a loader that stands still nor a state's deadline."""
    keys = {"stage_timeout": "5s", "stall_timeout": "5s"}
    moult = start(echo_section(**keys), supervisor=ENGINES)
    pid, client = stop_with_a_request(moult)

    def write_again(until):
        def is_so():
            configure(moult, echo_section(**keys) + f"# {time.monotonic_ns()}\n")
            return until()
        wait_for("that in spite of all", is_so)
    write_again(lambda: moult.status("echo")["pid"] not in (0, pid))
    client.join()
    configure(moult, fault_section(**keys, **{"option.fault": "slow-on-stage",
                                              "option.ms": 600_000}))
    wait_for("a candidate", lambda: moult.status("echo")["candidate"])
    keys = {**keys, "engine": "fault", "option.fault": "slow-on-stage", "option.ms": 600_000}
    write_again(lambda: any(r["outcome"] == "failed" for r in moult.receipts("echo")))



def test_stage_timeout_counts_at_once(start):
    keys = {"option.fault": "hang-on-stage"}
    moult = start(fault_section(**{"stage_timeout": LONG}), supervisor=ENGINES)
    configure(moult, fault_section(stage_timeout=LONG, **keys))
    wait_for("a candidate", lambda: moult.status("echo")["candidate"])
    configure(moult, fault_section(stage_timeout="300ms", **keys))
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert "still staging after 0.3 s" in receipt["reason"], receipt


@pytest.mark.parametrize("phase, state", [("stage", "staging"), ("commit", "committing"),
                                          ("warmup", "warming")])
def test_a_stopped_candidate_is_noticed(start, phase, state):
    moult = start(fault_section(stall_timeout="500ms"), supervisor=ENGINES)
    load = Load(moult.port, clients=1)
    configure(moult, fault_section(stall_timeout="500ms", stage_timeout=LONG,
                                   commit_timeout=LONG, warmup_timeout=LONG,
                                   **{"option.fault": f"stop-on-{phase}"}))
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert "SIGSTOP" in receipt["reason"] and "stall_timeout" in receipt["reason"], receipt
    assert re.search(rf"gen=2 .*from={state} to=failed", moult.log_text())
    load.stop_and_check()


def test_an_idle_loader_that_is_stopped_is_replaced(start):
    moult = start(echo_section(stall_timeout="500ms"))
    pid = moult.status("echo")["pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_successor(moult, pid)
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200


def test_a_stall_is_noticed_within_a_quarter_more(start):
    """The least of a few: what the machine adds is not the clock's."""
    stall_s = 2
    moult = start(echo_section(stall_timeout=f"{stall_s}s"))
    took_s = []
    while len(took_s) < 4 and (not took_s or min(took_s) > 1.5 * stall_s):
        load = Load(moult.port, clients=1)
        load.wait_more(20)
        pid = moult.status("echo")["pid"]
        stopped = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        wait_successor(moult, pid)
        took_s.append(time.monotonic() - stopped)
        load.stop_and_check()
    print(f"noticed after {took_s}")
    assert min(took_s) < 1.5 * stall_s, took_s


def test_a_slow_request_is_told_what_ended_it(start):
    """Two loaders die of it: the answer, the receipt and -t name the key that is to blame."""
    moult = start(fault_section(stall_timeout="300ms", **{
        "option.magic": 66, "option.magic_fault": "slow", "option.ms": 100000}),
        supervisor=ENGINES)
    status, _, body = moult.infer("echo", echo_body([66, 0, 0, 0]))
    assert status == 500 and b"stall_timeout" in body, body
    assert moult.wait_receipt("echo", lambda r: "stall_timeout" in r["death"])
    check = subprocess.run([BUILD / "moultd", "-t", "-c", moult.config],
                           capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
    assert "[model echo]: stall_timeout (0.3 s) is shorter than request_timeout" in \
        check.stderr, check.stderr
    assert "event=config_doubt" in moult.log_text()
    configure(moult, fault_section(stall_timeout="60s"))
    check = subprocess.run([BUILD / "moultd", "-t", "-c", moult.config],
                           capture_output=True, text=True)
    assert check.returncode == 0 and not check.stderr, check.stderr
