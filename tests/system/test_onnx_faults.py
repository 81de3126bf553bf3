# SPDX-License-Identifier: Apache-2.0
"""Engine onnx in every kind of reload, with faults in the loader that serves and in the one that
comes, under load: nothing is lost, nothing is wrong, weights that are shared stay one copy."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from harness import Load, ROOT, children, stretch, wait_for
from hostile import wait_settled
from test_onnx import PYTHON, models, section  # noqa: F401
from test_share import SharedSampler, copies
from test_strategy import MIB, device

SIZE_MIB = 16
# Rotations of a secret; 300 is the long run.
ROTATIONS = int(os.environ.get("MOULT_ONNX_ROTATIONS", "10"))
ROTATED_MIB = int(os.environ.get("MOULT_ONNX_MIB", "200"))
ECHO = {"inputs": (), "outputs": (), "name": "echo", "threads": 1, "watch_window": 0}
DEATHS = (("candidate", signal.SIGKILL), ("serving", signal.SIGKILL),
          ("serving", signal.SIGSEGV), ("candidate", signal.SIGSEGV))
HANGS = (("serving", signal.SIGSTOP), ("candidate", signal.SIGSTOP))
# What each row adds to the section; whether a secret or a file brings the reload; the strategies.
ROWS = {
    "handoff": ({}, "secret", ("handoff",), (*DEATHS, *HANGS)),
    "overlap": ({"strategy": "overlap"}, "file", ("overlap",), DEATHS),
    "staged": ({"strategy": "staged"}, "file", ("staged",), (*DEATHS, *HANGS)),
    "stop-first": ({"strategy": "stop-first"}, "file", ("stop-first",), DEATHS),
    "private": ({"share": "off"}, "secret", ("overlap",), DEATHS),
    "packed": ({"option.prepack": "yes"}, "secret", ("overlap",), DEATHS),
    "replicas": ({"replicas": 3}, "secret", ("handoff",), DEATHS),
    "spare": ({"spare": "yes"}, "secret", ("handoff",), DEATHS),
}


def make(folder, mib, what="all"):
    writer = ROOT / "tests/loader/onnx_models.py"
    subprocess.run([PYTHON, "-B", writer, folder, str(mib), what], check=True)
    return folder


@pytest.fixture(scope="module")
def echoes(models, tmp_path_factory):  # noqa: F811
    return make(tmp_path_factory.mktemp("echoes"), SIZE_MIB)


class Bench:
    """One model under load."""

    def __init__(self, start, tmp_path, file, supervisor="", **keys):
        self.path = tmp_path / f"m{file.suffix}"
        self.secrets = tmp_path / "secrets"
        self.secrets.mkdir()
        self.number = 0
        (self.secrets / "token").write_text("0")
        os.link(file, self.path)
        self.moult = start(section(self.path, secrets=self.secrets, **{**ECHO, **keys}),
                           supervisor=supervisor)
        self.load = Load(self.moult.port)

    def loaders(self):
        """Processes, but for those that write what served well."""
        def is_loader(pid):
            try:
                return pathlib.Path(f"/proc/{pid}/exe").readlink().name == "moult-loader"
            except OSError:
                return False
        return {pid for pid in children(self.moult.pid) if is_loader(pid)}

    def give(self, file):
        fresh = self.path.parent / ".new"
        shutil.copy(file, fresh)
        os.rename(fresh, self.path)

    def bring(self, what):
        """What asks for a reload."""
        self.number += 1
        if what == "secret":
            self.moult.write_secret(self.secrets, "token", str(self.number))
            return
        # The same tensors, and another content: a field that means nothing, and is of protobuf's.
        data = self.path.read_bytes()
        fresh = self.path.parent / ".new"
        note = f"{self.number:05d}".encode()
        fresh.write_bytes(data + b"\x32\x05" + note if self.path.suffix == ".onnx"
                          else data + bytes(8))
        os.rename(fresh, self.path)

    def reload(self, what, who=None, number=None):
        """Until a reload has brought what was asked for, although @who got a signal meanwhile."""
        before, known = len(self.moult.receipts("echo")), self.loaders()
        serving = self.moult.status("echo")["pid"]
        generation = self.moult.status("echo")["generation"]
        self.bring(what)
        if who == "serving":
            # Where it goes first, it may have gone already.
            with contextlib.suppress(ProcessLookupError):
                os.kill(serving, number)
        if who == "candidate":
            pid = wait_for("a candidate", lambda: min(self.loaders() - known, default=0))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        receipt = wait_for("a reload", lambda: next((
            r for r in self.moult.receipts("echo")[before:] if r["outcome"] == "ok"), None))
        wait_for("a new generation", lambda: wait_settled(self.moult, "echo")["generation"]
                 > generation)
        self.load.wait_more(20)
        return receipt


@pytest.mark.parametrize("suffix", ["onnx", "ort"])
@pytest.mark.parametrize("row", ROWS)
def test_faults(start, tmp_path, echoes, row, suffix):
    keys, what, strategies, faults = ROWS[row]
    bench = Bench(start, tmp_path, echoes / f"echo.{suffix}",
                  stage_timeout=stretch(3000), stall_timeout=stretch(500), retry_delay="200ms",
                  **keys)
    for who, number in ((None, None), *faults):
        receipt = bench.reload(what, who, number)
        print(row, suffix, who, number, receipt["cause"], receipt["strategy"])
        if who is None:
            assert receipt["strategy"] in strategies, receipt
        assert set(receipt["phases_ms"]) >= {"pause"} and receipt["to"]["generation"], receipt
        is_own = row in ("private", "packed")

        def is_told():
            """A loader that died may be built again just now."""
            weights = bench.moult.status("echo")["weights"]
            return weights["share"] == ("off" if is_own else "memory") and \
                bool(weights["why_private"]) == (row == "packed")
        wait_for("what status says of the weights", is_told)
        wait_for("one copy", lambda: len(copies(bench.moult.pid)) == (0 if is_own else 1))
    bench.load.stop_and_check()


@pytest.mark.parametrize("suffix", ["onnx", "ort"])
def test_golden(start, tmp_path, echoes, suffix):
    """Weights that answer otherwise get no traffic; the right ones do."""
    golden = tmp_path / "golden"
    golden.mkdir()
    (golden / "a.json").write_text(json.dumps({
        "request": {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
                                "data": [1, 2, 3, 4]}]},
        "response": {"outputs": [{"name": "y", "shape": [1, 4], "datatype": "FP32",
                                  "data": [1, 2, 3, 4]}]}}))
    bench = Bench(start, tmp_path, echoes / f"echo.{suffix}", golden=golden)
    generation = bench.moult.status("echo")["generation"]
    bench.give(echoes / f"wrong.{suffix}")
    receipt = wait_for("a receipt", lambda: bench.moult.receipts("echo")[1:])[0]
    assert receipt["outcome"] == "failed" and "golden" in receipt["reason"], receipt
    assert bench.moult.status("echo")["generation"] == generation
    bench.give(echoes / f"echo.{suffix}")
    assert bench.reload("secret")["outcome"] == "ok"
    bench.load.stop_and_check()


@pytest.mark.parametrize("suffix", ["onnx", "ort"])
def test_rollback(start, tmp_path, echoes, suffix):
    """By hand: to the weights before, of which there is still one copy, or again one."""
    bench = Bench(start, tmp_path, echoes / f"wrong.{suffix}", watch_window="1h")
    bench.load.stop()

    def answer():
        status, _, body = bench.moult.infer("echo", json.dumps({"inputs": [
            {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}))
        assert status == 200, body
        return json.loads(body)["outputs"][0]["data"]

    assert answer() == [2, 3, 4, 5]
    bench.give(echoes / f"echo.{suffix}")
    bench.moult.wait_receipt("echo", lambda r: r["cause"] != "start" and r["outcome"] == "ok")
    assert answer() == [1, 2, 3, 4]
    assert bench.moult.ctl("rollback", "echo", "--wait").returncode == 0
    assert answer() == [2, 3, 4, 5]
    bench.moult.wait_receipt("echo", lambda r: r["cause"] == "rollback" and r["outcome"] == "ok")


@pytest.mark.parametrize("suffix", ["onnx", "ort"])
def test_rotations_in_room_for_one_copy(start, models, tmp_path, suffix):  # noqa: F811
    """Secrets rotate under load, in a budget of 1.3 copies: what loaders hold for themselves and
    what moultd holds for them is never two copies."""
    file = make(tmp_path, ROTATED_MIB, "echo") / f"echo.{suffix}"
    copy = file.stat().st_size
    bench = Bench(start, tmp_path, file, device(copy * 13 // 10 // MIB))
    sampler = SharedSampler(bench.moult.pid)
    for _ in range(ROTATIONS):
        receipt = bench.reload("secret")
        assert receipt["strategy"] == "handoff", receipt
        assert receipt["phases_ms"]["pause"] == 0, receipt
    peak = sampler.stop()
    bench.load.stop_and_check()
    print(f"{ROTATIONS} rotations of {copy / MIB:.0f} MiB: peak {peak / copy:.2f} copies, "
          f"{bench.load.answered} answers")
    assert copy <= peak < copy * 1.3, peak / copy
    assert [abs(size - copy) < MIB for size in copies(bench.moult.pid).values()] == [True]
