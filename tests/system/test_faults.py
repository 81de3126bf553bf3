# SPDX-License-Identifier: Apache-2.0
"""The fault matrix: every state of the life cycle x every fault, under load.

Each cell is tried MOULT_FAULT_ROUNDS times. What must hold in each: every request is
answered or fails with a reason, no answer is wrong, no connection ends without an answer,
no request waits for ever, the faulty process is gone within the deadline of its state, and
the model serves again. Cells are spread over models of one moultd, each under a load of
its own, so that the deadlines pass side by side.
"""
import collections
import os
import pathlib
import queue
import random
import signal
import threading
import time

from harness import echo_section, slowness, wait_for
from hostile import Hostile, Stream, call, renew, status, wait_settled

ROUNDS = int(os.environ.get("MOULT_FAULT_ROUNDS", "2"))
MODELS = int(os.environ.get("MOULT_FAULT_MODELS", "12"))
# Cells whose "state/fault" has this in it.
ONLY = os.environ.get("MOULT_FAULT_ONLY", "")

# Words of tests/fakes/hostile.h; one after the other in the rounds of a cell.
FAULTS = {
    "SIGKILL": ["kill"],
    "SIGSTOP": ["stop"],
    "SIGSEGV": ["segv"],
    "exit 0": ["exit=0"],
    "ring": ["ring-jump", "ring-scribble", "ring-back=1000", "ring-stale"],
    "channel": ["chan-garbage", "chan-json", "chan-type", "chan-generation", "chan-turn",
                "chan-version", "chan-reserved", "chan-huge", "chan-length", "chan-fds"],
    "half": ["chan-half", "chan-short"],
    "spin": ["spin"],
    "silence": ["silence", "deaf"],
    "ENOMEM": ["refuse=69"],
    "ENOSPC": ["refuse=70"],
}
# Until when a loader that does nothing more must be gone, with room for a busy machine.
FACTOR = slowness()
ROOM_S = 6 * FACTOR
GONE_S = {"spawned": 10, "staging": 1, "staged": 1, "committing": 1, "warming": 1,
          "ready": 1, "active": 1, "draining": 1, "stopping": 3, "terminating": 3}
CANDIDATE = ("spawned", "staging", "staged", "committing", "warming")
TIMEOUTS = {f"{what}_timeout": f"{int(ms * FACTOR)}ms" for what, ms in {
    "stage": 1000, "commit": 1000, "warmup": 1000, "stall": 500, "drain": 5000,
    "stop": 500, "request": 60_000}.items()}
# The longest that a request may take: a hang, its cure and a restart.
SLOWEST_MS = 8000 * FACTOR


def is_wanted(state, fault):
    # Rings come with LOAD.
    return (state != "spawned" or fault != "ring") and ONLY in f"{state}/{fault}"


class Cell:
    def __init__(self, state, fault):
        self.state, self.fault = state, fault
        self.counts = collections.Counter()
        self.slowest_ms = 0.0
        self.reason = ""
        self.cures_ms = []

    def add(self, before, after, cured_ms):
        for key in ("accepted", "answered", "failed", "replayed", "sent", "client_answered",
                    "client_failed", "lost", "wrong"):
            self.counts[key] += after[key] - before[key]
        self.slowest_ms = max(self.slowest_ms, after["slowest_ms"])
        if after["client_failed"] > before["client_failed"]:
            self.reason = after["reason"]
        self.cures_ms.append(cured_ms)
        self.counts["rounds"] += 1

    def row(self):
        c, cures = self.counts, sorted(self.cures_ms)
        return (f"| {self.state:11} | {self.fault:8} | {c['rounds']:6} | {c['accepted']:8} "
                f"| {c['answered']:8} | {c['failed']:6} | {c['replayed']:8} | {c['lost']:4} "
                f"| {c['wrong']:5} | {self.slowest_ms:10.0f} "
                f"| {cures[len(cures) // 2]:8.0f} | {cures[-1]:8.0f} | {self.reason}")


HEAD = ("| state       | fault    | rounds | accepted | answered | failed | replayed | lost "
        "| wrong | slowest ms | cured ms |  at most |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|")


class Bench:
    """One model under load, in which faults are tried one after the other."""

    def __init__(self, moult, hostile, model):
        self.moult, self.hostile, self.model = moult, hostile, model
        self.stream = Stream(moult.port, model)

    def counts(self):
        """Before and after a round. Clients first, so that theirs are never ahead."""
        clients = self.stream.ask()
        requests = status(self.moult, self.model)["requests"]
        return {"sent": clients["sent"], "client_answered": clients["answered"],
                "client_failed": clients["failed"], "lost": clients["lost"],
                "wrong": clients["wrong"], "slowest_ms": self.stream.take_slowest_ms(),
                "reason": clients["reason"], **requests}

    def provoke(self, state, tag):
        """Leads a loader whose words are said already to where it fires."""
        if state == "active" or state == "ready" or state in CANDIDATE:
            call(self.moult, "reload", model=self.model)
            return
        renew(self.moult, self.model)
        self.stream.wait_more(8)  # one of its requests is withheld by now
        self.hostile.hush(self.model)
        call(self.moult, "reload", model=self.model)
        if state == "draining":
            pid = wait_for("draining", lambda: (
                status(self.moult, self.model)["retiring"] or {}).get("pid"))
            os.kill(pid, signal.SIGUSR1)

    def try_once(self, cell, number):
        words = FAULTS[cell.fault]
        tag = f"{cell.state}.{cell.fault.replace(' ', '-')}.{number}"
        skip = f"+{random.randrange(20)}" if cell.state == "active" else ""
        wait_settled(self.moult, self.model)
        before = self.counts()
        self.hostile.say(self.model, f"{words[number % len(words)]}-on-{cell.state}{skip}"
                                     f"#{tag}")
        self.provoke(cell.state, tag)
        pid = wait_for(f"{tag} to fire", lambda: self.hostile.fired(tag))
        wait_for(f"the end of {pid}, {tag}", lambda: not pathlib.Path(f"/proc/{pid}").exists(),
                 GONE_S[cell.state] * FACTOR + ROOM_S)
        wait_settled(self.moult, self.model)
        cured_ms = (time.time() - self.hostile.fired_at(tag)) * 1000
        self.hostile.hush(self.model)
        self.stream.wait_more(8)
        cell.add(before, self.counts(), cured_ms)


def run_bench(bench, work, errors):
    while not errors:
        try:
            cell, number = work.get_nowait()
        except queue.Empty:
            return
        try:
            bench.try_once(cell, number)
        except BaseException as error:  # pylint: disable=broad-except
            errors.append((cell.state, cell.fault, number, bench.model, repr(error)))


def test_matrix(start, tmp_path):
    hostile = Hostile(tmp_path)
    names = [f"m{i}" for i in range(MODELS)]
    moult = start(*(echo_section(name, request_arena="1M", max_body="64K",
                                 response_arena="1M", leases=16, watch_window=0,
                                 **TIMEOUTS) for name in names),
                  # Else two loaders that say nothing would keep all others waiting.
                  supervisor=f"{hostile.supervisor}loads_at_once = {MODELS}\n")
    moult.note_fds()
    cells = [Cell(state, fault) for state in GONE_S for fault in FAULTS
             if is_wanted(state, fault)]
    work = queue.Queue()
    units = [(cell, number) for cell in cells for number in range(ROUNDS)]
    random.shuffle(units)
    # Those that take long begin first.
    for unit in sorted(units, key=lambda unit: -GONE_S[unit[0].state] * (
            unit[0].fault in ("SIGSTOP", "spin", "silence"))):
        work.put(unit)
    errors = []
    benches = [Bench(moult, hostile, name) for name in names]
    threads = [threading.Thread(target=run_bench, args=(bench, work, errors), daemon=True)
               for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = collections.Counter()
    for bench in benches:
        totals.update({key: value for key, value in bench.stream.stop().items()
                       if isinstance(value, int)})
    print()
    print(HEAD)
    for cell in cells:
        if cell.cures_ms:
            print(cell.row())
    print(f"clients: {dict(totals)}")
    assert not errors, errors[:3]
    check(cells, totals)


def check(cells, totals):
    assert totals["sent"] == totals["answered"] + totals["failed"], totals
    assert totals["lost"] == 0 and totals["wrong"] == 0, totals
    for cell in cells:
        assert cell.counts["rounds"] == ROUNDS, cell.row()
        assert cell.counts["lost"] == 0 and cell.counts["wrong"] == 0, cell.row()
        assert cell.slowest_ms < SLOWEST_MS, cell.row()
        if cell.state in CANDIDATE:
            assert cell.counts["failed"] == 0, cell.row()  # it served nobody
