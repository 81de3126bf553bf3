# SPDX-License-Identifier: Apache-2.0
"""What a request takes of the memory is said with its answer, and one that would take too much
costs nobody anything but itself."""
import json
import re
import struct
import threading
import urllib.request

from harness import echo_section, wait_for
from test_inputs import rewrite
from test_share_torch import models  # noqa: F401 (a fixture)

MIB = 1 << 20
LIMIT = 20 * MIB
JUST_FITS = 2000  # 15.3 MiB
TOO_LONG = 4000   # 61 MiB


def begin(start, models, **keys):  # noqa: F811
    lines = {"engine": "torch", "path": models / "square.pt", "input": "x FP32 [-1,-1]",
             "output": "y FP32 [-1,2]", "max_batch": 8, **keys}
    return start("[model square]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items()))


def ask(moult, length, rows=1):
    """Status, and the parameters and data of the answer, or the error."""
    header = json.dumps({"inputs": [{
        "name": "x", "shape": [rows, length], "datatype": "FP32",
        "parameters": {"binary_data_size": 4 * rows * length}}]}).encode()
    status, _, body = moult.post(
        "/v2/models/square/infer", header + struct.pack("<f", 1.0) * (rows * length),
        {"Inference-Header-Content-Length": str(len(header))}, timeout=60)
    answer = json.loads(body)
    if status != 200:
        return status, answer["error"], None
    return status, answer["parameters"], answer["outputs"][0]["data"]


def metrics(moult):
    with urllib.request.urlopen(f"http://127.0.0.1:{moult.port}/metrics", timeout=60) as page:
        text = page.read().decode()
    return {(name, float(le) if le else None): int(value) for name, le, value in re.findall(
        r'(?m)^moult_request_memory_bytes_(bucket|sum|count)\{model="square"'
        r'(?:,le="([^"]+)")?\} (\d+)$', text)}


def test_answers_say_what_they_took(start, models):  # noqa: F811
    moult = begin(start, models)
    peaks = {}
    for length in (100, 1000, 2000):
        status, parameters, data = ask(moult, length)
        assert status == 200 and data[0] == length * length
        peaks[length] = parameters["memory_peak_bytes"]
    for length in (1000, 2000):
        assert 4 * length ** 2 <= peaks[length] < 4 * length ** 2 + MIB, peaks
    assert peaks[100] < MIB
    found = metrics(moult)
    assert found["count", None] == 3
    assert sum(peaks.values()) <= found["sum", None] < sum(peaks.values()) + 3 * 1024
    assert found["bucket", MIB] == 1 and found["bucket", 4 * MIB] == 2
    assert found["bucket", 16 * MIB] == 3 and found["bucket", float("inf")] == 3


def test_too_large_a_request_gets_413_with_numbers(start, models):  # noqa: F811
    moult = begin(start, models, working_memory="20M")
    pid = moult.status("square")["pid"]
    status, _, data = ask(moult, JUST_FITS)
    assert status == 200
    calls = data[1]
    for i in range(3):
        status, error, _ = ask(moult, TOO_LONG + i)
        assert status == 413, error
        needed, available = map(float, re.findall(r"([\d.]+) MiB", error))
        assert 61 <= needed < 63 and available == 20.0 and "working_memory" in error
    # It was tried once: what is larger still is not.
    status, _, data = ask(moult, JUST_FITS)
    assert status == 200 and data[1] == calls + 2
    assert moult.status("square")["pid"] == pid
    assert metrics(moult)["count", None] == 2


def test_memory_that_is_not_there(start, models):  # noqa: F811
    """No limit is set, and no machine has so much."""
    moult = begin(start, models)
    pid = moult.status("square")["pid"]
    status, error, _ = ask(moult, 4_000_000)
    assert status == 413 and "MiB" in error, error
    assert ask(moult, JUST_FITS)[0] == 200
    assert moult.status("square")["pid"] == pid


def test_what_does_not_fit_together_is_computed_alone(start, models):  # noqa: F811
    moult = begin(start, models, working_memory="20M", max_delay="50ms")
    found = []

    def run():
        for _ in range(10):
            found.append(ask(moult, JUST_FITS))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _, _ in found] == [200] * 40
    assert all(parameters["memory_peak_bytes"] <= LIMIT for _, parameters, _ in found)
    # Small ones still go together, and a batch of them is as good as one.
    small = []
    together = [threading.Thread(target=lambda: small.append(ask(moult, 10)))
                for _ in range(8)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert [status for status, _, _ in small] == [200] * 8
    assert len({data[1] for _, _, data in small}) < 8


def test_a_warm_up_that_does_not_fit_keeps_the_old_generation(start, models, tmp_path):  # noqa: F811
    request = tmp_path / "warmup.json"
    request.write_text(json.dumps({"inputs": [{
        "name": "x", "shape": [1, 2000], "datatype": "FP32", "data": [1.0] * 2000}]}))
    moult = begin(start, models, warmup_request=request)
    generation = moult.status("square")["generation"]
    section = moult.models / "0.conf"
    section.write_text(section.read_text() + "working_memory = 10M\n")
    assert moult.ctl("reload", "square", "--wait").returncode == 1
    receipt = wait_for("a receipt", lambda: moult.receipts()[1:])[0]
    assert receipt["outcome"] == "failed" and "working_memory" in receipt["reason"], receipt
    assert moult.status("square")["generation"] == generation
    assert ask(moult, JUST_FITS)[0] == 200


def test_an_engine_that_cannot_keep_to_a_limit_says_so(start):
    moult = start(echo_section())
    rewrite(moult, echo_section(working_memory="1M"))
    assert moult.ctl("reload", "echo", "--wait").returncode == 1
    receipt = wait_for("a receipt", lambda: moult.receipts()[1:])[0]
    assert receipt["outcome"] == "failed" and "working_memory" in receipt["reason"], receipt
    assert moult.status("echo")["generation"] == 1


def ask_for(moult, *row):
    """Of a model that takes as much memory as its request says: status and error or data."""
    status, _, body = moult.infer("asked", json.dumps({"inputs": [{
        "name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}]}))
    answer = json.loads(body)
    return status, answer["error"] if status != 200 else answer["outputs"][0]["data"]


def begin_asked(start, models):  # noqa: F811
    return start("[model asked]\nengine = torch\ninput = x FP32 [-1,-1]\n"
                 f"output = y FP32 [-1,-1]\nmax_batch = 1\npath = {models}/asked.pt\n"
                 "working_memory = 20M\nwarmup_runs = 0\n")


def test_one_clients_values_are_not_everybodys_size(start, models):  # noqa: F811
    """What fitted a moment ago is not refused because another of its shape did not fit."""
    moult = begin_asked(start, models)
    assert ask_for(moult, 0, 1, 7) == (200, [0, 1, 7])
    for _ in range(3):
        status, error = ask_for(moult, 0, LIMIT, 7)
        assert status == 413 and "80.0 MiB" in error, error
        assert ask_for(moult, 0, 1, 7) == (200, [0, 1, 7])
        assert ask_for(moult, 0, 2, 7, 7) == (200, [0, 2, 7, 7])
    # A shape that was never seen to fit is not tried again at once.
    assert ask_for(moult, 0, LIMIT, 1, 1, 1)[0] == 413
    assert ask_for(moult, 0, 1, 1, 1, 1)[0] == 413


def test_to_the_last_page(start, models):  # noqa: F811
    """What the allocator rounds up to is beyond the limit, and nothing was refused: an error
    after that is what the model raised."""
    moult = begin_asked(start, models)
    for less in range(64, 4096, 64):
        floats = (LIMIT - less) // 4
        status, error = ask_for(moult, 1, floats)
        assert status == 400 and "one is not welcome" in error, (less, error)
    for less in range(64, 4096, 512):
        status, error = ask_for(moult, 2, (LIMIT - less) // 4)
        assert status == 413, (less, error)
