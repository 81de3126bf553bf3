# SPDX-License-Identifier: Apache-2.0
"""Applications of ASGI behind moultd: FastAPI's, unchanged, beside uvicorn; loads, streams and
clients that leave."""
import http.client
import json
import pathlib
import signal
import socket
import subprocess
import threading

import pytest

from harness import BUILD, DEADLINE_S, free_port, is_alive, wait_for
from test_python import rotate_and_kill, section as python_section, write_secret
from test_routes import ask

PYTHON = "/usr/bin/python3"
APP = """
import moult

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = f"{scope['path']} {moult.secrets['token']}".encode()
    await send({"type": "http.response.body", "body": body})
"""
LIFE = """
import moult

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if moult.secrets["token"] == "bad":
            await send({"type": "lifespan.startup.failed", "message": "KeyError: 'no table'"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shut down", moult.secrets["token"])
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": moult.secrets["token"].encode()})
"""
HAS_FASTAPI = subprocess.run([PYTHON, "-c", "import fastapi, httpx, multipart, uvicorn"],
                             check=False, stderr=subprocess.DEVNULL).returncode == 0

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")
needs_fastapi = pytest.mark.skipif(not HAS_FASTAPI, reason=f"{PYTHON} has no fastapi, httpx, "
                                   "multipart and uvicorn")


@pytest.fixture
def home(tmp_path):
    """An application with its secrets."""
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    (home / "app.py").write_text(APP)
    write_secret(home, "0")
    return home


@pytest.fixture
def fastapi(home):
    (home / "app.py").write_text(
        (pathlib.Path(__file__).parent / "asgi_app.py").read_text())
    return home


def section(home, **keys):
    return python_section(home, **{"wsgi": None, "threads": None, "asgi": "app:app", **keys})


class Port:
    def __init__(self, port):
        self.port = port


@pytest.fixture
def uvicorn(fastapi):
    """The application behind uvicorn."""
    port = free_port()
    process = subprocess.Popen(
        [PYTHON, "-m", "uvicorn", "--port", str(port), "--no-access-log", "--log-level", "error",
         "app:both"], cwd=fastapi, stderr=subprocess.DEVNULL)

    def answers():
        assert process.poll() is None
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0
    try:
        wait_for("uvicorn", answers)
        yield Port(port)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


JSON = [("Content-Type", "application/json")]
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
FILE = [("Content-Type", "multipart/form-data; boundary=b")]
CALLS = [
    ("GET", "/json/5?q=a%20b", [("X-Token", "t")], None),
    ("GET", "/json/five", [], None),
    ("POST", "/items", JSON, b'{"name": "a", "price": 1.5, "tags": ["x"]}'),
    ("POST", "/items", JSON, b'{"name": "a"}'),
    ("POST", "/items", JSON, b"{"),
    ("POST", "/echo", [("Content-Type", "a/b")], b"\0\xff" * 300000),
    ("POST", "/echo", [], b""),
    ("PUT", "/form", FORM, b"a=x%20y&b=7"),
    ("PUT", "/form", FORM, b"b=7"),
    ("POST", "/file", FILE, b'--b\r\nContent-Disposition: form-data; name="data"; filename="f"'
                            b"\r\n\r\nabc\r\n--b--\r\n"),
    ("GET", "/headers", [("Accept", "x"), ("Accept", "y"), ("A_b", "kept"), ("Cookie", "c=1"),
                         ("X-Latin", "\xe9")], None),
    ("HEAD", "/headers", [], None),
    ("GET", "/path/a%2Fb/%C3%A4//c?x=1&x=2&y", [], None),
    ("GET", "/redirect", [], None),
    ("GET", "/html", [], None),
    ("DELETE", "/gone", [], None),
    ("GET", "/refused", [], None),
    ("GET", "/fails", [], None),
    ("GET", "/lines", [], None),
    ("GET", "/background", [], None),
    ("GET", "/none", [], None),
    ("PATCH", "/html", [], None),
    ("OPTIONS", "/html", [], None),
    ("GET", "/docs", [], None),
    ("GET", "/openapi.json", [], None),
    ("GET", "/items/", [], None),
]
# Fields of the server's own, and how it frames a body.
OWN = ("date", "server", "connection", "moult-generation", "transfer-encoding")


def answer_of(server, method, path, fields, body):
    """What the application has answered: status, fields, body."""
    status, got, body = ask(server, method, path, fields, body)
    kept = sorted((name.lower(), value.replace(f":{server.port}", "")) for name, value in got
                  if name.lower() not in OWN)
    return status, kept, body


@needs_fastapi
def test_answers_are_those_under_uvicorn(start, fastapi, uvicorn):
    moult = start(section(fastapi, asgi="app:both"))
    for call in CALLS:
        here, there = answer_of(moult, *call), answer_of(uvicorn, *call)
        assert here == there, call
    wait_for("what follows an answer", lambda: ask(moult, "GET", "/seen")[2] == b'["background"]')
    wait_for("the traceback", lambda: "ValueError: it was asked to fail" in moult.log_text())


CLIENT = """
import json, sys
sys.path.insert(0, ".")
from starlette.testclient import TestClient
from app import both
client = TestClient(both, raise_server_exceptions=False, base_url="http://127.0.0.1")
for method, path, fields, body in json.load(sys.stdin):
    answer = client.request(method, path, headers=[(n.encode(), v.encode("latin-1"))
                            for n, v in fields], content=body and body.encode("latin-1"),
                            follow_redirects=False)
    print(json.dumps([answer.status_code, sorted((n.decode().lower(), v.decode("latin-1"))
                      for n, v in answer.headers.raw), answer.content.decode("latin-1")]))
"""


@needs_fastapi
def test_answers_are_those_of_starlettes_client(start, fastapi):
    """Which calls the application itself, with no server between."""
    moult = start(section(fastapi, asgi="app:both"))
    calls = [call for call in CALLS if call[1].split("?")[0] != "/headers"]
    given = [(method, path, fields, (body or b"").decode("latin-1"))
             for method, path, fields, body in calls]
    result = subprocess.run([PYTHON, "-c", CLIENT], input=json.dumps(given), cwd=fastapi, text=True,
                            capture_output=True, check=True)
    for call, line in zip(calls, result.stdout.splitlines(), strict=True):
        status, fields, body = json.loads(line)
        there = status, sorted((name, value) for name, value in fields), body.encode("latin-1")
        here = answer_of(moult, *call)
        assert here == there, call


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_reloads_and_kills_lose_nothing(start, home, loop):
    """In an environment that has uvloop, and in one that has not."""
    python = PYTHON
    if loop == "asyncio":
        python = home / ".venv/bin/python"
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", home / ".venv"], check=True)
    elif subprocess.run([PYTHON, "-c", "import uvloop"], check=False,
                        stderr=subprocess.DEVNULL).returncode:
        pytest.skip(f"{PYTHON} has no uvloop")
    moult = start(section(home, python=python))
    wait_for("the loop's name", lambda: f'event=event_loop what=\\"{loop}' in moult.log_text())
    moult.note_fds()
    assert rotate_and_kill(moult, home, clients=4) == []


class Stream:
    """A client that reads an answer as it comes."""

    def __init__(self, moult, path, buffer=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
        if buffer:
            self.connection.sock = socket.socket()
            self.connection.sock.settimeout(DEADLINE_S)
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self.connection.sock.connect(("127.0.0.1", moult.port))
        self.connection.request("GET", path)
        self.response = self.connection.getresponse()

    def leave(self):
        self.response.close()
        self.connection.close()


@needs_fastapi
def test_a_stream_arrives_as_it_is_sent(start, fastapi):
    """The second event is made only when the first one was read."""
    moult = start(section(fastapi, asgi="app:both"))
    stream = Stream(moult, "/events")
    assert stream.response.getheader("content-type").startswith("text/event-stream")
    assert stream.response.readline() == b"data: one\n"
    assert ask(moult, "GET", "/go")[2] == b"gone on"
    assert stream.response.read() == b"\ndata: two\n\n"
    stream.leave()


@needs_fastapi
def test_the_application_sees_a_client_leave(start, fastapi):
    """Which is nobody's fault."""
    moult = start(section(fastapi, asgi="app:both", request_timeout="600s", stall_timeout="600s"))
    stream = Stream(moult, "/endless")
    assert stream.response.read(5) == b"begun"
    stream.leave()
    wait_for("the stream's end",
             lambda: b"the stream was closed" in ask(moult, "GET", "/seen")[2])
    # One that only says nothing more may read on for two seconds (ADR 3).
    with socket.create_connection(("127.0.0.1", moult.port), DEADLINE_S) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        wait_for("the stream's end",
                 lambda: ask(moult, "GET", "/seen")[2].count(b"the stream was closed") == 2)
    # A deadline is the same to the application.
    status = ask(moult, "GET", "/patient", [("Moult-Timeout-Ms", "200")])[0]
    assert status == 504
    wait_for("the disconnect", lambda: b'"disconnect"' in ask(moult, "GET", "/seen")[2])
    assert "Traceback" not in moult.log_text()
    check_faults(moult, 0)


@needs_fastapi
def test_threads_of_the_framework_live_on(start, fastapi):
    """AnyIO ends them with the task that its loop was run for."""
    moult = start(section(fastapi, asgi="app:both"))
    assert [ask(moult, "GET", "/thread")[2] for _ in range(3)] == [b"1", b"2", b"3"]


def check_faults(moult, n):
    """What counts against a generation: @n answers, and one more that this asks for."""
    name = 'moult_requests_faults_total{model="app"} '

    def faults():
        return int(ask(moult, "GET", "/metrics")[2].decode().split(name)[1].split()[0])
    assert ask(moult, "GET", "/fails")[::2] == (500, b"Internal Server Error")
    # The page may be some moments old.
    assert wait_for("the fault", faults) == n + 1


@needs_fastapi
def test_an_error_that_the_framework_answers_is_the_applications(start, fastapi):
    moult = start(section(fastapi, asgi="app:both"))
    assert ask(moult, "GET", "/refused")[0] == 418 and ask(moult, "GET", "/none")[0] == 404
    check_faults(moult, 0)


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


@needs_fastapi
def test_a_slow_reader_makes_no_memory_grow(start, fastapi):
    moult = start(section(fastapi, asgi="app:both"))
    pids = [moult.status("app")["pid"], moult.process.pid]
    before = [resident(pid) for pid in pids]
    stream = Stream(moult, "/much", buffer=65536)
    made = [-1]

    def has_stopped():
        """While others are answered."""
        for _ in range(100):
            made.append(int(ask(moult, "GET", "/howmuch")[2]))
        return made[-1] == made[-101] > 0
    wait_for("the stream to wait for its reader", has_stopped)
    assert made[-1] < 32 << 20, made[-1]
    for pid, bytes_before in zip(pids, before):
        assert resident(pid) < bytes_before + (32 << 20)
    assert len(stream.response.read()) == 64 << 20
    stream.leave()


def test_a_lifespan_that_fails_keeps_the_old_generation(start, home):
    (home / "app.py").write_text(LIFE)
    moult = start(section(home))
    write_secret(home, "bad")
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert "startup failed: KeyError: 'no table'" in receipt["reason"], receipt
    assert ask(moult, "GET", "/")[2] == b"0"
    # The end of a generation is told to its application.
    write_secret(home, "1")
    wait_for("the new generation", lambda: ask(moult, "GET", "/")[2] == b"1")
    wait_for("the old one's end", lambda: "shut down 0" in moult.log_text())


def test_a_request_that_never_ends_is_cancelled_at_the_end(start, home):
    (home / "app.py").write_text(LIFE.replace("import moult\n", "import asyncio\nimport moult\n") + """
life = app

async def app(scope, receive, send):
    if scope.get("path") != "/hang":
        return await life(scope, receive, send)
    try:
        print("hangs")
        await asyncio.Event().wait()
    finally:
        print("cancelled", moult.secrets["token"])
""")
    moult = start(section(home, drain_timeout="200ms"))
    pid = moult.status("app")["pid"]
    client = http.client.HTTPConnection("127.0.0.1", moult.port)
    client.request("GET", "/hang")
    wait_for("the request", lambda: "hangs" in moult.log_text())
    write_secret(home, "1")
    wait_for("the new generation", lambda: ask(moult, "GET", "/")[2] == b"1")
    wait_for("the old one's end", lambda: not is_alive(pid))
    # What it has written last is relayed a moment later.
    for text in ("event=requests_cancelled", "cancelled 0", "shut down 0"):
        wait_for(text, lambda text=text: text in moult.log_text())
    client.close()


@pytest.mark.parametrize("keys, source, said", [
    ({"asgi": "nothere:app"}, None, "nothere"),
    ({"asgi": "app:missing"}, None, "missing"),
    ({}, "import nosuchmodule\n", "nosuchmodule"),
    ({}, "def app(environ, start_response):\n    return []\n", "write wsgi in place of asgi"),
    ({}, "def app():\n    raise KeyError('no luck')\n", "the factory raised KeyError: 'no luck'"),
])
def test_what_is_wrong_is_named(start, home, keys, source, said):
    """The old generation serves on."""
    moult = start(section(home))
    if source:
        (home / "app.py").write_text(source)
    (moult.models / "0.conf").write_text(section(home, **{**keys, "environment.A": "1"}))
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert said in receipt["reason"], receipt
    assert ask(moult, "GET", "/x")[2] == b"/x 0"


@needs_fastapi
def test_what_blocks_the_loop_is_named(start, fastapi):
    moult = start(section(fastapi, asgi="app:both"))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(moult, "GET", "/stall")[2]))
    thread.start()
    wait_for("the sentence", lambda: "has blocked its event loop" in moult.log_text())
    assert "app.py:" in moult.log_text() and "(stall), and no request" in moult.log_text()
    (fastapi / "go_on").touch()
    thread.join()
    assert answers == [b'"at last"']


def test_a_start_that_hangs_is_refused(start, home):
    moult = start(section(home))
    (home / "app.py").write_text(LIFE.replace("async def app", "import asyncio\nasync def app")
                                 .replace("        await receive()\n        if",
                                          "        await asyncio.Event().wait()\n        if"))
    (moult.models / "0.conf").write_text(
        section(home, warmup_timeout="5s", **{"environment.A": "1"}))
    wait_for("the sentence", lambda: "startup has not answered" in moult.log_text())
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert "still warming" in receipt["reason"], receipt
    assert ask(moult, "GET", "/x")[2] == b"/x 0"


def test_the_client_has_an_address(start, home):
    (home / "app.py").write_text(APP.replace("{scope['path']} {moult.secrets['token']}",
                                             "{scope['client']}"))
    moult = start(section(home))
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    for _ in range(2):
        connection.request("GET", "/")
        said = connection.getresponse().read()
        assert said.decode() == repr(connection.sock.getsockname())
    connection.close()
    # Nobody gives himself another one, nor is anonymous by as many fields as there may be.
    with socket.create_connection(("127.0.0.1", moult.port), DEADLINE_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n:client: 192.0.2.1 1\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 400"
    said = ask(moult, "GET", "/", [(f"X-{i}", "x") for i in range(63)])
    assert said[0] == 200 and b"('127.0.0.1'," in said[2], said


def test_the_first_request_is_made_ahead(start, home, tmp_path):
    (home / "app.py").write_text(APP.replace("import moult\n", "calls = []\n").replace(
        "    body = f\"{scope['path']} {moult.secrets['token']}\".encode()\n",
        "    calls.append(scope['path'])\n    body = repr(calls).encode()\n"))
    (tmp_path / "first.http").write_text("GET /first\n\n")
    moult = start(section(home, warmup_request=tmp_path / "first.http", warmup_runs=2))
    assert ask(moult, "GET", "/x")[2] == b"['/first', '/first', '/x']"


def test_an_application_that_cancels_what_is_not_its_own_is_replaced(start, home):
    (home / "app.py").write_text(APP.replace("import moult\n", "import asyncio\nimport moult\n").replace(
        "    await receive()\n", """    await receive()
    if scope["path"] == "/cancel":
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.1)
"""))
    moult = start(section(home))
    # As each request that ends two loaders.
    assert ask(moult, "GET", "/cancel")[0] == 500
    wait_for("the sentence",
             lambda: "must not cancel tasks that it has not made" in moult.log_text())
    assert ask(moult, "GET", "/x")[2] == b"/x 0"


def test_without_a_configuration(home, tmp_path):
    port = free_port()
    process = subprocess.Popen(
        [BUILD / "moultd", "--asgi", "app:app", "--python", PYTHON, "--secrets", "secrets",
         "--listen", f"127.0.0.1:{port}"], cwd=home, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True)

    def answer():
        assert process.poll() is None
        try:
            return ask(Port(port), "GET", "/x")[2]
        except OSError:
            return None
    try:
        wait_for("an answer", lambda: answer() == b"/x 0")
    finally:
        process.send_signal(signal.SIGTERM)
        printed = process.communicate()[0]
    assert process.returncode == 0 and "asgi = app:app\n" in printed, printed
