# SPDX-License-Identifier: Apache-2.0
"""Secrets and model files that move, vanish and come back under a running model."""
import hashlib
import os
import signal
import threading
import time

import pytest

from harness import Load, echo_section, is_alive, wait_for


def fill(directory, **values):
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (directory / name).write_text(value)


def wait_stale(moult, says):
    wait_for(says, lambda: says in (moult.status("echo")["stale"] or ""))


def wait_fresh(moult):
    wait_for("fresh inputs", lambda: not moult.status("echo")["stale"])


def rewrite(moult, section):
    fresh = moult.home / "section.new"
    fresh.write_text(section)
    os.rename(fresh, moult.models / "0.conf")


def test_vanished_directory_keeps_the_last(start, tmp_path):
    """Even a loader that dies meanwhile is replaced with the last good secrets."""
    secrets = tmp_path / "volume" / "secrets"
    fill(secrets, token="one")
    moult = start(echo_section(secrets=secrets))
    moult.note_fds()
    load = Load(moult.port)
    before = moult.status("echo")
    os.rename(tmp_path / "volume", tmp_path / "gone")
    wait_stale(moult, "No such file")
    assert moult.status("echo")["pid"] == before["pid"]

    os.kill(before["pid"], signal.SIGKILL)
    moult.wait_receipt("echo", lambda r: r["cause"] == "crash" and r["outcome"] == "ok")
    crashed = moult.status("echo")
    assert crashed["secrets_digest"] == before["secrets_digest"]
    assert "No such file" in crashed["stale"]

    os.rename(tmp_path / "gone", tmp_path / "volume")
    wait_fresh(moult)
    assert moult.status("echo")["pid"] == crashed["pid"]
    moult.write_secret(secrets, "token", "two")
    moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and r["outcome"] == "ok")
    assert moult.status("echo")["secrets_digest"] != before["secrets_digest"]
    load.wait_more()
    load.stop_and_check()


def test_volume_that_leads_nowhere(start, tmp_path):
    secrets = tmp_path / "secrets"
    moult = start(ready=False)
    moult.swap_secrets(secrets, {"token": "one"})
    (moult.models / "0.conf").write_text(echo_section(secrets=secrets))
    moult.wait_receipt("echo", lambda r: r["outcome"] == "ok")
    pid = moult.status("echo")["pid"]
    kept = os.readlink(secrets / "..data")
    os.symlink("..nowhere", secrets / "..data_tmp")
    os.rename(secrets / "..data_tmp", secrets / "..data")
    wait_stale(moult, "..data: No such file")

    os.symlink(kept, secrets / "..data_tmp")
    os.rename(secrets / "..data_tmp", secrets / "..data")
    wait_fresh(moult)
    assert moult.status("echo")["pid"] == pid
    moult.swap_secrets(secrets, {"token": "two"})
    moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and r["outcome"] == "ok")


def test_secrets_that_never_settle(start, tmp_path):
    """The kernel's own files are shorter than they say, as if somebody were writing."""
    secrets = tmp_path / "secrets"
    fill(secrets, token="one")
    moult = start(echo_section(secrets=secrets))
    pid = moult.status("echo")["pid"]
    os.symlink("/sys/kernel/uevent_seqnum", secrets / ".link")
    os.rename(secrets / ".link", secrets / "token")
    wait_stale(moult, "changes while being read")
    assert moult.status("echo")["pid"] == pid
    moult.write_secret(secrets, "token", "one")
    wait_fresh(moult)
    assert moult.status("echo")["receipts"] == 1


def test_secrets_come_late(start, tmp_path):
    """A volume that is mounted after the start: its parents, too, were missing."""
    secrets = tmp_path / "run" / "volume" / "secrets"
    moult = start(echo_section(secrets=secrets), ready=False)
    moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert "No such file" in moult.status("echo")["stale"]
    fill(secrets, token="one")
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "secrets")
    # Nothing else was tried in between, although nothing was there to look at.
    assert receipt["outcome"] == "ok" and receipt["number"] == 2, receipt
    wait_fresh(moult)


def test_another_directory_has_no_substitute(start, tmp_path):
    """What was asked for is still owed when the directory turns up, even with the same
    secrets inside."""
    fill(tmp_path / "a", token="same")
    moult = start(echo_section(secrets=tmp_path / "a"))
    before = moult.status("echo")
    rewrite(moult, echo_section(secrets=tmp_path / "b"))
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert str(tmp_path / "b") in receipt["reason"], receipt
    assert moult.status("echo")["pid"] == before["pid"]
    assert str(tmp_path / "b") in moult.status("echo")["stale"]
    fill(tmp_path / "b", token="same")
    moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and r["outcome"] == "ok")
    after = moult.status("echo")
    assert after["pid"] != before["pid"] and not after["stale"]
    assert after["secrets_digest"] == before["secrets_digest"]


def test_configuration_waits_for_the_file(start, tmp_path):
    """The same file comes back: the configuration that could not be built is built."""
    model_file = tmp_path / "model.bin"
    model_file.write_bytes(b"weights")
    moult = start(echo_section(path=model_file))
    before = moult.status("echo")
    os.rename(model_file, tmp_path / "gone")
    wait_stale(moult, "No such file")
    rewrite(moult, echo_section(path=model_file, version=2))
    moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert moult.status("echo")["pid"] == before["pid"]
    failed = moult.status("echo")["receipts"]
    os.rename(tmp_path / "gone", model_file)
    moult.wait_receipt("echo", lambda r: r["cause"] == "model-file" and r["outcome"] == "ok")
    after = moult.status("echo")
    assert after["pid"] != before["pid"] and not after["stale"]
    assert after["receipts"] == failed + 1


def config_error(moult):
    return moult.status()["supervisor"]["config_error"] or ""


def empty(models):
    for path in models.glob("*.conf"):
        path.unlink()


def cover(models):
    """As an empty file system does that is mounted over it."""
    os.rename(models, models.with_name("covered"))
    models.mkdir()


@pytest.mark.parametrize("act", [empty, cover])
def test_models_dir_without_models(start, act):
    """All of them at once are no removal, unless somebody says so by hand."""
    sections = [echo_section(), echo_section("other", max_batch=4)]
    moult = start(*sections)
    load = Load(moult.port)
    load.wait_more()
    act(moult.models)
    says = "has not one file NAME.conf any more, and 2 models were there"
    wait_for("the refusal", lambda: says in config_error(moult))
    assert b"moult_config_refused 1\n" in moult.get("/metrics")[1]
    os.kill(moult.pid, signal.SIGHUP)
    wait_for("the line", lambda: "event=config_refused asked_by=SIGHUP" in moult.log_text())
    assert says in moult.reload("echo").stderr
    load.wait_more()
    load.stop_and_check()
    assert [m["generation"] > 0 for m in moult.status()["models"]] == [True, True]

    # One that comes back is what there is; the others were removed.
    (moult.models / "0.conf").write_text(sections[0])
    wait_for("the end of it", lambda: not config_error(moult))
    wait_for("one model", lambda: len(moult.status()["models"]) == 1)
    (moult.models / "0.conf").unlink()
    wait_for("the refusal", lambda: "and 1 models were there" in config_error(moult))
    assert moult.reload().returncode == 0
    assert moult.status()["models"] == [] and not config_error(moult)


def test_a_start_before_the_volume_is_there(start):
    """What served serves on, also over a restart, until it is there or somebody says that
    none is meant."""
    moult = start(echo_section())
    kept = moult.home / "state" / "good" / ".config"
    wait_for("what is kept", lambda: list(kept.glob("manifest-*")))
    moult.stop()
    cover(moult.models)
    moult.launch().wait_ready()
    assert "has not one file" in config_error(moult)
    assert moult.get("/v2/models/echo/ready")[0] == 200
    moult.models.rmdir()
    os.rename(moult.models.with_name("covered"), moult.models)
    wait_for("the end of it", lambda: not config_error(moult))
    empty(moult.models)
    wait_for("the refusal", lambda: "has not one file" in config_error(moult))
    assert moult.reload().returncode == 0
    wait_for("no model", lambda: not moult.status()["models"])
    wait_for("what is kept", lambda: not list(kept.glob("manifest-*")))
    moult.stop()
    moult.launch().wait_control()
    assert moult.status()["models"] == [] and not config_error(moult)


def test_a_refused_configuration_is_said_each_time(start):
    """By a watch once; whoever asks is answered each time."""
    moult = start(echo_section())
    (moult.models / "0.conf").write_text("[model echo\n")
    wait_for("the refusal", lambda: config_error(moult))
    for n in (1, 2):
        os.kill(moult.pid, signal.SIGHUP)
        wait_for("its line", lambda: moult.log_text().count("asked_by=SIGHUP reason=") == n)
        assert moult.reload().returncode == 1
        assert moult.log_text().count("asked_by=moultctl reason=") == n
    assert moult.log_text().count("asked_by=watch reason=") == 1
    (moult.models / "0.conf").write_text(echo_section())
    wait_for("the end of it", lambda: not config_error(moult))


def test_versions_behind_a_link(start, tmp_path):
    """current -> v1, then v2: the usual way to deploy and to go back."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "model.bin").write_text(version)
    os.symlink("v1", tmp_path / "current")
    moult = start(echo_section(path=tmp_path / "current" / "model.bin"))
    moult.note_fds()
    load = Load(moult.port)
    for version in ("v2", "v1", "v2"):
        before = moult.status("echo")
        os.symlink(version, tmp_path / "current.new")
        os.rename(tmp_path / "current.new", tmp_path / "current")
        moult.wait_receipt("echo", lambda r: r["number"] > before["receipts"] and
                           r["cause"] == "model-file" and r["outcome"] == "ok")
        wait_for("the end of the old loader", lambda: not is_alive(before["pid"]))
    load.wait_more()
    load.stop_and_check()


def overwrite(path, content):
    """In place, and its time set back: cp -p, rsync -t --inplace, tar --overwrite."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


@pytest.mark.parametrize("share", ["memory", "file", "off"])
def test_overwritten_with_the_same_size_and_time(start, tmp_path, share):
    """The time of change alone tells; a new name of the file changes it, too."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights-1")
    moult = start(echo_section(path=path, share=share))
    kept = tmp_path / "state" / "good" / "echo"
    wait_for("the link that is kept", lambda: list(kept.glob("weights-*")))
    os.link(path, tmp_path / "backup")
    moult.wait_receipt("echo", lambda r: r["outcome"] == "unchanged")
    for content in (b"weights-2", b"weights-3"):
        before = moult.status("echo")
        overwrite(path, content)
        moult.wait_receipt("echo", lambda r: r["number"] > before["receipts"] and
                           r["cause"] == "model-file" and r["outcome"] == "ok")
        sha256 = hashlib.sha256(content).hexdigest()
        assert moult.status("echo")["weights_sha256"] == sha256
    # What moultd itself links, twice more, leads to nothing.
    assert [r["outcome"] for r in moult.receipts("echo")] == ["ok", "unchanged", "ok", "ok"]


def test_a_file_that_served_is_written_over(start, tmp_path):
    """cp onto it: what served serves on from its copy, and there is no way back to it. That
    is said at once, and not tried."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights-1")
    moult = start(echo_section(path=path))
    for write, content in ((type(path).write_bytes, b"weights-2, which are larger"),
                           (type(path).write_bytes, b"short"), (overwrite, b"SHORT")):
        before = moult.status("echo")["receipts"]
        write(path, content)
        moult.wait_receipt("echo", lambda r: r["number"] > before and r["outcome"] == "ok" and
                           r["cause"] == "model-file")
        status = moult.status("echo")
        assert not status["can_roll_back"] and "written over in place" in status["rollback_off"]
        assert "event=model_file_overwritten model=echo" in moult.log_text()
        result = moult.ctl("rollback", "echo", "--wait")
        assert result.returncode == 1 and "rename them into place" in result.stderr
        assert moult.status("echo")["pid"] == status["pid"]
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"weights-3")
    os.rename(fresh, path)
    moult.wait_receipt("echo", lambda r: r["to"] and r["number"] > before + 1 and
                       r["outcome"] == "ok")
    wait_for("the way back", lambda: moult.status("echo")["can_roll_back"])
    assert moult.status("echo")["rollback_off"] is None
    assert moult.ctl("rollback", "echo", "--wait").returncode == 0
    assert moult.status("echo")["weights_sha256"] == hashlib.sha256(b"SHORT").hexdigest()


def unsettle(secrets, name="token"):
    """The kernel's own files are shorter than they say, as if somebody were writing."""
    os.symlink("/sys/kernel/uevent_seqnum", secrets / ".link")
    os.rename(secrets / ".link", secrets / name)


def test_a_crash_does_not_wait_for_secrets_that_never_settle(start, tmp_path):
    """Somebody writes for ever: the last good ones serve after some seconds, and requests
    only wait. The next crash finds that known."""
    secrets = tmp_path / "secrets"
    fill(secrets, token="one")
    moult = start(echo_section(secrets=secrets))
    before = moult.status("echo")
    load = Load(moult.port)
    load.wait_more()
    unsettle(secrets)
    took_s = []
    for _ in range(2):
        pid = moult.status("echo")["pid"]
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_for("another loader", lambda: moult.status("echo")["pid"] not in (0, pid))
        took_s.append(time.monotonic() - begun)
        assert moult.status("echo")["secrets_digest"] == before["secrets_digest"]
        assert "changes while being read" in moult.status("echo")["stale"]
        load.wait_more()
    assert took_s[1] < took_s[0], took_s
    moult.write_secret(secrets, "token", "two")
    moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and r["outcome"] == "ok")
    wait_fresh(moult)
    assert moult.status("echo")["secrets_digest"] != before["secrets_digest"]
    load.stop_and_check()


def test_crashes_while_a_volume_is_swapped_without_rest(start, tmp_path):
    secrets = tmp_path / "secrets"
    moult = start(ready=False)
    moult.swap_secrets(secrets, {"token": "0", "more": "0"})
    (moult.models / "0.conf").write_text(echo_section(secrets=secrets))
    moult.wait_receipt("echo", lambda r: r["outcome"] == "ok")
    load = Load(moult.port)
    is_over = threading.Event()

    def swap():
        i = 0
        while not is_over.is_set():
            i += 1
            moult.swap_secrets(secrets, {"token": str(i), "more": str(i)})

    def strike():
        """The pid of a loader that served, and was not on its way out by itself."""
        pid = moult.status("echo")["pid"]
        try:
            if pid:
                os.kill(pid, signal.SIGKILL)
            return pid
        except ProcessLookupError:
            return 0

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(5):
            pid = wait_for("a loader", strike)
            wait_for("another one", lambda: moult.status("echo")["pid"] not in (0, pid))
    finally:
        is_over.set()
        thread.join()
    load.wait_more()
    load.stop_and_check()
