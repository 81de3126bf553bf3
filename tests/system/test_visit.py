# SPDX-License-Identifier: Apache-2.0
"""What hosts is asked its first request before a client asks."""
import os
import signal

import pytest

from harness import BUILD, wait_for
from test_python import home, section as python_section, write_secret  # noqa: F401 (a fixture)
from test_routes import ENGINES, ask, section

LAZY = """
import flask_like
calls = 0

def app(environ, start_response):
    global calls
    calls += 1
    said = environ["wsgi.input"].read().decode()
    start_response("200 OK", [])
    return [f"{calls} {environ['REQUEST_METHOD']} {environ['PATH_INFO']} {said}".encode()]
"""


def switch(moult, text):
    """A new section; its receipt."""
    n = len(moult.receipts("app"))
    (moult.models / "0.conf").write_text(text)
    return wait_for("a receipt", lambda: moult.receipts("app")[n:])[0]


@pytest.fixture
def visit(tmp_path):
    def write(text):
        path = tmp_path / "first.http"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path
    return write


@pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                    reason="the python engine is not built here")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_application_has_been_asked(start, home, visit, end):  # noqa: F811
    (home / "app.py").write_text(LAZY.replace("import flask_like\n", ""))
    path = visit(end.join(["POST /first?x HTTP/1.1", "Content-Type: text/plain", "", ""]) + "hello")
    moult = start(python_section(home, warmup_request=path, warmup_runs=4))
    assert ask(moult, "POST", "/x", body=b"yes")[2] == b"5 POST /x yes"
    # So is the next one, and one in the place of a loader that died by itself.
    write_secret(home, "1")
    wait_for("the next", lambda: moult.status("app")["generation"] == 2)
    assert ask(moult, "GET", "/y")[2] == b"5 GET /y "
    receipt = moult.receipts("app")[-1]
    assert receipt["outcome"] == "ok" and receipt["phases_ms"]["warmup"] > 0, receipt
    # Whoever waits for one that was killed is not kept waiting for more.
    os.kill(moult.status("app")["pid"], signal.SIGKILL)
    assert wait_for("an answer", lambda: ask(moult, "GET", "/y"))[2] == b"1 GET /y "


@pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                    reason="the python engine is not built here")
def test_it_comes_from_this_machine(start, home, visit):  # noqa: F811
    """Applications rely on that clients have an address."""
    (home / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [environ['REMOTE_ADDR'].encode()]\n")
    moult = start(python_section(home, warmup_request=visit("GET /\n\n")))
    assert ask(moult, "GET", "/")[2] == b"127.0.0.1"


def test_nobody_counts_it(start, visit):
    moult = start(section(warmup_request=visit("GET /app/\n\n")), supervisor=ENGINES)
    assert moult.status("app")["requests"]["accepted"] == 0
    assert ask(moult, "GET", "/app/")[0] == 200
    assert moult.status("app")["requests"]["answered"] == 1


@pytest.mark.parametrize("text, said", [
    ("GET /app/x\nX-Status: 404\n\n", "warm-up request: GET /app/x was answered with status 404, "
                                      "and must be with one below 400"),
    ("GET /app/x\nX-Status: 500\nX-Action: fault\n\n", "was answered with status 500"),
    ("GET /app/x\nX-Body: 10\nX-Parts: 3\nX-Action: broken\n\n", "the answer was broken off"),
    ("GET /app/x\nX-Action: crash\n\n", "signal"),
    ("GET /app/x\nX-Action: fail\n\n", "warm-up request: "),
    ("", "must be a file of 1 to"),
    ("GET\n\n", "line 1: a request begins with a line such as POST /path"),
    ("get /app/\n\n", "line 1: "),
    ("GET app\n\n", "line 1: "),
    ("GET /a b\n\n", "line 1: "),
    ("GET /\x7f\n\n", "line 1: "),
    ("GET /app/", "line 1: "),
    ("GET /app/\nno field\n\n", "line 2: "),
    ("GET /app/\nA: b", "line 2: "),
    ("GET /app/\nA: b\n: c\n\n", "line 3: "),
    ("GET /app/\nA: b\nC: \x01\n\n", "line 3: "),
    ("GET /app/\n" + "A: b\n" * 100 + "\n", "a request begins with"),
    (b"GET /app/\nA\0: b\n\n", "line 2: "),
    (b"\xff\xfe\n\n", "line 1: "),
])
def test_what_is_wrong_is_named(start, visit, text, said):
    """And the old one serves on."""
    moult = start(section(version=1), supervisor=ENGINES)
    receipt = switch(moult, section(version=2, warmup_request=visit(text)))
    assert receipt["outcome"] == "failed" and said in receipt["reason"], receipt["reason"]
    assert ask(moult, "GET", "/app/")[0] == 200
    assert moult.status("app")["generation"] == 1


def test_one_that_is_not_there_is_named(start, tmp_path):
    moult = start(section(version=1), supervisor=ENGINES)
    receipt = switch(moult, section(version=2, warmup_request=tmp_path / "none"))
    assert "cannot open warmup_request" in receipt["reason"], receipt


def test_one_that_is_never_answered_ends_in_time(start, visit, tmp_path):
    moult = start(section(version=1), supervisor=ENGINES)
    text = f"GET /app/\nX-Until: {tmp_path}/never\n\n"
    receipt = switch(moult, section(version=2, warmup_request=visit(text), warmup_timeout="200ms",
                                    stop_timeout="100ms"))
    assert receipt["outcome"] == "failed" and "warm" in receipt["reason"], receipt
    assert ask(moult, "GET", "/app/")[0] == 200


def test_what_comes_meanwhile_is_told_to_wait(start, visit, tmp_path):
    """A candidate that hangs keeps what is newer waiting, and people see why."""
    moult = start(section(version=1), supervisor=ENGINES)
    text = f"GET /app/\nX-Until: {tmp_path}/gate\n\n"
    (moult.models / "0.conf").write_text(section(version=2, warmup_request=visit(text)))
    wait_for("a candidate", lambda: moult.status("app")["candidate"])
    (moult.models / "0.conf").write_text(section(version=3))
    wait_for("a word", lambda: "event=reload_pending model=app cause=config" in moult.log_text())
    (tmp_path / "gate").touch()
    wait_for("the newest", lambda: moult.status("app")["generation"] == 3)


def test_heads_without_a_body_are_whole(start, visit):
    """A file that ends with its head, with or without the empty line."""
    moult = start(section(version=1), supervisor=ENGINES)
    for version, text in enumerate(("GET /app/\n", "GET /app/\nA: b\n", "GET /app/\nA: b\n\n"), 2):
        receipt = switch(moult, section(version=version, warmup_request=visit(text)))
        assert receipt["outcome"] == "ok", receipt
