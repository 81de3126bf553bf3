# SPDX-License-Identifier: Apache-2.0
"""Everything at once, over shared weights: files that are replaced, written over, cut and
taken away, secrets, configurations, rollbacks, other numbers of loaders, and loaders that are
killed and stopped. Two models of one file, in memory for two copies and for three.

Nothing is lost, memory stays within the budget, and in the end both serve the newest file from
one copy."""
import os
import random
import signal
import time

import pytest

from harness import Load, echo_section, stretch, wait_for
from test_inputs import rewrite
from test_share import SharedSampler, copies
from test_strategy import COPY, MIB, device, write_model

STORM_S = float(os.environ.get("MOULT_STORM_S", "8"))


class Storm:
    def __init__(self, start, tmp_path, budget, seed):
        self.home, self.chance, self.count = tmp_path, random.Random(seed), 0
        self.file, self.secrets = tmp_path / "weights.bin", tmp_path / "secrets"
        write_model(self.file)
        self.secrets.mkdir()
        (self.secrets / "token").write_text("good-0")
        self.moult = start(self.section(), self.section("twin"), supervisor=device(budget))

    def section(self, name="echo", **keys):
        return echo_section(name, **{
            "path": self.file, "secrets": self.secrets, "option.delay_us": 200,
            "watch_window": "1s", "retry_delay": "200ms", "stall_timeout": stretch(1000), **keys})

    def signal(self, pid, number):
        if pid > 0:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    # what may happen

    def secret(self, name):
        self.moult.write_secret(self.secrets, "token", f"good-{self.count}")

    def replace(self, name):
        write_model(self.file, seed=self.count + 5, size=COPY - self.chance.randrange(3) * MIB)

    def write_over(self, name):
        with open(self.file, "r+b") as file:
            file.seek(self.chance.randrange(COPY // 2))
            file.write(b"garbage" * 100)
            if self.chance.random() < .2:
                file.truncate(1000)

    def take_away(self, name):
        os.rename(self.file, self.home / "gone")
        time.sleep(self.chance.random() / 10)
        os.rename(self.home / "gone", self.file)

    def kill(self, name):
        status = self.moult.status(name)
        others = [other["pid"] for other in status["replicas"]["others"]]
        self.signal(self.chance.choice([status["pid"], *others]), signal.SIGKILL)

    def kill_candidate(self, name):
        candidate = self.moult.status(name)["candidate"]
        if candidate:
            self.signal(candidate["pid"], signal.SIGKILL)

    def stop(self, name):
        self.signal(self.moult.status(name)["pid"], signal.SIGSTOP)

    def configure(self, name):
        keys = {"strategy": self.chance.choice(["auto", "overlap", "staged", "stop-first"]),
                "share": self.chance.choice(["memory", "memory", "file", "off"]),
                "replicas": self.chance.randrange(1, 4), "version": self.count}
        if self.chance.random() < .2:
            keys["option.private"] = "yes"
        rewrite(self.moult, self.section(**keys))

    def scale(self, name):
        self.moult.ctl("scale", name, str(self.chance.randrange(1, 5)))

    def roll_back(self, name):
        self.moult.ctl("rollback", name)

    def reload(self, name):
        self.moult.ctl("reload", name)

    def blow(self):
        what = [self.secret, self.replace, self.replace, self.write_over, self.take_away,
                self.kill, self.kill_candidate, self.stop, self.configure, self.scale,
                self.roll_back, self.reload]
        until = time.monotonic() + STORM_S
        while time.monotonic() < until:
            self.count += 1
            self.chance.choice(what)(self.chance.choice(["echo", "twin"]))
            time.sleep(self.chance.random() * .3)

    def settle(self):
        write_model(self.file, seed=3)
        rewrite(self.moult, self.section(version=self.count + 1))
        for name in ("echo", "twin"):
            self.moult.ctl("scale", name, "1")
        wait_for("both to serve the newest", lambda: all(
            self.moult.reload(name).returncode == 0 for name in ("echo", "twin")))
        wait_for("calm", lambda: all(
            m["pid"] and not m["candidate"] and not m["retiring"] and
            not m["replicas"]["others"] for m in self.moult.status()["models"]))
        # An urgent loader may have filled a second copy; after that there is one to find.
        for name in ("echo", "twin"):
            assert self.moult.reload(name).returncode == 0


# Two models of one file cannot leave it in memory for one copy: neither may go first.
@pytest.mark.parametrize("tenths", [23, 33])
def test_storm(start, tmp_path, tenths):
    budget = COPY * tenths // 10 // MIB
    storm = Storm(start, tmp_path, budget, seed=tenths)
    loads = [Load(storm.moult.port, clients=4),
             Load(storm.moult.port, clients=2, model="twin")]
    sampler = SharedSampler(storm.moult.pid)
    storm.blow()
    storm.settle()
    peak = sampler.stop()
    for load in loads:
        load.stop_and_check()
    assert peak <= budget * MIB, peak
    digests = {m["weights_sha256"] for m in storm.moult.status()["models"]}
    assert len(digests) == 1
    wait_for("the one copy", lambda: len(copies(storm.moult.pid)) == 1)
