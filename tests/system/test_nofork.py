# SPDX-License-Identifier: Apache-2.0
"""An application that forks in each request, where no fork succeeds: each such request is a 500, and
nothing else is. Under gunicorn the worker lives on and answers /health with 200, and nobody is told;
with unready_errors the model is not ready for as long as it lasts."""
import os
import signal
import threading

import pytest

from harness import BUILD, children, wait_for
from test_python import home, section, write_secret  # noqa: F401 (a fixture)
from test_routes import ask
from test_server import Clients

APP = """
import json
import multiprocessing
import os
import moult

context = multiprocessing.get_context("fork")
ballast = bytearray(b"x") * (64 << 20)

def work(queue, text):
    queue.put((os.getpid(), text.split()))

def split(text):
    queue = context.SimpleQueue()
    process = context.Process(target=work, args=(queue, text))
    process.start()
    pid, words = queue.get()
    process.join()
    return {"pid": pid, "parent": os.getpid(), "words": words, "secret": moult.secrets["token"]}

def app(environ, start_response):
    if environ["PATH_INFO"] == "/health":
        said = {"status": "ok"}
    else:
        said = split(environ["wsgi.input"].read().decode())
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]
"""

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")


@pytest.fixture
def forks(start, home):  # noqa: F811
    """moultd, and the file while which no fork succeeds."""
    (home / "app.py").write_text(APP)
    switch = home / "no-memory"
    moult = start(section(home, unready_errors=50, replay="POST", **{
        "environment.LD_PRELOAD": BUILD / "nofork.so", "environment.NOFORK": switch}))
    return moult, switch


def split(moult):
    status, _, body = ask(moult, "POST", "/split", body=b"to be or not")
    return status, body


def is_split(moult):
    status, body = split(moult)
    return status == 200 and b'["to", "be", "or", "not"]' in body


def test_each_is_that_requests_alone(forks, home):  # noqa: F811
    moult, switch = forks
    moult.note_fds()
    clients = Clients(moult, lambda body: body == b'{"status": "ok"}', path="/health")
    loader = moult.status("app")["pid"]
    assert is_split(moult)
    for _ in range(3):
        switch.touch()
        for _ in range(5):
            status, body = split(moult)
            assert status == 500, body
        assert "OSError: [Errno 12] Cannot allocate memory" in moult.log_text()
        assert moult.status("app")["pid"] == loader
        switch.unlink()
        assert is_split(moult)
    # A loader that dies then, and a new secret, need no fork of anything large.
    switch.touch()
    os.kill(loader, signal.SIGKILL)
    wait_for("another loader", lambda: moult.status("app")["pid"] not in (0, loader))
    assert split(moult)[0] == 500
    write_secret(home, "1")
    wait_for("the new secret", lambda: moult.status("app")["generation"] == 3)
    assert split(moult)[0] == 500
    switch.unlink()
    wait_for("a split", lambda: is_split(moult))
    assert b'"secret": "1"' in split(moult)[1]
    clients.wait_more()
    clients.stop_and_check()
    assert not children(moult.status("app")["pid"])


def test_one_that_goes_on_is_not_ready(forks):
    """And is ready again by itself."""
    moult, switch = forks

    def ready():
        status, body = moult.get("/v2/health/ready")
        return status, body.decode()
    assert is_split(moult) and ready()[0] == 200
    switch.touch()

    def is_unready():
        assert split(moult)[0] == 500 and ask(moult, "GET", "/health")[0] == 200
        return ready()[0] == 503
    wait_for("a word about it", lambda: split(moult)[0] == 500 and is_unready())
    assert "of its last" in ready()[1] and "answers are errors (unready_errors = 50)" in ready()[1]
    assert moult.get("/v2/models/app/ready")[0] == 503
    assert b'moult_ready{model="app"} 0' in wait_for("the metric", lambda: (
        lambda page: b'moult_ready{model="app"} 0' in page and page)(moult.get("/metrics")[1]))
    assert moult.get("/healthz")[0] == 200 and moult.status("app")["generation"] == 1
    switch.unlink()
    wait_for("readiness", lambda: is_split(moult) and ready()[0] == 200)
    # Few answers say nothing.
    assert moult.reload("app").returncode == 0


def test_a_child_that_is_killed_is_that_requests(start, home):  # noqa: F811
    """As the kernel does it where memory ends: the request waits for nobody, and its client gets
    the application's answer."""
    (home / "app.py").write_text(APP.replace(
        "def work(queue, text):\n", "def work(queue, text):\n    os.kill(os.getpid(), 9)\n").replace(
            "    pid, words = queue.get()\n    process.join()\n",
            "    process.join()\n    if process.exitcode:\n"
            "        raise RuntimeError(f'the child ended with {process.exitcode}')\n"))
    moult = start(section(home))
    loader = moult.status("app")["pid"]
    threads = [threading.Thread(target=split, args=(moult,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "RuntimeError: the child ended with -9" in moult.log_text()
    assert ask(moult, "GET", "/health")[0] == 200 and moult.status("app")["pid"] == loader
