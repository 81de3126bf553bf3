# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/run itself, against the fake drivers: it measures everything, says what is not as
it must be, and never passes a fake's figures off as a GPU's."""
import os
import re
import subprocess
import sys

import pytest

from harness import BUILD, ROOT

WRITTEN = ROOT / "docs" / "measurements"
ROWS = ("context", "host to device, pinned", "pinning main memory", "memory back after kill -9",
        "node of a chunk's descriptor", "import and map", "charge of shared pages in NVML",
        "weights that only descriptors hold", "write to sealed weights", "filling",
        "weights that only descriptors hold, with no NVML open")
MOULTD = ("first load", "moultd and the driver", "swap, handoff", "swap, overlap",
          "swap, staged", "swap, stop-first", "2 replicas on one copy",
          "memory in use after each of 2 reloads", "kill -9 of the only loader",
          "kill -9 of the loader and of moult-nvml at once",
          "bundled model, cpu, share = memory", "bundled model, cuda:0, share = memory",
          "bundled model, cuda:0, share = off", "model that writes to a buffer",
          "model that writes to its weights", "requests within and beyond working_memory",
          "warm-up without memory",
          "requests over all of it")


def run(*arguments, **environment):
    before = sorted(WRITTEN.iterdir())
    done = subprocess.run([sys.executable, ROOT / "tests" / "gpu" / "run", *arguments],
                          env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=1500)
    assert sorted(WRITTEN.iterdir()) == before
    return done


def test_everything_is_measured(tmp_path):
    has_torch = (BUILD / "moult-engine-torch.so").exists()
    done = run("--fake", "--built", BUILD, "--reloads", "2", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("# A fake GPU\n\nfake: ")
    said = [line.split(" | ")[0][2:] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert set(ROWS + (MOULTD if has_torch else ())) <= set(said), done.stdout
    missed = re.findall(r"\| ([^|]*) \| not measured: ([^|]*)", done.stdout)
    if has_torch:
        # A libtorch that is to see a card has to be asked for one; the fake is none.
        assert all(what == "bundled model, cuda:0, share = off" and "CUDA devices" in why
                   for what, why in missed), missed
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_said(tmp_path):
    faults = tmp_path / "faults"
    faults.write_text("no-import\n")
    done = run("--fake", "--built", BUILD, "--only", "raw", NVIDIA_FAKE_CONTROL=str(faults))
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"\| share \| not measured: .*CUDA_ERROR_NOT_SUPPORTED \| NO \|",
                     done.stdout), done.stdout
    assert "| all of 'moultd' | not measured: not asked for |" in done.stdout


def test_a_killed_run_leaves_its_rows(tmp_path):
    """Line by line, and in a file of its own for each size and part."""
    code = f"""
import importlib.machinery, os, signal, types
run = importlib.machinery.SourceFileLoader("run", {str(ROOT / "tests" / "gpu" / "run")!r})
run = run.load_module()
there = {{"LD_LIBRARY_PATH": "/driver:/other"}}
run.prepend(there, "LD_LIBRARY_PATH", "/carried", "/driver")
assert there["LD_LIBRARY_PATH"] == "/carried:/driver:/other", there
card = types.SimpleNamespace(name="H", driver="5")
names = [run.file_name(types.SimpleNamespace(model_gib=g, only=o), card)
         for g, o in ((30, None), (30, "raw"), (50, "raw"))]
assert len(set(names)) == 3, names
table = run.Table("# head", {str(tmp_path / "out")!r})
table.add("a row", "1", True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True,
                          text=True)
    assert done.returncode == -9, done.stderr
    assert (tmp_path / "out").read_text() == "# head\n| a row | 1 | yes |\n"


def test_without_a_gpu():
    try:
        import ctypes
        ctypes.CDLL("libcuda.so.1")
        pytest.skip("there is a driver here")
    except OSError:
        pass
    done = run()
    assert done.returncode == 77 and done.stdout == ""
    assert re.match("there is no NVIDIA driver here: .*; nothing was measured\n$", done.stderr)


def test_a_fake_is_no_gpu(tmp_path):
    done = run("--built", BUILD, "--out", tmp_path, LD_LIBRARY_PATH=str(BUILD / "fakegpu"))
    assert done.returncode == 77 and not list(tmp_path.iterdir()), done.stdout
    assert done.stderr == "the driver here is that of tests/fakes; nothing was measured\n"
