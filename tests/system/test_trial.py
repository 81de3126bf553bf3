# SPDX-License-Identifier: Apache-2.0
"""The watch window: new inputs that do worse than the ones before are taken back."""
import json
import os
import signal
import socket

from harness import BUILD, Load, echo_section, patience, wait_for

ENGINES = f"engine_dir = {BUILD}\n"


def section(**keys):
    return echo_section(engine="fault", **keys)


def switch(moult, **keys):
    """New configuration; waits until its generation serves. Its receipt."""
    known = len(moult.receipts("echo"))
    (moult.models / "0.conf").write_text(section(**keys))
    receipt = moult.wait_receipt("echo", lambda r: r["number"] > known)
    assert receipt["outcome"] == "ok", receipt
    return receipt


def wait_rollback(moult, bad):
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "rollback")
    assert receipt["outcome"] == "ok"
    status = moult.status("echo")
    assert status["generation"] > bad["to"]["generation"]
    assert "rolled back" in status["last_error"], status
    return status


def run_until_rollback(start, pause_s=0.0, **bad):
    """Serves well, then with @bad; the good configuration is back, and stays."""
    moult = start(section(**{"option.ms": 0}), supervisor=ENGINES)
    moult.note_fds()
    load = Load(moult.port, clients=4, pause_s=pause_s)
    load.wait_more(300)
    receipt = switch(moult, **bad)
    status = wait_rollback(moult, receipt)
    load.lost.clear()   # the errors that led to the rollback
    load.wait_more(300)
    os.kill(moult.status("echo")["pid"], signal.SIGKILL)
    wait_for("a successor", lambda: moult.status("echo")["generation"] > status["generation"])
    load.wait_more(300)
    assert not load.lost
    assert moult.log_text().count("event=rollback ") == 1
    load.stop()
    assert load.wrong == 0
    return moult, status


def test_errors_lead_back(start):
    _, status = run_until_rollback(start, **{"option.fault": "fail", "option.after": 20})
    assert "answers are errors" in status["last_error"]


def test_slowness_leads_back(start):
    _, status = run_until_rollback(start, **{"option.fault": "slow", "option.ms": 40})
    assert "nine in ten answers" in status["last_error"]


def test_deaths_lead_back(start):
    """Each loader answers for a while and dies: no death alone says anything."""
    moult = start(section(), supervisor=ENGINES)
    load = Load(moult.port, clients=2)
    load.wait_more(100)
    receipt = switch(moult, **{"option.fault": "crash", "option.after": 400})
    status = wait_rollback(moult, receipt)
    assert "3 loaders died" in status["last_error"]
    load.wait_more(1000)
    load.stop()
    assert load.wrong == 0


def test_deaths_before_they_serve_lead_back(start, tmp_path):
    """The first loader works, its successors cannot start: what served before is tried."""
    moult = start(section(), supervisor=ENGINES)
    once = tmp_path / "flag"
    receipt = switch(moult, **{"option.fault": "crash-on-commit", "option.when": once})
    once.write_text("")
    load = Load(moult.port, clients=2)
    load.wait_more(100)
    os.kill(moult.status("echo")["pid"], signal.SIGKILL)
    wait_rollback(moult, receipt)
    load.wait_more(300)
    load.stop_and_check()


def test_kills_by_somebody_else_lead_nowhere(start):
    """However many loaders an outsider ends within the window, serving or starting."""
    moult = start(section(), supervisor=ENGINES)
    load = Load(moult.port, clients=2)
    load.wait_more(100)
    receipt = switch(moult, version=2)
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL,
                   signal.SIGKILL):
        before = moult.status("echo")
        os.kill(before["pid"], number)
        wait_for("a successor", lambda: moult.status("echo")["generation"]
                 > before["generation"])
        load.wait_more(100)
    assert all(r["cause"] == "crash" for r in moult.receipts("echo")
               if r["number"] > receipt["number"])
    assert "event=rollback " not in moult.log_text()
    assert moult.status("echo")["can_roll_back"]
    # Its own deaths still count.
    switch(moult, version=3, **{"option.fault": "crash", "option.after": 300})
    wait_for("the way back", lambda: "event=rollback " in moult.log_text())
    load.wait_more(300)
    load.stop()
    assert load.wrong == 0


def test_kills_while_they_start_lead_nowhere(start):
    slow = {"option.fault": "slow-on-commit", "option.ms": 300}
    moult = start(section(**slow), supervisor=ENGINES)
    switch(moult, version=2, **slow)
    os.kill(moult.status("echo")["pid"], signal.SIGKILL)
    for _ in range(3):
        candidate = wait_for("a candidate", lambda: moult.status("echo")["candidate"])
        os.kill(candidate["pid"], signal.SIGKILL)
        wait_for("its end", lambda: (moult.status("echo")["candidate"] or {}).get("pid")
                 != candidate["pid"])
    moult.wait_ready()
    assert sum(r["outcome"] == "failed" for r in moult.receipts("echo")) == 3
    assert "event=rollback " not in moult.log_text()


def test_good_ones_stay(start):
    """A window without trouble closes; what it compares may be switched off."""
    moult = start(section(watch_window="1s"), supervisor=ENGINES)
    moult.note_fds()
    load = Load(moult.port, clients=4)
    load.wait_more(300)
    switch(moult, watch_window="1s", **{"option.ms": 1})
    wait_for("the verdict", lambda: 'verdict="good"' in moult.log_text())
    load.wait_more(300)
    switch(moult, watch_window=0, **{"option.fault": "slow", "option.ms": 30})
    load.wait_more(300)
    load.stop_and_check()
    assert not any(r["cause"] == "rollback" for r in moult.receipts("echo"))


def test_a_change_beside_a_rollback_is_not_forgotten(start, tmp_path):
    """Both are asked for at once: the rollback, and then what is on disk."""
    moult = start(section(secrets=tmp_path / "secrets", watch_window=0), ready=False,
                  supervisor=ENGINES + "settle_cap = 5s\n")
    moult.write_secret(tmp_path / "secrets", "key", "one")
    moult.wait_ready()
    receipt = switch(moult, secrets=tmp_path / "secrets", watch_window=0, version=2)
    os.kill(moult.pid, signal.SIGSTOP)
    moult.write_secret(tmp_path / "secrets", "key", "two")
    with socket.socket(socket.AF_UNIX) as control:
        # It is there when moultd wakes up: a moultctl may come later, and undo the change.
        control.connect(str(moult.socket))
        control.sendall(b'{"command":"rollback","model":"echo"}\n')
        os.kill(moult.pid, signal.SIGCONT)
        control.settimeout(patience())
        assert json.loads(control.makefile().readline())["ok"]
    last = moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and
                              r["number"] > receipt["number"])
    assert last["outcome"] == "ok"
    assert any(r["cause"] == "rollback" and r["outcome"] == "ok"
               for r in moult.receipts("echo"))
    assert moult.receipts("echo")[-1]["number"] == last["number"]


def test_a_cure_under_way_is_not_undone(start):
    """The window asks for the way back while a newer change is loading: that one is kept."""
    moult = start(section(), supervisor=ENGINES)
    load = Load(moult.port, clients=4, pause_s=0.01)
    load.wait_more(100)
    switch(moult, **{"option.fault": "fail", "option.after": 100})
    (moult.models / "0.conf").write_text(
        section(version=3, **{"option.fault": "slow-on-stage", "option.ms": 5000}))
    wait_for("a candidate", lambda: moult.status("echo")["candidate"])
    wait_for("the verdict", lambda: "event=rollback " in moult.log_text())
    receipt = moult.wait_receipt("echo", lambda r: r["number"] == 3)
    assert receipt["outcome"] == "ok", receipt
    status = moult.status("echo")
    assert status["generation"] == receipt["to"]["generation"], status
    assert status["last_error"] is None and status["can_roll_back"], status
    load.lost.clear()
    load.wait_more(300)
    assert not load.lost
    # The way back leads past the one that was bad.
    assert moult.ctl("rollback", "echo", "--wait").returncode == 0
    load.wait_more(300)
    load.stop()
    assert not load.lost and load.wrong == 0
    assert [r["cause"] for r in moult.receipts("echo")] == ["start", "config", "config",
                                                            "rollback"]
