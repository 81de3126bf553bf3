# SPDX-License-Identifier: Apache-2.0
"""What the loaders of a killed moultd started does not survive the next start. Any moultd of the
same user ends them, so nothing else runs beside this (RUN_SERIAL)."""
import os
import pathlib
import subprocess
import types

import pytest

from harness import BUILD, Moult, echo_body, is_alive, wait_for
from test_orphans import KINDS, descendants, left, members, require_groups, section


def kill_moultd(moult):
    """Its loaders end, what they started does not. Who they were, and their control groups."""
    status = moult.status()
    group = status["supervisor"]["loader_groups"]
    old = types.SimpleNamespace(pid=moult.pid, group=group and pathlib.Path(group))
    loaders = {m["pid"] for m in status["models"]}

    def started():
        """The kernel's list, where there is one, has those that fork faster than /proc is read."""
        return (members(old.group) if group else descendants(old)) - loaders
    wait_for("what they started", started)
    moult.kill()
    wait_for("the end of the loaders", lambda: not any(map(is_alive, loaders)))
    wait_for("what outlives them", started)
    return old


# What has no mark, and what forks faster than anybody reads, is found by its control group alone.
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_survives_a_moultd_that_is_killed(start, kind):
    """Beyond the next start, before anything new is there."""
    moult = start(section(kind), supervisor=f"engine_dir = {BUILD}\n")
    if kind in ("bare", "chain"):
        require_groups(moult)
    old = kill_moultd(moult)
    moult.launch().wait_ready()
    assert not descendants(old) and not (old.group and old.group.exists()), moult.log_text()
    assert "event=leftover " in moult.log_text()
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("bare", "chain")])
def test_nor_where_there_are_no_groups(start, kind, tmp_path):
    """The file system of groups is hidden from both."""
    if os.geteuid() != 0:
        pytest.skip("hiding a file system needs root")
    moult = start(section("child"), supervisor=f"engine_dir = {BUILD}\n")
    moult.stop()
    (moult.models / "0.conf").write_text(section(kind))
    hidden = tmp_path / "moultd"
    hidden.write_text("#!/bin/sh\nset -e\nfor at in $(awk '/ - cgroup2 / { print $5 }' "
                      "/proc/self/mountinfo); do mount -t tmpfs none \"$at\"; done\n"
                      f"exec {BUILD}/moultd \"$@\"\n")
    hidden.chmod(0o755)

    def launch():
        moult.process = subprocess.Popen(
            ["unshare", "--mount", hidden, "-c", moult.config], stderr=open(moult.log, "wb"))
        moult.pid = moult.process.pid
        moult.wait_ready()
        assert moult.status()["supervisor"]["loader_groups"] is None
        assert "event=no_loader_groups" in moult.log_text()

    launch()
    old = kill_moultd(moult)
    launch()
    assert not descendants(old), moult.log_text()
    assert "event=leftover " in moult.log_text()


def test_what_another_moultd_started_is_left_alone(start, tmp_path):
    moult = start(section("tree"), supervisor=f"engine_dir = {BUILD}\n")
    (tmp_path / "other").mkdir()
    other = Moult(tmp_path / "other", [section("tree")],
                  supervisor=f"engine_dir = {BUILD}\n").wait_ready()
    try:
        before = wait_for("what it started", lambda: len(left(other)) > 2 and descendants(other))
        old = kill_moultd(moult)
        moult.launch().wait_ready()
        assert not descendants(old), moult.log_text()
        assert descendants(other) == before, moult.log_text()
    finally:
        other.stop()
