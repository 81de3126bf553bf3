# SPDX-License-Identifier: Apache-2.0
"""The ways in which what is hosted can be wrong, one after the other, under traffic: each has a
sentence of its own that names the thing and what to do, what served goes on, and nobody else's
request is lost. docs/measurements/hosting.md has the list."""
import os
import subprocess

import pytest

from harness import BUILD, stretch, wait_for
from test_python import home, section as python_section  # noqa: F401 (a fixture)
from test_routes import ask
from test_server import PROGRAM, PYTHON, Clients
from test_wsgi_wrong import APP as WSGI, ROWS as WSGI_ROWS, outcome

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists() or
                                not (BUILD / "moult-engine-server.so").exists(),
                                reason="an engine that hosts is not built here")

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""
NO_IMPORT, NO_START = {"stage_timeout": stretch(300)}, {"warmup_timeout": stretch(300)}
NO_SERVER = {"commit_timeout": stretch(1500)}
TENSORS = {"wsgi": None, "route": None, "model": "wrong:Model", "input": "x FP32 [-1,4]",
           "output": "y FP32 [-1,4]", "max_batch": 4}
CLASS = {"wsgi": None, "model": "wrong:Model"}
PREDICT = "class Model:\n    def predict(self, inputs):\n        return "


def server(way="", **keys):
    return {"engine": "server", "wsgi": None, "command": f"{PYTHON} {PROGRAM} {{port}} {way}",
            "ready": "GET /health 200", **keys}


def make(folder):
    """What some of the ways need: files that are no interpreters, environments that were moved."""
    def put(name, text, mode=0o644):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    put("plain", "no program\n")
    put("noprogram", "\x00\x01\x02", 0o755)
    put("gone", "#!/nonexistent/python\n", 0o755)
    (folder / "moved" / "bin").mkdir(parents=True)
    (folder / "moved" / "bin" / "python").symlink_to("/nonexistent/python3")
    # An environment for another version than its interpreter is of.
    venv = folder / "other"
    packages = venv / "lib" / "python3.2" / "site-packages"
    (venv / "bin").mkdir(parents=True)
    packages.mkdir(parents=True)
    (packages / "onlythere.py").write_text("")
    (venv / "bin" / "python").symlink_to(PYTHON)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.2.1\n")
    (folder / "weights").write_bytes(b"\x93NUMPY\x01\x00")


# A way, the keys of a section, the source of its module "wrong", and what is said.
STARTS = [
    ("no such interpreter", {"python": "/nonexistent/bin/python"}, "",
     "python = /nonexistent/bin/python cannot be started (No such file or directory): "
     "there is no such program"),
    ("an interpreter that is not executable", {"python": "{here}/plain"}, "",
     "plain cannot be started (Permission denied): it is no program that moultd may run: "
     "give the path"),
    ("an interpreter that is no program", {"python": "{here}/noprogram"}, "",
     "(Exec format error): it is no program that moultd may run: give the path"),
    ("an interpreter that is a directory", {"python": "{here}"}, "",
     "wrong cannot be started (Permission denied): it is no program"),
    ("a virtual environment that was moved", {"python": "{here}/moved/bin/python"}, "",
     "or make the virtual environment again"),
    ("an interpreter's first line names what is gone", {"python": "{here}/gone"}, "",
     "or what its first line names is not there: give the path"),
    ("an interpreter that is no Python, and ends", {"python": "/bin/true"}, "",
     "python = /bin/true ended before it was a loader (exit code 0): give the path of a "
     "Python from 3.9 on"),
    ("an interpreter that is another one", {"python": "/bin/sh"}, "",
     "python = /bin/sh ended before it was a loader (exit code 2): give the path"),
    ("a virtual environment of another version", {"python": "{here}/other/bin/python"},
     "import onlythere\n", "install 'onlythere' for"),
    ("no such module", {"wsgi": "nothere:app"}, "", "there is no module 'nothere' in"),
    ("no such file", {"wsgi": "nothere.py:app"}, "", "nothere.py"),
    ("no such folder", {"working_directory": "/nothere"}, "", "/nothere"),
    ("no such name in it", {"wsgi": "wrong:missing"}, "",
     "module 'wrong' has no 'missing'; it has:"),
    ("what has the name is no application", {"wsgi": "wrong:app"}, "app = 5\n",
     "it is 'int' and cannot be called: name an application of WSGI"),
    ("an error of syntax", {}, "def app(:\n", "raised SyntaxError: invalid syntax ("),
    ("an import of what is not there", {}, "import nosuchmodule\n",
     "install 'nosuchmodule' for /usr/bin/python3"),
    ("an import of a name that is not there", {}, "from os import nosuchname\n",
     "cannot import name 'nosuchname' from 'os'"),
    ("a module that raises", {}, "1 / 0\n", "raised ZeroDivisionError: division by zero ("),
    ("a module that exits", {}, "raise SystemExit(3)\n",
     "called sys.exit(3): an application that moult serves must not end the process"),
    ("a module that ends the process", {}, "import os\nos._exit(7)\n",
     "ended while it imported what it serves (exit code 7): no module may end it"),
    ("a module that ends it by a signal", {}, "import os\nos.abort()\n",
     "ended while it imported what it serves (signal 6 (Aborted)): no module may end it"),
    ("a factory that raises", {}, "def app():\n    raise KeyError('no luck')\n",
     "the factory raised KeyError: 'no luck' ("),
    ("a factory that gives nothing", {}, "def app():\n    pass\n",
     "it made 'NoneType', which is no application of WSGI"),
    ("an application that starts its own server", NO_IMPORT,
     "import wsgiref.simple_server as s\n"
     "s.make_server('127.0.0.1', 0, None).serve_forever()\n",
     "raise stage_timeout, or see that no module waits, or starts a server of its own"),
    ("a module that never ends", NO_IMPORT, "import threading\nthreading.Event().wait()\n",
     "raise stage_timeout, or see that no module waits"),
    ("a secret that is not there", {},
     "import moult\nkey = moult.secrets['API_KEY']\n", "raised KeyError: 'API_KEY' ("),
    ("a secret that is required, and not there", {"required_secrets": "API_KEY"}, APP,
     "API_KEY is required (required_secrets) and not there"),
    ("a file of the model that is not there", {"path": "{here}/nothere.pt"}, APP,
     "nothere.pt': No such file or directory"),
    ("weights that are truncated", {**CLASS, "path": "{here}/weights"},
     "import io, moult\nclass Model:\n    def load(self):\n"
     "        data = moult.weights()\n"
     "        if len(data) < 128:\n"
     "            raise EOFError(f'weights: the file ends after {len(data)} bytes')\n"
     "    def predict(self):\n        pass\n",
     "load() raised EOFError: weights: the file ends after 8 bytes ("),
    ("ASGI in the place of WSGI", {}, "async def app(scope, receive, send):\n    pass\n",
     "write asgi in place of wsgi"),
    ("WSGI in the place of ASGI", {"wsgi": None, "asgi": "wrong:app", "threads": None}, APP,
     "write wsgi in place of asgi"),
    ("a lifespan that fails", {"wsgi": None, "asgi": "wrong:app", "threads": None},
     "async def app(scope, receive, send):\n    await receive()\n"
     "    await send({'type': 'lifespan.startup.failed', 'message': 'no table'})\n",
     "the application's startup failed: no table"),
    ("a lifespan that never begins",
     {"wsgi": None, "asgi": "wrong:app", "threads": None, **NO_START},
     "import asyncio\nasync def app(scope, receive, send):\n"
     "    await asyncio.Event().wait()\n", "still warming after"),
    ("a class with neither predict nor execute", CLASS,
     "class Model:\n    def run(self):\n        pass\n",
     "'Model' has neither predict(), execute() nor handle(); it has: run"),
    ("two classes in a file", {**CLASS, "model": "wrong.py"},
     "class A:\n    def predict(self):\n        pass\nclass B(A):\n    pass\n",
     "has A, B: name the class, as in model = wrong.py:B"),
    ("a class that wants arguments", CLASS,
     "class Model:\n    def __init__(self, path):\n        pass\n"
     "    def predict(self):\n        pass\n",
     "making it takes arguments ((path)), and moult has none to give"),
    ("a load() that raises", CLASS,
     "class Model:\n    def load(self):\n        raise OSError('disk on fire')\n"
     "    def predict(self):\n        pass\n", "load() raised OSError: disk on fire ("),
    ("a class of tensors with a route", {**CLASS, "model": "wrong:Triton"},
     "class Triton:\n    def execute(self, requests):\n        pass\n",
     "takes tensors and no paths: leave route out"),
    ("outputs that are none", TENSORS, PREDICT + "None\n",
     "predict returned None instead of a dict of outputs: return {'y': ...}"),
    ("an output of another name", TENSORS, PREDICT + "{'z': inputs['x']}\n",
     "predict returned no output 'y'; it returned: z"),
    ("an output of another type", TENSORS, PREDICT + "{'y': [['a'] * 4] * len(inputs['x'])}\n",
     "and the configuration declares FP32 [-1,4]"),
    ("an output of another shape", TENSORS, PREDICT + "{'y': [[1.0] * 3] * len(inputs['x'])}\n",
     "output 'y' is FP32 [1,3], and the configuration declares FP32 [-1,4]"),
    ("fewer rows than were asked for", TENSORS, PREDICT + "{'y': []}\n",
     "has the shape [0], and the inputs have 1 rows"),
    ("a predict() that raises at the warm-up", TENSORS, PREDICT + "1 / 0\n",
     "predict raised ZeroDivisionError: division by zero"),
    ("a warm-up request that fails", {"warmup_request": "{here}/first.http"},
     "def app(environ, start_response):\n    raise KeyError('no model')\n",
     "GET /first was answered with status 500, and must be with one below 400"),
    ("a command that is not there", server(command="nosuchprogram {port}"), "",
     "there is no program 'nosuchprogram' in PATH"),
    ("a command that is not executable", server(command="{here}/plain {port}"), "",
     "is not executable: chmod +x it"),
    ("a command that is no program", server(command="{here}/noprogram {port}"), "",
     "it is no program of this machine, and has no first line"),
    ("a command whose first line names what is gone", server(command="{here}/gone {port}"), "",
     "what its first line names, or its dynamic loader, is not there: mend"),
    ("a command without a place for the port", server(command="gunicorn app:app"), "",
     "neither {port} nor {socket} is in it"),
    ("a command for a shell", server(command="gunicorn -b :{port} > log"), "", "> is for a shell"),
    ("a request for ready that is none", server(ready="health"), "", "'health' is no path"),
    ("a server that ends at once", server("exits"), "",
     "the server exited with status 3; it said last: is not there"),
    ("a server that crashes at once", server("aborts"), "",
     "the server was killed by signal 6 (Aborted)"),
    ("a server that is never ready", server("never", **NO_SERVER), "",
     "the server did not listen on port"),
    ("a server that is ready by port, and answers 503", server("unwell", **NO_SERVER), "",
     "at last with status 503 (the database is away), and ready wants 200: mend"),
    ("a server whose port answers nothing", server("mute", **NO_SERVER), "",
     "the server listens, and did not answer GET /health as HTTP wants it"),
    ("a server that speaks no HTTP", server("mail", **NO_SERVER), "",
     "the server listens, and did not answer GET /health as HTTP wants it"),
    ("a server that forks away", server("forks"), "", "went into the background"),
    ("a server that daemonises", server("daemonises"), "", "have it stay in the foreground"),
    ("a server on another port", server(command=f"sh -c 'exec {PYTHON} {PROGRAM} $((1 + $1))' sh "
                                        "{port}", **NO_SERVER), "", "does it take that option"),
]


@pytest.fixture
def hosted(start, home):  # noqa: F811
    (home / "app.py").write_text(APP)
    moult = start(python_section(home, retry_delay=0))
    clients = Clients(moult, lambda body: body == b"hello", count=2)
    clients.wait_more()
    yield moult, home
    clients.wait_more()
    clients.stop_and_check()
    assert moult.status("app")["generation"] == 1


def test_starts(hosted):
    moult, home = hosted  # noqa: F811
    here = home.parent / "wrong"
    here.mkdir()
    make(here)
    (here / "first.http").write_text("GET /first\n\n")
    wrong = []
    for way, keys, source, said in STARTS:
        (here / "wrong.py").write_text(source)
        keys = {"wsgi": "wrong:app", "working_directory": here, "retry_delay": 0,
                "environment.WAY": way,
                # Python takes a compiled form for the source's if their times are of one second.
                "environment.PYTHONDONTWRITEBYTECODE": 1, **keys}
        n, log = len(moult.receipts("app")), len(moult.log_text())
        (here / "new").write_text(python_section(home, **{
            key: value.replace("{here}", str(here)) if isinstance(value, str) else value
            for key, value in keys.items()}))
        os.rename(here / "new", moult.models / "0.conf")

        def outcome():
            found = moult.receipts("app")[n:]
            if found:
                return found[0]["outcome"], found[0]["reason"]
            text = moult.log_text()[log:]
            if "event=config_refused" in text:
                return "refused", text[text.index("event=config_refused"):].splitlines()[0]
            return None
        result, sentence = wait_for(way, outcome)
        print(f"{way}: {sentence}")
        # On a busy machine moultd's patience may end before the loader says what it has seen.
        is_late = "commit_timeout" in keys and "raise commit_timeout" in sentence
        if result == "ok" or said not in sentence and not is_late:
            wrong.append((way, result, sentence))
    assert not wrong, "\n".join(map(str, wrong))


# A way, a section beside the one that serves, and what is said.
OTHER = {"route": "/other/", "wsgi": "app:app"}
REFUSALS = [
    ("routes that collide", {**OTHER, "route": "/"}, "route: / is [model app]'s already"),
    ("a route that is moult's own", {**OTHER, "route": "/v2/x/"}, "'/v2/x/' is moult's own"),
    ("a route that is no prefix", {**OTHER, "route": "other"}, "'other' is no prefix of paths"),
    ("no route", {"wsgi": "app:app"}, "route: an application serves paths"),
    ("nothing to serve", {"route": "/other/"}, "serves one thing, and [model other] names none"),
    ("two things to serve", {**OTHER, "asgi": "app:app"}, "[model other] names several"),
    ("a name without a module", {**OTHER, "wsgi": "app"}, "'app' names no object of a module"),
    ("routes and tensors", {**OTHER, "input": "x FP32 [-1]"}, "either routes or tensors"),
    ("a method that is none", {**OTHER, "replay": "post"}, "'post' is no method"),
]


def test_refusals(hosted):
    """A configuration that is no good is refused whole."""
    moult, home = hosted  # noqa: F811
    wrong = []
    for way, keys, said in REFUSALS:
        before = len(moult.log_text())
        (home / "new").write_text("[model other]\n" + "".join(
            f"{key} = {value}\n" for key, value in {"engine": "python", **keys}.items()))
        os.rename(home / "new", moult.models / "1.conf")
        sentence = wait_for(way, lambda: next(
            (line for line in moult.log_text()[before:].splitlines(keepends=True)
             if "event=config_refused" in line and line.endswith("\n")), None))
        if said not in sentence:
            wrong.append((way, said, sentence))
    assert not wrong, "\n".join(map(str, wrong))


ASGI = """
import sys

def head(*fields, status=200):
    return {"type": "http.response.start", "status": status, "headers": list(fields)}

def body(data, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}

async def raises(send):
    raise KeyError("what")

async def raises_amid(send):
    await send(head())
    await send(body(b"begun", True))
    raise KeyError("what")

async def returns(send):
    pass

async def returns_amid(send):
    await send(head())
    await send(body(b"begun", True))

async def exits(send):
    sys.exit(3)

async def behind_the_end(send):
    await send(head())
    await send(body(b"x"))
    await send(body(b"more"))

async def twice(send):
    await send(head())
    await send(head())

async def body_first(send):
    await send(body(b"x"))

async def text(send):
    await send(head())
    await send(body("x"))

async def field_text(send):
    await send(head(("a", "b")))
    await send(body(b"x"))

async def field_break(send):
    await send(head((b"a", b"b\\r\\nSet-Cookie: c=d")))
    await send(body(b"x"))

async def field_name(send):
    await send(head((b"a b", b"c")))
    await send(body(b"x"))

async def status(send):
    await send(head(status="200 OK"))
    await send(body(b"x"))

async def status_odd(send):
    await send(head(status=99))
    await send(body(b"x"))

async def unknown(send):
    await send({"type": "http.response.odd"})

async def shorter(send):
    await send(head((b"content-length", b"5")))
    await send(body(b"x"))

async def longer(send):
    await send(head((b"content-length", b"1")))
    await send(body(b"xyz"))

async def fine(send):
    await send(head())
    await send(body(b"hello"))

async def app(scope, receive, send):
    await globals()[scope["path"][1:]](send)
"""
# A way, what the client sees, and what the log says.
ANSWERS = {
    "asgi": (ASGI, {"wsgi": None, "asgi": "app:app", "threads": None}, [
        ("raises", 500, "KeyError: 'what'"),
        ("raises_amid", "cut", "KeyError: 'what'"),
        ("returns", 500, "returned without an answer: it has sent no http.response.start"),
        ("returns_amid", "cut",
         "returned before its answer was complete: the last http.response.body must have no "
         "more_body"),
        ("exits", 500, "SystemExit: 3"),
        ("behind_the_end", 200, "send() got http.response.body after the answer was complete"),
        ("twice", 500, "send() got http.response.start a second time"),
        ("body_first", 500, "send() got http.response.body before http.response.start"),
        ("text", 500, "the body of an answer must be bytes, not str: 'x'"),
        ("field_text", 500, "the name of a header must be bytes, not str: 'a'"),
        ("field_break", 500, "has a line break or another control character"),
        ("field_name", 500, "b'a b' is no name for a header"),
        ("status", 500, "http.response.start needs a status of type int, not '200 OK'"),
        ("status_odd", 500, "an answer's status must be from 200 to 599: 99 is none"),
        ("unknown", 500, "send() got 'http.response.odd', and an answer consists of"),
        ("shorter", 500, "the application gave 1 bytes, and its Content-Length is 5"),
        ("longer", 500, "the answer is longer than its Content-Length of 1"),
    ]),
    "wsgi": (WSGI, {}, WSGI_ROWS),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers(start, home, kind):  # noqa: F811
    """One request's error is nobody else's."""
    source, keys, rows = ANSWERS[kind]
    (home / "app.py").write_text(source)
    moult = start(python_section(home, **keys))
    said_by_fine = ask(moult, "GET", "/fine")[2]
    clients = Clients(moult, lambda body: body == said_by_fine, count=2, path="/fine")
    wrong = []
    for way, wanted, said in rows:
        before = len(moult.log_text())
        found = outcome(moult, f"/{way}")
        try:
            wait_for(said, lambda: said in moult.log_text()[before:])
        except AssertionError:
            wrong.append((way, said, moult.log_text()[before:][-700:]))
        if found != wanted:
            wrong.append((way, found, wanted))
        clients.wait_more(5)
    clients.stop_and_check()
    assert not wrong, "\n".join(map(str, wrong))
    assert moult.status("app")["generation"] == 1
