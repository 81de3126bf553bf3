# SPDX-License-Identifier: Apache-2.0
"""What a loader started does not survive it: all of its memory is really free."""
import os
import pathlib
import signal
import subprocess

import pytest

from harness import BUILD, Load, children, echo_section, is_alive, wait_for

MIB = 1 << 20
KEPT = 64  # loader/serve/children.h
KINDS = ["child", "daemon", "bare", "deaf", "chain", "tree", "headless"]


def section(kind, **keys):
    return echo_section(engine="fault", **{"option.fault": "leave", "option.leave": kind,
                                           "option.bytes": 64 * MIB, **keys})


def environments(process):
    """Of each thread: a process whose first one has ended has no command line any more."""
    for task in (process / "task").iterdir():
        try:
            yield (task / "environ").read_bytes()
        except OSError:
            continue


def descendants(moult):
    """Loaders and all that they started, whatever became of their parents: by command line."""
    found = set()
    mark = f"MOULT_RUN={moult.pid}-".encode()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if f"--parent={moult.pid}".encode() in words or \
                    words[1:2] == [f"100.0{moult.pid}".encode()] or \
                    (not words[0] and any(mark in text for text in environments(entry))):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def left(moult):
    """Those that are no loader."""
    status = moult.status()["models"]
    loaders = {m["pid"] for m in status} | set(children(moult.pid))
    return descendants(moult) - loaders


def started(moult):
    """What the loader has started. One of a chain ends before it can be looked at: its remains
    are children of the loader."""
    return left(moult) or below(moult.status("echo")["pid"])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_survives_its_loader(start, kind):
    moult = start(section(kind), supervisor=f"engine_dir = {BUILD}\n")
    moult.note_fds()
    first = moult.status("echo")["pid"]
    assert wait_for("what it started", lambda: started(moult))
    assert is_alive(first), "it must be the loader's as long as that lives"
    before = left(moult)
    os.kill(first, signal.SIGKILL)
    wait_for("another one", lambda: moult.status("echo")["pid"] not in (0, first))
    # The receipt comes when the new one serves: the old one's are gone by then.
    assert not any(map(is_alive, before)), before
    receipt = moult.wait_receipt("echo", lambda r: r["number"] == 2)
    assert receipt["orphans"]["processes"] >= 1, receipt["orphans"]
    assert receipt["orphans"]["alive"] == 0, receipt["orphans"]
    if kind == "daemon":
        assert receipt["orphans"]["anon_bytes"] >= 64 * MIB, receipt["orphans"]
    if kind in ("child", "bare"):
        assert "sleep (pid " in receipt["orphans"]["who"], receipt["orphans"]

    assert wait_for("what the new one started", lambda: started(moult))
    before = left(moult)
    load = Load(moult.port, clients=2)
    assert moult.reload("echo").returncode == 0
    assert not any(map(is_alive, before)), before
    assert moult.receipts("echo")[-1]["orphans"]["processes"] >= 1
    load.stop_and_check()

    wait_for("what it started", lambda: started(moult))
    moult.stop()
    wait_for("the end of all", lambda: not descendants(moult))


def below(pid):
    """Children of @pid, with those that have ended and that nobody has waited for."""
    return [int(child) for child in
            pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def remains(pid):
    """Those that have ended."""
    return sum(not is_alive(child) for child in below(pid))


def test_what_ends_before_its_loader_is_reaped(start):
    """Nobody else does that: they would fill the table of processes. The model can wait for
    the last of them."""
    moult = start(section("crowd"), supervisor=f"engine_dir = {BUILD}\n")
    pid = moult.status("echo")["pid"]
    # All that the model started have ended by then: some were alive a moment ago.
    wait_for("the end of their remains",
             lambda: len(below(pid)) <= KEPT and not any(map(is_alive, below(pid))))
    assert remains(pid) == KEPT


def test_a_chain_is_reaped_as_it_goes_on(start):
    moult = start(section("chain"), supervisor=f"engine_dir = {BUILD}\n")
    pid = moult.status("echo")["pid"]
    counts = [0]

    def are_fewer():
        counts.append(remains(pid))
        return counts[-1] < counts[-2]
    wait_for("the end of their remains", are_fewer)
    # The one that is alive counts as well.
    assert counts[-2] >= KEPT


@pytest.mark.parametrize("kind", ["child", "daemon"])
def test_killed_while_staging(start, kind):
    moult = start(echo_section(engine="fault"), supervisor=f"engine_dir = {BUILD}\n")
    (moult.models / "0.conf").write_text(
        section(kind, **{"option.fault": "leave-on-stage", "option.ms": 100000}))
    pid = wait_for("a candidate", lambda: (moult.status("echo")["candidate"] or {}).get("pid"))
    # moultd has other children, too: the writer that keeps what serves.
    started = wait_for("what it started", lambda: below(pid))
    os.kill(pid, signal.SIGKILL)
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert receipt["orphans"]["processes"] >= 1, receipt
    assert not any(map(is_alive, started))


def test_a_second_signal_leaves_nobody(start):
    moult = start(section("tree"), supervisor=f"engine_dir = {BUILD}\n")
    wait_for("what it started", lambda: len(descendants(moult)) > 3)
    moult.process.send_signal(signal.SIGTERM)
    moult.process.send_signal(signal.SIGTERM)
    moult.process.wait(40)
    wait_for("the end of all", lambda: not descendants(moult))


def test_somebody_elses_child_is_left_alone(start, tmp_path):
    """A shell that executes moultd may have left it a child, as entry points do."""
    moult = start(section("daemon"), supervisor=f"engine_dir = {BUILD}\n")
    moult.stop()
    moult.process = subprocess.Popen(
        ["sh", "-c", f'sleep 97.0{os.getpid()} & exec "$0" "$@"', BUILD / "moultd", "-c",
         moult.config], stderr=open(moult.log, "wb"))
    moult.pid = moult.process.pid
    moult.wait_ready()
    loader = moult.status("echo")["pid"]
    other, = (pid for pid in children(moult.pid) if pid != loader and
              b"97.0" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(loader, signal.SIGKILL)
    wait_for("another one", lambda: moult.status("echo")["pid"] not in (0, loader))
    assert is_alive(other)
    os.kill(other, signal.SIGKILL)
    wait_for("it to be reaped", lambda: not pathlib.Path(f"/proc/{other}").exists())


def require_groups(moult):
    supervisor = moult.status()["supervisor"]
    if not supervisor["loader_groups"]:
        pytest.skip("no control groups may be made here: " + supervisor["no_loader_groups"])
    return pathlib.Path(supervisor["loader_groups"])


def members(group):
    return {int(pid) for path in group.rglob("cgroup.procs") for pid in path.read_text().split()}


def test_each_loader_has_a_control_group(start):
    """With all that it starts and nobody else, as long as it lives; then it is gone."""
    moult = start(section("tree"), supervisor=f"engine_dir = {BUILD}\n")
    group = require_groups(moult)
    wait_for("what it started", lambda: len(left(moult)) > 2)
    assert members(group) == descendants(moult)
    assert moult.pid not in members(group)
    for _ in range(3):
        assert moult.reload("echo").returncode == 0
    wait_for("one loader's group", lambda: sum(path.is_dir() for path in group.iterdir()) == 1)
    assert moult.status("echo")["pid"] in members(group)
    moult.stop()
    assert not group.exists()
