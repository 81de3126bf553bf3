# SPDX-License-Identifier: Apache-2.0
"""Golden requests: a candidate that answers one wrongly gets no traffic; record-golden."""
import gzip
import json
import os
import shutil
import stat
import struct
import subprocess
import zipfile

import pytest

from harness import (BUILD, DIGITS, Load, digits_section, echo_body, echo_section,
                     patience, wait_for)

HELD_OUT = (DIGITS / "heldout.jsonl").read_text().splitlines()


def wrong_weights(path):
    """The digits model with its largest tensor turned round: it loads, and is wrong."""
    with zipfile.ZipFile(DIGITS / "digits.pt") as good, zipfile.ZipFile(path, "w") as bad:
        tensors = [i for i in good.infolist() if "/constants/" in i.filename]
        largest = max(tensors, key=lambda i: i.file_size)
        for info in good.infolist():
            data = good.read(info)
            if info is largest:
                floats = struct.unpack(f"<{len(data) // 4}f", data)
                data = struct.pack(f"<{len(floats)}f", *(-x for x in floats))
            bad.writestr(info, data)


def write_golden(directory, name="a", want=(1, 2, 3, 4), **keys):
    directory.mkdir(exist_ok=True)
    golden = {"request": json.loads(echo_body([1, 2, 3, 4])),
              "response": {"outputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
                                        "data": list(want)}]}, **keys}
    (directory / f"{name}.json").write_text(json.dumps(golden))


def record(moult, model, *arguments):
    return subprocess.Popen(
        [BUILD / "moultctl", "-s", moult.socket, "record-golden", model, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_recording(moult, model, times=1):
    wait_for("recording", lambda: moult.log_text().count(
        f"event=recording model={model}") == times)


def finish(recording, code=0):
    out, error = recording.communicate(timeout=patience())
    assert recording.returncode == code, (out, error)
    return out if code == 0 else error


def test_wrong_weights_get_no_traffic(start, tmp_path):
    """Record, reload, break the weights: the whole way of an operator."""
    model, golden = tmp_path / "model.pt", tmp_path / "golden"
    golden.mkdir()
    shutil.copy(DIGITS / "digits.pt", model)
    moult = start(digits_section(model, golden=golden))
    moult.note_fds()
    recording = record(moult, "digits", "--count", "5")
    wait_recording(moult, "digits")
    for body in HELD_OUT[:5]:
        assert moult.infer("digits", body)[0] == 200
    assert f"5 golden requests written into {golden}" in finish(recording)
    files = sorted(golden.iterdir())
    assert len(files) == 5
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in files)
    assert json.loads(files[0].read_text())["recorded"]["model"] == "digits"

    result = moult.reload("digits")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0])["receipt"]["golden"] == 5
    serving = moult.status("digits")

    bad = tmp_path / "bad.pt"
    wrong_weights(bad)
    os.rename(bad, model)
    receipt = moult.wait_receipt("digits", lambda r: r["outcome"] == "failed")
    assert "golden request 'recorded-" in receipt["reason"], receipt
    assert "output 'scores': element [0,0] is " in receipt["reason"], receipt
    assert " within 1e-05 + 0.0001 of that; " in receipt["reason"], receipt
    result = moult.reload("digits")
    assert result.returncode == 1 and "missed: output 'scores'" in result.stderr
    now = moult.status("digits")
    assert (now["generation"], now["pid"]) == (serving["generation"], serving["pid"])
    assert moult.infer("digits", HELD_OUT[0])[0] == 200

    fresh = tmp_path / "fresh.pt"
    shutil.copy(DIGITS / "digits.pt", fresh)
    failed = moult.receipts("digits")[-1]["number"]
    os.rename(fresh, model)
    receipt = moult.wait_receipt("digits", lambda r: r["number"] > failed)
    assert receipt["outcome"] != "failed", receipt
    assert not moult.status("digits")["last_error"]


def test_tolerance_and_the_sentence(start, tmp_path):
    golden = tmp_path / "golden"
    write_golden(golden, want=(1, 2, 3.5, 4), tolerance={"x": {"abs": 0.5, "rel": 0}})
    moult = start(echo_section(golden=golden))
    load = Load(moult.port, clients=2)
    write_golden(golden, want=(1, 2, 3.5, 4), tolerance={"abs": 0.25, "rel": 0})
    result = moult.reload("echo")
    assert result.returncode == 1
    assert ("golden request 'a.json' missed: output 'x': element [0,2] is 3, expected is "
            "3.5 within 0.25 + 0 of that; 1 of 4 elements differ") in result.stderr
    write_golden(golden, want=(1, 2))
    result = moult.reload("echo")
    assert result.returncode == 1
    assert "golden request 'a.json': " in result.stderr
    assert f"correct it or take it out of '{golden}'" in result.stderr
    write_golden(golden)
    assert moult.reload("echo").returncode == 0
    load.wait_more(50)
    load.stop_and_check()


def test_latency_bound(start, tmp_path):
    golden = tmp_path / "golden"
    write_golden(golden, max_latency_ms=20_000)
    section = {"golden": golden, "option.fault": "slow", "option.ms": "60"}
    moult = start(echo_section(engine="fault", **section),
                  supervisor=f"engine_dir = {BUILD}\n")
    serving = moult.status("echo")
    write_golden(golden, max_latency_ms=20)
    result = moult.reload("echo")
    assert result.returncode == 1
    assert "golden request 'a.json' missed: its answer took 6" in result.stderr
    assert "max_latency_ms is 20" in result.stderr
    assert moult.status("echo")["pid"] == serving["pid"]


def test_what_served_is_not_asked_again(start, tmp_path):
    """A loader that dies is replaced although the golden files are for the next model."""
    golden = tmp_path / "golden"
    write_golden(golden)
    moult = start(echo_section(golden=golden))
    first = moult.status("echo")
    write_golden(golden, want=(9, 9, 9, 9))
    assert moult.reload("echo").returncode == 1
    os.kill(first["pid"], 9)
    wait_for("a new loader", lambda: moult.status("echo")["pid"] not in (0, first["pid"]))
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200


def test_first_start_is_gated_too(start, tmp_path):
    golden = tmp_path / "golden"
    write_golden(golden, want=(9, 9, 9, 9))
    moult = start(echo_section(golden=golden), ready=False)
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert "golden request 'a.json' missed" in receipt["reason"]
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 503
    write_golden(golden)
    assert moult.reload("echo").returncode == 0
    moult.wait_ready()


def binary(values):
    header = json.dumps({"inputs": [{
        "name": "x", "shape": [1, 4], "datatype": "FP32",
        "parameters": {"binary_data_size": 16}}],
        "parameters": {"binary_data_output": True}}).encode()
    return header + struct.pack("<4f", *values), {
        "Inference-Header-Content-Length": str(len(header))}


def test_every_kind_of_body_is_recorded(start, tmp_path):
    golden = tmp_path / "golden"
    golden.mkdir()
    moult = start(echo_section(golden=golden))
    recording = record(moult, "echo", "--count", "5")
    wait_recording(moult, "echo")
    nan = float("nan")
    plain = echo_body([1, 2, 3, 4])
    assert moult.infer("echo", plain)[0] == 200
    assert moult.infer("echo", "{}")[0] == 400          # not golden
    assert moult.infer("echo", plain)[0] == 200         # one file for both
    assert moult.infer("echo", *binary([1, nan, 3, 4]))[0] == 200
    compressed = gzip.compress(echo_body([5, 6, 7, 8]).encode())
    assert moult.infer("echo", compressed, {"Content-Encoding": "gzip"})[0] == 200
    assert moult.infer("echo", echo_body([0.1, 1e-7, 3e8, -0.0]))[0] == 200
    out = finish(recording)
    assert "4 golden requests" in out and "; 1 were there already" in out, out
    assert "passed over were 0 that are too large and 1 that failed" in out
    assert len(list(golden.iterdir())) == 4
    result = moult.reload("echo")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0])["receipt"]["golden"] == 4


def test_recording_under_load(start, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moult = start(echo_section())
    moult.note_fds()
    load = Load(moult.port, clients=4)
    out = finish(record(moult, "echo", "--count", "200", "--directory", elsewhere))
    assert "200 golden requests" in out, out
    load.wait_more(50)
    load.stop_and_check()
    (moult.models / "0.conf").write_text(echo_section(golden=elsewhere))
    receipt = moult.wait_receipt("echo", lambda r: r["number"] == 2)
    assert receipt["outcome"] == "ok" and receipt["golden"] == 200, receipt


@pytest.mark.parametrize("arguments, expected", [
    ([], "model 'echo' has no key golden: set it, or name a directory with --directory"),
    (["--directory", "/nonexistent"], "cannot open '/nonexistent'"),
    (["--directory", ".", "--count", "257"], "needs a model, n of 1 to 256"),
])
def test_recording_that_cannot_be(start, arguments, expected):
    moult = start(echo_section())
    assert expected in finish(record(moult, "echo", *arguments), 1)


def test_recording_ends(start, tmp_path):
    """By time, with its client, and with its model; and there is one at a time."""
    moult = start(echo_section(), echo_section("other"))
    moult.note_fds()
    error = finish(record(moult, "echo", "--directory", tmp_path, "--timeout", "1"), 1)
    assert "0 of 10 requests were recorded: no more came within 1 s" in error

    gone = record(moult, "echo", "--directory", tmp_path)
    wait_recording(moult, "echo", 2)
    error = finish(record(moult, "echo", "--directory", tmp_path), 1)
    assert "are being recorded already" in error
    gone.kill()
    gone.communicate()
    (tmp_path / "golden").mkdir()
    again = None

    def starts():
        nonlocal again
        again = record(moult, "echo", "--directory", tmp_path / "golden", "--count", "2")
        wait_for("a verdict", lambda: again.poll() is not None or
                 moult.log_text().count("event=recording model=echo") == 3)
        return again.poll() is None
    wait_for("the end of the first", starts)
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    (moult.models / "0.conf").unlink()
    assert "1 of 2 requests were recorded: the model is " in finish(again, 1)
    assert len(list((tmp_path / "golden").iterdir())) == 1


def test_large_requests_are_passed_over(start, tmp_path):
    golden = tmp_path / "golden"
    golden.mkdir()
    wide = {"input": "x FP32 [-1,300000]", "output": "x FP32 [-1,300000]"}
    moult = start(echo_section(**wide))
    recording = record(moult, "echo", "--directory", golden, "--timeout", "3")
    wait_recording(moult, "echo")
    header = json.dumps({"inputs": [{
        "name": "x", "shape": [1, 300000], "datatype": "FP32",
        "parameters": {"binary_data_size": 1200000}}],
        "parameters": {"binary_data_output": True}}).encode()
    assert moult.infer("echo", header + bytes(1200000), {
        "Inference-Header-Content-Length": str(len(header))})[0] == 200
    assert "passed over were 1 that are too large and 0" in finish(recording, 1)
    assert not list(golden.iterdir())
