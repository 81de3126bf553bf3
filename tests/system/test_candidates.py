# SPDX-License-Identifier: Apache-2.0
"""A candidate may fail at every step and in every way: the old generation serves on."""
import json
import re
import socket

import pytest

from harness import BUILD, Load, echo_section, patience, stretch, wait_for

QUICK = {f"{what}_timeout": stretch(1000) for what in ("stage", "commit", "warmup", "stop")}
FAULTS = [f"{action}-on-{phase}" for phase in ("stage", "commit", "warmup")
          for action in ("crash", "hang", "exit", "stop")] + [
    "refuse-on-stage", "refuse-model-on-stage", "refuse-on-commit", "bad-shape-on-warmup",
    "bad-type-on-warmup", "bad-bytes-on-warmup", "garbage-on-stage", "fail-on-warmup"]


def fault_section(**keys):
    return echo_section(engine="fault", **QUICK, **keys)


@pytest.mark.parametrize("fault", FAULTS)
def test_old_generation_serves_on(start, tmp_path, fault):
    moult = start(fault_section(), supervisor=f"engine_dir = {BUILD}\n")
    moult.note_fds()
    serving = moult.status("echo")
    load = Load(moult.port, clients=2)
    (moult.models / "0.conf").write_text(fault_section(**{"option.fault": fault}))
    receipt = moult.wait_receipt("echo", lambda r: r["number"] > 1)
    if fault == "garbage-on-stage" and receipt["outcome"] == "ok":
        pytest.skip("garbage on stderr harms nobody")
    assert receipt["outcome"] == "failed", receipt
    assert receipt["reason"], receipt
    now = moult.status("echo")
    assert (now["generation"], now["pid"]) == (serving["generation"], serving["pid"])
    assert now["last_error"] == receipt["reason"]
    (moult.models / "0.conf").write_text(fault_section(version=2))
    moult.wait_receipt("echo", lambda r: r["outcome"] == "ok" and r["number"] > 2)
    load.wait_more(50)
    load.stop_and_check()


def test_failed_start_is_told_and_mended(start):
    moult = start(fault_section(**{"option.fault": "refuse-on-stage"}), ready=False)
    moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert moult.get("/v2/health/ready")[0] == 503
    status, headers, body = moult.infer("echo", "{}")
    assert status == 503 and headers["retry-after"] and b"receipt 1" in body
    (moult.models / "0.conf").write_text(fault_section())
    moult.wait_ready()


def test_last_words_that_are_no_text(start, tmp_path):
    """They reach the receipt and the status nevertheless."""
    loader = tmp_path / "loader"
    loader.write_text("#!/bin/sh\nprintf 'caf\\351\\n' >&2\nexit 3\n")
    loader.chmod(0o755)
    moult = start(fault_section(), supervisor=f"loader = {loader}\n", ready=False)
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert "caf?" in receipt["reason"] and "caf?" in moult.status("echo")["last_error"]
    assert "event=started" in moult.log_text()


def test_who_waits_for_a_removed_model_is_told(start):
    """Also who waits for the reload after the one that is under way."""
    moult = start(echo_section("a"), fault_section(name="b"),
                  supervisor=f"engine_dir = {BUILD}\n")
    (moult.models / "1.conf").write_text(echo_section(
        "b", engine="fault", stop_timeout="1s", **{"option.fault": "hang-on-stage"}))
    wait_for("the candidate", lambda: moult.status("b")["candidate"])
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.settimeout(patience())
        waiting.connect(str(moult.socket))
        waiting.sendall(b'{"command":"reload","model":"b","wait":true}\n')
        moult.status()
        (moult.models / "1.conf").unlink()
        answer = json.loads(waiting.makefile().readlines()[-1])
    assert not answer["ok"] and "out of service" in answer["error"]


def test_crash_loop_backs_off(start):
    """A loader that dies before it is ready is not restarted at once, again and again."""
    moult = start(fault_section(**{"option.fault": "crash-on-stage"}), ready=False)
    moult.wait_receipt("echo", lambda r: r["number"] == 3)
    delays = [float(line.partition("delay_s=")[2]) for line in
              moult.log_lines() if "event=loader_restart" in line]
    assert delays[:3] == [0.5, 1.0, 2.0]


# What the loader exits with, and what it says.
NOBODYS_FAULT = [
    ("fail-on-stage", 70, "the fault engine failed"),
    ("refuse-device-on-stage", 69, "the fault engine found no device"),
    ("refuse-device-on-commit", 69, "the fault engine found no device"),
    ("fail-on-warmup", 70, "warm-up: the fault engine failed"),
    ("broken-on-warmup", 69, "warm-up: the fault engine is broken")]
INPUTS_FAULT = [
    ("refuse-on-stage", 64, "the fault engine was told to refuse"),
    ("refuse-model-on-stage", 65, "the fault engine dislikes the model"),
    ("refuse-model-on-warmup", 65, "the fault engine dislikes the model"),
    ("input-on-warmup", 65, "set warmup_request"),
    ("bad-shape-on-warmup", 65, "the configuration declares")]


@pytest.mark.parametrize("fault, status, says", NOBODYS_FAULT)
def test_nobodys_fault_is_tried_again(start, tmp_path, fault, status, says):
    """Memory or a device that failed says nothing about the inputs."""
    once = tmp_path / "once"
    moult = start(fault_section(**{"option.fault": fault, "option.once": once}), ready=False)
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert says in receipt["reason"]
    moult.wait_ready()
    assert once.exists() and moult.status("echo")["generation"] == 2
    assert f'status="exit code {status}"' in moult.log_text()
    assert moult.log_text().count("event=loader_restart") == 1


@pytest.mark.parametrize("fault, status, says", INPUTS_FAULT)
def test_bad_inputs_are_not_tried_again(start, tmp_path, fault, status, says):
    """Until somebody asks, or an input changes."""
    once = tmp_path / "once"
    moult = start(fault_section(**{"option.fault": fault, "option.once": once}), ready=False)
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert says in receipt["reason"]
    assert f'status="exit code {status}"' in moult.log_text()
    assert "event=loader_restart" not in moult.log_text()
    assert moult.get("/v2/health/ready")[0] == 503
    assert moult.reload().returncode == 0
    moult.wait_ready()


def test_a_change_that_met_a_shortage_is_tried_again(start, tmp_path):
    """The old generation serves on; nobody has to touch the secret a second time."""
    keys = {"engine": "fault", "secrets": tmp_path / "secrets", "retry_delay": "200ms",
            "option.fault": "refuse-device-on-commit", "option.when": tmp_path / "short"}
    moult = start(echo_section(**keys), ready=False, supervisor=f"engine_dir = {BUILD}\n")
    moult.write_secret(tmp_path / "secrets", "key", "one")
    moult.wait_ready()
    (tmp_path / "short").write_text("")
    load = Load(moult.port, clients=2)
    moult.write_secret(tmp_path / "secrets", "key", "two")
    wait_for("three vain attempts", lambda: sum(
        r["outcome"] == "failed" and r["cause"] == "secrets" for r in moult.receipts("echo")) >= 3)
    delays = re.findall(r"event=reload_again model=echo delay_s=([0-9.]+)", moult.log_text())
    assert delays[:3] == ["0.2", "0.4", "0.8"]
    (tmp_path / "short").unlink()
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and
                                 r["outcome"] == "ok" and r["from"])
    assert moult.status("echo")["last_error"] is None and receipt["number"] > 3
    load.stop_and_check()


def start_short(start, tmp_path, strategy):
    """Serves with one secret; with the next there is a shortage while a file is there."""
    keys = {"engine": "fault", "secrets": tmp_path / "secrets", "retry_delay": "200ms",
            "strategy": strategy, "option.fault": "refuse-device-on-commit",
            "option.when": tmp_path / "short", "option.secret": "key",
            "option.secret_is": "next"}
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("first")
    (tmp_path / "short").write_text("")
    return start(echo_section(**keys), supervisor=f"engine_dir = {BUILD}\n")


def vain(moult):
    return [r for r in moult.receipts("echo")
            if r["outcome"] == "failed" and r["cause"] == "secrets"]


@pytest.mark.parametrize("strategy", ["staged", "stop-first"])
def test_a_shortage_after_the_old_one_is_gone(start, tmp_path, strategy):
    """What served is rebuilt, and the change is made up for without anybody's asking."""
    moult = start_short(start, tmp_path, strategy)
    first = moult.status("echo")["secrets_digest"]
    load = Load(moult.port, clients=2)
    moult.write_secret(tmp_path / "secrets", "key", "next")
    failed = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert failed["strategy"] == strategy and "no device" in failed["reason"], failed
    rebuilt = moult.wait_receipt("echo", lambda r: r["cause"] == "rebuild")
    assert rebuilt["outcome"] == "ok" and rebuilt["number"] == failed["number"] + 1
    (tmp_path / "short").unlink()
    made_up = moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and
                                 r["outcome"] == "ok" and r["from"])
    assert made_up["number"] > rebuilt["number"]
    status = moult.status("echo")
    assert status["secrets_digest"] != first and status["last_error"] is None
    load.wait_more(50)
    load.stop_and_check()


def test_tries_that_cost_a_pause_are_few(start, tmp_path):
    """After three it waits for a change, which counts anew."""
    moult = start_short(start, tmp_path, "staged")
    first = moult.status("echo")["secrets_digest"]
    load = Load(moult.port, clients=2)
    moult.write_secret(tmp_path / "secrets", "key", "next")
    wait_for("the end of it", lambda: "event=reload_given_up" in moult.log_text())
    delays = re.findall(r"event=reload_again model=echo delay_s=([0-9.]+)", moult.log_text())
    assert delays == ["0.2", "0.4", "0.8"]
    assert len(vain(moult)) == 4
    wait_for("what served", lambda: moult.status("echo")["state"] == "ready")
    status = moult.status("echo")
    assert status["secrets_digest"] == first and "no device" in status["last_error"]
    # Nothing more comes by itself: the next receipt is that of somebody who asks.
    n = status["receipts"]
    load.wait_more(2000)
    assert moult.reload("echo").returncode == 1
    wait_for("what served", lambda: moult.status("echo")["state"] == "ready")
    assert [r["cause"] for r in moult.receipts("echo")[n:]] == ["manual", "rebuild"]
    moult.write_secret(tmp_path / "secrets", "other", "x")
    wait_for("another try", lambda: len(vain(moult)) == 6)
    (tmp_path / "short").unlink()
    wait_for("the change", lambda: moult.status("echo")["last_error"] is None)
    load.wait_more(50)
    load.stop_and_check()


def test_a_try_that_is_refused_beforehand_costs_nothing(start, tmp_path):
    """There is no memory: the old one serves, and the tries go on until there is."""
    keys = {"path": tmp_path / "weights.bin", "strategy": "stop-first",
            "retry_delay": "100ms"}
    (tmp_path / "weights.bin").write_bytes(bytes(8 << 20))
    moult = start(echo_section(**keys), supervisor="[device host]\nbudget = 32M\n")
    load = Load(moult.port, clients=2)
    pid = moult.status("echo")["pid"]
    (tmp_path / "fresh").write_bytes(bytes(48 << 20))
    (tmp_path / "fresh").rename(tmp_path / "weights.bin")
    wait_for("more tries than would cost a pause", lambda: sum(
        r["strategy"] == "refused" for r in moult.receipts("echo")) >= 5)
    assert moult.status("echo")["pid"] == pid
    assert "event=reload_given_up" not in moult.log_text()
    moult.config.write_text(moult.head + "[device host]\nbudget = 128M\n")
    wait_for("the larger one", lambda: moult.status("echo")["pid"] not in (0, pid))
    load.wait_more(50)
    load.stop_and_check()
