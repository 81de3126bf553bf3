# SPDX-License-Identifier: Apache-2.0
"""SIGTERM in every phase of a model's life, with requests under way: each is answered or
fails with a reason, the counts say so, and nothing is left behind."""
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import (BUILD, children, echo_body, echo_section, is_alive, patience,
                     stretch, wait_for)

BODY = echo_body([1, 2, 3, 4])
REQUESTS = 3


class Client:
    """One request under way. @status 0: the connection ended without an answer."""

    def __init__(self, moult):
        self.moult, self.status, self.error = moult, None, ""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            status, _, body = self.moult.post("/v2/models/echo/infer", BODY, timeout=patience())
            self.error = json.loads(body).get("error", "")
            self.status = status
        except (OSError, http.client.HTTPException):
            self.status = 0

    def join(self):
        self.thread.join(60)
        assert self.status is not None, "a client that waits for ever"
        return self


def state_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


class Stage:
    """A model whose loaders stop themselves at @where (stage, commit, warmup) once told
    to, so that every phase lasts for as long as it is looked at."""

    def __init__(self, start, tmp_path, where="stage", is_halted=False, stall="60s",
                 shutdown="600s"):
        self.halt = tmp_path / "halt"
        self.stopped, self.clients = [], []
        if is_halted:
            self.halt.touch()
        self.moult = start(
            echo_section(engine="fault", stop_timeout="500ms", stall_timeout=stall,
                         watch_window="600s",
                         **{"option.fault": f"stop-on-{where}", "option.when": self.halt,
                            "option.ms": 0}),
            supervisor=f"engine_dir = {BUILD}\nshutdown_timeout = {shutdown}\n",
            ready=not is_halted)

    def send(self):
        known = self.status()["requests"]["accepted"]
        self.clients += [Client(self.moult) for _ in range(REQUESTS)]
        wait_for("the requests",
                 lambda: self.status()["requests"]["accepted"] == known + REQUESTS)

    def status(self):
        return self.moult.status("echo")

    def stop_loader(self, pid):
        assert pid > 0
        os.kill(pid, signal.SIGSTOP)
        self.stopped.append(pid)

    def wait_halted(self):
        """The loader that is being built has stopped itself."""
        def pid():
            candidate = self.status()["candidate"]
            return candidate and state_of(candidate["pid"]) == "T" and candidate["pid"]
        self.stopped.append(wait_for("a stopped candidate", pid))

    def reload(self):
        assert self.moult.ctl("reload", "echo").returncode == 0

    def lease(self):
        """Requests that the serving loader has and does not answer."""
        self.stop_loader(self.status()["pid"])
        self.send()
        assert self.status()["requests"]["leased"] == REQUESTS


# Each leads to where SIGTERM is to come.

def nothing_loaded(start, tmp_path, **keys):
    stage = Stage(start, tmp_path, is_halted=True, **keys)
    stage.wait_halted()
    stage.send()
    assert stage.status()["requests"]["held"] == REQUESTS
    return stage


def candidate_stages(start, tmp_path, where="stage", **keys):
    stage = Stage(start, tmp_path, where, **keys)
    stage.halt.touch()
    stage.reload()
    stage.wait_halted()
    stage.lease()
    assert stage.status()["candidate"]["state"] == {"stage": "staging", "commit": "committing",
                                                    "warmup": "warming"}[where]
    return stage


def candidate_commits(start, tmp_path, **keys):
    return candidate_stages(start, tmp_path, "commit", **keys)


def candidate_warms(start, tmp_path, **keys):
    return candidate_stages(start, tmp_path, "warmup", **keys)


def old_drains(start, tmp_path, **keys):
    stage = Stage(start, tmp_path, **keys)
    generation = stage.status()["generation"]
    stage.lease()
    stage.reload()
    wait_for("another one", lambda: stage.status()["generation"] > generation)
    assert stage.status()["retiring"]["state"] == "draining"
    assert Client(stage.moult).join().status == 200
    return stage


def loader_is_restarted(start, tmp_path, **keys):
    stage = Stage(start, tmp_path, "commit", **keys)
    assert Client(stage.moult).join().status == 200
    stage.halt.touch()
    os.kill(stage.status()["pid"], signal.SIGKILL)
    stage.wait_halted()
    stage.send()
    assert stage.status()["requests"]["held"] == REQUESTS
    return stage


def loader_is_stopped(start, tmp_path, **keys):
    stage = Stage(start, tmp_path, **keys)
    stage.lease()
    return stage


def window_is_open(start, tmp_path, **keys):
    stage = Stage(start, tmp_path, **keys)
    section = stage.moult.models / "0.conf"
    receipts = stage.status()["receipts"]
    section.write_text(section.read_text().replace("option.ms = 0", "option.ms = 1"))
    receipt = stage.moult.wait_receipt("echo", lambda r: r["number"] > receipts)
    assert receipt["outcome"] == "ok" and stage.status()["can_roll_back"], receipt
    stage.lease()
    return stage


PHASES = [nothing_loaded, candidate_stages, candidate_commits, candidate_warms, old_drains,
          loader_is_restarted, loader_is_stopped, window_is_open]


def terminate(stage):
    """SIGTERM has come and is heeded. All loaders that there are."""
    loaders = children(stage.moult.pid)
    assert loaders
    stage.moult.process.send_signal(signal.SIGTERM)
    wait_for("the drain", lambda: "event=stopping" in stage.moult.log_text())
    return loaders


def check_end(stage, loaders):
    """Returns the clients' statuses, and the counts of the last line about the model."""
    moult = stage.moult
    try:
        assert moult.process.wait(patience()) == 0, moult.log_text()[-3000:]
    except subprocess.TimeoutExpired:
        pytest.fail(f"it did not end: {moult.log_text()[-3000:]}")
    wait_for("the end of the loaders", lambda: not any(map(is_alive, loaders)))
    clients = [client.join() for client in stage.clients]
    assert all(client.error for client in clients if client.status not in (0, 200))
    lines = re.findall(r"event=model_stopped model=echo (.*)", moult.log_text())
    assert len(lines) == 1, lines
    counts = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", lines[0])}
    reasons = ("left", "deadline", "poison", "crash", "down")
    assert counts["accepted"] == counts["answered"] + counts["failed"], counts
    assert counts["failed"] == sum(counts[reason] for reason in reasons), counts
    left = {path.name for path in moult.home.iterdir()}
    assert left <= {"moult.conf", "models.d", "moultd.log", "state", "halt"}, left
    # A writer of what served may outlive moultd, and ends by itself.
    wait_for("nothing half written", lambda: not [
        path for path in (moult.home / "state").rglob("*")
        if path.is_file() and path.name != ".key" and
        (path.name.startswith(".") or path.name == "new")])
    for report in ("AddressSanitizer", "runtime error", "LeakSanitizer", "http_panic",
                   "Assertion"):
        assert report not in moult.log_text(), moult.log_text()[-5000:]
    return [client.status for client in clients], counts


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
def test_all_are_answered(start, tmp_path, phase):
    """Loaders go on, or are replaced: everybody has an answer when moultd ends."""
    is_cured = phase is loader_is_stopped
    stage = phase(start, tmp_path, **({"stall": stretch(500)} if is_cured else {}))
    loaders = terminate(stage)
    for pid in [] if is_cured else stage.stopped:
        os.kill(pid, signal.SIGCONT)
    statuses, counts = check_end(stage, loaders)
    assert statuses == [200] * REQUESTS
    assert counts["failed"] == 0 and counts["answered"] == counts["accepted"]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
def test_the_time_is_over(start, tmp_path, phase):
    """Nobody goes on: after shutdown_timeout those that wait are told, and it ends."""
    stage = phase(start, tmp_path, shutdown="700ms")
    begun = time.monotonic()
    loaders = terminate(stage)
    statuses, counts = check_end(stage, loaders)
    assert time.monotonic() - begun > 0.6
    assert statuses == [503] * REQUESTS
    assert all("shutdown_timeout" in client.error for client in stage.clients)
    assert counts["failed"] == REQUESTS == counts["deadline"] + counts["down"]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
def test_a_second_signal_is_immediate(start, tmp_path, phase):
    stage = phase(start, tmp_path)
    loaders = terminate(stage)
    stage.moult.process.send_signal(signal.SIGTERM)
    statuses, counts = check_end(stage, loaders)
    assert statuses == [0] * REQUESTS
    assert counts["failed"] == REQUESTS


def test_before_anything_has_begun(start, tmp_path):
    """Sent the moment the process can take it, ten times: it ends well or never began."""
    for i in range(10):
        home = tmp_path / str(i)
        home.mkdir()
        (home / "moult.conf").write_text(
            "[supervisor]\nuser = root\n"
            "listen = 127.0.0.1:0\ncontrol = moultd.sock\nstate_dir = state\n\n"
            + echo_section())
        with open(home / "log", "wb") as log:
            process = subprocess.Popen([BUILD / "moultd", "-c", home / "moult.conf"],
                                       stderr=log)
        if i % 2:
            wait_for("the endpoint", lambda: b"event=listening" in
                     (home / "log").read_bytes())
        process.send_signal(signal.SIGTERM)
        assert process.wait(patience()) in (0, -signal.SIGTERM)
        assert not (home / "moultd.sock").exists() or process.returncode != 0
