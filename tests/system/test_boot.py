# SPDX-License-Identifier: Apache-2.0
"""A start with a configuration that cannot be read serves with the one that served last;
what is kept survives damage, clocks, slow disks and whoever else writes there."""
import fcntl
import json
import os
import subprocess
import time

import pytest

from harness import (BUILD, Moult, children, echo_body, echo_section, is_alive, patience,
                     wait_for)

ENGINES = f"engine_dir = {BUILD}\n"
BODY = echo_body([1, 2, 3, 4])


@pytest.fixture
def served(tmp_path):
    """A moultd that has served two models and ended."""
    (tmp_path / "weights.bin").write_bytes(b"weights" * 1000)
    moult = Moult(tmp_path, [echo_section(path=tmp_path / "weights.bin"),
                             echo_section("other", max_batch=4)], supervisor=ENGINES)
    moult.wait_ready().stop()
    yield moult
    moult.kill()


def check_echo(moult, model="echo"):
    status, _, body = moult.infer(model, BODY)
    assert status == 200 and json.loads(body)["outputs"][0]["data"] == [1, 2, 3, 4]


def check_refused(moult):
    """It ends, and says what is wrong; so does a check."""
    moult.launch()
    assert moult.process.wait(patience()) == 1
    return moult.log_text()


def check_file(moult):
    return subprocess.run([BUILD / "moultd", "-t", "-c", moult.config], capture_output=True,
                          text=True, check=False)


def show_config(moult):
    shown = json.loads(moult.ctl("show-config").stdout.splitlines()[0])
    return shown.get("config", shown)


def metric(moult):
    return [line for line in moult.get("/metrics")[1].decode().splitlines()
            if line.startswith("moult_config_refused ")]


def newest(folder, n=0):
    """The n-th newest manifest in @folder, by its name."""
    return sorted(folder.glob("manifest-*"), reverse=True)[n]


def damage(moult, what):
    main, model = moult.config, moult.models / "1.conf"
    good = {path: path.read_text() for path in (main, model) if path.exists()}
    if what == "key":
        main.write_text(good[main].replace("listen =", "listeen ="))
    elif what == "first-line":
        main.write_text("nonsense\n" + good[main])
    elif what == "value":
        model.write_text(good[model].replace("max_batch = 4", "max_batch = many"))
    elif what == "cut":
        model.write_text(good[model][:40])
    elif what == "empty":
        model.write_text("")
    elif what == "twice":
        (moult.models / "2.conf").write_text(good[model])
    return good


@pytest.mark.parametrize("what, says", [
    ("key", "moult.conf:2: listeen: is no key of [supervisor]: did you mean listen?"),
    ("first-line", "moult.conf:1: is neither a [section]"),
    ("value", "1.conf:5: max_batch: 'many' is no whole number"),
    ("cut", "1.conf:3: "),
    ("empty", "1.conf:"),
    ("twice", "2.conf:1: [model other]: stands in "),
])
def test_unreadable_configuration(served, what, says):
    good = damage(served, what)
    moult = served.launch().wait_ready()
    check_echo(moult)
    check_echo(moult, "other")
    status = moult.status()["supervisor"]
    assert says in status["config_error"] and status["config_kept"] is True
    assert "event=config_refused" in moult.log_text() and says in moult.log_text().replace(
        '\\"', '"')
    shown = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"],
                           capture_output=True, text=True, check=True).stdout
    assert "the last good one of an earlier run is in use: " in shown and says in shown
    assert metric(moult) == ["moult_config_refused 1"]
    check = check_file(moult)
    assert check.returncode == 1 and says in check.stderr

    # Reloads go on with it; a corrected file counts as always.
    assert moult.reload("echo").returncode != 0
    check_echo(moult)
    (moult.models / "2.conf").unlink(missing_ok=True)
    for path, text in good.items():
        path.write_text(text.replace("max_batch = 4",
                                     "max_batch = 5\nwatch_window = 0"))
    moult.wait_receipt("other", lambda r: r["cause"] == "config" and r["outcome"] == "ok")
    status = moult.status()["supervisor"]
    assert status["config_error"] is None and status["config_kept"] is False
    assert metric(moult) == ["moult_config_refused 0"]
    moult.stop()
    # And is what is kept now.
    damage(served, "key")
    moult = served.launch().wait_ready()
    config = show_config(moult)
    assert config["models"]["other"]["max_batch"] == 5
    assert config["models"]["other"]["file"].endswith("/1.conf:1")
    moult.stop()


def test_missing_file_needs_the_state_directory(served):
    served.config.rename(served.home / "gone")
    assert "moult.conf: No such file" in check_refused(served)
    moult = served.launch({"STATE_DIRECTORY": f"{served.home / 'state'}:/elsewhere"})
    moult.wait_ready()
    check_echo(moult)
    (served.home / "gone").rename(served.config)
    wait_for("the file", lambda: moult.status()["supervisor"]["config_error"] is None)
    moult.stop()


def test_nothing_kept(tmp_path):
    moult = Moult(tmp_path, [echo_section(nonsense=1)], supervisor=ENGINES)
    assert moult.process.wait(patience()) == 1
    assert "0.conf:6: nonsense: is no key of [model echo]" in moult.log_text()
    assert check_file(moult).returncode == 1


def test_another_file_keeps_for_itself(served):
    """The same state directory, another moult.conf: that one never served."""
    damage(served, "key")
    served.config = served.home / "other.conf"
    served.config.write_text((served.home / "moult.conf").read_text())
    assert "other.conf:2: listeen" in check_refused(served)


def test_unwanted_sections_are_not_kept(tmp_path):
    moult = Moult(tmp_path, [echo_section(), echo_section("other", keep_good="no")],
                  supervisor=ENGINES).wait_ready()
    moult.stop()
    damage(moult, "key")
    moult.launch().wait_ready()
    assert [m["name"] for m in moult.status()["models"]] == ["echo"]
    (moult.config).write_text(moult.head + ENGINES)
    (moult.models / "0.conf").write_text(echo_section(keep_good="no"))
    wait_for("both", lambda: [m["state"] for m in moult.status()["models"]] == ["ready"] * 2)
    moult.stop()
    damage(moult, "key")
    assert "listeen" in check_refused(moult)


def test_a_section_that_did_not_serve_is_not_kept(served):
    """The others' changes are."""
    moult = served.launch().wait_ready()
    (moult.models / "0.conf").write_text(echo_section(
        path=moult.home / "weights.bin", max_batch=7, watch_window=0))
    moult.wait_receipt("echo", lambda r: r["cause"] == "config" and r["outcome"] == "ok")
    (moult.models / "1.conf").write_text(echo_section("other", engine="nonesuch"))
    moult.wait_receipt("other", lambda r: r["cause"] == "config" and r["outcome"] == "failed")
    moult.stop()
    damage(moult, "key")
    moult.launch().wait_ready()
    config = show_config(moult)
    assert config["models"]["echo"]["max_batch"] == 7
    assert config["models"]["other"]["engine"] == "identity"
    check_echo(moult, "other")
    moult.stop()


def hurt(path, how):
    data = path.read_bytes()
    if how == "empty":
        data = b""
    elif how == "half":
        data = data[:len(data) // 2]
    elif how == "zeros":
        data = bytes(len(data))
    elif how == "bit":
        data = data[:50] + bytes([data[50] ^ 1]) + data[51:]
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["empty", "half", "zeros", "bit", "link", "folder"])
def test_damaged_manifests(served, how):
    """What a power cut may leave, and worse: the one before is taken, for the model and for
    the configuration."""
    moult = served.launch().wait_ready()
    (moult.models / "1.conf").write_text(echo_section("other", max_batch=6, watch_window=0))
    moult.wait_receipt("other", lambda r: r["cause"] == "config" and r["outcome"] == "ok")
    moult.stop()
    folders = [moult.home / "state" / "good" / name for name in (".config", "other")]
    for folder in folders:
        last = newest(folder)
        assert "max_batch = 6\\n" in last.read_text()
        if how in ("link", "folder"):
            last.rename(moult.home / "aside")
        if how == "link":
            last.symlink_to(moult.home / "aside")
        elif how == "folder":
            last.mkdir()
        else:
            hurt(last, how)
    damage(moult, "key")
    moult.launch().wait_ready()
    check_echo(moult, "other")
    config = show_config(moult)
    assert config["models"]["other"]["max_batch"] == 4
    moult.stop()
    for folder in folders[:1]:
        for path in folder.glob("manifest-*"):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
                path.write_text("")
    assert "listeen" in check_refused(moult)


def test_the_clock_is_no_order(served):
    """A clock that was set back makes the newest files look old."""
    moult = served.launch().wait_ready()
    (moult.models / "1.conf").write_text(echo_section("other", max_batch=6, watch_window=0))
    moult.wait_receipt("other", lambda r: r["cause"] == "config" and r["outcome"] == "ok")
    moult.stop()
    for name in (".config", "other"):
        folder = moult.home / "state" / "good" / name
        os.utime(newest(folder), (1, 1))
        assert newest(folder, 1).stat().st_mtime > 1e9
    # The counter of generations is no help either when a power cut took it back.
    (moult.home / "state" / "generation").unlink()
    (moult.home / "state" / "receipts.jsonl").unlink()
    damage(moult, "key")
    moult.launch().wait_ready()
    config = show_config(moult)
    assert config["models"]["other"]["max_batch"] == 6
    moult.stop()
    served.config.write_text(served.head + ENGINES)
    (moult.models / "1.conf").write_text(echo_section("other", max_batch=8, watch_window=0))
    moult.launch().wait_ready().stop()
    text = newest(moult.home / "state" / "good" / "other").read_text()
    assert "max_batch = 8\\n" in text


def find_writers(moult, folder):
    """Children that have @folder open."""
    found = []
    for pid in children(moult.pid):
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") == str(folder)
                   for fd in os.listdir(f"/proc/{pid}/fd")):
                found.append(pid)
        except OSError:
            pass  # it has just ended
    return found


def test_a_disk_that_hangs_holds_nothing_up(served):
    """A lock on the folder stands in for the disk: writers wait for both alike."""
    folder = served.home / "state" / "good" / "other"
    last = newest(folder)
    moult = served.launch().wait_ready()
    moult.note_fds()
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    for size in range(10, 15):
        (moult.models / "1.conf").write_text(echo_section("other", max_batch=size, watch_window=0))
        receipt = moult.wait_receipt("other", lambda r: r["outcome"] == "ok" and
                                     r["number"] == size - 8)
        assert receipt["cause"] == "config"
        check_echo(moult, "other")
    assert newest(folder) == last or "max_batch = 4\\n" in newest(folder).read_text()
    writers = wait_for("five that wait", lambda: (
        found := find_writers(moult, folder)) and len(found) >= 5 and found)
    moult.process.terminate()
    assert moult.process.wait(patience()) == 0
    # They hold nothing of the supervisor's, and finish what they were told.
    assert all(is_alive(pid) for pid in writers)
    moult.launch().wait_ready().process.terminate()
    assert moult.process.wait(patience()) == 0
    os.close(held)
    wait_for("the writers' end", lambda: not any(is_alive(pid) for pid in writers))

    def is_swept():
        try:
            return ("max_batch = 14\\n" in newest(folder).read_text() and
                    len(list(folder.glob("manifest-*"))) == 2)
        except OSError:
            return False  # it has just been swept
    wait_for("the last one and the one before", is_swept)


def test_killed_while_keeping(served):
    """kill -9 of moultd at any moment: the last configuration or the one before."""
    for size in range(10, 18):
        (served.models / "1.conf").write_text(echo_section("other", max_batch=size, watch_window=0))
        moult = served.launch().wait_ready()
        time.sleep((size % 4) * 0.03)  # a moment within the writing, not a wait for it
        moult.kill()
        damage(served, "key")
        moult = served.launch().wait_ready()
        config = show_config(moult)
        assert config["models"]["other"]["max_batch"] in (4, *range(10, size + 1))
        check_echo(moult, "other")
        moult.stop()
        served.config.write_text(served.head + ENGINES)


# Others in the state directory

def test_links_are_not_followed(tmp_path):
    """Who can make a link there is not to be written or read through."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "good").symlink_to(tmp_path / "elsewhere")
    moult = Moult(tmp_path, [echo_section()], supervisor=ENGINES).wait_ready()
    wait_for("the loss", lambda: moult.log_text().count("event=last_good_lost") >= 2)
    assert "is no directory, or a link to one" in moult.log_text()
    moult.stop()
    assert not list((tmp_path / "elsewhere").iterdir())

    (tmp_path / "state" / "good").unlink()
    moult.launch().wait_ready().stop()
    good = tmp_path / "state" / "good"
    good.rename(tmp_path / "moved")
    good.symlink_to(tmp_path / "moved")
    damage(moult, "key")
    assert "listeen" in check_refused(moult)
    good.unlink()
    (tmp_path / "moved").rename(good)
    (good / ".config").rename(tmp_path / "moved")
    (good / ".config").symlink_to(tmp_path / "moved")
    assert "is no directory, or a link to one" in check_refused(moult)


def test_a_folder_that_others_write_to(served):
    """Not believed; made ours again when something is kept there."""
    good = served.home / "state" / "good"
    (good / ".config").chmod(0o770)
    damage(served, "key")
    assert "can be written to by others" in check_refused(served)
    served.config.write_text(served.head + ENGINES)
    served.launch().wait_ready().stop()
    assert (good / ".config").stat().st_mode & 0o777 == 0o700
    for path in (good / ".config").iterdir():
        path.chmod(0o666)
    damage(served, "key")
    assert "others can write to it" in check_refused(served)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_another_user(served, what):
    config = served.home / "state" / "good" / ".config"
    for path in [config] if what == "folder" else config.iterdir():
        os.chown(path, 12345, -1)
    damage(served, "key")
    assert "another user" in (log := check_refused(served)) or "to user 12345" in log
    served.config.write_text(served.head + ENGINES)
    moult = served.launch().wait_ready()
    (moult.models / "1.conf").write_text(echo_section("other", max_batch=6, watch_window=0))
    moult.wait_receipt("other", lambda r: r["cause"] == "config" and r["outcome"] == "ok")
    moult.stop()


def test_state_that_cannot_be_written(tmp_path):
    """Nobody can make a file in /sys, not even root."""
    (tmp_path / "state").symlink_to("/sys/kernel")
    moult = Moult(tmp_path, [echo_section()], supervisor=ENGINES).wait_ready()
    check_echo(moult)
    wait_for("the loss", lambda: moult.log_text().count("event=last_good_lost") >= 2)
    assert moult.reload("echo").returncode == 0
    moult.stop()


def test_closed_standard_descriptors(tmp_path):
    """What is opened first must not take their place: the log would be written into it."""
    (tmp_path / "moult.conf").write_text(
        "[supervisor]\nuser = root\nlisten = 127.0.0.1:0\ncontrol = moultd.sock\n"
        "state_dir = state\n\n" +
        echo_section())

    def run(program, *arguments):
        return subprocess.Popen(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh",
                                 BUILD / program, *arguments])
    moult = run("moultd", "-c", tmp_path / "moult.conf")
    receipts = tmp_path / "state" / "receipts.jsonl"
    try:
        wait_for("the model", lambda: receipts.exists() and receipts.read_text())
        for fd in range(3):
            assert os.readlink(f"/proc/{moult.pid}/fd/{fd}") == "/dev/null"
        # The answer cannot be written, and is not sent back to the supervisor either.
        assert run("moultctl", "-s", tmp_path / "moultd.sock", "status").wait(patience()) == 1
    finally:
        moult.terminate()
        assert moult.wait(patience()) == 0
    assert "event=" not in (tmp_path / "state" / "generation").read_text()
