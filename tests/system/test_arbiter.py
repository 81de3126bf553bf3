# SPDX-License-Identifier: Apache-2.0
"""Before the watch window takes a deployment back, what served before is asked the requests that
failed: where it fails on them, too, they are to blame, and the deployment stays."""
import itertools
import json
import os
import signal

from harness import BUILD, ECHO_FLOATS, echo_body, echo_section, wait_for
from test_blame import ask, body, deploy, section
from test_share_torch import models  # noqa: F401, pylint: disable=unused-import

ENGINES = f"engine_dir = {BUILD}\n"
PAIRS = {"input": "x FP32 [-1,2]", "output": "y FP32 [-1,2]"}
BAD = 13
CALLED_OFF = "what served before fails on the same requests"


def faulty(**keys):
    return echo_section(engine="fault", watch_window="60s", **keys)


def floats(first, second=0.0):
    return echo_body([float(first), float(second)] + [0.0] * (ECHO_FLOATS - 2))


def version_of(moult):
    status, _, answer = moult.infer("echo", floats(1))
    assert status == 200, answer
    return json.loads(answer)["model_version"]


def until(moult, model, matches, bodies):
    """Sends @bodies, over and over, until there is such a receipt."""
    for text in itertools.cycle(bodies):
        moult.infer(model, text)
        found = [r for r in moult.receipts(model) if matches(r)]
        if found:
            return found[-1]


def is_rollback(receipt):
    return receipt["cause"] == "rollback"


def test_one_clients_requests_undo_nothing(start):
    moult = start(faulty(**{"option.magic": BAD, "option.magic_fault": "fail"}),
                  supervisor=ENGINES)
    moult.note_fds()
    ask(moult, 60, floats(1), "echo")
    second = deploy(moult, faulty(version=2, **{"option.magic": BAD,
                                                "option.magic_fault": "fail"}), "echo")
    before = moult.status("echo")["requests"]["accepted"]
    ask(moult, 60, floats(BAD), "echo")
    receipt = moult.wait_receipt("echo", is_rollback)
    assert receipt["outcome"] == "unchanged" and CALLED_OFF in receipt["reason"], receipt
    assert "(4 of 4 that were tried)" in receipt["reason"], receipt
    status = moult.status("echo")
    assert status["generation"] == second and status["can_roll_back"], status
    assert status["requests"]["accepted"] == before + 60, "the copies count for nothing"
    assert not status["last_error"] and version_of(moult) == "2"
    moult.wait_quiet()


def test_a_bad_generation_hides_behind_nobody(start, tmp_path):
    """Half of what fails would fail anyway; the other half is what leads back."""
    keys = {"option.magic": BAD, "option.magic_fault": "fail"}
    moult = start(faulty(**keys), supervisor=ENGINES)
    ask(moult, 60, floats(1), "echo")
    deploy(moult, faulty(version=2, **{"option.fault": "fail",
                                       "option.when": tmp_path / "bad"}), "echo")
    (tmp_path / "bad").write_text("")
    receipt = until(moult, "echo", lambda r: is_rollback(r) and r["outcome"] == "ok",
                    [floats(BAD), floats(1)])
    assert receipt["outcome"] == "ok"
    assert version_of(moult) == "1"
    assert "event=rollback_tried" in moult.log_text()


def test_three_bad_bodies_that_end_loaders_undo_nothing(start):
    keys = {"option.magic": BAD, "option.magic_fault": "crash"}
    moult = start(faulty(**keys), supervisor=ENGINES)
    ask(moult, 60, floats(1), "echo")
    deploy(moult, faulty(version=2, **keys), "echo")
    for second in range(3):
        moult.infer("echo", floats(BAD, second))
    receipt = moult.wait_receipt("echo", is_rollback)
    assert receipt["outcome"] == "unchanged" and CALLED_OFF in receipt["reason"], receipt
    wait_for("a loader", lambda: moult.status("echo")["state"] == "ready")
    assert version_of(moult) == "2"


def test_a_generation_that_dies_of_good_bodies_goes(start):
    moult = start(faulty(**{"option.magic": BAD}), supervisor=ENGINES)
    ask(moult, 60, floats(1), "echo")
    deploy(moult, faulty(version=2, **{"option.magic": 7, "option.magic_fault": "crash"}),
           "echo")
    for second in range(3):
        moult.infer("echo", floats(7, second))
    receipt = moult.wait_receipt("echo", is_rollback)
    assert receipt["outcome"] == "ok", receipt
    assert version_of(moult) == "1"


def test_where_there_is_room_for_one(start):
    """The arbiter costs a pause there; what was deployed is built again after it."""
    keys = {"option.magic": BAD, "option.magic_fault": "fail", "strategy": "stop-first"}
    moult = start(faulty(**keys), supervisor=ENGINES)
    ask(moult, 60, floats(1), "echo")
    deploy(moult, faulty(version=2, **keys), "echo")
    ask(moult, 60, floats(BAD), "echo")
    receipt = moult.wait_receipt("echo", is_rollback)
    assert receipt["outcome"] == "unchanged" and CALLED_OFF in receipt["reason"], receipt
    wait_for("a loader", lambda: moult.status("echo")["state"] == "ready")
    assert version_of(moult) == "2"


def test_time_is_up_for_what_served_before_too(start):
    keys = {"option.magic": BAD, "request_timeout": "1s", "stall_timeout": "500ms",
            "poison_memory": 0}
    moult = start(faulty(**{**keys, "option.magic_fault": "hang"}), supervisor=ENGINES)
    ask(moult, 60, floats(1), "echo")
    deploy(moult, faulty(version=2, **{**keys, "option.magic_fault": "fail"}), "echo")
    ask(moult, 60, floats(BAD), "echo")
    receipt = moult.wait_receipt("echo", is_rollback)
    assert receipt["outcome"] == "unchanged" and CALLED_OFF in receipt["reason"], receipt
    assert version_of(moult) == "2"
    moult.wait_quiet()


def test_a_person_is_not_asked_for_reasons(start):
    keys = {"option.magic": BAD, "option.magic_fault": "fail"}
    moult = start(faulty(**keys), supervisor=ENGINES)
    deploy(moult, faulty(version=2, **keys), "echo")
    ask(moult, 40, floats(BAD), "echo")
    assert moult.ctl("rollback", "echo", "--wait").returncode == 0
    assert version_of(moult) == "1"


def test_of_a_torchscript_model(start, models):  # noqa: F811
    """raise RuntimeError: whose fault that is only the other generation can tell."""
    moult = start(section(models / "fails.pt", **PAIRS))
    ask(moult, 60, body("FP32", [10, 20]))
    second = deploy(moult, section(models / "fails.pt", **PAIRS, version=2))
    for status, answer in ask(moult, 60, body("FP32", [2, 0])):
        assert status == 500, answer
    receipt = moult.wait_receipt("m", is_rollback)
    assert receipt["outcome"] == "unchanged" and CALLED_OFF in receipt["reason"], receipt
    assert moult.status("m")["generation"] == second


def test_not_for_ever(start):
    """Each costs a load: after three the window looks no more."""
    keys = {"option.magic": BAD, "option.magic_fault": "fail"}
    moult = start(faulty(**keys), supervisor=ENGINES)
    ask(moult, 60, floats(1), "echo")
    deploy(moult, faulty(version=2, **keys), "echo")
    for number in range(1, 5):
        until(moult, "echo", lambda r: len([x for x in moult.receipts("echo")
                                           if is_rollback(x)]) == number, [floats(BAD)] * 60)
    wait_for("its end", lambda: "no more is looked at" in moult.log_text())
    assert all(r["outcome"] == "unchanged" for r in moult.receipts("echo") if is_rollback(r))


def being_asked(start):
    """What served before hangs over the first case, for ten seconds; the candidate."""
    keys = {"option.magic": BAD, "stop_timeout": "100ms"}
    moult = start(faulty(**{**keys, "option.magic_fault": "hang"}), supervisor=ENGINES)
    ask(moult, 60, floats(1), "echo")
    deploy(moult, faulty(version=2, **{**keys, "option.magic_fault": "fail"}), "echo")
    ask(moult, 60, floats(BAD), "echo")
    return moult, wait_for("a case", lambda: (lambda found: found if found and
                                              found["state"] == "ready" and found["leases"]
                                              else None)(moult.status("echo")["candidate"]))


def test_it_serves_while_that_lasts_and_can_be_stopped(start):
    moult, candidate = being_asked(start)
    assert version_of(moult) == "2"
    assert moult.status("echo")["candidate"]["pid"] == candidate["pid"]
    moult.stop()


def test_the_model_is_removed_meanwhile(start):
    moult, _ = being_asked(start)
    (moult.models / "0.conf").unlink()
    (moult.models / "1.conf").write_text(echo_section("other"))
    wait_for("its end", lambda: "event=model_stopped model=echo" in moult.log_text())


def test_a_person_wants_it_at_once(start):
    """The candidate hangs: another one, which is asked nothing, serves."""
    moult, candidate = being_asked(start)
    assert moult.ctl("rollback", "echo", "--wait").returncode == 0
    assert moult.status("echo")["generation"] > candidate["generation"]
    assert version_of(moult) == "1"
    assert [r["outcome"] for r in moult.receipts("echo") if is_rollback(r)] == ["failed", "ok"]


def test_one_that_hangs_is_not_promoted(start):
    """It computes what it was asked first, which is enough, and hangs over the next."""
    keys = {"option.magic": BAD, "stop_timeout": "100ms", "request_timeout": "2s"}
    moult = start(faulty(**{**keys, "option.magic_fault": "hang"}), supervisor=ENGINES)
    ask(moult, 60, floats(1), "echo")
    deploy(moult, faulty(version=2, **{**keys, "option.fault": "fail", "option.after": 20}),
           "echo")
    # Nothing is sent any more once what served before may have it.
    for text in itertools.cycle([floats(1), floats(1), floats(1), floats(BAD)]):
        if "event=rollback " in moult.log_text():
            break
        moult.infer("echo", text)
    receipt = moult.wait_receipt("echo", lambda r: is_rollback(r) and r["outcome"] == "ok")
    assert receipt["to"]["generation"] == moult.status("echo")["generation"]
    assert version_of(moult) == "1"


def test_somebody_kills_it_meanwhile(start):
    """That says nothing: what serves goes on."""
    moult, candidate = being_asked(start)
    os.kill(candidate["pid"], signal.SIGKILL)
    receipt = moult.wait_receipt("echo", is_rollback)
    assert receipt["outcome"] == "failed" and CALLED_OFF not in receipt["reason"], receipt
    assert version_of(moult) == "2"
