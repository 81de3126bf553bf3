# SPDX-License-Identifier: Apache-2.0
"""Every trigger of a reload, under load: nothing lost, nothing wrong."""
import json
import os
import re
import shutil
import signal
import time
import urllib.request

from harness import (DIGITS, Flood, Load, digits_section, echo_section, is_alive,
                     slowness, wait_for)

RELOADS = int(os.environ.get("MOULT_TEST_RELOADS", "500"))
REQUESTS = int(os.environ.get("MOULT_TEST_REQUESTS", "300000"))


def test_every_trigger_many_times(start, tmp_path):
    """At least 500 reloads and 300 000 requests, by every trigger in turn."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    model_file = tmp_path / "model.bin"
    model_file.write_bytes(b"weights 0")
    (secrets / "token").write_text("tok-0")
    section = echo_section(secrets=secrets, path=model_file)
    moult = start(section)
    moult.note_fds()

    def by_secret(i):
        moult.write_secret(secrets, "token", f"tok-{i}")

    def by_file(i):
        fresh = tmp_path / "model.new"
        fresh.write_bytes(f"weights {i}".encode())
        os.rename(fresh, model_file)

    def by_config(i):
        fresh = tmp_path / "section.new"
        fresh.write_text(section + f"version = {i}\n")
        os.rename(fresh, moult.models / "0.conf")

    def by_signal(_):
        moult.process.send_signal(signal.SIGHUP)

    def by_ctl(_):
        result = moult.reload("echo")
        assert result.returncode == 0, result.stderr

    triggers = [by_secret, by_file, by_config, by_signal, by_ctl]
    flood = Flood(moult.port)
    causes = {}
    done = 0
    begun = time.monotonic()
    while done < RELOADS or moult.status("echo")["requests"]["answered"] < REQUESTS:
        assert time.monotonic() < begun + 420 * slowness(), (done, moult.status("echo"))
        before = moult.status("echo")["receipts"]
        triggers[done % len(triggers)](done + 1)
        receipt = wait_for("the reload", lambda: next(
            (r for r in moult.receipts("echo", 5) if r["number"] > before), None))
        assert receipt["outcome"] == "ok", (receipt["reason"], receipt)
        causes[receipt["cause"]] = causes.get(receipt["cause"], 0) + 1
        done += 1
    result = flood.stop_and_check()
    print(f"{done} reloads by {causes}")
    assert set(causes) == {"secrets", "model-file", "config", "signal", "manual"}
    assert result["swaps"] > done


def test_digits_stay_right(start, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("one")
    moult = start(digits_section(secrets=secrets))
    bodies = (DIGITS / "heldout.jsonl").read_text().splitlines()
    expected = json.loads((DIGITS / "expected.json").read_text())["predictions"]
    generations = set()
    reloads = 0
    for round_ in range(3):
        moult.write_secret(secrets, "token", f"round-{round_}")
        while True:
            for body, want in zip(bodies, expected):
                status, headers, answer = moult.infer("digits", body)
                assert status == 200, answer
                scores = json.loads(answer)["outputs"][0]["data"]
                assert scores.index(max(scores)) == want
                generations.add(headers["moult-generation"])
            if moult.status("digits")["receipts"] > reloads + 1:
                reloads += 1
                break
    assert len(generations) >= 3


def test_kubernetes_swap(start, tmp_path):
    secrets = tmp_path / "secrets"
    moult = start(ready=False)
    moult.swap_secrets(secrets, {"token": "a", "other": "b"})
    (moult.models / "0.conf").write_text(echo_section(secrets=secrets))
    moult.wait_receipt("echo", lambda r: r["outcome"] == "ok")
    load = Load(moult.port)
    load.wait_more()
    for i in range(5):
        before = moult.status("echo")["receipts"]
        moult.swap_secrets(secrets, {"token": f"a{i}", "other": f"b{i}"})
        moult.wait_receipt("echo", lambda r: r["number"] > before and r["outcome"] == "ok"
                           and r["cause"] == "secrets")
    load.wait_more()
    load.stop_and_check()


def test_same_content_changes_nothing(start, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("same")
    copy = tmp_path / "digits.pt"
    shutil.copy(DIGITS / "digits.pt", copy)
    moult = start(digits_section(path=copy, secrets=secrets))
    pid = moult.status("digits")["pid"]
    moult.write_secret(secrets, "token", "same")
    fresh = tmp_path / "digits.new"
    shutil.copy(DIGITS / "digits.pt", fresh)
    os.rename(fresh, copy)
    receipt = moult.wait_receipt("digits", lambda r: r["number"] == 2)
    assert receipt["outcome"] == "unchanged" and receipt["cause"] == "model-file"
    assert moult.status("digits")["pid"] == pid


def test_only_the_model_concerned(start):
    moult = start(echo_section("a"), echo_section("b"))
    pid_a, pid_b = moult.status("a")["pid"], moult.status("b")["pid"]
    (moult.models / "0.conf").write_text(echo_section("a", version=2))
    moult.wait_receipt("a", lambda r: r["cause"] == "config" and r["outcome"] == "ok")
    assert moult.status("a")["pid"] != pid_a
    assert moult.status("b")["pid"] == pid_b


def test_a_secret_that_changes_just_before_the_configuration(start, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("one")
    moult = start(echo_section("a", secrets=secrets), echo_section("b"))
    moult.config.write_text(moult.head.replace("settle = 20ms", "settle = 500ms"))
    assert moult.reload("b").returncode == 0
    moult.write_secret(secrets, "token", "two")
    # Reads the configuration while the secret has not settled yet.
    assert moult.reload("b").returncode == 0
    moult.wait_receipt("a", lambda r: r["cause"] == "secrets" and r["outcome"] == "ok")


def test_what_needs_a_restart_stays_as_it_is(start, tmp_path):
    moult = start(echo_section("a"))
    running = json.loads(moult.ctl("show-config").stdout.splitlines()[-1])["config"]
    head = moult.head.replace("state_dir = state", "state_dir = /nonexistent/state")
    moult.config.write_text(head + "loader = /bin/false\n")
    (moult.models / "0.conf").write_text(echo_section("a", max_body="2K"))
    assert moult.reload("a").returncode == 0
    now = json.loads(moult.ctl("show-config").stdout.splitlines()[-1])["config"]
    for key in ("state_dir", "loader"):
        assert now["supervisor"][key] == running["supervisor"][key]
    assert now["models"]["a"]["max_body"] == running["models"]["a"]["max_body"]
    assert 'keys="state_dir, loader"' in moult.log_text()
    assert 'keys="max_body"' in moult.log_text()
    assert moult.receipts("a")[-1]["cause"] == "manual"


def test_models_come_and_go(start):
    moult = start(echo_section("a"))
    load = Load(moult.port, model="a")
    (moult.models / "9.conf").write_text(echo_section("late"))
    wait_for("the new model", lambda: moult.get("/v2/models/late/ready")[0] == 200)
    pid = moult.status("late")["pid"]
    (moult.models / "9.conf").unlink()
    wait_for("its end", lambda: moult.get("/v2/models/late")[0] == 404)
    wait_for("the end of its loader", lambda: not is_alive(pid))
    load.wait_more()
    load.stop_and_check()


def test_storm_coalesces(start, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("0")
    moult = start(echo_section(secrets=secrets))
    load = Load(moult.port)
    for i in range(200):
        moult.write_secret(secrets, "token", f"storm-{i}")
        if i % 20 == 0:
            moult.process.send_signal(signal.SIGHUP)
            moult.ctl("reload")
    assert moult.reload("echo").returncode == 0
    load.wait_more()
    load.stop_and_check()
    assert moult.status("echo")["receipts"] < 60


def test_disabled_secrets_reload(start, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("0")
    moult = start(echo_section("quiet", secrets=secrets, disable_secrets_reload="yes"),
                  echo_section("loud", secrets=secrets))
    moult.write_secret(secrets, "token", "1")
    moult.wait_receipt("loud", lambda r: r["cause"] == "secrets")
    assert moult.status("quiet")["receipts"] == 1


def test_disabled_by_environment(start, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("0")
    moult = start(echo_section(secrets=secrets),
                  environment={"MOULT_DISABLE_SECRETS_RELOAD": "1"})
    moult.write_secret(secrets, "token", "1")
    wait_for("the log line", lambda: "disable_secrets_reload" in moult.log_text())
    assert moult.status("echo")["receipts"] == 1


def test_restart_keys_are_said(start):
    moult = start(echo_section())
    moult.config.write_text(moult.head + "max_connections = 77\n")
    wait_for("the log line", lambda: "event=restart_needed" in moult.log_text())
    assert "max_connections" in moult.log_text()


def test_as_many_models_as_there_may_be_are_renamed_at_once(start):
    """None finds a place until another one has left."""
    moult = start(*[echo_section(f"a{i}") for i in range(64)])
    os.kill(moult.pid, signal.SIGSTOP)
    for i in range(64):
        (moult.models / f"{i}.conf").write_text(echo_section(f"b{i}"))
    os.kill(moult.pid, signal.SIGCONT)
    wait_for("the new ones", lambda: sorted(
        m["name"] for m in moult.status()["models"] if m["state"] == "ready") == sorted(
        f"b{i}" for i in range(64)))


def test_metrics_tell_of_reloads(start):
    moult = start(echo_section())
    for _ in range(2):
        assert moult.reload("echo").returncode == 0
    receipt = moult.receipts()[-1]
    with urllib.request.urlopen(f"http://127.0.0.1:{moult.port}/metrics", timeout=60) as page:
        text = page.read().decode()
    found = {(name, label): float(value) for name, label, value in re.findall(
        r'(?m)^moult_(reload\w*)\{model="echo",\w+="(\w+)"\} (\S+)$', text)}
    counts = {cause: (float(ok), float(failed)) for cause, ok, failed in re.findall(
        r'(?m)^moult_reloads_total\{model="echo",cause="(\w+)",outcome="ok"\} (\S+)\n'
        r'moult_reloads_total\{model="echo",cause="\w+",outcome="failed"\} (\S+)$', text)}
    assert counts.pop("start") == (1, 0) and counts.pop("manual") == (2, 0)
    assert "rollback" in counts and set(counts.values()) == {(0, 0)}
    for phase, ms in receipt["phases_ms"].items():
        assert abs(found["reload_seconds", phase] * 1000 - ms) < 0.01, phase
    for at, memory in receipt["memory"].items():
        assert found["reload_memory_bytes", at] == \
            memory["loader_anon_bytes"] + memory["shared_bytes"]
    parts = sum(receipt["phases_ms"][f"stage_{part}"] for part in ("weights", "engine", "module"))
    assert 0 < parts <= receipt["phases_ms"]["stage"]
