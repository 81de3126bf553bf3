# SPDX-License-Identifier: Apache-2.0
"""Drives the hostile loader (tests/fakes/hostile.h): faults by words, per model."""
import json
import os
import pathlib
import socket
import subprocess

from harness import BUILD, DEADLINE_S, ECHO_FLOATS, patience, wait_for


class Hostile:
    """A path to the hostile loader of its own, and the words that each model's reads."""

    def __init__(self, home):
        self.path = pathlib.Path(home) / "hostile"
        self.path.symlink_to(BUILD / "hostile-loader")
        self.supervisor = f"loader = {self.path}\n"

    def file(self, name):
        return self.path.with_name(f"{self.path.name}.{name}")

    def say(self, model, words):
        fresh = self.file(f"{model}.new")
        fresh.write_text(words)
        os.rename(fresh, self.file(model))

    def hush(self, model):
        self.file(model).unlink(missing_ok=True)

    def fired(self, tag):
        """The pid of the loader in which the fault with @tag fired, or 0."""
        try:
            return int(self.file(tag).read_text())
        except (OSError, ValueError):
            return 0

    def fired_at(self, tag):
        return self.file(tag).stat().st_mtime


def call(moult, command, **arguments):
    """One call of the control socket without a process for it: the lines of the reply."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(moult.socket))  # blocks while its backlog is full
        control.settimeout(patience())
        control.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        lines = [json.loads(line) for line in control.makefile("rb")]
    assert lines[-1]["ok"], lines
    return lines


def status(moult, model):
    return call(moult, "status", model=model)[0]["models"][0]


def is_settled(state):
    return state["state"] == "ready" and not state["candidate"] and not state["retiring"]


def wait_settled(moult, model, seconds=DEADLINE_S):
    def look():
        state = status(moult, model)
        return is_settled(state) and state
    return wait_for(f"{model} settled", look, seconds)


def renew(moult, model):
    """Reloads until another generation serves: on a busy machine a good one may be late."""
    generation = wait_settled(moult, model)["generation"]
    while True:
        receipts = wait_settled(moult, model)["receipts"]
        call(moult, "reload", model=model)

        def look():
            state = status(moult, model)
            return state["receipts"] > receipts and is_settled(state) and state
        state = wait_for("a reload", look)
        if state["generation"] > generation:
            return state


class Stream:
    """flood at a moderate pace: totals at any time."""

    def __init__(self, port, model, clients=4, pause_us=10000, floats=ECHO_FLOATS):
        self.process = subprocess.Popen(
            [BUILD / "flood", str(port), model, str(clients), str(floats), str(pause_us)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.slowest_ms = 0.0

    def ask(self):
        self.process.stdin.write("\n")
        totals = json.loads(self.process.stdout.readline())
        self.slowest_ms = max(self.slowest_ms, totals["slowest_ms"])
        return totals

    def take_slowest_ms(self):
        """Since the last time."""
        slowest_ms, self.slowest_ms = self.slowest_ms, 0.0
        return slowest_ms

    def firsts(self):
        """When (time.monotonic_ns) the first answer of each generation came."""
        self.process.stdin.write("firsts\n")
        answer = json.loads(self.process.stdout.readline())
        return {int(generation): ns for generation, ns in answer["firsts"].items()}

    def wait_more(self, count=20, seconds=DEADLINE_S):
        target = self.ask()["answered"] + count
        wait_for("more answers", lambda: self.ask()["answered"] >= target, seconds)

    def stop(self):
        return json.loads(self.process.communicate(timeout=patience())[0].splitlines()[-1])
