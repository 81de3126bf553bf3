# SPDX-License-Identifier: Apache-2.0
"""Applications of Python, in the interpreter that they have, behind moultd."""
import json
import os
import signal
import subprocess
import threading

import pytest

from harness import BUILD, free_port, is_alive, wait_for
from test_routes import ask

APP = """
import moult

def app(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("it was asked to fail")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['PATH_INFO']} {moult.secrets['token']}".encode()]
"""

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")


@pytest.fixture
def home(tmp_path):
    """An application with its secrets."""
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    (home / "app.py").write_text(APP)
    write_secret(home, "0")
    return home


def write_secret(home, value):
    (home / "new").write_text(value)
    os.rename(home / "new", home / "secrets" / "token")


def section(home, **keys):
    lines = {"engine": "python", "wsgi": "app:app", "working_directory": home, "route": "/",
             "threads": 2, "secrets": home / "secrets", **keys}
    return "[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()
                                     if value is not None)


def rotate_and_kill(moult, home, clients=3):
    """Under load: three new secrets, each of which is served, and three loaders killed; what was
    answered wrongly."""
    wrong, over = [], threading.Event()

    def load():
        while not over.is_set():
            status, _, body = ask(moult, "GET", "/x")
            if status != 200 or not body.startswith(b"/x "):
                wrong.append((status, body))
    threads = [threading.Thread(target=load) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for i in range(1, 4):
        write_secret(home, str(i))
        wait_for("the new secret", lambda: ask(moult, "GET", "/x")[2] == b"/x %d" % i)
        os.kill(moult.status("app")["pid"], signal.SIGKILL)
        wait_for("another loader", lambda: moult.status("app")["pid"])
    over.set()
    for thread in threads:
        thread.join()
    return wrong


def test_reloads_and_kills_lose_nothing(start, home):
    moult = start(section(home))
    moult.note_fds()
    assert rotate_and_kill(moult, home) == []


def test_an_error_is_that_requests_alone(start, home):
    moult = start(section(home))
    status, _, body = ask(moult, "GET", "/fail")
    assert status == 500 and b"asked to fail" not in body, body
    assert "ValueError: it was asked to fail" in moult.log_text()
    assert ask(moult, "GET", "/x")[0] == 200


def test_flask(start, home):
    """An application of Flask's, unchanged."""
    if subprocess.run(["/usr/bin/python3", "-c", "import flask"], check=False,
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("/usr/bin/python3 has no flask")
    (home / "app.py").write_text(
        "import flask\n"
        "app = flask.Flask(__name__)\n"
        "@app.post('/echo/<name>')\n"
        "def echo(name):\n"
        "    return {'name': name, 'said': flask.request.get_json()}\n")
    moult = start(section(home))
    status, fields, body = ask(moult, "POST", "/echo/a%20b", [
        ("Content-Type", "application/json")], b'["x"]')
    assert status == 200 and json.loads(body) == {"name": "a b", "said": ["x"]}, body
    assert ("Content-Type", "application/json") in fields, fields
    assert ask(moult, "GET", "/echo/a")[0] == 405 and ask(moult, "GET", "/none")[0] == 404


@pytest.mark.parametrize("keys, source, said", [
    ({"python": "/nonexistent/python"}, None, "/nonexistent/python"),
    ({"wsgi": "nothere:app"}, None, "nothere"),
    ({"wsgi": "app:missing"}, None, "missing"),
    ({}, "import nosuchmodule\n", "nosuchmodule"),
    ({}, "raise SystemExit(3)\n", "sys.exit(3)"),
    ({}, "def app(:\n", "app.py"),
])
def test_what_is_wrong_is_named(start, home, keys, source, said):
    """The old generation serves on."""
    moult = start(section(home))
    if source:
        (home / "app.py").write_text(source)
    (moult.models / "0.conf").write_text(section(home, **{**keys, "threads": 1}))
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert said in receipt["reason"], receipt
    assert ask(moult, "GET", "/x")[2] == b"/x 0"


def test_the_environment_is_the_sections(start, home):
    (home / "app.py").write_text(
        "import os\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [os.environ.get('COLOUR', 'none').encode()]\n")
    moult = start(section(home, **{"environment.COLOUR": "blue"}))
    assert ask(moult, "GET", "/")[2] == b"blue"


def test_without_a_configuration(home, tmp_path):
    """One command serves it, in the virtual environment that lies beside it; its configuration is
    printed, and nothing stays behind."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", home / ".venv"], check=True)
    (home / "app.py").write_text(APP.replace("environ['PATH_INFO']}", "sys.prefix}").replace(
        "import moult\n", "import sys\nimport moult\n"))
    prefix = str(home / ".venv").encode()
    port = free_port()
    runtime = tmp_path / "run"
    runtime.mkdir()
    process = subprocess.Popen(
        [BUILD / "moultd", "--wsgi", "app:app", "--secrets", "secrets", "--listen",
         f"127.0.0.1:{port}"], cwd=home, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)})

    class Served:
        pass
    moult = Served()
    moult.port = port

    def answer():
        assert process.poll() is None
        try:
            return ask(moult, "GET", "/x")
        except OSError:
            return None
    try:
        wait_for("an answer", lambda: (answer() or [0])[0] == 200)
        assert answer()[2] == prefix + b" 0"
        write_secret(home, "1")
        wait_for("the new secret", lambda: answer()[2] == prefix + b" 1")
        control = next(runtime.glob("moult-*/moultd.sock"))
        status = subprocess.run([BUILD / "moultctl", "-s", control, "--json", "status"],
                                capture_output=True, text=True, check=True).stdout
        loader = json.loads(status.splitlines()[-1])["models"][0]["pid"]
    finally:
        process.send_signal(signal.SIGTERM)
        printed = process.communicate()[0]
    assert process.returncode == 0
    assert not is_alive(loader) and not list(runtime.iterdir())
    # What was printed is a configuration.
    config = tmp_path / "kept.conf"
    config.write_text(printed)
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0 and "wsgi = app:app" in printed, (result, printed)


@pytest.mark.parametrize("arguments, said", [
    (["--listen", "127.0.0.1:1"], "there is nothing to serve"),
    (["--wsgi", "a:b", "-c", "x"], "leave the options of an application out"),
    (["--wsgi", "a"], "moultd: --wsgi: 'a' names no object of a module"),
    (["--asgi", "a"], "moultd: --asgi: 'a' names no object of a module"),
    (["--model", "a"], "moultd: --model: 'a' names no class of a module"),
    (["--wsgi", "no.py:a"], "moultd: --wsgi: {home}/no.py: No such file"),
    (["--model", "no.mar"], "moultd: --model: {home}/no.mar: No such file"),
    (["--wsgi", "a:b", "--threads", "none"], "moultd: --threads: 'none' "),
    (["--wsgi", "a:b", "--replicas", "0"], "moultd: --replicas: '0' is out of range"),
    (["--wsgi", "a:b", "--listen", "x"], "moultd: --listen: 'x' is no address"),
    (["--wsgi", "a:b", "--route", "x"], "moultd: --route: 'x' is no prefix"),
    (["--wsgi", "a:b", "--secrets", "no"], "moultd: --secrets: secrets directory {home}/no: "),
    (["--wsgi", "a:b", "--secrets", "no"], "or remove --secrets\n"),
    (["--wsgi", "a:b", "--python", "no"], "moultd: --python: {home}/no: No such file"),
    (["--command", "x"], "moultd: --command: neither {port} nor {socket} is in it"),
    (["--command", "no-{port}"], "moultd: --command: there is no program 'no-{port}'"),
    (["--command", "'x"], "moultd: --command: a quotation"),
    (["--command", "true {port}", "--ready", "x"], "moultd: --ready: 'x' is no path"),
])
def test_wrong_arguments_are_named(home, tmp_path, arguments, said):
    """Before anything is printed that could be taken for what is served."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    result = subprocess.run([BUILD / "moultd", *arguments], cwd=home, capture_output=True, text=True,
                            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)}, check=False)
    assert result.returncode == 2 and said.replace("{home}", str(home)) in result.stderr, result
    assert not result.stdout and "moult-" not in result.stderr, result
    assert not list(runtime.iterdir())
