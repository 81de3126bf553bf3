# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of a load: its phase, its time, and the bytes of its file."""
import os
import re
import signal
import subprocess

import pytest

from harness import BUILD, Gate, echo_section, wait_for
from hostile import Hostile

LARGE_BYTES = 512 << 20


def load_of(moult, model="echo"):
    return moult.status(model)["load"]


def test_nothing_is_loaded(start, tmp_path):
    gate = Gate(tmp_path)
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * 1000)
    moult = start(echo_section(path=path, engine="fault", watch_window="60s",
                               **{"option.fault": "slow-on-commit", **gate.keys}), ready=False)
    load = wait_for("the commit", lambda: (load := load_of(moult)) and
                    load["phase"] == "commit" and load)
    assert (load["read_bytes"], load["total_bytes"], load["percent"]) == (1000, 1000, 100)
    assert load["elapsed_ms"] > 0 and load["generation"] == 1
    later = wait_for("time", lambda: load_of(moult)["elapsed_ms"] > load["elapsed_ms"])
    assert later
    gate.open()
    moult.wait_ready()
    # Nothing served before: there is nothing to go back to, and no watch window.
    assert load_of(moult) is None
    path.with_suffix(".new").write_bytes(b"y" * 2000)
    os.rename(path.with_suffix(".new"), path)
    trial = wait_for("the watch window", lambda: (load := load_of(moult)) and
                     load["phase"] == "trial" and load)
    assert trial["generation"] == 2 and trial["window_ms"] == 60000 and \
        trial["elapsed_ms"] < 60000 and trial["percent"] is None


def test_a_file_is_read(start, tmp_path):
    path = tmp_path / "model.bin"
    with open(path, "wb") as file:
        file.truncate(LARGE_BYTES)
    moult = start(echo_section(path=path, share="file"), ready=False)
    first = wait_for("a read", lambda: (load := load_of(moult)) and
                     load["phase"] == "read" and load)
    pid = moult.status("echo")["candidate"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert 0 < first["read_bytes"] < LARGE_BYTES == first["total_bytes"]
    assert first["percent"] == first["read_bytes"] * 100 // LARGE_BYTES
    second = load_of(moult)
    assert second["read_bytes"] >= first["read_bytes"] and \
        second["elapsed_ms"] > first["elapsed_ms"]
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"], check=True,
                          capture_output=True, text=True).stdout
    assert re.search(r"^echo: generation 1 has been loading for [\d.]+ (ms|s|min): read, "
                     r"[\d.]+ [KM]iB of 512\.0 MiB, \d+ %$", text, re.M), text
    os.kill(pid, signal.SIGCONT)
    moult.wait_ready()


@pytest.mark.parametrize("words, want", [
    ("ring-passed-on-staging", (1000, 1000, 100)),
    ("ring-passed=999-on-staging", (999, 1000, 99)),
    ("ring-passed=0-on-staging", (None, None, None)),
])
def test_a_loader_that_lies(start, tmp_path, words, want):
    """It can say no more than that all of the file was read."""
    hostile = Hostile(tmp_path)
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * 1000)
    hostile.say("echo", f"{words} stop-on-staging")
    moult = start(echo_section(path=path), supervisor=hostile.supervisor, ready=False)
    load = wait_for("a load", lambda: (load := load_of(moult)) and
                    load["phase"] in ("read", "stage") and
                    (load["read_bytes"] == want[0]) and load)
    assert (load["read_bytes"], load["total_bytes"], load["percent"]) == want
    hostile.hush("echo")
    os.kill(moult.status("echo")["candidate"]["pid"], signal.SIGKILL)
    moult.wait_ready()
