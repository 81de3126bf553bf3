# SPDX-License-Identifier: Apache-2.0
"""What others are told of models that do not serve, and of a server that is about to stop."""
import json
import os
import re
import signal
import subprocess

import pytest

from harness import BUILD, ECHO_FLOATS, echo_body, echo_section, wait_for

ENGINES = f"engine_dir = {BUILD}\n"
BODY = echo_body([1.0] * ECHO_FLOATS)


def broken(**keys):
    return echo_section("broken", engine="fault", **{"option.fault": "refuse-on-stage", **keys})


def ready(moult, path="/v2/health/ready"):
    status, text = moult.get(path)
    return status, json.loads(text)


def index(moult):
    status, _, text = moult.post("/v2/repository/index", "{}")
    assert status == 200
    return {model["name"]: model for model in json.loads(text)}


def begin(start, supervisor, *sections):
    moult = start(*sections, supervisor=ENGINES + supervisor, ready=False)
    moult.wait_control()
    wait_for("echo", lambda: moult.status("echo")["state"] == "ready")
    return moult


def wait_broken(moult):
    wait_for("a refusal", lambda: [r for r in moult.receipts("broken")
                                   if r["outcome"] == "failed"])
    wait_for("its end", lambda: not moult.status("broken")["candidate"])


def test_one_that_never_served(start):
    """It keeps the whole from being ready when all models count, and says why."""
    moult = begin(start, "", echo_section(), broken())
    wait_broken(moult)
    status, answer = ready(moult)
    assert status == 503 and answer["ready"] is False, answer
    assert answer["error"] == ("model 'broken' is not ready: UNAVAILABLE: the last attempt "
                               "failed (receipt 1 says why)"), answer
    assert [model["name"] for model in answer["models"]] == ["broken"], answer
    status, answer = ready(moult, "/v2/models/broken/ready")
    assert status == 503 and answer["state"] == "UNAVAILABLE", answer
    assert "receipt 1" in answer["reason"] and "receipt 1" in answer["error"], answer
    found = index(moult)
    assert found["echo"]["state"] == "READY" and found["echo"]["reason"] == "", found
    assert found["broken"]["state"] == "UNAVAILABLE", found
    assert "receipt 1" in found["broken"]["reason"], found
    assert ready(moult, "/v2/models/echo/ready")[0] == 200


def test_what_makes_the_whole_ready(start):
    moult = begin(start, "ready = any\n", echo_section(), broken())
    wait_broken(moult)
    assert ready(moult)[0] == 200
    main = moult.home / "moult.conf"
    text = main.read_text()
    for value, want in (("echo", 200), ("broken", 503), ("echo, broken", 503), ("all", 503),
                        ("any", 200)):
        main.write_text(text.replace("ready = any", f"ready = {value}"))
        wait_for(value, lambda: json.loads(moult.ctl("show-config").stdout)["config"]
                 ["supervisor"]["ready"] == value)
        assert ready(moult)[0] == want, value


def test_a_name_that_is_none_is_refused(tmp_path):
    file = tmp_path / "moult.conf"
    file.write_text(f"[supervisor]\nuser = root\nready = echo, eco\nstate_dir = {tmp_path}\n"
                    + echo_section())
    done = subprocess.run([BUILD / "moultd", "-t", "-c", file], capture_output=True, text=True)
    assert done.returncode != 0 and "'eco'" in done.stderr, done.stderr


def test_how_far_it_is(start):
    slow = {"engine": "fault", "option.fault": "slow-on-stage", "option.ms": 2000}
    moult = begin(start, "ready = echo\n", echo_section(), echo_section("slow", **slow))
    wait_for("staging", lambda: index(moult)["slow"]["reason"] == "staging")
    assert index(moult)["slow"]["state"] == "LOADING"
    wait_for("it", lambda: moult.status("slow")["state"] == "ready")
    os.kill(moult.status("slow")["pid"], signal.SIGSEGV)
    text = wait_for("a share", lambda: re.fullmatch(
        r"staging, at (\d+) % of the usual time; before that: .*",
        index(moult)["slow"]["reason"]))
    assert 0 <= int(text[1]) <= 99
    status, answer = ready(moult, "/v2/models/slow/ready")
    assert status == 503 and answer["state"] == "LOADING", answer


def test_it_serves_on_before_it_stops(start):
    """The second signal ends the waiting, and what follows is what was without."""
    moult = start(echo_section(), supervisor="drain_delay = 60s\n")
    moult.process.send_signal(signal.SIGTERM)
    status, answer = wait_for("the news", lambda: (lambda found: found if found[0] == 503
                                                   else None)(ready(moult)))
    assert answer["error"] == "moultd is about to stop" and answer["live"], answer
    assert moult.get("/v2/health/live")[0] == 200
    for _ in range(20):     # each on a connection of its own
        status, headers, text = moult.infer("echo", BODY)
        assert status == 200 and headers["connection"] == "close", text
    assert moult.status("echo")["state"] == "ready"
    assert moult.process.poll() is None
    moult.process.send_signal(signal.SIGINT)
    assert moult.process.wait(30) == 0
    assert "event=draining" in moult.log_text()
    assert "model=echo accepted=20 answered=20 failed=0" in moult.log_text()


def test_it_stops_by_itself(start):
    moult = start(echo_section(), supervisor="drain_delay = 300ms\n")
    moult.process.send_signal(signal.SIGTERM)
    assert moult.process.wait(30) == 0
    log = moult.log_text()
    assert log.index("event=stopping") < log.index("event=draining")


def failing(**keys):
    return echo_section(engine="fault", warmup_runs=0, watch_window=0,
                        **{"option.fault": "fail", **keys})


def test_details_are_for_the_log(start):
    moult = start(failing(), supervisor=ENGINES)
    status, _, text = moult.infer("echo", BODY)
    error = json.loads(text)["error"]
    found = re.fullmatch(r"model 'echo' failed on the request \(reference (\S+)\)", error)
    assert status == 500 and found, error
    log = moult.log_text()
    assert f'ref={found[1]} status=500 left_out=0 reason="the fault engine failed"' in log
    # What fails for everybody does not fill the log.
    for _ in range(50):
        assert moult.infer("echo", BODY)[0] == 500
    assert moult.log_text().count("event=request_failed") <= 20
    # Whoever wants it has it, at once and for the same loader.
    before = moult.status("echo")["generation"]
    (moult.models / "0.conf").write_text(failing(error_detail="full"))
    wait_for("all of it", lambda: json.loads(moult.infer("echo", BODY)[2])["error"]
             == "the fault engine failed")
    assert moult.status("echo")["generation"] == before


@pytest.mark.parametrize("detail", ["brief", "full"])
def test_no_path_for_anybody(start, tmp_path, detail):
    """Of a model that does not serve."""
    moult = begin(start, "ready = echo\n", echo_section(),
                  echo_section("broken", path=tmp_path / "secret-place" / "model.pt",
                               error_detail=detail))
    wait_broken(moult)
    status, _, text = moult.infer("broken", BODY)
    assert status == 503, text
    found = [text.decode(), moult.get("/v2/models/broken/ready")[1].decode(),
             json.dumps(index(moult))]
    assert all(("secret-place" in one) == (detail == "full") for one in found), found
    assert "secret-place" in moult.log_text()
