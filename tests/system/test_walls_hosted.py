# SPDX-License-Identifier: Apache-2.0
"""The walls round applications and servers: what a hostile one tries, and what any one needs."""
import json
import os

import pytest

from harness import BUILD, wait_for
from test_routes import ask
from test_walls import listener, needs_landlock, VERSION  # noqa: F401

PYTHON = "/usr/bin/python3"

pytestmark = [needs_landlock]
needs_python = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                  reason="the python engine is not built here")
needs_server = pytest.mark.skipif(not (BUILD / "moult-engine-server.so").exists(),
                                  reason="the server engine is not built here")

ATTACKS = '''
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile

def opens(path, mode="rb"):
    with open(path, mode):
        return True

def parent():
    """moultd, whoever asks."""
    return int(os.environ["MOULTD"])

def writes_own_folder():
    return opens(os.path.join(os.environ["APP"], "written"), "wb")

def connects(family, address):
    with socket.socket(family) as s:
        s.connect(address)
    return True

def commands(path):
    """Not only a connection: an answer."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b'{"command":"status"}\\n')
        answer = s.makefile().readline()
    if '"ok":true' in answer.replace(" ", ""):
        return True
    raise PermissionError(answer)

def tries():
    folder = os.environ["FOLDER"]
    return {
        "secret": lambda: opens(folder + "/secret"),
        "configuration": lambda: opens(folder + "/models.d/99-x.conf", "wb"),
        "environ": lambda: opens(f"/proc/{parent()}/environ"),
        "memory": lambda: opens(f"/proc/{parent()}/mem", "r+b"),
        "kill": lambda: os.kill(parent(), 0) is None,
        "control": lambda: commands(folder + "/moultd.sock"),
        "network": lambda: connects(socket.AF_INET, ("127.0.0.1", int(os.environ["PORT"]))),
        "own_folder": writes_own_folder,
        "child_reads": lambda: subprocess.run(["cat", folder + "/secret"], check=True,
                                              capture_output=True) is not None,
        # what any application may do
        "own_file": lambda: opens(os.path.join(os.environ["APP"], "app.py")),
        "temporary": lambda: tempfile.NamedTemporaryFile().write(b"x") == 1,
        "subprocess": lambda: subprocess.check_output([sys.executable, "-c", "print(1)"]) == b"1\\n",
        "lock": lambda: multiprocessing.get_context("spawn").Lock() is not None,
        "pair": lambda: socket.socketpair() is not None,
    }

def attack():
    found = {}
    for name, function in tries().items():
        try:
            found[name] = "done" if function() else "refused"
        except Exception as error:
            found[name] = "refused"
            print(name, repr(error), file=sys.stderr)
    return json.dumps(found).encode()
'''

WSGI = ATTACKS + '''
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [attack()]
'''

SERVER = ATTACKS + '''
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = attack() if self.path == "/attack" else b"ready"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''

USUAL = {"own_file", "temporary", "subprocess", "lock", "pair"}
HOSTILE = {"secret", "configuration", "environ", "memory", "kill", "control", "network",
           "own_folder", "child_reads"}


def section(tmp_path, port, **keys):
    app = tmp_path / "app"
    app.mkdir(exist_ok=True)
    (tmp_path / "secret").write_text("of another model")
    lines = {"route": "/", "working_directory": app, "environment.FOLDER": tmp_path,
             "environment.APP": app, "environment.PORT": port, "environment.MOULTD": 1, **keys}
    return "[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def wsgi(tmp_path, port, **keys):
    text = section(tmp_path, port, engine="python", wsgi="app:app", **keys)
    (tmp_path / "app" / "app.py").write_text(
        WSGI.replace('int(os.environ["MOULTD"])', "os.getppid()"))
    return text


def server(tmp_path, port, **keys):
    text = section(tmp_path, port, engine="server", command=f"{PYTHON} app.py {{port}}", **keys)
    # Its parent is the loader, whose parent is moultd.
    (tmp_path / "app" / "app.py").write_text(
        SERVER.replace('int(os.environ["MOULTD"])',
                       'int(open(f"/proc/{os.getppid()}/stat").read().rsplit(")", 1)[1]'
                       '.split()[1])'))
    return text


def attack(moult):
    status, _, body = ask(moult, "GET", "/attack")
    assert status == 200, body
    found = json.loads(body)
    print(sorted(found.items()))
    assert set(found) == USUAL | HOSTILE
    return {name for name in found if found[name] == "done"}


HOSTS = [pytest.param(wsgi, marks=needs_python), pytest.param(server, marks=needs_server)]


@pytest.mark.parametrize("host", HOSTS)
def test_strict(start, tmp_path, listener, host):
    """Nothing that is hostile, and all that is usual."""
    moult = start(host(tmp_path, listener.getsockname()[1], sandbox="strict"))
    allowed = set(USUAL)
    if host is server and VERSION < 4:
        allowed |= {"network"}
    assert attack(moult) == allowed
    # Somebody finds out why.
    wait_for("the hint", lambda: "event=walls_hint" in moult.log_text())
    assert "sandbox = net" in moult.log_text()


@pytest.mark.parametrize("host", HOSTS)
def test_unsaid(start, tmp_path, listener, host):
    """An application has files and network as under its own server. It reaches into no process of
    moultd's, nor to its control socket."""
    moult = start(host(tmp_path, listener.getsockname()[1]))
    kept = {"control", "kill", "memory"} | ({"environ"} if os.geteuid() != 0 else set())
    assert attack(moult) - {"environ"} == (HOSTILE | USUAL) - kept - {"environ"}
    assert moult.status("app")["walls"]["sandbox"] == "open"
    assert moult.status("app")["walls"]["missing"].startswith("not_dumpable")
    (tmp_path / "models.d" / "99-x.conf").unlink()


@pytest.mark.parametrize("host", HOSTS)
def test_net(start, tmp_path, listener, host):
    """The network, and what the section names; moultd's control socket is none of it."""
    moult = start(host(tmp_path, listener.getsockname()[1], sandbox="net",
                       sandbox_write=tmp_path / "app"))
    assert attack(moult) == USUAL | {"network", "own_folder"}


@pytest.mark.parametrize("host", HOSTS)
def test_off(start, tmp_path, listener, host):
    """Without walls all of it can be done: what the others test is not refused by chance."""
    moult = start(host(tmp_path, listener.getsockname()[1], sandbox="off"))
    done = attack(moult)
    # moultd keeps all but root out of its memory, and its commands from all models.
    kept = {"control"} | ({"environ", "memory"} if os.geteuid() != 0 else set())
    assert done == (HOSTILE | USUAL) - kept
    (tmp_path / "models.d" / "99-x.conf").unlink()
