# SPDX-License-Identifier: Apache-2.0
"""Whose fault an error is: what the request is to blame for is 400 and undoes no deployment,
what the model is to blame for is never the client's 400, and does."""
import json

import pytest

from harness import BUILD, ECHO_FLOATS, echo_body, echo_section, wait_for
from test_share_torch import models  # noqa: F401, pylint: disable=unused-import

WORDS = {"input": "x INT64 [-1,-1]", "output": "y FP32 [-1,4]"}
PAIRS = {"input": "x FP32 [-1,2]", "output": "y FP32 [-1,2]"}
ENGINES = f"engine_dir = {BUILD}\n"


def section(path, **keys):
    lines = {"engine": "torch", "path": path, "watch_window": "60s", **keys}
    return "[model m]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items())


def body(dtype, data):
    return json.dumps({"inputs": [{"name": "x", "shape": [1, len(data)], "datatype": dtype,
                                   "data": data}]})


def deploy(moult, text, model="m"):
    known = len(moult.receipts(model))
    (moult.models / "0.conf").write_text(text)
    receipt = moult.wait_receipt(model, lambda r: r["number"] > known)
    assert receipt["outcome"] == "ok", receipt
    return receipt["to"]["generation"]


def ask(moult, n, text, model="m"):
    """The answers to @text, @n times: pairs of a status and a body."""
    found = []
    for _ in range(n):
        status, _, answer = moult.infer(model, text)
        found.append((status, answer))
    return found



def test_bad_requests_undo_nothing(start, models):  # noqa: F811
    moult = start(section(models / "lookup.pt", **WORDS, watch_window="4s"))
    ask(moult, 60, body("INT64", [1, 2]))
    second = deploy(moult, section(models / "lookup.pt", **WORDS, version=2,
                                   watch_window="4s"))
    for status, answer in ask(moult, 70, body("INT64", [1, 5000])):
        assert status == 400 and b"index out of range" in answer, answer
    wait_for("the verdict", lambda: "event=watch_window" in moult.log_text())
    assert 'verdict="good"' in moult.log_text()
    status = moult.status("m")
    assert status["generation"] == second and status["can_roll_back"], status
    assert ask(moult, 1, body("INT64", [1, 2]))[0][0] == 200


def test_numbers_that_are_none_lead_back(start, models):  # noqa: F811
    """Written as NaN and Infinity; the generation that makes them does not stay."""
    moult = start(section(models / "fails.pt", **PAIRS))
    ask(moult, 60, body("FP32", [10, 20]))
    bad = deploy(moult, section(models / "scaled.pt", **PAIRS))
    for status, answer in ask(moult, 50, body("FP32", [10, 20])):
        if json.loads(answer)["parameters"]["generation"] == bad:
            assert status == 200 and b"[NaN,NaN]" in answer, answer
    receipt = moult.wait_receipt("m", lambda r: r["cause"] == "rollback")
    assert receipt["outcome"] == "ok", receipt
    status, _, answer = moult.infer("m", body("FP32", [10, 20]))
    assert status == 200 and json.loads(answer)["outputs"][0]["data"] == [10, 20]
    # They were answered with 200: whoever watches sees them all the same.
    faults = moult.status("m")["requests"]["faults"]
    assert faults >= 40 and f'moult_requests_faults_total{{model="m"}} {faults}' in \
        moult.get("/metrics")[1].decode()


@pytest.mark.parametrize("fault", ["bad-shape", "bad-type", "bad-bytes", "fail"])
def test_answers_that_were_not_declared_lead_back(start, fault):
    moult = start(echo_section(engine="fault"), supervisor=ENGINES)
    ask(moult, 60, echo_body([1.0] * ECHO_FLOATS), "echo")
    deploy(moult, echo_section(engine="fault", **{"option.fault": fault, "option.after": 5}),
           "echo")
    statuses = {status for status, _ in ask(moult, 70, echo_body([1.0] * ECHO_FLOATS), "echo")}
    assert statuses <= {200, 500}, statuses
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "rollback")
    assert receipt["outcome"] == "ok", receipt


def test_a_refusal_of_the_engine_leads_nowhere(start):
    """Whatever engine it is: a request that it refuses counts for nothing."""
    moult = start(echo_section(engine="fault", watch_window="3s"), supervisor=ENGINES)
    ask(moult, 60, echo_body([1.0] * ECHO_FLOATS), "echo")
    deploy(moult, echo_section(engine="fault", watch_window="3s",
                               **{"option.fault": "input", "option.after": 5}), "echo")
    assert {status for status, _ in ask(moult, 70, echo_body([1.0] * ECHO_FLOATS), "echo")} <= {200, 400}
    wait_for("the verdict", lambda: "event=watch_window" in moult.log_text())
    assert not any(r["cause"] == "rollback" for r in moult.receipts("echo"))


def test_a_text_that_is_none_is_not_the_clients(start):
    moult = start(echo_section(input="x BYTES [-1]", output="x BYTES [-1]",
                               error_detail="full"))
    head = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES",
                                   "parameters": {"binary_data_size": 5}}]}).encode()
    status, _, answer = moult.infer("echo", head + b"\1\0\0\0\xff", headers={
        "Inference-Header-Content-Length": str(len(head))})
    assert status == 500 and b"no UTF-8" in answer, (status, answer)
