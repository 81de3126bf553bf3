# SPDX-License-Identifier: Apache-2.0
"""moultd -t --load: every model's loader runs up to its warm-up, beside whoever serves."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from harness import (BUILD, DIGITS, Gate, Load, children, digits_section, echo_body,
                     echo_section, is_alive, patience, stretch, wait_for)
from test_gpu import Card

HEAD = ("[supervisor]\nuser = root\n"
        "listen = 127.0.0.1:1\ncontrol = moultd.sock\nstate_dir = state\n"
        f"engine_dir = {BUILD}\n")


def command(config):
    return [BUILD / "moultd", "-t", "--load", "-c", config]


def check(home, *sections, head=HEAD, environment=None):
    config = home / "moult.conf"
    config.write_text(head + "".join(sections))
    return run(config, environment)


def run(config, environment=None):
    return subprocess.run(command(config), capture_output=True, text=True, check=False,
                          timeout=4 * patience(), env={**os.environ, **(environment or {})})


def outcomes(result):
    """By model, what was said of it: one line each."""
    lines = re.findall(r"^model (\S+): (.*)$", result.stdout, re.MULTILINE)
    assert len(dict(lines)) == len(lines), result.stdout
    return dict(lines)


def golden(home, want=(1, 2, 3, 4)):
    directory = home / "golden"
    directory.mkdir()
    (directory / "a.json").write_text(json.dumps({
        "request": json.loads(echo_body([1, 2, 3, 4])),
        "response": {"outputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
                                  "data": list(want)}]}}))
    return directory


def fault(name="bad", **keys):
    return echo_section(name, engine="fault", **keys)


def test_good(tmp_path):
    before = {"golden", "model.bin", "moult.conf"}
    (tmp_path / "model.bin").write_bytes(os.urandom(3 << 20))
    result = check(tmp_path, echo_section(path="model.bin", golden=golden(tmp_path)),
                   echo_section("many", replicas=4, spare="yes"))
    assert result.returncode == 0, result.stderr
    said = outcomes(result)
    echo = re.fullmatch(r"ok, [\d.]+ s, ([\d.]+) MiB, golden requests 1", said["echo"])
    assert echo and 3 < float(echo[1]) < 64, said
    assert re.fullmatch(r"ok, [\d.]+ s, [\d.]+ MiB", said["many"]), said
    assert result.stdout.endswith("good, 2 models, all loaded\n") and not result.stderr
    assert {p.name for p in tmp_path.iterdir()} == before


def test_a_file_cut_short(tmp_path):
    whole = (DIGITS / "digits.pt").read_bytes()
    section = digits_section("cut.pt")
    (tmp_path / "cut.pt").write_bytes(whole[:len(whole) // 2])
    result = check(tmp_path, section, echo_section())
    said = outcomes(result)
    assert result.returncode == 1 and said["echo"].startswith("ok, ")
    assert said["digits"].startswith("failed: ") and "cut.pt" in said["digits"], said


BAD = [({"engine": "fault", "option.fault": "crash-on-warmup"}, "signal 11"),
       ({"engine": "fault", "option.fault": "refuse-on-commit"}, "told to refuse"),
       ({"engine": "fault", "option.fault": "fail-on-stage"}, "failed"),
       ({"engine": "fault", "option.fault": "input-on-warmup"}, "warm"),
       ({"option.foo": "1"}, "no option 'foo'"),
       ({"engine": "fault", "option.mss": "1"}, "no option 'mss': did you mean ms?"),
       ({"engine": "nosuch"}, "there is no engine 'nosuch'"),
       ({"path": "gone.bin"}, "gone.bin")]


@pytest.mark.parametrize("keys, says", BAD)
def test_bad(tmp_path, keys, says):
    result = check(tmp_path, echo_section("bad", **keys), echo_section())
    said = outcomes(result)
    assert result.returncode == 1 and said["echo"].startswith("ok, "), result.stdout
    assert said["bad"].startswith("failed: ") and says in said["bad"], said
    assert "1 models are good, 1 failed, 0 were not tried" in result.stderr
    assert ": good, " not in result.stdout


def test_golden_mismatch(tmp_path):
    result = check(tmp_path, echo_section(golden=golden(tmp_path, (1, 2, 3, 5))))
    said = outcomes(result)["echo"]
    assert result.returncode == 1 and "failed: " in said and "a.json" in said, said


def test_one_that_hangs(tmp_path):
    result = check(tmp_path, fault(**{"option.fault": "hang-on-warmup",
                                      "warmup_timeout": stretch(300)}))
    said = outcomes(result)["bad"]
    assert result.returncode == 1 and said.startswith("failed: ") and "warming" in said, said


def test_what_does_not_fit(tmp_path):
    """Both fit one after the other, the third does not at all."""
    for name, mib in ("a", 30), ("b", 30), ("c", 60):
        with open(tmp_path / name, "wb") as file:
            file.truncate(mib << 20)
    result = check(tmp_path, *(echo_section(name, path=name, share="off") for name in "abc"),
                   head=HEAD + "loads_at_once = 3\n[device host]\nbudget = 50M\n")
    said = outcomes(result)
    assert result.returncode == 1, result.stdout
    assert said["a"].startswith("ok, ") and said["b"].startswith("ok, "), said
    assert said["c"].startswith("not tried: not enough memory: 6"), said


@pytest.mark.parametrize("at_once", [1, 2])
def test_so_many_at_once(tmp_path, at_once):
    result = check(tmp_path, *(echo_section(f"m{i}") for i in range(5)),
                   head=HEAD + f"log_level = debug\nloads_at_once = {at_once}\n")
    assert result.returncode == 0 and len(outcomes(result)) == 5, result.stderr
    there, most = set(), 0
    for model, to in re.findall(r"event=generation_state model=(\S+) .*? to=(\S+)",
                                result.stderr):
        (there.discard if to == "dead" else there.add)(model)
        most = max(most, len(there))
    assert not there and most <= at_once, most


def tree(directory):
    """Names, contents and times of all that is there."""
    found = {}
    for path in sorted(pathlib.Path(directory).rglob("*")):
        stat = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (stat.st_mode, stat.st_ino, stat.st_nlink, stat.st_size,
                            stat.st_mtime_ns, stat.st_ctime_ns, digest)
    return found


def wait_kept(moult, models):
    """What served well is kept, and nobody writes any more."""
    good = moult.home / "state" / "good"
    names = [good / name for name in (*models, ".config")]
    wait_for("what is kept", lambda: all(
        name.is_dir() and any(name.iterdir()) for name in names))
    wait_for("loaders alone", lambda: len(children(moult.pid)) == len(models))
    moult.wait_quiet()


def test_beside_one_that_serves(start, tmp_path):
    """It answers everything, and neither its memory nor its files are touched."""
    (tmp_path / "model.bin").write_bytes(os.urandom(60 << 20))
    keys = {"watch_window": 0, "share": "off"}
    moult = start(echo_section(path=tmp_path / "model.bin", **keys),
                  fault("late", **keys), supervisor=f"engine_dir = {BUILD}\n")
    wait_kept(moult, ("echo", "late"))
    pids = {model: moult.status(model)["pid"] for model in ("echo", "late")}
    before = tree(moult.home / "state")

    load = Load(moult.port)
    load.wait_more()
    for _ in range(3):
        result = run(moult.config)
        assert result.returncode == 0, (result.stdout, result.stderr)
        assert set(outcomes(result)) == {"echo", "late"}
    # A new model is tried as it would be added: the one that serves does not have it.
    fresh = tmp_path / "fresh.conf"
    fresh.write_text(moult.config.read_text() + fault("new", **{"option.fault": "refuse"}))
    result = run(fresh)
    assert result.returncode == 1 and outcomes(result)["new"].startswith("failed: ")
    assert outcomes(result)["echo"].startswith("ok, ")
    load.wait_more()
    load.stop_and_check()
    assert pids == {model: moult.status(model)["pid"] for model in pids}
    assert len(load.generations) == 1
    assert tree(moult.home / "state") == before
    assert moult.socket.exists()

    # What it holds of the budget is its own: 60 of 100 MiB.
    tight = tmp_path / "tight.conf"
    tight.write_text(moult.config.read_text() + "[device host]\nbudget = 100M\nreserve = 0\n")
    said = outcomes(run(tight))
    assert said["echo"].startswith("not tried beside the moultd that runs: "), said
    assert said["late"].startswith("ok, "), said
    moult.stop()
    said = outcomes(run(tight))
    assert all(outcome.startswith("ok, ") for outcome in said.values()), said


def commands_with(word):
    """Of live processes."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_bytes() and is_alive(path.parent.name):
                found.append(path.parent.name)
        except OSError:
            pass
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted(tmp_path, number):
    """Nothing is left: no loader, nothing that a loader started, no file."""
    gate = Gate(tmp_path)
    config = tmp_path / "moult.conf"
    config.write_text(
        HEAD + "loads_at_once = 3\n" +
        fault("leaves", **{"option.fault": "leave-on-stage", "option.leave": "daemon",
                           "option.ms": 600_000, "option.until": gate.path}) +
        fault("slow", **{"option.fault": "slow-on-warmup"}, **gate.keys) +
        "".join(echo_section(f"m{i}") for i in range(5)))
    with subprocess.Popen(command(config), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        mark = f"--parent={process.pid}".encode()
        # The others are over, so that only what is held back is there.
        lines = [process.stdout.readline() for _ in range(5)]
        assert all(line.startswith("model m") for line in lines), lines
        wait_for("the loaders", lambda: len(commands_with(mark)) == 3)
        started = children(process.pid)
        process.send_signal(number)
        out, error = process.communicate(timeout=patience())
    assert process.returncode == 1 and not out, out
    assert "interrupted: 5 models are good, 0 failed, 2 were not tried" in error
    assert started and not any(is_alive(pid) for pid in started)
    assert not commands_with(mark)
    assert [p.name for p in tmp_path.iterdir()] == ["moult.conf"]


def test_what_a_loader_left_is_gone(tmp_path):
    config = tmp_path / "moult.conf"
    config.write_text(HEAD + fault("leaves", **{"option.fault": "leave-on-stage",
                                                "option.leave": "bare"}))
    with subprocess.Popen(command(config), stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=patience())
    assert process.returncode == 0 and "model leaves: ok, " in out, out
    assert not commands_with(str(process.pid).encode())


def test_only_with_t(tmp_path):
    result = subprocess.run([BUILD / "moultd", "--load", "-c", tmp_path / "moult.conf"],
                            capture_output=True, text=True, check=False, timeout=patience())
    assert result.returncode == 2 and "-t --load" in result.stderr


def test_on_a_gpu(start, tmp_path):
    """What another one's loaders hold of the card's budget is theirs."""
    card = Card(tmp_path, 1000)
    with open(tmp_path / "model.bin", "wb") as file:
        file.truncate(20 << 20)
    section = echo_section(engine="fakegpu", device="cuda:0", watch_window=0, share="off",
                           path=tmp_path / "model.bin", **{"option.mib": 64})
    moult = start(section, supervisor=f"engine_dir = {BUILD}\n", environment=card.environment)
    tight = tmp_path / "tight.conf"
    budget = moult.config.read_text() + "[device cuda:0]\nreserve = 0\nbudget = "
    tight.write_text(budget + "200M\n")
    result = run(tight, card.environment)
    assert result.returncode == 0, (result.stdout, result.stderr)
    assert re.fullmatch(r"ok, [\d.]+ s, [\d.]+ MiB, 64.0 MiB of cuda:0",
                        outcomes(result)["echo"]), result.stdout
    tight.write_text(budget + "70M\n")
    result = run(tight, card.environment)
    assert result.returncode == 1
    assert "not tried beside the moultd that runs" in outcomes(result)["echo"], result.stdout
    assert "[device cuda:0]" in outcomes(result)["echo"], result.stdout
    moult.stop()
    result = run(tight, card.environment)
    assert outcomes(result)["echo"].startswith("ok, "), result.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_as_the_user_who_serves(tmp_path):
    """A secret that only root may read is none for the loaders."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="moult-load-", dir="/tmp"))
    try:
        home.chmod(0o755)
        (home / "secrets").mkdir(mode=0o755)
        (home / "secrets" / "token").write_text("x")
        section = echo_section(secrets=home / "secrets", required_secrets="token")
        for mode, code in (0o600, 1), (0o644, 0):
            (home / "secrets" / "token").chmod(mode)
            result = check(home, section, head=HEAD.replace("user = root", "user = nobody"))
            assert result.returncode == code, (result.stdout, result.stderr)
            assert outcomes(result)["echo"].startswith("failed: " if code else "ok, ")
        assert {p.name for p in home.iterdir()} == {"secrets", "moult.conf"}
    finally:
        shutil.rmtree(home)
