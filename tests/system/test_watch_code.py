# SPDX-License-Identifier: Apache-2.0
"""The source of an application is watched, for those who write it."""
import os
import subprocess

import pytest

from harness import BUILD, wait_for
from test_python import home, section  # noqa: F401 (a fixture)
from test_routes import ask

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")

APP = ("from inner import word\n"
       "def app(environ, start_response):\n"
       "    start_response('200 OK', [])\n"
       "    return [word.WORD]\n")


@pytest.fixture
def written(start, home):  # noqa: F811
    (home / "inner").mkdir()
    (home / "inner" / "word.py").write_text("WORD = b'first'\n")
    (home / "app.py").write_text(APP)
    return start(section(home, watch_code="yes"))


def reloads(moult):
    return [r for r in moult.receipts("app") if r["cause"] == "code"]


def put(path, text):
    """As editors do."""
    path.with_suffix(".tmp").write_text(text)
    os.rename(path.with_suffix(".tmp"), path)


def test_a_change_is_served(written, home):  # noqa: F811
    moult = written
    assert ask(moult, "GET", "/")[2] == b"first"
    for word in ("second", "other", "third"):
        put(home / "inner" / "word.py", f"WORD = b'{word}'\n")
        wait_for(word, lambda: ask(moult, "GET", "/")[2] == word.encode())
    # Written in place.
    (home / "inner" / "word.py").write_text("WORD = b'in place'\n")
    wait_for("what was written in place", lambda: ask(moult, "GET", "/")[2] == b"in place")
    assert all(r["outcome"] == "ok" for r in reloads(moult))


def test_a_folder_that_comes_is_watched_too(written, home):  # noqa: F811
    moult = written
    (home / "late" / "deep").mkdir(parents=True)
    (home / "late" / "deep" / "more.py").write_text("WORD = b'1'\n")
    put(home / "inner" / "word.py", "from late.deep.more import WORD\n")
    wait_for("what it says", lambda: ask(moult, "GET", "/")[2] == b"1")
    put(home / "late" / "deep" / "more.py", "WORD = b'2'\n")
    wait_for("what it says now", lambda: ask(moult, "GET", "/")[2] == b"2")


def test_a_broken_change_leaves_the_old_one_serving(written, home):  # noqa: F811
    moult = written
    put(home / "inner" / "word.py", "WORD = no_such_name\n")
    receipt = moult.wait_receipt("app", lambda r: r["cause"] == "code"
                                 and r["outcome"] == "failed")
    assert "no_such_name" in receipt["reason"], receipt
    wait_for("the traceback", lambda: "NameError: name 'no_such_name'" in moult.log_text())
    assert ask(moult, "GET", "/")[2] == b"first"
    put(home / "inner" / "word.py", "WORD = b'mended'\n")
    wait_for("the mended one", lambda: ask(moult, "GET", "/")[2] == b"mended")


def test_what_is_no_source_of_its_own_makes_no_reload(written, home):  # noqa: F811
    moult = written
    (home / "notes.txt").write_text("x")
    for folder in (".git", "__pycache__", "venv"):
        (home / folder).mkdir(exist_ok=True)
    (home / "venv" / "pyvenv.cfg").write_text("")
    for folder in (".git", "__pycache__", "venv"):
        (home / folder / "a.py").write_text("x")
    (home / "loop").symlink_to(home)
    # A real change comes after these, and is the first that is seen.
    put(home / "inner" / "word.py", "WORD = b'real'\n")
    wait_for("the real one", lambda: ask(moult, "GET", "/")[2] == b"real")
    wait_for("its receipt", lambda: reloads(moult))
    assert len(reloads(moult)) == 1
    (moult.models / "0.conf").write_text(section(home))
    wait_for("no more watching", lambda: "watch_code = yes" not in
             moult.ctl("show-config", "app").stdout)


def test_it_needs_a_directory(tmp_path):
    config = tmp_path / "moult.conf"
    config.write_text("[supervisor]\nuser = root\n"
                      "listen = 127.0.0.1:1\n[model app]\nengine = python\n"
                      "wsgi = app:app\nroute = /\nwatch_code = yes\n")
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            check=False)
    assert result.returncode and "watch_code: [model app] names no working_directory" in \
        result.stderr, result


def test_a_large_tree_holds_nobody_up(start, home):  # noqa: F811
    """Whatever is touched at once: one look, and requests in between."""
    for i in range(200):
        folder = home / f"part{i}"
        folder.mkdir()
        for j in range(20):
            (folder / f"m{j}.py").write_text("")
    (home / "data").mkdir()
    for i in range(3000):
        (home / "data" / f"{i}.png").write_text("")
    (home / "inner").mkdir()
    (home / "inner" / "word.py").write_text("WORD = b'first'\n")
    (home / "app.py").write_text(APP)
    moult = start(section(home, watch_code="yes"))
    before = moult.log_text().count("event=code_changed")
    for i in range(200):
        (home / f"part{i}" / "m0.py").write_text("x = 1\n")
        if i % 20 == 0:
            assert ask(moult, "GET", "/")[2] == b"first"
    put(home / "inner" / "word.py", "WORD = b'second'\n")
    wait_for("the change", lambda: ask(moult, "GET", "/")[2] == b"second")
    # Not one for each folder.
    assert moult.log_text().count("event=code_changed") - before < 20
    assert "event=code_limit" not in moult.log_text()


def test_an_application_that_writes_its_own_source_is_slowed_down(start, home):  # noqa: F811
    (home / "app.py").write_text(
        "import time\n"
        "open('version.py', 'w').write(f'V = {time.time()}\\n')\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'x']\n")
    moult = start(section(home, watch_code="yes"))
    wait_for("a word about it", lambda: "event=code_restless" in moult.log_text())
    n = len(reloads(moult))
    assert n < 12 and ask(moult, "GET", "/")[2] == b"x"
