# SPDX-License-Identifier: Apache-2.0
"""TorchScript over shared weights answers what it answers over its own: models that tie their
weights, view them with strides, write to them, pack them or hold them as constants."""
import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest

from harness import BUILD, DIGITS, ROOT, digits_section, wait_for
from test_share import copies

SHARES = ("off", "memory", "file")
# Name of the model file: the shape of its answer, whether it can share.
MODELS = {
    "tied": ("[-1,1]", True),
    "buffer": ("[-1,2]", True),
    "constant": ("[-1,2]", True),
    "packed": ("[-1,1]", False),
}
WRITERS = ("tied", "buffer")
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32",
                               "data": [1, 2]}]})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    if not (BUILD / "moult-engine-torch.so").exists():
        pytest.skip("the torch engine is not built here")
    folder = tmp_path_factory.mktemp("models")
    writer = subprocess.run([sys.executable, "-B", ROOT / "tests/loader/torch_models.py",
                             folder], capture_output=True, text=True)
    if writer.returncode == 77:
        pytest.skip("Python's torch is not installed")
    assert writer.returncode == 0, writer.stderr
    return folder


def section(name, path, output, secrets, share):
    lines = {"engine": "torch", "path": path, "secrets": secrets, "share": share,
             "input": "x FP32 [-1,2]", "output": f"y FP32 {output}", "max_batch": 1,
             "warmup_runs": 1}  # as many after a fault: what forward writes counts them
    return f"[model {name}]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items())


def answers(moult, model, bodies):
    """In turn, so that what forward writes counts in each."""
    found = []
    for body in bodies:
        status, _, answer = moult.infer(model, body)
        assert status == 200, answer
        found.append(json.loads(answer)["outputs"][0]["data"])
    return found


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def secret(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("0")
    return tmp_path / "secrets"


def replace_by_death(moult, model):
    """By a fault: after that the successor warms up, as every other loader."""
    pid = moult.status(model)["pid"]
    os.kill(pid, signal.SIGSEGV)
    wait_for("another loader", lambda: moult.status(model)["pid"] not in (0, pid)
             and moult.status(model)["state"] == "ready")


def rotate(moult, names, tmp_path, value):
    """The receipt of each of @names."""
    before = {name: len(moult.receipts(name)) for name in names}
    moult.write_secret(tmp_path / "secrets", "token", value)
    return {name: wait_for("a receipt", lambda: moult.receipts(name)[before[name]:])[0]
            for name in names}


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_the_same(start, tmp_path, models, name):
    output, can_share = MODELS[name]
    path = models / f"{name}.pt"
    secrets = secret(tmp_path)
    before = digest(path)
    moult = start(*(section(share, path, output, secrets, share) for share in SHARES))
    seen = {}
    for share in SHARES:
        seen[share] = answers(moult, share, [BODY] * 4)
        weights = moult.status(share)["weights"]
        assert weights["share"] == (share if can_share else "off"), weights
        assert bool(weights["why_private"]) == (share != "off" and not can_share), weights
    assert seen["memory"] == seen["file"] == seen["off"]
    # Those that write see what they wrote, the others cannot tell one call from another.
    assert (seen["off"][0] != seen["off"][1]) == (name in WRITERS), seen["off"]
    for share in SHARES:
        replace_by_death(moult, share)
        assert answers(moult, share, [BODY] * 4) == seen["off"], share
    for share, receipt in rotate(moult, SHARES, tmp_path, "1").items():
        is_shared = can_share and share != "off"
        assert receipt["outcome"] == "ok", receipt
        assert receipt["strategy"] == ("handoff" if is_shared else "overlap"), receipt
        assert answers(moult, share, [BODY] * 4) == seen["off"], share
    assert digest(path) == before
    assert len(copies(moult.pid)) == (1 if can_share else 0)


@pytest.mark.parametrize("share", SHARES)
def test_the_bundled_model(start, tmp_path, share):
    expected = json.loads((DIGITS / "expected.json").read_text())["predictions"][:60]
    bodies = (DIGITS / "heldout.jsonl").read_text().splitlines()[:60]
    moult = start(digits_section(share=share, secrets=secret(tmp_path)))
    first = answers(moult, "digits", bodies)
    assert [scores.index(max(scores)) for scores in first] == expected
    replace_by_death(moult, "digits")
    assert answers(moult, "digits", bodies) == first
    receipt = rotate(moult, ["digits"], tmp_path, "1")["digits"]
    assert receipt["outcome"] == "ok", receipt
    assert receipt["strategy"] == ("overlap" if share == "off" else "handoff"), receipt
    assert answers(moult, "digits", bodies) == first


def test_status_says_in_a_line(start, tmp_path, models):
    secrets = secret(tmp_path)
    moult = start(section("whole", models / "sum.pt", "[-1,1]", secrets, "memory"),
                  section("packed", models / "packed.pt", "[-1,1]", secrets, "memory"),
                  section("plain", models / "sum.pt", "[-1,1]", secrets, "off"))
    text = subprocess.run([BUILD / "moultctl", "-s", moult.home / "moultd.sock", "status"],
                          capture_output=True, text=True).stdout
    lines = text.splitlines()
    shared = moult.status("whole")["weights"]["shared_bytes"]
    assert shared > 0
    assert f"whole: {shared / 1024:.0f} KiB of weights, shared by its loaders" in lines, text
    private = moult.status("packed")["weights"]["why_private"]
    assert f"packed: weights are private to each loader: {private}" in lines, text
    assert not any(line.startswith("plain:") for line in lines), text
