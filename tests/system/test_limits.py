# SPDX-License-Identifier: Apache-2.0
"""How many processes and how much memory a loader may have, with all that it starts."""
import os
import pathlib
import signal

import pytest

from harness import echo_body, echo_section, wait_for
from test_loader_users import USERS, asked, pid_of, place, pytestmark, section  # noqa: F401
from test_loader_users import serve, user_of  # noqa: F401

MOST = 20
# A user has them for two generations of loaders and a spare.
TOGETHER = 3 * MOST

BOMB = '''
import subprocess

def bomb(_):
    """Processes that start two of themselves each, as fast as they can, for ever."""
    subprocess.Popen(["sh", "-c", 'bomb() { bomb | bomb & wait; }; while :; do bomb; done'],
                     stderr=subprocess.DEVNULL)
    return True

def many(_):
    """How many it could start, of a thousand."""
    started = []
    try:
        while len(started) < 1000:
            started.append(subprocess.Popen(["sleep", "600"]))
    except OSError:
        pass
    for process in started:
        process.kill()
        process.wait()
    return len(started)
'''


def arm(place):
    app = place / "app" / "app.py"
    app.write_text(app.read_text().replace('"daemon": daemon', '"daemon": daemon, "bomb": bomb, '
                                           '"many": many').replace("def app(", f"{BOMB}\ndef app("))


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
