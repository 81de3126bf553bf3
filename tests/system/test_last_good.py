# SPDX-License-Identifier: Apache-2.0
"""What served well is kept: a start with bad inputs serves with that."""
import hashlib
import json
import os
import stat

import pytest

from harness import BUILD, Moult, children, echo_body, echo_section, wait_for
from test_walls import needs_landlock, outcomes

ENGINES = f"engine_dir = {BUILD}\n"
SECRET = "moult-test-value"
BODY = echo_body([1, 2, 3, 4])


@pytest.fixture
def home(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text(SECRET)
    (tmp_path / "weights.bin").write_bytes(b"good weights" * 1000)
    return tmp_path


def section(home, **keys):
    return echo_section(engine="fault", path=home / "weights.bin", secrets=home / "secrets",
                        **keys)


def run(home, name, text):
    """A run of its own over the same state directory."""
    place = home / name
    place.mkdir()
    (home / "state").mkdir(exist_ok=True)
    (place / "state").symlink_to(home / "state")
    return Moult(place, [text], supervisor=ENGINES)


def serve_once(home, **keys):
    moult = run(home, "first", section(home, **keys)).wait_ready()
    moult.stop()
    return [p.name for p in (home / "state" / "good" / "echo").iterdir()]


def check_kept_serves(home, name, text, reason):
    moult = run(home, name, text).wait_ready()
    status, _, body = moult.infer("echo", BODY)
    assert status == 200 and json.loads(body)["outputs"][0]["data"] == [1, 2, 3, 4]
    assert "event=last_good " in moult.log_text()
    # Tries of the newest may have come since.
    receipts = moult.receipts("echo")
    back = max(i for i, r in enumerate(receipts) if r["cause"] == "rebuild")
    assert [r["outcome"] for r in receipts[back - 1:back + 1]] == ["failed", "ok"]
    assert reason in receipts[back - 1]["reason"]
    assert reason in moult.status("echo")["last_error"]
    return moult


def test_missing_model_file(home):
    kept = serve_once(home)
    assert sorted(name.split("-")[0] for name in kept) == ["manifest", "weights"]
    os.unlink(home / "weights.bin")
    moult = check_kept_serves(home, "second", section(home), "cannot open model file")
    # What is there again is taken.
    (home / "fresh").write_bytes(b"better weights")
    os.rename(home / "fresh", home / "weights.bin")
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "model-file")
    assert receipt["outcome"] == "ok"
    moult.stop()


def test_golden_requests_of_another_model(home):
    golden = home / "golden"
    golden.mkdir()
    serve_once(home, golden=golden)
    (golden / "a.json").write_text(json.dumps({
        "request": json.loads(BODY), "response": {"outputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [9, 9, 9, 9]}]}}))
    moult = check_kept_serves(home, "second", section(home, golden=golden),
                              "golden request 'a.json' missed")
    moult.stop()


def test_bad_section(home):
    serve_once(home)
    moult = check_kept_serves(home, "second",
                              section(home, **{"option.fault": "refuse-model"}),
                              "dislikes the model")
    moult.stop()
    # A good start afterwards keeps the new section.
    moult = run(home, "third", section(home, max_batch=4)).wait_ready()
    moult.stop()
    newest = max((home / "state" / "good" / "echo").glob("manifest-*"))
    text, code = newest.read_text().rstrip("\n").rsplit("\n", 1)
    assert "max_batch = 4\n" in json.loads(text)["section"] and code.startswith("hmac-sha256 ")


def forge(place, change):
    """As a program of moultd's user could: whole, and under the name that it is to have."""
    newest = max(place.glob("manifest-*"))
    text, code = newest.read_text().rstrip("\n").rsplit("\n", 1)
    text = change(text)
    number = int(newest.name.split("-")[1]) + 1
    (place / f"manifest-{number:020}-{hashlib.sha256(text.encode()).hexdigest()}").write_text(
        f"{text}\n{code}\n")


def test_what_somebody_else_wrote(home):
    """A manifest that is not moultd's is passed over for the one before."""
    serve_once(home)
    state = home / "state" / "good"
    assert stat.S_IMODE((state / ".key").stat().st_mode) == 0o600
    forge(state / "echo", lambda text: text.replace("max_batch = 16", "max_batch = 3"))
    os.unlink(home / "weights.bin")
    moult = check_kept_serves(home, "second", section(home), "cannot open model file")
    assert json.loads(moult.ctl("show-config").stdout.splitlines()[0])
    moult.stop()
    kept = state / "echo"
    whole = next(path for path in kept.glob("manifest-*") if "max_batch = 3" not in
                 path.read_text())
    whole.unlink()
    moult = run(home, "third", section(home)).wait_control()
    wait_for("the sentence", lambda: "has a wrong code" in moult.log_text())
    moult.stop()


@needs_landlock
def test_the_key_is_hidden_from_loaders(home):
    """A loader inside its walls cannot read it, nor write beside it."""
    serve_once(home)
    key = home / "state" / "good" / ".key"
    lines = {"engine": "breakout", "input": "x FP32 [-1]", "output": "x FP32 [-1]",
             "option.secret": key, "option.folder": key.parent / "echo"}
    moult = run(home, "second", "[model breakout]\n" +
                "".join(f"{name} = {value}\n" for name, value in lines.items())).wait_ready()
    found = outcomes(moult)
    moult.stop()
    assert found["secret"] == found["early_thread"] == found["configuration"] == "refused"


def test_crashing_candidate(home):
    serve_once(home)
    moult = check_kept_serves(home, "second",
                              section(home, **{"option.fault": "crash-on-commit"}), "died")
    moult.stop()


def test_a_passing_shortage_at_the_start(home):
    """What was kept serves until the newest can, and nobody has to ask for that."""
    serve_once(home)
    flag = home / "shortage"
    flag.write_text("")
    text = section(home, version=2, retry_delay="500ms",
                   **{"option.fault": "refuse-device", "option.when": flag})
    moult = check_kept_serves(home, "second", text, "found no device")
    wait_for("another try", lambda: len([r for r in moult.receipts("echo")
                                         if r["outcome"] == "failed"]) > 1)
    flag.unlink()
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "ok" and
                                 r["cause"] == "start" and r["number"] > 1)
    status = moult.status("echo")
    assert status["generation"] == receipt["to"]["generation"]
    assert status["last_error"] is None, status
    assert "versions\":[\"2\"]" in moult.get("/v2/models/echo")[1].decode().replace(" ", "")
    moult.stop()


def test_secrets_are_kept_on_request_only(home):
    kept = serve_once(home)
    assert not any(name.startswith("secrets-") for name in kept)
    assert not any(SECRET.encode() in p.read_bytes()
                   for p in (home / "state").rglob("*") if p.is_file())
    moult = run(home, "keeping", section(home, keep_secrets="yes")).wait_ready()
    moult.stop()
    files = list((home / "state" / "good" / "echo").glob("secrets-*"))
    assert len(files) == 1 and SECRET.encode() in files[0].read_bytes()
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
    (home / "secrets" / "key").unlink()
    keys = {"option.fault": "crash-on-commit", "option.secret": "key",
            "option.secret_is": "bad"}
    moult = check_kept_serves(home, "second", section(home, **keys), "holds no secret")
    moult.stop()


def test_secrets_that_never_settle_at_the_start(home):
    """The kept ones serve; what is read later is taken."""
    serve_once(home, keep_secrets="yes")
    (home / "secrets" / "key").unlink()
    os.symlink("/sys/kernel/uevent_seqnum", home / "secrets" / "key")
    moult = check_kept_serves(home, "second", section(home, keep_secrets="yes"),
                              "changes while being read")
    moult.write_secret(home / "secrets", "key", "another value")
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "secrets")
    assert receipt["outcome"] == "ok"
    moult.stop()


def test_kept_secrets_are_ours_alone(home):
    """Others could read them: they are no secrets any more."""
    serve_once(home, keep_secrets="yes")
    kept = next((home / "state" / "good" / "echo").glob("secrets-*"))
    (home / "secrets" / "key").unlink()
    kept.chmod(0o640)
    text = section(home, keep_secrets="yes")
    moult = run(home, "second", text).wait_control()
    wait_for("the refusal", lambda: "others can read them" in moult.log_text())
    assert not moult.status("echo")["pid"]
    moult.stop()
    kept.rename(home / "aside")
    (home / "aside").chmod(0o600)
    kept.symlink_to(home / "aside")
    moult = run(home, "third", text).wait_control()
    wait_for("the refusal", lambda: "the kept secrets: Too many levels" in moult.log_text())
    assert not moult.status("echo")["pid"]
    moult.stop()
    (home / "secrets" / "key").write_text(SECRET)
    run(home, "fourth", text).wait_ready().stop()
    for path in (home / "state" / "good" / "echo").glob("secrets-*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and not path.is_symlink()


def test_damage_is_seen(home):
    """A torn manifest is passed over for the one before; other weights are refused."""
    serve_once(home)
    moult = run(home, "again", section(home, max_batch=4)).wait_ready()
    moult.stop()
    place = home / "state" / "good" / "echo"
    newest = max(place.glob("manifest-*"))
    os.truncate(newest, 100)
    os.unlink(home / "weights.bin")
    moult = check_kept_serves(home, "second", section(home), "cannot open model file")
    assert moult.ctl("show-config").returncode == 0
    moult.stop()
    weights = next(place.glob("weights-*"))
    weights.write_bytes(b"bad weights")
    moult = run(home, "third", section(home)).wait_control()
    wait_for("the refusal", lambda: "was written over" in moult.log_text())
    moult.stop()


def test_removed_models_are_forgotten(home):
    serve_once(home)
    moult = run(home, "second", echo_section("other")).wait_ready()
    assert not (home / "state" / "good" / "echo").exists()
    moult.stop()


def test_not_kept_when_unwanted(home):
    moult = run(home, "first", section(home, keep_good="no")).wait_ready()
    moult.stop()
    assert not (home / "state" / "good").exists()


def test_pipes_in_the_state_directory_hold_nothing_up(home):
    """Nobody reads or writes at their other end."""
    moult = run(home, "first", section(home)).wait_ready()
    os.unlink(home / "state" / "receipts.jsonl")
    os.mkfifo(home / "state" / "receipts.jsonl")
    assert moult.reload("echo").returncode == 0 and moult.receipts() == []
    wait_for("the writers' end",
             lambda: children(moult.pid) == [moult.status("echo")["pid"]])
    for kept in (home / "state" / "good" / "echo").iterdir():
        kept.unlink()
        os.mkfifo(kept)
    assert moult.reload("echo").returncode == 0
    assert "event=receipt_lost" in moult.log_text()
    moult.stop()
