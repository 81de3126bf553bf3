# SPDX-License-Identifier: Apache-2.0
"""Interpreters that have imported ahead."""
import json
import os
import pathlib
import re
import shutil
import signal
import threading

import pytest

from harness import BUILD, is_alive, wait_for
from test_routes import ask
from test_spare import TOKEN, memory_has, ready_spare, spare

# What takes long to import; it says where and in front of what it was imported.
HEAVY = """
import os
import moult
PID = os.getpid()
ENVIRON = dict(os.environ)
SECRETS = dict(moult.secrets)
VERSION = 1
"""
APP = """
import json
import os
import moult
import heavy

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"secret": moult.secrets["token"], "pid": os.getpid(),
                        "TOKEN": os.environ.get("token"), "heavy": vars(heavy)},
                       default=str).encode()]
"""

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")


@pytest.fixture
def home(tmp_path):
    """An application with its secrets, and a folder of packages beside it."""
    home = tmp_path / "home"
    packages = tmp_path / "lib" / "site-packages"
    (home / "secrets").mkdir(parents=True)
    packages.mkdir(parents=True)
    (packages / "heavy.py").write_text(HEAVY)
    (home / "app.py").write_text(APP)
    write_secret(home, TOKEN)
    return home


def package(home, name, text):
    """Replaced by another file, as installers do."""
    path = home.parent / "lib" / "site-packages" / f"{name}.py"
    path.with_suffix(".new").write_text(text)
    os.rename(path.with_suffix(".new"), path)


def write_secret(home, value):
    (home / "new").write_text(value)
    os.rename(home / "new", home / "secrets" / "token")


def section(home, **keys):
    lines = {"engine": "python", "wsgi": "app:app", "working_directory": home, "route": "/",
             "threads": 2, "secrets": home / "secrets", "option.secrets_env": "token",
             "environment.PYTHONPATH": home.parent / "lib" / "site-packages",
             "environment.NAME": "given", "spare": "yes", "preload": "heavy", **keys}
    return "[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()
                                     if value is not None)


def said(moult):
    status, _, body = ask(moult, "GET", "/")
    assert status == 200, body
    return json.loads(body)


def rotate(moult, home, value):
    """What is answered by the generation that has the secret @value."""
    write_secret(home, value)

    def is_served():
        answer = said(moult)
        return answer["secret"] == value and answer
    return wait_for("the new secret", is_served)


class Load:
    """Clients that ask without a pause; what was answered wrongly."""

    def __init__(self, moult, clients=3):
        self.wrong, self.over = [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(moult,)) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, moult):
        while not self.over.is_set():
            status, _, body = ask(moult, "GET", "/")
            if status != 200 or b"secret" not in body:
                self.wrong.append((status, body))

    def stop_and_check(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert self.wrong == []


@pytest.mark.parametrize("strategy", ("overlap", "staged", "stop-first"))
def test_a_rotation_takes_it(start, home, strategy):
    moult = start(section(home, strategy=strategy))
    pid = ready_spare(moult, "python")
    assert not memory_has(pid, TOKEN.encode())
    moult.note_fds()
    load = Load(moult)
    for i in range(3):
        answer = rotate(moult, home, f"rotated {i}")
        assert answer["pid"] == pid and answer["TOKEN"] == f"rotated {i}", answer
        # Imported before it was known for whom, in the environment of the section.
        assert answer["heavy"]["PID"] == pid and answer["heavy"]["SECRETS"] == {}, answer
        assert answer["heavy"]["ENVIRON"]["NAME"] == "given"
        assert "token" not in answer["heavy"]["ENVIRON"]
        receipt = moult.wait_receipt("app", lambda r: r["to"]["pid"] == pid)
        assert receipt["spare"] is True and receipt["strategy"] == strategy, receipt
        pid = ready_spare(moult, "python", other_than=pid)
    load.stop_and_check()
    found = spare(moult, "python")
    assert found["taken"] == 3 and found["lost"] == 0 and found["preload"] == "heavy", found
    assert found["python"] == "/usr/bin/python3"


def test_a_crash_takes_it(start, home):
    moult = start(section(home, replay="POST"))
    pid = ready_spare(moult, "python")
    load = Load(moult)
    os.kill(moult.status("app")["pid"], signal.SIGKILL)
    wait_for("the spare", lambda: said(moult)["pid"] == pid)
    load.stop_and_check()


def test_killed_and_stopped_ones_lose_nothing(start, home):
    """While they wait; and when they are taken a loader is started in their place."""
    moult = start(section(home))
    moult.note_fds()
    load = Load(moult)
    pid = ready_spare(moult, "python")
    os.kill(pid, signal.SIGKILL)
    assert rotate(moult, home, "one")["pid"] != pid
    wait_for("its loss", lambda: spare(moult, "python")["lost"] >= 1)
    pid = ready_spare(moult, "python", other_than=pid)
    os.kill(pid, signal.SIGSTOP)
    assert rotate(moult, home, "two")["pid"] != pid
    wait_for("its end", lambda: not is_alive(pid))
    pid = ready_spare(moult, "python", other_than=pid)
    assert rotate(moult, home, "three")["pid"] == pid
    load.stop_and_check()


def test_gives_way_to_a_reload(start, home):
    """Memory for what serves, a bare loader beside it, and no more: another's spare goes."""
    moult = start(section(home, spare="no", preload=None),
                  section(home, route="/b/", preload="heavy").replace("model app", "model b"))
    pid = ready_spare(moult, "python")
    held = spare(moult, "python")["anon_bytes"]
    decision = moult.explain("app")
    need = max(decision["need_bytes"], decision["loading_bytes"])
    budget = decision["used_bytes"] - held // 2 + need + decision["headroom_bytes"]
    moult.config.write_text(moult.head + f"[device host]\nbudget = {budget}\nreserve = 0\n")
    wait_for("the budget", lambda: moult.explain("app")["budget_bytes"] == budget)
    load = Load(moult)
    assert moult.reload("app").returncode == 0
    load.stop_and_check()
    wait_for("its end", lambda: not is_alive(pid))
    assert 'reason="a reload needs its memory"' in moult.log_text()  # said before the kill


@pytest.mark.parametrize("text, sentence", (
    (None, "importing 'other' ahead raised ModuleNotFoundError: No module named 'other': leave it "
           "out of preload, or install it for /usr/bin/python3"),
    ("raise ValueError('it is broken')",
     "importing 'other' ahead raised ValueError: it is broken: leave it out"),
    ("import sys; sys.exit(3)", "importing 'other' ahead raised SystemExit: 3: leave it out")))
def test_a_module_that_fails_is_named(start, home, text, sentence):
    if text:
        package(home, "other", text)
    moult = start(section(home, preload="other, heavy"))
    pid = ready_spare(moult, "python")
    assert "event=preload_failed" in moult.log_text() and sentence in moult.log_text()
    answer = rotate(moult, home, "one")
    assert answer["pid"] == pid and answer["heavy"]["PID"] == pid


@pytest.mark.parametrize("text, sentence", (
    ("import socket; LISTENS = socket.create_server(('127.0.0.1', 0))",
     "preload: module 'other' listens on a socket when it is imported: leave it out"),
    ("import os; os._exit(3)", "exit code 3")))
def test_a_module_that_makes_it_useless(start, home, text, sentence):
    package(home, "other", text)
    moult = start(section(home, preload="other"))
    wait_for("its loss", lambda: sentence in (spare(moult, "python")["last_error"] or ""))
    assert spare(moult, "python")["state"] != "ready"
    assert rotate(moult, home, "one")["heavy"]["SECRETS"] == {"token": "one"}


def test_modules_of_the_application_are_left_alone(start, home):
    (home / "helper.py").write_text("raise ValueError('imported ahead')\n")
    path = f"{home}:{home.parent}/lib/site-packages"
    moult = start(section(home, preload="helper, heavy", **{"environment.PYTHONPATH": path}))
    pid = ready_spare(moult, "python")
    assert "module 'helper' is the application's own" in moult.log_text()
    assert "imported ahead" not in moult.log_text()
    assert rotate(moult, home, "one")["pid"] == pid


def test_what_stands_before_a_package_counts(start, home):
    """The application's folder is the first one that it imports from."""
    moult = start(section(home))
    pid = ready_spare(moult, "python")
    (home / "heavy.py").write_text(HEAVY.replace("VERSION = 1", "VERSION = 'own'"))
    answer = rotate(moult, home, "one")
    assert answer["pid"] != pid and answer["heavy"]["VERSION"] == "own"
    assert "stands before module 'heavy', which was imported ahead" in moult.log_text()
    wait_for("the refusal", lambda: "preload: '" in (spare(moult, "python")["last_error"] or ""))
    assert rotate(moult, home, "two")["heavy"]["VERSION"] == "own"


def test_a_changed_package(start, home):
    """What was imported ahead is not what would be imported now."""
    moult = start(section(home))
    pid = ready_spare(moult, "python")
    load = Load(moult)
    # Of another length each: Python takes a compiled file for current whose source has the same
    # size and was changed within the same second.
    package(home, "heavy", HEAVY.replace("VERSION = 1", "VERSION = 22"))
    answer = rotate(moult, home, "one")
    assert answer["pid"] != pid and answer["heavy"]["VERSION"] == 22, answer
    load.stop_and_check()
    # Also without any reload, by the look that it takes now and then.
    pid = ready_spare(moult, "python", other_than=pid)
    package(home, "heavy", HEAVY.replace("VERSION = 1", "VERSION = 333"))
    wait_for("its end", lambda: re.search(r"event=spare_ended .*site-packages' has changed",
                                          moult.log_text()))
    pid = ready_spare(moult, "python", other_than=pid)
    answer = rotate(moult, home, "two")
    assert answer["pid"] == pid and answer["heavy"]["VERSION"] == 333, answer


def test_a_changed_interpreter(start, home, tmp_path):
    python = tmp_path / "python"
    python.symlink_to("/usr/bin/python3")
    moult = start(section(home, python=python))
    pid = ready_spare(moult, "python")
    shutil.copy2(os.path.realpath("/usr/bin/python3"), tmp_path / "other")
    (tmp_path / "link").symlink_to("other")
    os.rename(tmp_path / "link", python)
    wait_for("its end", lambda: 'reason="the interpreter was replaced"' in moult.log_text())
    pid = ready_spare(moult, "python", other_than=pid)
    assert os.readlink(f"/proc/{pid}/exe") == str(tmp_path / "other")
    assert rotate(moult, home, "one")["pid"] == pid


def test_another_list_of_modules(start, home):
    """It is the spare's alone: no generation follows."""
    package(home, "other", "")
    moult = start(section(home))
    pid = ready_spare(moult, "python")
    (moult.models / "0.conf").write_text(section(home, preload="other"))
    wait_for("its end", lambda: not is_alive(pid))
    pid = ready_spare(moult, "python")
    assert spare(moult, "python")["preload"] == "other"
    assert len(moult.receipts("app")) == 1
    answer = rotate(moult, home, "one")
    assert answer["pid"] == pid and answer["heavy"]["SECRETS"] == {"token": "one"}


def test_no_such_interpreter(start, home, tmp_path):
    """The spare's trouble is the spare's."""
    python = tmp_path / "python"
    python.symlink_to("/usr/bin/python3")
    moult = start(section(home, python=python))
    pid = ready_spare(moult, "python")
    python.unlink()
    wait_for("its end", lambda: not is_alive(pid))
    wait_for("the reason", lambda: "cannot be started" in
             (spare(moult, "python")["last_error"] or ""))
    assert said(moult)["secret"] == TOKEN


def test_children_hold_nothing_of_it(start, home):
    """Descriptors that a module opened ahead are not the loader's: a fork keeps them."""
    package(home, "opens", "OPEN = open(__file__)\n")
    (home / "app.py").write_text("""
import os
import opens
import moult

def app(environ, start_response):
    read, write = os.pipe()
    if os.fork() == 0:
        links = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                 if os.path.exists(f"/proc/self/fd/{n}")]
        opens.OPEN.seek(0)
        os.write(write, f"{opens.OPEN.read()} {links}".encode())
        os._exit(0)
    os.close(write)
    os.wait()
    start_response("200 OK", [])
    return [moult.secrets["token"].encode() + b" " + os.read(read, 4096)]
""")
    moult = start(section(home, preload="opens"))
    pid = ready_spare(moult, "python")
    write_secret(home, "one")
    wait_for("the new secret", lambda: ask(moult, "GET", "/")[2].startswith(b"one"))
    body = ask(moult, "GET", "/")[2].decode()
    assert moult.status("app")["pid"] == pid
    assert "OPEN = open" in body and "opens.py" in body, body
    assert "socket:" not in body and "memfd" not in body, body


def test_dies_with_moultd(start, home):
    moult = start(section(home))
    pid = ready_spare(moult, "python")
    assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    moult.kill()
    wait_for("its end", lambda: not is_alive(pid))
