# SPDX-License-Identifier: Apache-2.0
"""N loaders of one generation: one queue, one copy of the weights, nothing lost when their
number changes, when one dies, or when all of them are replaced."""
import contextlib
import os
import random
import signal
import time

import pytest

from harness import Load, echo_section, is_alive, wait_for
from test_inputs import rewrite
from test_share import copies
from test_strategy import COPY, MIB, device, write_model


def section(tmp_path, **keys):
    lines = {"path": tmp_path / "weights.bin", "secrets": tmp_path / "secrets",
             "option.delay_us": 300, "max_batch": 1, **keys}
    return echo_section(**lines)


def begin(start, tmp_path, supervisor="", replicas=3, **keys):
    write_model(tmp_path / "weights.bin")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("good-0")
    moult = start(section(tmp_path, replicas=replicas, **keys), supervisor=supervisor)
    wait_serving(moult, replicas)
    moult.note_fds()
    return moult


def pids(moult):
    """Of all loaders that serve; the one that leads is the first."""
    status = moult.status("echo")
    return [status["pid"]] + [r["pid"] for r in status["replicas"]["others"]
                              if r["state"] == "active"]


def wait_serving(moult, count):
    def is_so():
        replicas = moult.status("echo")["replicas"]
        return replicas["serving"] == count and len(replicas["others"]) == count - 1
    wait_for(f"{count} loaders", is_so)


def test_they_share_the_weights_and_the_work(start, tmp_path):
    moult = begin(start, tmp_path)
    assert list(copies(moult.pid).values()) == [COPY]
    load = Load(moult.port, clients=8)
    busy = set()
    def all_are_seen_busy():
        status = moult.status("echo")
        busy.update(r["pid"] for r in status["replicas"]["others"] if r["leases"])
        return len(busy) == 2
    wait_for("leases of all", all_are_seen_busy)
    load.stop_and_check()
    assert len({r["generation"] for r in moult.status("echo")["replicas"]["others"]} |
               {moult.status("echo")["generation"]}) == 1


def test_scale_loses_nothing(start, tmp_path):
    moult = begin(start, tmp_path, replicas=1)
    load = Load(moult.port, clients=8)
    for count in (4, 2, 6, 1, 3, 1):
        assert moult.ctl("scale", "echo", str(count)).returncode == 0
        wait_serving(moult, count)
        load.wait_more(50)
    load.stop_and_check()


@pytest.mark.parametrize("count, says", [("0", "no number"), ("17", "1 to 16"),
                                         ("many", "no number")])
def test_scale_refuses(start, tmp_path, count, says):
    moult = begin(start, tmp_path, replicas=1)
    result = moult.ctl("scale", "echo", count)
    assert result.returncode != 0 and says in result.stderr, result.stderr
    assert moult.ctl("scale", "none", "2").returncode == 1
    assert moult.ctl("scale", "echo").returncode == 2


def test_the_configuration_scales_and_takes_back(start, tmp_path):
    moult = begin(start, tmp_path, replicas=1)
    generation = moult.status("echo")["generation"]
    assert moult.ctl("scale", "echo", "2").returncode == 0
    wait_serving(moult, 2)
    rewrite(moult, section(tmp_path, replicas=4))
    wait_serving(moult, 4)
    rewrite(moult, section(tmp_path, replicas=1))
    wait_serving(moult, 1)
    assert moult.status("echo")["generation"] == generation


def test_a_death_takes_its_own_leases_only(start, tmp_path):
    """Whichever dies, the one that leads or another: no pause, and there are three again."""
    moult = begin(start, tmp_path)
    generation = moult.status("echo")["generation"]
    load = Load(moult.port, clients=8)
    for i in range(10):
        victim = pids(moult)[i % 2]
        load.wait_more(20)
        os.kill(victim, signal.SIGKILL)
        wait_for("its end", lambda: not is_alive(victim))
        assert moult.get("/v2/health/ready")[0] == 200
        wait_for("that to be known", lambda: victim not in pids(moult))
        wait_serving(moult, 3)
    load.stop_and_check()
    # Not one new generation, not one reload.
    assert moult.status("echo")["generation"] == generation
    assert len(moult.receipts()) == 1
    assert "replica_leads" in moult.log_text()


def test_all_at_once(start, tmp_path):
    moult = begin(start, tmp_path)
    load = Load(moult.port, clients=8)
    for _ in range(3):
        for pid in pids(moult):
            os.kill(pid, signal.SIGKILL)
        wait_for("another generation", lambda: moult.status("echo")["pid"])
        wait_serving(moult, 3)
    load.stop_and_check()


@pytest.mark.parametrize("strategy", ["auto", "staged", "stop-first"])
@pytest.mark.parametrize("share", ["memory", "off"])
def test_reloads(start, tmp_path, strategy, share):
    moult = begin(start, tmp_path, strategy=strategy, share=share)
    load = Load(moult.port, clients=8)
    for i in range(4):
        before = len(moult.receipts())
        if i % 2:
            write_model(tmp_path / "weights.bin", seed=i + 2)
        else:
            moult.write_secret(tmp_path / "secrets", "token", f"good-{i + 1}")
        receipt = wait_for("a receipt", lambda: moult.receipts()[before:])[0]
        assert receipt["outcome"] == "ok", receipt
        if i < 2:
            wait_serving(moult, 3)
    wait_serving(moult, 3)
    load.stop_and_check()
    wait_for("the one copy", lambda: len(copies(moult.pid)) == (share == "memory"))


def test_memory_for_some_of_them(start, tmp_path):
    """Private copies, and a budget for two: the third is refused with numbers."""
    write_model(tmp_path / "weights.bin")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("good-0")
    moult = start(section(tmp_path, replicas=3, share="off"),
                  supervisor=device(COPY * 32 // 10 // MIB))
    wait_for("a refusal", lambda: "replica_refused" in moult.log_text())
    assert moult.status("echo")["replicas"]["serving"] in (1, 2)
    load = Load(moult.port)
    load.stop_and_check()


def test_storm(start, tmp_path):
    """Deaths, reloads and scaling, all at once."""
    moult = begin(start, tmp_path)
    load = Load(moult.port, clients=8)
    chance = random.Random(7)
    until = time.monotonic() + 6
    i = 0
    while time.monotonic() < until:
        i += 1
        what = chance.randrange(4)
        if what == 0:
            moult.ctl("scale", "echo", str(chance.randrange(1, 5)))
        elif what == 1:
            moult.write_secret(tmp_path / "secrets", "token", f"good-{i + 1}")
        else:
            victim = chance.choice(pids(moult))
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                if victim > 0:
                    os.kill(victim, signal.SIGKILL)
        load.wait_more(5)
    moult.ctl("scale", "echo", "3")
    wait_serving(moult, 3)
    load.stop_and_check()
