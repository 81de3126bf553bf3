# SPDX-License-Identifier: Apache-2.0
"""The statistics extension: what clients that read every member unchecked are told."""
import json
import os
import signal
import time

from harness import Load, echo_body, echo_section, wait_for

PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


def rows_body(rows, value=1.0):
    return json.dumps({"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP32",
                                   "data": [value] * 4 * rows}]})


def statistics(moult, model="echo", version=""):
    """As perf_analyzer's Triton backend reads them: a member that is missing, or of another
    type, ends it."""
    code, body = moult.get(f"/v2/models/{model}{version}/stats")
    assert code == 200, body
    found = {}
    for entry in json.loads(body)["model_stats"]:
        stats = entry["inference_stats"]
        one = found[entry["name"], entry["version"]] = {
            "inference": entry["inference_count"], "execution": entry["execution_count"],
            "success": stats["success"]["count"], "success_ns": stats["success"]["ns"],
            "cache_hit": stats["cache_hit"]["count"], "cache_hit_ns": stats["cache_hit"]["ns"],
            "cache_miss": stats["cache_miss"]["count"],
            "cache_miss_ns": stats["cache_miss"]["ns"],
            **{part + "_ns": stats[part]["ns"] for part in PARTS}}
        assert all(type(value) is int and value >= 0 for value in one.values()), one
        # What that program does not read, and the document has.
        assert all(stats[part]["count"] == one["success"] for part in PARTS), stats
        one["fail"], one["fail_ns"] = stats["fail"]["count"], stats["fail"]["ns"]
        one["last"] = entry["last_inference"]
        one["batches"] = {}
        for batch in entry["batch_stats"]:
            counts = {batch[part]["count"] for part in PARTS[1:]}
            assert len(counts) == 1
            one["batches"][batch["batch_size"]] = counts.pop()
            assert all(batch[part]["ns"] >= 0 for part in PARTS[1:])
        assert isinstance(entry["response_stats"], dict)
        one["memory"] = {(use["type"], use["id"]): use["byte_size"]
                         for use in entry["memory_usage"]}
    return found


def only(moult, model="echo"):
    found = statistics(moult, model)
    assert list(found) == [(model, "1")], found
    return found[model, "1"]


def test_success_is_success(start):
    moult = start(echo_section(engine="fault", **{"option.magic": 13,
                                                  "option.magic_fault": "fail"}))
    begun_ms = time.time() * 1000
    before = only(moult)
    assert before["last"] == before["success"] == before["fail"] == 0
    codes = [moult.infer("echo", body)[0] for body in (
        echo_body([1, 2, 3, 4]), echo_body([13, 0, 0, 0]), echo_body([13, 0, 0, 0]),
        echo_body([1, 2, 3, 4]), echo_body([1, 2, 3]))]
    assert codes == [200, 500, 500, 200, 400]
    now = only(moult)
    assert (now["success"], now["fail"]) == (2, 3)
    assert (now["inference"], now["execution"]) == (2, 2)
    assert now["batches"] == {1: 2}
    assert begun_ms - 1000 <= now["last"] <= time.time() * 1000 + 1000
    assert 0 < now["success_ns"] and 0 < now["fail_ns"]
    assert now["memory"]["CPU", 0] > 0
    # perf_analyzer subtracts the parts from the whole, without a sign.
    assert sum(now[part + "_ns"] for part in PARTS) <= now["success_ns"]
    assert all(now[part + "_ns"] > 0 for part in PARTS if part != "compute_infer")


def test_rows_are_inferences(start):
    moult = start(echo_section())
    for rows in (1, 16, 7, 1):
        assert moult.infer("echo", rows_body(rows))[0] == 200
    now = only(moult)
    assert (now["success"], now["inference"], now["execution"]) == (4, 25, 4)
    assert now["batches"] == {1: 2, 7: 1, 16: 1}


def test_a_model_without_batches(start):
    """It announces max_batch_size 0: every request is one."""
    moult = start(echo_section(max_batch=1))
    assert moult.infer("echo", rows_body(5))[0] == 200
    now = only(moult)
    assert (now["inference"], now["execution"], now["batches"]) == (1, 1, {1: 1})


def test_shared_batches_are_fewer_executions(start):
    """Under load rows add up over batches to what was answered, and time to what passed."""
    moult = start(echo_section(max_delay="20ms"))
    load = Load(moult.port, clients=8)
    load.wait_more(400)
    load.stop_and_check()
    now = only(moult)
    assert now["success"] == now["inference"] == load.answered
    assert now["execution"] < now["success"]
    assert sum(now["batches"].values()) == now["execution"]
    assert sum(size * count for size, count in now["batches"].items()) == load.answered
    assert sum(now[part + "_ns"] for part in PARTS) <= now["success_ns"]
    # They waited for company, most of them for nearly all of max_delay.
    assert now["queue_ns"] > now["compute_input_ns"]


def test_what_was_never_answered_is_a_failure(start):
    moult = start(echo_section(request_timeout="300ms"))
    os.kill(moult.status("echo")["pid"], signal.SIGSTOP)
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 504
    os.kill(moult.status("echo")["pid"], signal.SIGCONT)
    wait_for("the end of its lease", lambda: only(moult)["fail"] == 1)
    now = only(moult)
    assert now["success"] == 0 and now["fail_ns"] >= 300_000_000


def test_paths(start):
    moult = start(echo_section(), echo_section("other", version="3"))
    assert list(statistics(moult, "other")) == [("other", "3")]
    assert list(statistics(moult, "other", "/versions/3")) == [("other", "3")]
    found = json.loads(moult.get("/v2/models/stats")[1])["model_stats"]
    assert [entry["name"] for entry in found] == ["echo", "other"]
    for path in ("/v2/models/none/stats", "/v2/models/echo/versions/2/stats"):
        code, body = moult.get(path)
        assert code == 404 and json.loads(body)["error"]


def test_counts_outlive_a_reload(start):
    moult = start(echo_section())
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    assert moult.reload("echo").returncode == 0
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    assert only(moult)["success"] == 2
