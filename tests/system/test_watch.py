# SPDX-License-Identifier: Apache-2.0
"""moultctl that looks again and again: on a terminal, into a pipe, and while moultd is away."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest

from harness import BUILD, Gate, Load, echo_section, patience, wait_for


class Watch:
    """A moultctl that goes on, and what it has said so far."""

    def __init__(self, moult, *arguments, size=None):
        self.command = [BUILD / "moultctl", "-s", moult.socket, *arguments]
        self.text = ""
        self.errors = moult.home / "watch.errors"
        if size:
            self.fd, out = pty.openpty()
            fcntl.ioctl(out, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        else:
            self.fd, out = os.pipe()
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=errors,
                                            stdin=subprocess.DEVNULL)
        os.close(out)

    def sees(self, pattern):
        """What was shown until @pattern was; that is forgotten."""
        end = time.monotonic() + patience()
        while not (match := re.search(pattern, self.text, re.S | re.M)):
            left_s = end - time.monotonic()
            assert left_s > 0, f"no {pattern!r} in {self.text[-3000:]!r}"
            if select.select([self.fd], [], [], left_s)[0]:
                piece = os.read(self.fd, 65536)
                assert piece, (self.text[-3000:], self.errors.read_text())
                self.text += piece.decode().replace("\r", "")
        shown, self.text = self.text[:match.end()], self.text[match.end():]
        return shown

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        code = self.process.wait(patience())
        os.close(self.fd)
        return code


def test_trouble_and_loads_come_first(start, tmp_path):
    gate = Gate(tmp_path)
    moult = start(echo_section("well"), echo_section("bad", path=tmp_path / "not-there"),
                  echo_section("slow", engine="fault",
                               **{"option.fault": "slow-on-stage", **gate.keys}), ready=False)
    wait_for("well and bad", lambda: moult.status("well")["state"] == "ready" and
             moult.status("bad")["last_error"])
    watch = Watch(moult, "status", "--watch")
    frame = watch.sees(r"\n\n.*?\n\n")
    assert re.search(r"^moultd \S+, pid \d+, up for .*: 1 of 3 models are well$", frame, re.M)
    at = [re.search(pattern, frame, re.M) for pattern in (
        r"^bad: last error: .*not-there", r"^slow: generation \d+ has been loading for .*: stage$",
        r"^MODEL +STATE", r"^bad +failed", r"^slow +(starting|loading)", r"^well +ready")]
    assert all(at) and sorted(match.start() for match in at) == [m.start() for m in at], frame
    gate.open()
    frame = watch.sees(r": 2 of 3 models are well$.*?\n\n.*?\n\n")
    assert "has been loading" not in frame[frame.rindex(": 2 of 3"):]
    assert watch.end() == 0 and watch.errors.read_text() == ""


def test_a_moultd_that_restarts(start):
    moult = start(echo_section())
    watch = Watch(moult, "status", "echo", "--watch=1")
    assert f"pid {moult.pid}" in watch.sees(r"^echo +ready.*?\n\n")
    moult.stop()
    wait_for("the line", lambda: watch.errors.read_text())
    # Further looks find somebody who hangs up, and say nothing.
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(moult.socket))
        other.listen()
        other.settimeout(patience())
        for _ in range(2):
            other.accept()[0].close()
    moult.socket.unlink()
    moult.launch().wait_ready()
    assert f"pid {moult.pid}" in watch.sees(rf"pid {moult.pid}.*?^echo +ready.*?\n\n")
    assert watch.end(signal.SIGTERM) == 0
    lines = watch.errors.read_text().splitlines()
    assert len(lines) == 1 and re.fullmatch(
        rf"moultctl: no moultd answers at {moult.socket}: .*: waiting", lines[0]), lines


def test_a_terminal(start):
    names = [f"a-model-with-a-long-name-{i:02}" for i in range(12)]
    moult = start(*(echo_section(name) for name in names))
    watch = Watch(moult, "status", "--watch", size=(8, 40))
    watch.sees(r"\033\[J\033\[H")
    frame = watch.sees(r"\033\[J")
    lines = frame.removesuffix("\033[J").split("\033[K\n")
    # The cursor has a row of its own.
    assert len(lines) == 8 and lines[-1] == "" and max(map(len, lines)) == 40, lines
    assert lines[2].startswith("MODEL") and lines[3].startswith(names[0])
    watch.sees(r"\033\[H[^\033].*?\033\[J")
    assert watch.end() == 0


def test_json(start):
    moult = start(echo_section())
    watch = Watch(moult, "--json", "status", "--watch", "echo")
    looks = [json.loads(line) for line in watch.sees(r"\n.*?\n").splitlines()]
    assert [look["models"][0]["name"] for look in looks] == ["echo", "echo"]
    assert looks[0]["supervisor"]["uptime_s"] < looks[1]["supervisor"]["uptime_s"]
    assert watch.end() == 0


def test_it_ends_while_moultd_does_not_answer(start):
    moult = start(echo_section())
    watch = Watch(moult, "status", "--watch")
    watch.sees(r"^echo +ready")
    os.kill(moult.pid, signal.SIGSTOP)
    try:
        assert watch.end(signal.SIGHUP) == 0
    finally:
        os.kill(moult.pid, signal.SIGCONT)


@pytest.mark.parametrize("arguments, code, what", [
    (["status", "--watch=0"], 2, "--watch takes 1 to 3600 seconds, not: 0"),
    (["status", "--watch=x"], 2, "--watch takes 1 to 3600 seconds, not: x"),
    (["reload", "--watch"], 2, "--watch is for status and top"),
    (["status", "--once"], 2, "--once is for top"),
    (["status", "nobody", "--watch"], 1, "there is no model 'nobody'"),
])
def test_what_is_refused(start, arguments, code, what):
    moult = start(echo_section())
    done = moult.ctl(*arguments)
    assert done.returncode == code and what in done.stderr, done.stderr


def test_nobody_there(tmp_path):
    done = subprocess.run([BUILD / "moultctl", "-s", tmp_path / "none", "status", "--watch"],
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3 and "is moultd running?" in done.stderr


def top_rows(text):
    head, *rows = text[text.index("\nMODEL"):].strip().splitlines()
    return {row.split()[0]: dict(zip(head.split(), row.split())) for row in rows}


def test_top(start):
    """The busiest model first, with the rates of the time between two looks."""
    moult = start(echo_section("idle"), echo_section())
    load = Load(moult.port)
    load.wait_more(200)
    done = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "top", "--once"],
                          capture_output=True, text=True, timeout=2 * patience(), check=True)
    load.stop_and_check()
    rows = top_rows(done.stdout)
    assert list(rows) == ["echo", "idle"], done.stdout
    echo, idle = rows["echo"], rows["idle"]
    assert echo["STATE"] == "ready" and echo["GEN"].isdigit() and echo["REQ/S"] != "0.0"
    assert re.fullmatch(r"[\d.]+(us|ms|s)", echo["P50"]) and echo["ERR/S"] == "0.0"
    assert (idle["REQ/S"], idle["QUEUE"], idle["P50"], idle["P99"]) == ("0.0", "0", "-", "-")
    assert re.fullmatch(r"[\d.]+[KM]", idle["PRIV"]) and max(map(len, done.stdout.splitlines())) <= 80
    assert re.match(r"\d\d:\d\d:\d\d [\d.]+k? requests/s, \d+ in queue, 0.0 errors/s; moultd ",
                    done.stdout)


def test_top_goes_on(start):
    moult = start(echo_section(), supervisor="[device host]\nbudget = 1G\n")
    watch = Watch(moult, "top", "--watch=1", size=(24, 80))
    assert "- requests/s" in watch.sees(r"\033\[H[^\033].*?\033\[J")
    frame = watch.sees(r"\033\[H[^\033].*?\033\[J")
    assert re.search(r" 0\.0 requests/s, 0 in queue", frame)
    assert re.search(r"^main memory \[#*\.+\] .* of 1\.0 GiB \(budget\)", frame, re.M), frame
    assert max(len(line) for line in re.sub(r"\033\[.", "", frame).splitlines()) <= 80
    assert watch.end() == 0


def test_memory_is_told(start, tmp_path):
    """Of the process alone, and of weights that loaders share."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * (3 << 20))
    moult = start(echo_section(path=path, replicas=2), supervisor="[device host]\nbudget = 1G\n")
    memory = wait_for("both loaders", lambda: moult.status("echo")["replicas"]["serving"] == 2
                      and moult.status("echo")["memory"])
    assert memory["shared_bytes"] >= 3 << 20 and memory["private_bytes"] > 0
    assert memory["gpu"] is None and memory["gpu_private_bytes"] == 0
    status = moult.status()
    room = status["supervisor"]["memory"]
    assert room["budget_bytes"] == 1 << 30 and room["loaders_bytes"] > memory["private_bytes"]
    counts = status["models"][0]["latency_counts"]
    assert len(counts) == len(status["supervisor"]["latency_bounds_ms"]) + 1
    assert sum(counts) == status["models"][0]["requests"]["answered"]
