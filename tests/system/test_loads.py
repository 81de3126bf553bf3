# SPDX-License-Identifier: Apache-2.0
"""So many models are built at once, and which comes next."""
import os
import re
import signal
import subprocess

import pytest

from harness import BUILD, DEADLINE_S, echo_body, echo_section, wait_for

ENGINES = f"engine_dir = {BUILD}\n"
N = 6


def events(moult):
    """(model, True for begun and False for over), in the order of the log."""
    found = []
    for line in moult.log_lines():
        begun = re.search(r"event=generation_state model=(\S+) .*from=spawned to=staging", line)
        over = re.search(r"event=generation_state model=(\S+) .*"
                         r"to=(ready|failed|reclaiming|stopping)", line)
        if begun:
            found.append((begun[1], True))
        elif over and (over[1], True) in found:
            found.append((over[1], False))
    return found


def most_at_once(found):
    building, most = set(), 0
    for model, has_begun in found:
        (building.add if has_begun else building.discard)(model)
        most = max(most, len(building))
    return most


def slow_section(name, path, **keys):
    return echo_section(name, engine="fault", path=path, share="off",
                        **{"option.fault": "slow-on-stage", "option.ms": 300, **keys})


def files(tmp_path, sizes):
    paths = []
    for i, size in enumerate(sizes):
        paths.append(tmp_path / f"weights-{i}")
        paths[-1].write_bytes(b"x" * size)
    return paths


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_smallest_come_first(start, tmp_path, at_once):
    paths = files(tmp_path, [4096 * (N - i) for i in range(N)])
    moult = start(*(slow_section(f"m{i}", path) for i, path in enumerate(paths)),
                  supervisor=ENGINES + f"loads_at_once = {at_once}\n")
    found = events(moult)
    assert most_at_once(found) <= at_once, found
    order = [model for model, has_begun in found if has_begun]
    assert sorted(order[:at_once]) == sorted(f"m{N - 1 - i}" for i in range(at_once)), order
    if at_once == 1:
        assert order == [f"m{N - 1 - i}" for i in range(N)], order


def test_what_served_waits_for_nobody(start, tmp_path):
    """A crash while others take all turns for long."""
    paths = files(tmp_path, [10, 20])
    moult = start(echo_section("served"), supervisor=ENGINES + "loads_at_once = 1\n")
    (moult.models / "1.conf").write_text(slow_section("long", paths[0],
                                                      **{"option.ms": 1000 * DEADLINE_S * 4}))
    wait_for("a long load", lambda: ("long", True) in events(moult))
    os.kill(moult.status("served")["pid"], signal.SIGKILL)
    assert moult.infer("served", echo_body([1, 2, 3, 4]))[0] == 200
    # A reload of one that serves waits; one that is configured away gives its turn back.
    waiting = subprocess.Popen([BUILD / "moultctl", "-s", moult.socket, "reload", "served",
                                "--wait"], stdout=subprocess.DEVNULL)
    wait_for("it waits", lambda: "event=load_waits model=served" in moult.log_text())
    assert waiting.poll() is None
    (moult.models / "1.conf").unlink()
    assert waiting.wait(DEADLINE_S) == 0


def test_a_turn_is_given_back_whatever_becomes_of_it(start, tmp_path):
    """Refused, crashed, hung until its deadline, missing: the next one has its turn."""
    keys = {"retry_delay": "60s", "share": "off"}
    faults = ["refuse-on-stage", "crash-on-commit", "fail-on-warmup", "hang-on-stage"]
    sections = [echo_section(f"bad{i}", engine="fault", stage_timeout="500ms",
                             **keys, **{"option.fault": fault})
                for i, fault in enumerate(faults)]
    sections.append(echo_section("missing", engine="fault", path=tmp_path / "nothing", **keys))
    moult = start(*sections, echo_section("last"), ready=False,
                  supervisor=ENGINES + "loads_at_once = 1\n")
    wait_for("the last one", lambda: moult.status("last")["state"] == "ready")
    assert most_at_once(events(moult)) == 1


def test_more_at_once_counts_at_once(start, tmp_path):
    paths = files(tmp_path, [10] * 4)
    moult = start(*(slow_section(f"m{i}", path, **{"option.ms": 1000 * DEADLINE_S * 4})
                    for i, path in enumerate(paths)), ready=False,
                  supervisor=ENGINES + "loads_at_once = 1\n")
    wait_for("the first", lambda: len(events(moult)) == 1)
    moult.config.write_text(moult.head + ENGINES + "loads_at_once = 3\n")
    wait_for("three", lambda: most_at_once(events(moult)) == 3)
    assert most_at_once(events(moult)) == 3
    moult.kill()  # they would take their time
