# SPDX-License-Identifier: Apache-2.0
"""The bundled model must answer over HTTP exactly as it was measured when it was trained."""
import concurrent.futures
import json
import struct

from harness import DIGITS, digits_section

EXPECTED = json.loads((DIGITS / "expected.json").read_text())
BODIES = (DIGITS / "heldout.jsonl").read_text().splitlines()


def scores(moult, body):
    status, _, answer = moult.infer("digits", body)
    assert status == 200, answer
    return json.loads(answer)["outputs"][0]["data"]


def digit(values):
    return values.index(max(values))


def check(answers):
    assert answers == EXPECTED["predictions"]
    right = sum(a == label for a, label in zip(answers, EXPECTED["labels"]))
    assert right / len(answers) == EXPECTED["accuracy"] >= 0.97


def test_one_by_one(start):
    moult = start(digits_section())
    check([digit(scores(moult, body)) for body in BODIES])


def test_batched(start):
    moult = start(digits_section())
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        check([digit(s) for s in pool.map(lambda body: scores(moult, body), BODIES)])


def test_binary_gives_the_same_scores(start):
    moult = start(digits_section())
    for body in BODIES[:20]:
        pixels = json.loads(body)["inputs"][0]["data"]
        header = json.dumps({"inputs": [{
            "name": "image", "shape": [1, 64], "datatype": "FP32",
            "parameters": {"binary_data_size": 256}}],
            "outputs": [{"name": "scores", "parameters": {"binary_data": True}}]}).encode()
        status, headers, answer = moult.infer(
            "digits", header + struct.pack("<64f", *pixels),
            {"Inference-Header-Content-Length": str(len(header))})
        assert status == 200, answer
        length = int(headers["inference-header-content-length"])
        binary = struct.unpack("<10f", answer[length:])
        assert all(abs(a - b) < 1e-5 for a, b in zip(binary, scores(moult, body)))
