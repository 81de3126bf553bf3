# SPDX-License-Identifier: Apache-2.0
"""How many processes and how much memory a loader may have, with all that it starts."""
import os
import pathlib
import re
import signal

import pytest

from harness import echo_body, echo_section, wait_for
from test_loader_users import USERS, asked, pid_of, place, pytestmark, section  # noqa: F401
from test_loader_users import serve, user_of  # noqa: F401

MOST = 20
MEMORY = 256 << 20
# A user has them for two generations of loaders and a spare.
TOGETHER = 3 * MOST

BOMB = '''
import subprocess

def bomb(_):
    """Processes that start two of themselves each, as fast as they can, for ever."""
    subprocess.Popen(["sh", "-c", 'bomb() { bomb | bomb & wait; }; while :; do bomb; done'],
                     stderr=subprocess.DEVNULL)
    return True

def many(most):
    """How many it could start, of a thousand, or of so many."""
    started = []
    try:
        while len(started) < (int(most) or 1000):
            started.append(subprocess.Popen(["sleep", "600"]))
    except OSError:
        pass
    for process in started:
        process.kill()
        process.wait()
    return len(started)

def eat(_):
    """Memory without end."""
    eaten = []
    while True:
        eaten.append(b"x" * (16 << 20))

def feed(_):
    """A process of its own that does so."""
    subprocess.Popen(["python3", "-c", "eaten = []\\nwhile True: eaten.append(b'x' * (16 << 20))"])
    return True
'''


def arm(place):
    app = place / "app" / "app.py"
    app.write_text(app.read_text().replace('"daemon": daemon', '"daemon": daemon, "bomb": bomb, '
                                           '"many": many, "eat": eat, "feed": feed').replace("def app(", f"{BOMB}\ndef app("))


def processes_of(user):
    """Threads count."""
    n = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == user:
                n += len(os.listdir(path / "task"))
        except OSError:
            pass  # ended meanwhile
    return n


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_processes(serve, place, user):  # noqa: F811
    """A fork bomb costs nobody else a process."""
    arm(place)
    moult = serve(section(place, "a", max_processes=MOST), section(place, "b"), user=user)
    assert "max_processes" in moult.status("a")["walls"]["layers"]
    assert "max_processes" not in str(moult.status("b")["walls"])
    assert 0 < asked(moult, "a", "many") < TOGETHER
    assert asked(moult, "b", "many") == 1000
    loader = pid_of(moult, "a")
    bombed = user_of(loader)
    asked(moult, "a", "bomb")
    wait_for("the explosion", lambda: processes_of(bombed) > TOGETHER // 2)
    assert asked(moult, "b", "many") == 1000
    # A look takes a while: one process may end before its end and another begin.
    wait_for("a look at no more than it may have", lambda: processes_of(bombed) <= TOGETHER)
    os.kill(loader, signal.SIGKILL)
    wait_for("another loader", lambda: pid_of(moult, "a") not in (0, None, loader))
    wait_for("the end of the bomb", lambda: processes_of(bombed) <= MOST)
    assert asked(moult, "a", "many") > 0


def test_without_any_means(serve):  # noqa: F811
    """The model serves, and status says that nothing limits it."""
    moult = serve(echo_section(max_processes=MOST, max_memory="1G"), supervisor="")
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    walls = moult.status("echo")["walls"]
    for limit, controller in (("max_processes", "pids"), ("max_memory", "memory")):
        assert (limit in walls["layers"]) != \
            (f"{limit}: no control group with the controller {controller}" in walls["missing"])
    assert f'moult_walls{{model="echo",layer="max_memory"}} {int("max_memory" in walls["layers"])}' \
        in moult.get("/metrics")[1].decode()


def own_group():
    """The folder of the control group, version 2, that the test is in; None: there is none."""
    own = re.search(r"^0::(.*)$", pathlib.Path("/proc/self/cgroup").read_text(), re.M)
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if own and " - cgroup2 " in line and fields[3] == "/":
            return pathlib.Path(fields[4] + own[1].rstrip("/"))
    return None


@pytest.fixture(params=["root", "delegated"])
def group(request):
    """A control group for moultd with the controllers pids and memory, and how to start it there:
    the root of all groups, or as a unit of systemd's with Delegate= has one."""
    top = own_group()
    has = (top / "cgroup.controllers").read_text().split() if top else []
    if not {"pids", "memory"} <= set(has):
        pytest.skip("no control group of version 2 has pids and memory here: tests/kernel.sh has a "
                    "kernel with them")
    if request.param == "root":
        if (top / "cgroup.type").exists():
            pytest.skip("the test is not in the root of all control groups: see tests/kernel.sh")
        yield top, ()
        return
    if (top / "cgroup.type").exists():
        pytest.skip("processes beside the group keep its controllers back: see tests/kernel.sh")
    before = (top / "cgroup.subtree_control").read_text().split()
    (top / "cgroup.subtree_control").write_text("+pids +memory")
    group = top / f"test-of-limits-{os.getpid()}"
    group.mkdir()
    try:
        yield group, ("sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh")
    finally:
        wait_for("an empty group", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
        for name in {"pids", "memory"} - set(before):
            (top / "cgroup.subtree_control").write_text("-" + name)


def group_of(pid):
    path = re.search(r"^0::(.*)$", pathlib.Path(f"/proc/{pid}/cgroup").read_text(), re.M)[1]
    return pathlib.Path("/sys/fs/cgroup" + path)


def number(path):
    return int(path.read_text())


def test_controllers(group, serve, place):  # noqa: F811
    """Of the kernel's own: a bomb and memory without end hit the loader that they are in, with all
    that it has started, and nobody else."""
    top, under = group
    before = {name: (top / name).read_text() for name in ("cgroup.subtree_control",)}
    arm(place)
    patient = {"request_timeout": "10m"}
    moult = serve(section(place, "a", max_processes=MOST, max_memory=MEMORY, **patient),
                  section(place, "b", **patient), supervisor="", under=under)
    walls = moult.status("a")["walls"]
    assert {"max_processes", "max_memory"} <= set(walls["layers"].split(", ")), walls
    assert "max_" not in walls["missing"]
    assert "max_" not in moult.status("b")["walls"]["layers"]
    loader, other = pid_of(moult, "a"), pid_of(moult, "b")
    mine = group_of(loader)
    assert number(mine / "pids.max") == MOST and number(mine / "memory.max") == MEMORY
    assert (group_of(other) / "pids.max").read_text() == "max\n"
    assert group_of(other) != mine != group_of(moult.pid)

    assert 0 < asked(moult, "a", "many", 2 * MOST) < MOST
    asked(moult, "a", "bomb")
    wait_for("the explosion", lambda: "max 0\n" != (mine / "pids.events").read_text())
    assert number(mine / "pids.current") <= MOST
    assert asked(moult, "b", "many", 2 * MOST) == 2 * MOST
    os.kill(loader, signal.SIGKILL)
    wait_for("the end of the bomb", lambda: not mine.exists())

    for what in ("eat", "feed"):
        wait_for("another loader", lambda: pid_of(moult, "a") not in (0, None, loader))
        loader = pid_of(moult, "a")
        wait_for("it serves", lambda: moult.status("a")["state"] == "ready")
        mine = group_of(loader)
        status, _ = moult.get(f"/a/?do={what}&pid=0")
        assert status == (200 if what == "feed" else 500), what
        wait_for("its end", lambda: not mine.exists())
        assert asked(moult, "b", "attack", 1) is not None
    assert pid_of(moult, "b") == other
    deaths = re.findall(r'event=loader_exit .* reason="(.*)', moult.log_text())
    # A request that kills is asked twice.
    assert len(deaths) == 4 and all("the kernel killed it, out of memory" in why
                                    for why in deaths[1:]), deaths

    moult.stop()
    # All is as it was.
    assert {name: (top / name).read_text() for name in before} == before
    assert not list(top.glob("moultd[.-]*"))
