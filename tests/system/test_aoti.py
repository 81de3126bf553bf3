# SPDX-License-Identifier: Apache-2.0
"""Engine aoti with a torch that compiles packages: answers, shapes that a package was not compiled
for, weights that are shared and not, and files that are no packages.

MOULT_AOTI_PYTHON names the interpreter of an environment with torch 2.6 or newer, without which most
tests skip. MOULT_AOTI_MODELS names a folder that keeps the compiled models: compiling takes minutes."""
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

import test_onnx
from harness import ROOT, wait_for
from test_share import copies

PYTHON = os.environ.get("MOULT_AOTI_PYTHON")
KEPT = os.environ.get("MOULT_AOTI_MODELS")
ROWS = [[1, 2, 3, 4], [0.5, 0, -1, 8]]
FLAT = [number for row in ROWS for number in row]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    if not PYTHON:
        pytest.skip("MOULT_AOTI_PYTHON names no interpreter with torch 2.6 or newer")
    folder = pathlib.Path(KEPT) if KEPT else tmp_path_factory.mktemp("models")
    if not (folder / "complete").exists():
        made = subprocess.run([PYTHON, "-B", ROOT / "tests/loader/aoti_models.py", folder],
                              capture_output=True, text=True)
        assert made.returncode == 0, made.stderr[-4000:]
    return folder


def section(path, name="m", inputs=(), outputs=(), **keys):
    return test_onnx.section(path, name, inputs, outputs, **{
        "engine": "aoti", "python": PYTHON, "option.library": None, **keys})


ask = functools.partial(test_onnx.ask, name="INPUT__0")


def linear(rows):
    return [sum(x * (2 * i + j) for i, x in enumerate(row)) + (1, -1)[j]
            for row in rows for j in (0, 1)]


def refusal(start, text):
    moult = start(text, ready=False)
    return wait_for("a refusal", lambda: moult.status("m")["last_error"])


# Answers

@pytest.mark.parametrize("name", ["linear", "inside"])
def test_the_package_tells_its_inputs(start, models, name):
    """With weights beside the code and inside of it; nothing is declared."""
    moult = start(section(models / f"{name}.pt2", max_batch=8))
    assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))
    assert ask(moult, ROWS[0], [1, 4]) == (200, linear(ROWS[:1]))
    metadata = json.loads(moult.get("/v2/models/m")[1])
    assert metadata["inputs"] == [{"name": "INPUT__0", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["outputs"][0]["name"] == "OUTPUT__0"


def test_inputs_and_outputs_go_by_name(start, models):
    """A dict's keys are names. An output that lies in another order is put into order."""
    moult = start(section(models / "named.pt2", "told"),
                  section(models / "named.pt2", "declared",
                          ["scale FP32 [-1]", "ids INT64 [-1,-1]"], ["turned FP32 [-1,8,-1]"]))
    body = json.dumps({"inputs": [
        {"name": "scale", "shape": [2], "datatype": "FP32", "data": [1, 2]},
        {"name": "ids", "shape": [2, 3], "datatype": "INT64", "data": [0, 1, 2, 3, 4, 15]}]})
    rows = [[[(8 * i + j) * (1, 2)[k] for j in range(8)] for i in row]
            for k, row in enumerate(([0, 1, 2], [3, 4, 15]))]
    flat = [number for batch in rows for row in batch for number in row]
    turned = [batch[i][j] for batch in rows for j in range(8) for i in range(3)]
    for model, want in (("told", {"rows": flat, "turned": turned, "ids": [1, 2, 3, 4, 5, 16]}),
                        ("declared", {"turned": turned})):
        status, _, answer = moult.infer(model, body)
        assert status == 200, answer
        assert {o["name"]: o["data"] for o in json.loads(answer)["outputs"]} == want


# What a package was compiled for

@pytest.mark.parametrize("inputs, outputs, says", [
    (["x INT64 [-1,4]"], [], ["FP32 [-1,4]", "INT64 [-1,4]"]),
    (["x FP32 [-1,5]"], [], ["FP32 [-1,4]", "FP32 [-1,5]"]),
    (["x FP32 [-1,-1]"], [], ["FP32 [-1,4]", "FP32 [-1,-1]"]),
    (["x FP32 [-1]"], [], ["FP32 [-1,4]", "FP32 [-1]"]),
    (["x FP32 [-1,4]", "z FP32 [-1,4]"], [], ["input 'z'", "the model has 1"]),
    (["x FP32 [-1,4]"], ["y FP32 [-1,2]", "z FP32 [-1,2]"], ["output 'z'", "the model has 1"]),
])
def test_another_signature_is_refused(start, models, inputs, outputs, says):
    error = refusal(start, section(models / "linear.pt2", inputs=inputs, outputs=outputs))
    assert all(word in error for word in says), error


def test_a_request_that_it_was_not_compiled_for(start, models):
    """Compiled code takes any tensor for what it was compiled for: the engine refuses others."""
    moult = start(section(models / "linear.pt2", inputs=["x FP32 [-1,4]"],
                          outputs=["y FP32 [-1,2]"]))
    for rows, fits in ((1, True), (64, True), (65, False), (2, True)):
        status, answer = ask(moult, FLAT[:4] * rows, [rows, 4], name="x")
        if fits:
            assert (status, answer) == (200, linear(ROWS[:1]) * rows)
        else:
            assert status == 400 and "at most 64" in answer, answer


# Weights

def secret(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("0")
    return tmp_path / "secrets"


@pytest.mark.parametrize("share", ["memory", "file"])
def test_replicas_have_one_copy(start, models, share):
    """Of weights beside the code; of those inside each has its own, and status says why."""
    moult = start(section(models / "linear.pt2", "beside", share=share, replicas=2),
                  section(models / "inside.pt2", "inside", share=share, replicas=2),
                  section(models / "linear.pt2", "off", share="off"))
    for name, why in (("beside", None), ("inside", "package_constants_in_so"), ("off", None)):
        weights = moult.status(name)["weights"]
        assert weights["share"] == (share if name == "beside" else "off"), weights
        assert (why or "") in (weights["why_private"] or ""), weights
        for _ in range(8):
            assert ask(moult, FLAT, [2, 4], model=name) == (200, linear(ROWS))
    assert len(copies(moult.pid)) == (1 if share == "memory" else 0), copies(moult.pid)


@pytest.mark.parametrize("name, strategy", [("linear", "handoff"), ("inside", "overlap")])
def test_secrets_and_files_change(start, models, tmp_path, name, strategy):
    path = tmp_path / "m.pt2"
    shutil.copy(models / f"{name}.pt2", path)
    folder = secret(tmp_path)
    moult = start(section(path, secrets=folder))
    for i in range(2):
        before = len(moult.receipts("m"))
        moult.write_secret(folder, "token", str(i + 1))
        receipt = wait_for("a receipt", lambda: moult.receipts("m")[before:])[0]
        assert (receipt["outcome"], receipt["strategy"]) == ("ok", strategy), receipt
        assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))
    before = len(moult.receipts("m"))
    shutil.copy(models / "encoder.pt2", tmp_path / ".new")
    os.rename(tmp_path / ".new", path)
    receipt = wait_for("a receipt", lambda: moult.receipts("m")[before:])[0]
    assert receipt["outcome"] == "ok", receipt
    pid = moult.status("m")["pid"]
    os.kill(pid, signal.SIGSEGV)
    wait_for("another loader", lambda: moult.status("m")["pid"] not in (0, pid)
             and moult.status("m")["state"] == "ready")


def test_an_encoder_answers_as_in_python(start, models):
    known = json.loads((models / "encoder.json").read_text())
    moult = start(*(section(models / f"{name}.pt2", name) for name in ("encoder", "encoder_inside")))
    for name in ("encoder", "encoder_inside"):
        status, answer = ask(moult, known["ids"], [2, 64], "INT64", name)
        assert status == 200, answer
        worst = max(abs(a - b) for a, b in zip(answer, known["answer"], strict=True))
        assert worst < 1e-5, worst


def private_bytes(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)) << 10


def whole(status, replicas):
    pids = {status["pid"], *(row["pid"] for row in status.get("replicas", {}).get("others", ()))}
    return pids if len(pids) == replicas and 0 not in pids else None


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_private_memory(start, models, replicas):
    """A loader of weights beside the code has less of its own, by what the weights have."""
    known = json.loads((models / "encoder.json").read_text())
    moult = start(*(section(models / f"{name}.pt2", name, replicas=replicas, share="memory")
                    for name in ("encoder", "encoder_inside")))
    weights = (models / "encoder.pt2").stat().st_size
    own = {}
    for name in ("encoder", "encoder_inside"):
        for _ in range(4 * replicas):
            assert ask(moult, known["ids"], [2, 64], "INT64", name)[0] == 200
        pids = wait_for("replicas", lambda: whole(moult.status(name), replicas))
        own[name] = [private_bytes(pid) for pid in pids]
    print({name: [round(n / 2**20, 1) for n in each] for name, each in own.items()}, weights >> 20)
    assert max(own["encoder"]) < min(own["encoder_inside"]) - 0.8 * weights, own
