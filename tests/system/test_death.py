# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, at whatever moment: requests are answered, and nothing is left behind."""
import json
import os
import re
import shutil
import signal
import threading
import time

import pytest

from harness import (BUILD, Flood, Load, children, echo_body, echo_section, is_alive,
                     patience, stretch, wait_for)

KILLS = 10


def test_killed_loader_costs_a_replay(start):
    moult = start(echo_section())
    moult.note_fds()
    flood = Flood(moult.port, clients=16)
    for _ in range(KILLS):
        pid = wait_for("a generation", lambda: moult.status("echo")["pid"])
        served = moult.status("echo")["requests"]["answered"]
        wait_for("answers", lambda: moult.status("echo")["requests"]["answered"] > served)
        time.sleep(1.05)  # one that has served for a second is replaced without back-off
        os.kill(pid, signal.SIGKILL)
        wait_for("its successor", lambda: moult.status("echo")["pid"] not in (0, pid))
    result = flood.stop()
    assert result["lost"] == 0 and result["wrong"] == 0, result
    print(moult.status("echo")["requests"])


class Runs:
    """How often any loader of the model has computed."""

    def __init__(self, folder):
        self.path = folder / "runs"
        self.keys = {"engine": "fault", "warmup_runs": 2, "option.count": self.path}

    def count(self):
        return self.path.stat().st_size


def test_a_kill_leaves_no_doubt_to_warm_up_for(start, tmp_path):
    """What nobody's fault ended answers at once; after a fault one run comes first."""
    runs = Runs(tmp_path)
    moult = start(echo_section(**runs.keys), supervisor=f"engine_dir = {BUILD}\n")
    for blow, doubt in (signal.SIGKILL, 0), (signal.SIGSEGV, 1), (signal.SIGKILL, 0):
        before = runs.count()
        os.kill(moult.status("echo")["pid"], blow)
        assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
        assert runs.count() - before - 1 == doubt, blow


def test_a_kill_under_another_engine_leaves_some(start, tmp_path):
    """An upgrade has put another file in its place: nothing has shown that it computes."""
    runs = Runs(tmp_path)
    engine = tmp_path / "moult-engine-fault.so"
    shutil.copy(BUILD / engine.name, engine)
    moult = start(echo_section(**runs.keys), supervisor=f"engine_dir = {tmp_path}\n")
    shutil.copy(engine, tmp_path / "new")
    os.rename(tmp_path / "new", engine)
    before = runs.count()
    os.kill(moult.status("echo")["pid"], signal.SIGKILL)
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    assert runs.count() - before - 1 == 1


def test_a_kill_of_long_ago_is_no_reason(start, tmp_path):
    """Another one has served since: what follows that has one run, as ever."""
    runs = Runs(tmp_path)
    gate = tmp_path / "gate"
    keys = {**runs.keys, "watch_window": "0s", "secrets": tmp_path / "secrets",
            "option.fault": "slow-on-warmup", "option.until": gate, "option.ms": 600_000}
    gate.touch()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("0")
    moult = start(echo_section(**keys), supervisor=f"engine_dir = {BUILD}\n")
    first = moult.status("echo")
    gate.unlink()
    moult.write_secret(tmp_path / "secrets", "token", "1")
    wait_for("a candidate that warms up", lambda: runs.count() == 3)
    os.kill(first["pid"], signal.SIGKILL)
    gate.touch()
    wait_for("it", lambda: moult.status("echo")["generation"] > first["generation"])
    (moult.models / "0.conf").write_text(echo_section(strategy="stop-first", **keys))
    wait_for("the strategy", lambda: "stop-first" in moult.ctl("show-config").stdout)
    before = runs.count()
    assert moult.ctl("rollback", "echo", "--wait").returncode == 0
    receipt = moult.receipts("echo")[-1]
    assert receipt["strategy"] == "stop-first", receipt
    assert runs.count() - before == 1


def wait_stage(moult, stage):
    wait_for(stage, lambda: f"to={stage}" in moult.log_text())


@pytest.mark.parametrize("state", ["staging", "committing", "warming", "active", "reloading",
                                   "loaded"])
def test_killed_supervisor_leaves_nobody(start, state):
    keys = {"engine": "fault"}
    if state in ("staging", "committing", "warming"):
        keys["option.fault"] = "hang-on-" + {"staging": "stage", "committing": "commit",
                                             "warming": "warmup"}[state]
    moult = start(echo_section(**keys), ready=False,
                  supervisor=f"engine_dir = {BUILD}\n")
    load = None
    if state in ("staging", "committing", "warming"):
        wait_stage(moult, state)
    else:
        moult.wait_ready()
    if state == "loaded":
        load = Load(moult.port)
        load.wait_more()
    if state == "reloading":
        (moult.models / "0.conf").write_text(
            echo_section(engine="fault", **{"option.fault": "hang-on-stage"}))
        wait_for("a candidate", lambda: moult.status("echo")["candidate"])
    loaders = children(moult.pid)
    assert loaders
    moult.kill()
    wait_for("the end of all loaders", lambda: not any(map(is_alive, loaders)))
    if load:
        load.stop()


def test_stalled_loader_is_replaced(start):
    moult = start(echo_section(stall_timeout=stretch(1000)))
    load = Load(moult.port, clients=2)
    load.wait_more()
    pid = moult.status("echo")["pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_for("its successor", lambda: moult.status("echo")["pid"] not in (0, pid))
    load.wait_more()
    load.stop_and_check()
    assert "makes no progress" in moult.log_text()


def test_request_timeout(start):
    moult = start(echo_section(request_timeout="500ms", **{"option.delay_us": 2_000_000},
                               warmup_runs=1))
    status, _, body = moult.infer("echo", echo_body([1, 2, 3, 4]))
    assert status == 504 and b"request_timeout" in body


def test_requests_wait_for_the_first_generation(start):
    """While a generation is being built requests are held, not refused."""
    moult = start(echo_section(warmup_runs=1, **{"option.delay_us": 500_000}), ready=False)
    wait_for("the endpoint", lambda: "event=listening" in moult.log_text())
    status, _, body = moult.infer("echo", echo_body([1, 2, 3, 4]))
    assert status == 200, body


def test_drain_finishes_what_is_under_way(start):
    """SIGTERM: requests under way are answered, then everything ends."""
    moult = start(echo_section(warmup_runs=1, **{"option.delay_us": 300_000}))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(
        moult.infer("echo", echo_body([1, 2, 3, 4]))[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for("leases", lambda: moult.status("echo")["requests"]["accepted"] == 4)
    loaders = children(moult.pid)
    moult.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert answers == [200] * 4
    assert moult.process.wait(patience()) == 0
    assert not any(map(is_alive, loaders))


def test_second_sigterm_ends_at_once(start):
    moult = start(echo_section(warmup_runs=0, **{"option.delay_us": 20_000_000}))
    thread = threading.Thread(target=lambda: pytest.raises(
        Exception, moult.infer, "echo", echo_body([1, 2, 3, 4])))
    thread.start()
    wait_for("a lease", lambda: moult.status("echo")["requests"]["leased"] == 1)
    moult.process.send_signal(signal.SIGTERM)
    wait_for("the drain", lambda: "event=stopping" in moult.log_text())
    moult.process.send_signal(signal.SIGTERM)
    moult.process.wait(patience())
    thread.join()


def test_receipt_has_memory_and_phases(start):
    moult = start(echo_section())
    assert moult.reload("echo").returncode == 0
    receipt = moult.receipts("echo")[-1]
    assert receipt["memory"]["before"]["loader_rss_bytes"] > 0
    assert receipt["memory"]["peak"]["loader_rss_bytes"] > \
        receipt["memory"]["after"]["loader_rss_bytes"]
    assert receipt["phases_ms"]["total"] >= receipt["phases_ms"]["stage"]
    assert not os.path.exists(f"/proc/{receipt['from']['pid']}")
    assert json.loads((moult.home / "state" / "receipts.jsonl").read_text().splitlines()[-1]) \
        == receipt


def test_death_beside_a_needless_candidate(start, tmp_path):
    """The serving loader dies while a candidate that is not needed is on its way out."""
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights" * 100)
    moult = start(echo_section(
        engine="fault", path=path, **{"option.fault": "slow-on-close", "option.ms": "3000"}),
        supervisor=f"engine_dir = {BUILD}\n")
    pid = moult.status("echo")["pid"]
    fresh = path.with_suffix(".new")
    fresh.write_bytes(b"weights" * 100)
    os.rename(fresh, path)
    wait_for("the needless candidate's end", lambda: (
        moult.status("echo")["candidate"] or {}).get("state") == "stopping")
    os.kill(pid, signal.SIGKILL)
    moult.wait_receipt("echo", lambda r: r["outcome"] == "unchanged")
    wait_for("another loader", lambda: moult.status("echo")["state"] == "ready")
    assert moult.infer("echo", echo_body([1.0, 2.0, 3.0, 4.0]))[0] == 200
