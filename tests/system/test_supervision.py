# SPDX-License-Identifier: Apache-2.0
"""How loaders that die, hang or eat the machine are found, told apart and replaced."""
import os
import pathlib
import signal
import time

import pytest

from harness import BUILD, Load, echo_body, echo_section, stretch, wait_for

MIB = 1 << 20
ENGINES = f"engine_dir = {BUILD}\n"


def fault_section(**keys):
    return echo_section(engine="fault", **keys)


def test_failed_is_visible_and_left(start, tmp_path):
    moult = start(fault_section(**{"option.fault": "crash-on-commit"}, death_limit=3),
                  supervisor=ENGINES, ready=False)
    wait_for("FAILED", lambda: moult.status("echo")["state"] == "failed")
    assert moult.log_text().count("event=model_failed") == 1
    status, headers, body = moult.infer("echo", echo_body([1, 2, 3, 4]))
    assert status == 503 and int(headers["retry-after"]) >= 1
    assert b"says why" in body and "died" in moult.status("echo")["last_error"]
    assert moult.get("/v2/health/ready")[0] == 503
    (moult.models / "0.conf").write_text(fault_section(death_limit=3))
    moult.wait_ready()
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    assert moult.status("echo")["last_error"] is None


def test_a_useful_loader_is_replaced_at_once_for_ever(start):
    """More deaths in a row than death_limit: each had answered something."""
    moult = start(echo_section(death_limit=2))
    moult.note_fds()
    load = Load(moult.port, clients=4)
    for _ in range(12):
        before = moult.status("echo")
        load.wait_more(100)
        os.kill(before["pid"], signal.SIGKILL)
        wait_for("the next one", lambda: moult.status("echo")["generation"]
                 > before["generation"])
    assert "failed=yes" not in moult.log_text()
    load.stop_and_check()


@pytest.mark.parametrize("fault", ["stop", "spin", "hang"])
def test_hangs_are_found_by_progress(start, tmp_path, fault):
    """SIGSTOP, a busy loop, a wait that never ends: each alive, none working."""
    moult = start(fault_section(**{"option.fault": fault, "option.after": 50,
                                   "option.once": tmp_path / "once"},
                                stall_timeout=stretch(400)), supervisor=ENGINES)
    moult.note_fds()
    first = moult.status("echo")
    load = Load(moult.port, clients=4)
    wait_for("a successor", lambda: moult.status("echo")["generation"] > first["generation"])
    assert not pathlib.Path(f"/proc/{first['pid']}").exists()
    assert "makes no progress" in moult.log_text()
    load.wait_more(100)
    load.stop_and_check()


def memory_cgroup():
    """A fresh control group below ours and the name of its limit, or None."""
    text = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    for line in text:
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            root, limit = pathlib.Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        elif number == "0" and controllers == "" and \
                pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
            root, limit = pathlib.Path("/sys/fs/cgroup"), "memory.max"
        else:
            continue
        here = root / path.lstrip("/")
        group = (here if here.exists() else root) / f"moult-test-{os.getpid()}"
        try:
            group.mkdir()
            if not (group / limit).exists():
                group.rmdir()
                continue
            return group, limit
        except OSError:
            continue
    return None, None


@pytest.fixture
def cgroup():
    group, limit = memory_cgroup()
    if not group:
        pytest.skip("no control group for memory may be made here")
    yield group, limit
    for pid in (group / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    wait_for("an empty group", lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_out_of_memory_is_told_apart(start, cgroup):
    """The kernel kills the loader for want of memory; an ordinary SIGKILL is no such thing."""
    group, limit = cgroup
    moult = start(fault_section(**{"option.fault": "leak", "option.bytes": 4 * MIB},
                                request_arena="1M", max_body="64K", response_arena="1M"),
                  supervisor=ENGINES)
    first = moult.status("echo")
    os.kill(first["pid"], signal.SIGKILL)
    wait_for("the next one", lambda: moult.status("echo")["generation"] > first["generation"]
             and moult.status("echo")["state"] == "ready")
    assert "out of memory" not in moult.log_text()
    (group / limit).write_text(str(64 * MIB))
    (group / "cgroup.procs").write_text(str(moult.pid))
    (group / "cgroup.procs").write_text(str(moult.status("echo")["pid"]))
    load = Load(moult.port, clients=2)
    wait_for("the kernel's kill", lambda: "the kernel killed it, out of memory"
             in moult.log_text())
    load.wait_more(20)
    load.stop_and_check()
    decision = moult.explain("echo")
    assert decision["available_bytes"] <= 64 * MIB


@pytest.mark.parametrize("fault", ["leak", "leak-beside"])
def test_out_of_memory_leads_back(start, cgroup, fault):
    """Nobody's SIGKILL but the kernel's: new inputs that eat all memory are rolled back. A
    process that dies by its other threads is no candidate of the kernel's any more while its
    memory is still on its way; nobody else is to die for that."""
    group, limit = cgroup
    arenas = {"request_arena": "1M", "max_body": "64K", "response_arena": "1M"}
    moult = start(fault_section(**arenas), supervisor=ENGINES)
    if fault == "leak-beside" and moult.oom_score_adj() == 0:
        pytest.skip("moultd may not tell the kernel to spare it here")
    (moult.models / "0.conf").write_text(fault_section(
        **arenas, **{"option.fault": fault, "option.bytes": 4 * MIB}))
    assert moult.wait_receipt("echo", lambda r: r["number"] == 2)["outcome"] == "ok"
    (group / limit).write_text(str(64 * MIB))
    (group / "cgroup.procs").write_text(str(moult.pid))
    (group / "cgroup.procs").write_text(str(moult.status("echo")["pid"]))
    load = Load(moult.port, clients=2)
    moult.wait_receipt("echo", lambda r: r["cause"] == "rollback" and r["outcome"] == "ok")
    assert "out of memory" in moult.status("echo")["last_error"]
    load.wait_more(200)
    load.stop()
    assert load.wrong == 0


def test_a_limit_of_the_control_group_counts(start, cgroup, tmp_path):
    """Preflight: a candidate that the control group cannot hold is refused with numbers."""
    group, limit = cgroup
    (tmp_path / "weights.bin").write_bytes(b"x" * (8 * MIB))
    moult = start(echo_section(path=tmp_path / "weights.bin", request_arena="1M",
                               max_body="64K", response_arena="1M"))
    (group / limit).write_text(str(48 * MIB))
    (group / "cgroup.procs").write_text(str(moult.pid))
    load = Load(moult.port, clients=2)
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"y" * (96 * MIB))
    os.rename(fresh, tmp_path / "weights.bin")
    receipt = moult.wait_receipt("echo", lambda r: r["number"] > 1)
    assert receipt["outcome"] == "failed" and "not enough memory" in receipt["reason"], receipt
    load.wait_more(50)
    load.stop_and_check()
