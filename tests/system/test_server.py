# SPDX-License-Identifier: Apache-2.0
"""Programs that speak HTTP, hosted behind moultd as they are."""
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading

import pytest

from harness import BUILD, DEADLINE_S, ROOT, children, free_port, is_alive, wait_for
from test_routes import ask

PROGRAM = pathlib.Path(__file__).resolve().parent / "hosted.py"
PYTHON = "/usr/bin/python3"
VENV = ROOT / "build" / "venv" / "bin"

APP = """
import os
import pathlib

def app(environ, start_response):
    secret = pathlib.Path(os.environ["MOULT_SECRETS_DIR"], "token").read_text()
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {secret} {len(body)}".encode()
    # With its length an answer is whole or was none, also when its server is killed.
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""

ASGI = """
import os
import pathlib

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    secret = pathlib.Path(os.environ["MOULT_SECRETS_DIR"], "token").read_text()
    bytes_ = 0
    more = True
    while more:
        message = await receive()
        bytes_ += len(message.get("body", b""))
        more = message.get("more_body", False)
    answer = f"{scope['method']} {scope['path']} {secret} {bytes_}".encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(answer)).encode())]})
    await send({"type": "http.response.body", "body": answer})
"""

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-server.so").exists(),
                                reason="the server engine is not built here")


def section(way="", where="{port}", **keys):
    # The program takes the test's files away as it goes.
    lines = {"engine": "server", "command": f"{PYTHON} {PROGRAM} {where} {way}", "route": "/",
             "sandbox_write": tempfile.gettempdir(), **keys}
    return "[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()
                                     if value is not None)


def server_pid(moult):
    """The first process of the server."""
    return children(moult.status("app")["pid"])[0]


def write_secret(folder, value):
    folder.mkdir(exist_ok=True)
    (folder.parent / "new").write_text(value)
    os.rename(folder.parent / "new", folder / "token")


def read_all(port, request):
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as client:
        client.sendall(request)
        answer = b""
        while data := client.recv(65536):
            answer += data
    return answer


class Clients:
    """Ask all the time, and keep what was not as it should be."""

    def __init__(self, moult, is_right, count=3, path="/x"):
        self.wrong, self.over, self.n = [], threading.Event(), 0
        self.lock = threading.Lock()

        def run():
            while not self.over.is_set():
                try:
                    status, _, body = ask(moult, "GET", path)
                except (OSError, http.client.HTTPException) as error:
                    status, body = 0, repr(error).encode()
                with self.lock:
                    self.n += 1
                    if status != 200 or not is_right(body):
                        self.wrong.append((status, body))
        self.threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def wait_more(self, count=50):
        target = self.n + count
        wait_for("more answers", lambda: self.n >= target or self.wrong)

    def stop_and_check(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert not self.wrong and self.n > 0, self.wrong[:5]


# what passes

@pytest.mark.parametrize("where", ["{port}", "{socket}"])
def test_requests_pass(start, where):
    """By a port and by a socket: as sent, and nothing of the connection."""
    moult = start(section(where=where))
    status, fields, body = ask(moult, "POST", "/echo?a=%20b&c", [
        ("Cookie", "a=1"), ("Cookie", "b=2"), ("X-Empty", ""), ("Connection", "X-Mine"),
        ("X-Mine", "1"), ("Expect", "100-continue"), ("Content-Type", "text/x")], b"\0\xffbody")
    said = json.loads(body)
    assert status == 200 and said["method"] == "POST" and said["target"] == "/echo?a=%20b&c"
    assert said["body"] == "\0\xffbody", said
    names = [name.lower() for name, _ in said["fields"]]
    assert [v for n, v in said["fields"] if n.lower() == "cookie"] == ["a=1", "b=2"], said
    assert ["x-empty", ""] in said["fields"] and ["content-type", "text/x"] in said["fields"], said
    assert {"host", "content-length"} <= set(names), said
    assert not {"x-mine", "connection", "expect", "user-agent", "accept"} & set(names), said
    assert ("moult-generation", "1") in fields


def test_each_method_passes(start):
    moult = start(section())
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "POST"):
        for sent in (None, b"", b"x"):
            said = json.loads(ask(moult, method, "/echo", body=sent)[2])
            assert said["method"] == method and said["body"] == (sent or b"").decode(), said
            lengths = [v for n, v in said["fields"] if n.lower() == "content-length"]
            expected = [str(len(sent))] if sent is not None else ["0"] if method == "POST" else []
            assert lengths == expected, (method, sent, said)
    answer = read_all(moult.port, b"HEAD /bytes?n=10 HTTP/1.1\r\nHost: x\r\n"
                                  b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n"), answer


def test_answers_pass(start):
    moult = start(section())
    for status in (200, 201, 206, 301, 400, 404, 418, 500, 503):
        got, fields, body = ask(moult, "GET", f"/status?status={status}")
        assert got == status and body == b"as asked", (got, body)
        assert [v for n, v in fields if n == "Set-Cookie"] == ["a=1", "b=2"], fields
        assert not {"X-Hop", "Keep-Alive"} & {n for n, _ in fields}, fields
    for status in (204, 304):
        got, fields, body = ask(moult, "GET", f"/status?status={status}")
        assert got == status and body == b"", (got, body)
    assert ask(moult, "GET", "/interim")[2] == b"after all"
    status, fields, body = ask(moult, "GET", "/old")
    assert status == 200 and body == b"old body" and ("X-Old", "1") in fields
    status, fields, _ = ask(moult, "GET", "/fold")
    assert status == 200 and dict(fields)["X-Fold"].split() == ["a", "b"], fields
    # A kept connection that the server closes costs nobody an answer.
    for _ in range(20):
        assert ask(moult, "GET", "/shut")[2] == b"shut"
        assert ask(moult, "POST", "/shut", body=b"x")[2] == b"shut"


def test_large_bodies_pass(start):
    moult = start(section(response_arena="1M"))
    sent = os.urandom(1 << 20) * 20
    assert ask(moult, "POST", "/length", body=sent)[2] == str(len(sent)).encode()
    status, fields, body = ask(moult, "GET", "/bytes?n=30000000")
    assert status == 200 and dict(fields)["Content-Length"] == "30000000", fields
    assert body == (bytes(range(256)) * 117188)[:30000000]


def test_tokens_come_one_by_one(start, tmp_path):
    """Each is with the client before the server is let go on to the next."""
    moult = start(section())
    gate = tmp_path / "gate"
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    connection.request("GET", f"/stream?n=4&gate={gate}")
    response = connection.getresponse()
    assert response.getheader("Content-Type") == "text/event-stream"
    for i in range(4):
        gate.touch()
        wait_for("the step", lambda: not gate.exists())
        assert response.readline() == b"data: %d\n" % i and response.readline() == b"\n"
    assert response.read() == b""
    connection.close()


def test_a_client_that_leaves_is_told_of(start, tmp_path):
    """The server's stream ends with it, and its place serves others."""
    moult = start(section(threads=1))
    gate, gone = tmp_path / "gate", tmp_path / "gone"
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    connection.request("GET", f"/stream?n=1000000&gate={gate}&gone={gone}")
    response = connection.getresponse()
    gate.touch()
    response.readline()
    response.close()
    connection.close()

    def is_told():
        gate.touch()
        return gone.exists()
    wait_for("the end of the stream", is_told)
    assert ask(moult, "GET", "/x")[2] == b"hello"


def test_a_slow_client_holds_nobody_up(start):
    """Its stream waits for it, and others pass by."""
    moult = start(section(response_arena="1M"))
    with socket.create_connection(("127.0.0.1", moult.port), DEADLINE_S) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /bytes?n=5000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        for _ in range(20):
            assert ask(moult, "GET", "/x")[2] == b"hello"


def test_as_many_at_once_as_threads_say(start, tmp_path):
    """Two wait in the server, the third before it."""
    moult = start(section(threads=2))
    gate = tmp_path / "gate"
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(
        ask(moult, "GET", f"/hang?gate={gate}")[2])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(3):
        gate.touch()
        wait_for("an answer", lambda: len(answers) > i)
    for thread in threads:
        thread.join()
    assert answers == [b"at last"] * 3


# what the server gets, and what stays

def test_the_server_has_nothing_of_the_loaders(start, tmp_path):
    write_secret(tmp_path / "secrets", "s3")
    moult = start(section(where="{socket}", secrets=tmp_path / "secrets",
                          **{"environment.COLOUR": "blue", "option.secrets_env": "token"}),
                  environment={"MOULT_TEST_SECRET": "x", "NOTIFY_SOCKET": "/x"})
    environment = json.loads(ask(moult, "GET", "/environment")[2])
    assert environment["COLOUR"] == "blue" and environment["token"] == "s3", environment
    assert not {"MOULT_TEST_SECRET", "NOTIFY_SOCKET"} & set(environment), environment
    folder = pathlib.Path(environment["MOULT_SECRETS_DIR"])
    assert ask(moult, "GET", "/secret")[2] == b"s3"
    assert (folder / "token").stat().st_mode & 0o777 == 0o400
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    held = json.loads(ask(moult, "GET", "/descriptors")[2])
    pipes = [name for name in held if name.startswith("pipe:")]
    assert len(pipes) == 2 and len(set(pipes)) == 1 and held.count("/dev/null") == 1, held
    assert not any("memfd" in name or "eventfd" in name for name in held), held
    assert sum(name.startswith("socket:") for name in held) == 2, held
    moult.stop()
    assert not folder.parent.exists()


def test_nothing_is_left(start):
    """A child that left the server's session and heeds no SIGTERM ends with it."""
    moult = start(section("parent", stop_timeout="1s"))
    server = server_pid(moult)
    child = wait_for("its child", lambda: children(server))[0]
    assert os.getsid(child) == child
    moult.stop()
    assert not is_alive(server) and not is_alive(child)


def test_a_server_that_heeds_no_sigterm_is_killed(start):
    moult = start(section("stubborn", stop_timeout="500ms"))
    server = server_pid(moult)
    assert moult.reload("app").returncode == 0
    wait_for("the end of the old one", lambda: not is_alive(server))
    assert "orphan" not in moult.log_text()
    assert ask(moult, "GET", "/x")[2] == b"hello"


def test_the_tree_ends_with_its_loader(start):
    """Also when the loader is killed: its server, and the child in a session of its own. The next
    one removes its folder."""
    moult = start(section("parent", where="{socket}"))
    folder = pathlib.Path(json.loads(
        ask(moult, "GET", "/environment")[2])["MOULT_SECRETS_DIR"]).parent
    loader = moult.status("app")["pid"]
    server = server_pid(moult)
    child = wait_for("its child", lambda: children(server))[0]
    os.kill(loader, signal.SIGKILL)
    wait_for("the end of all", lambda: not any(map(is_alive, (loader, server, child))))
    wait_for("another one", lambda: ask(moult, "GET", "/x")[2] == b"hello")
    assert not folder.exists()


def test_memory_is_that_of_the_whole_tree(start):
    """A worker's counts in the receipt, and in what the next reload is decided by."""
    moult = start(section("large"))
    assert moult.reload("app").returncode == 0
    memory = moult.receipts("app")[-1]["memory"]
    least = 100 << 20
    assert memory["before"]["loader_anon_bytes"] > least, memory
    assert memory["before"]["loader_rss_bytes"] > least, memory
    assert memory["before"]["loader_pss_bytes"] > least, memory
    assert memory["peak"]["loader_anon_bytes"] > 2 * least, memory
    assert least < memory["after"]["loader_anon_bytes"] < 2 * least, memory
    assert moult.explain("app")["need_bytes"] > least, moult.explain("app")


# changes and deaths under load

def test_secrets_rotate(start, tmp_path):
    secrets = tmp_path / "secrets"
    write_secret(secrets, "0")
    moult = start(section(secrets=secrets))
    clients = Clients(moult, bytes.isdigit, path="/secret")
    for i in range(1, 4):
        write_secret(secrets, str(i))
        wait_for("the new secret", lambda: ask(moult, "GET", "/secret")[2] == b"%d" % i)
        clients.wait_more()
    clients.stop_and_check()


@pytest.mark.parametrize("where", ["{port}", "{socket}"])
def test_reloads_lose_nothing(start, where):
    moult = start(section(where=where))
    moult.note_fds()
    clients = Clients(moult, lambda body: body == b"hello")
    for _ in range(4):
        clients.wait_more()
        assert moult.reload("app").returncode == 0
    clients.stop_and_check()


@pytest.mark.parametrize("strategy", ["staged", "stop-first"])
def test_one_server_at_a_time(start, strategy):
    """The new one is started when the old one has ended; requests wait for it."""
    moult = start(section(strategy=strategy))
    clients = Clients(moult, lambda body: body == b"hello")
    for _ in range(3):
        clients.wait_more()
        server = server_pid(moult)
        assert moult.reload("app").returncode == 0
        assert moult.receipts("app")[-1]["strategy"] == strategy and not is_alive(server)
    clients.stop_and_check()


def test_a_spare_loader_starts_it(start):
    moult = start(section(spare="yes"))
    wait_for("the spare", lambda: moult.status()["supervisor"]["spares"])
    wait_for("the spare's HELLO", lambda: "event=spare_ready" in moult.log_text())
    clients = Clients(moult, lambda body: body == b"hello")
    clients.wait_more()
    os.kill(moult.status("app")["pid"], signal.SIGKILL)
    clients.wait_more()
    clients.stop_and_check()
    assert "event=spare_taken" in moult.log_text()


def test_a_request_that_takes_too_long_gives_its_place_back(start, tmp_path):
    moult = start(section(threads=1, request_timeout="500ms"))
    assert ask(moult, "GET", f"/hang?gate={tmp_path / 'gate'}")[0] == 504
    wait_for("an answer", lambda: ask(moult, "GET", "/x")[2] == b"hello")


def test_a_server_that_is_long_in_loading(start, tmp_path):
    """The old one serves until the new one says that it is ready."""
    gate = tmp_path / "loaded"
    moult = start(section())
    old = server_pid(moult)
    (moult.models / "0.conf").write_text(section(f"slow:{gate}", ready="/health"))
    loader = wait_for("the new one", lambda: (moult.status("app")["candidate"] or {}).get("pid"))
    wait_for("its server", lambda: children(loader))
    assert ask(moult, "GET", "/pid")[2] == b"%d" % old
    gate.touch()
    wait_for("the new server", lambda: ask(moult, "GET", "/pid")[2] != b"%d" % old)


def test_a_worse_server_is_rolled_back_from(start):
    """Status 500 counts."""
    moult = start(section(watch_window="60s"))
    for _ in range(60):
        assert ask(moult, "GET", "/x")[2] == b"hello"
    (moult.models / "0.conf").write_text(section("faulty", watch_window="60s"))

    def is_back():
        ask(moult, "GET", "/x")
        return any(r["cause"] == "rollback" and r["outcome"] == "ok"
                   for r in moult.receipts("app"))
    wait_for("the way back", is_back)
    assert ask(moult, "GET", "/x")[2] == b"hello"


def test_checked_by_loading(tmp_path):
    config = tmp_path / "moult.conf"
    for way, status, said in (("", 0, "model app: ok"),
                              ("exits", 1, "exited with status 3; it said last: is not there")):
        config.write_text("[supervisor]\nuser = root\n" + section(way))
        result = subprocess.run([BUILD / "moultd", "-t", "--load", "-c", config],
                                capture_output=True, text=True, check=False)
        assert result.returncode == status and said in result.stdout, result


def test_the_tree_ends_with_moultd(start):
    """Also when moultd is killed: the server at once, the rest when it is started again."""
    moult = start(section("parent", where="{socket}"))
    folder = pathlib.Path(json.loads(
        ask(moult, "GET", "/environment")[2])["MOULT_SECRETS_DIR"]).parent
    server = server_pid(moult)
    child = wait_for("its child", lambda: children(server))[0]
    moult.process.kill()
    moult.process.wait()
    wait_for("the server's end", lambda: not is_alive(server))
    moult.launch().wait_ready()
    wait_for("the child's end", lambda: not is_alive(child))
    assert ask(moult, "GET", "/x")[2] == b"hello" and not folder.exists()


@pytest.mark.parametrize("who", ["loader", "server"])
def test_kills_lose_nothing(start, who):
    moult = start(section())
    moult.note_fds()
    clients = Clients(moult, lambda body: body == b"hello")
    for _ in range(4):
        clients.wait_more()
        loader = moult.status("app")["pid"]
        os.kill(loader if who == "loader" else children(loader)[0], signal.SIGKILL)
        wait_for("another loader", lambda: (moult.status("app")["pid"] or loader) != loader)
    clients.stop_and_check()
    if who == "server":
        assert "event=server_killed" in moult.log_text()


def test_replicas_share_the_work(start, tmp_path):
    """While one is busy the other is asked."""
    moult = start(section(replicas=2))
    gate, pids = tmp_path / "gate", set()
    busy = threading.Thread(target=ask, args=(moult, "GET", f"/hang?gate={gate}"))
    busy.start()

    def both():
        pids.add(ask(moult, "GET", "/pid")[2])
        return len(pids) == 2
    wait_for("both", both)
    gate.touch()
    busy.join()


# servers of other people

def gunicorn():
    if not pathlib.Path("/usr/bin/gunicorn").exists():
        pytest.skip("gunicorn is not installed")
    return "/usr/bin/gunicorn"


def uvicorn():
    if not (VENV / "uvicorn").exists():
        pytest.skip("no uvicorn: tests/clients.sh could not install it")
    return str(VENV / "uvicorn")


COMMANDS = {
    "gunicorn": lambda: f"{gunicorn()} -w 1 --threads 4 -b 127.0.0.1:{{port}} app:app",
    "gunicorn-sync": lambda: f"{gunicorn()} -w 2 -b unix:{{socket}} app:app",
    "uvicorn": lambda: f"{uvicorn()} --port {{port}} asgi:app",
    "uvicorn-uds": lambda: f"{uvicorn()} --uds {{socket}} asgi:app",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_servers_of_other_people(start, tmp_path, name):
    """Served, reloaded, rotated and killed under load, as they are."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "app.py").write_text(APP)
    (home / "asgi.py").write_text(ASGI)
    write_secret(home / "secrets", "0")
    moult = start("[model app]\nengine = server\nroute = /\n"
                  f"command = {COMMANDS[name]()}\nworking_directory = {home}\n"
                  f"secrets = {home / 'secrets'}\n")
    assert ask(moult, "POST", "/a", body=b"x" * 100000)[2] == b"POST /a 0 100000"
    clients = Clients(moult, lambda body: body.startswith(b"GET /x "))
    assert moult.reload("app").returncode == 0
    write_secret(home / "secrets", "1")
    wait_for("the new secret", lambda: ask(moult, "GET", "/x")[2] == b"GET /x 1 0")
    for victim in (0, -1):
        loader = moult.status("app")["pid"]
        tree = [loader]
        for pid in tree:
            tree.extend(children(pid))
        os.kill(tree[victim], signal.SIGKILL)
        wait_for("its end", lambda: not is_alive(tree[victim]))
        clients.wait_more()
    clients.stop_and_check()


# without a file

def test_without_a_configuration(tmp_path):
    port = free_port()
    runtime = tmp_path / "run"
    runtime.mkdir()
    write_secret(tmp_path / "secrets", "0")
    process = subprocess.Popen(
        [BUILD / "moultd", "--command", f"{PYTHON} {PROGRAM} {{port}}", "--ready", "GET /health 200",
         "--secrets", "secrets", "--listen", f"127.0.0.1:{port}", "--threads", "8"],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)})

    class Served:
        pass
    moult = Served()
    moult.port = port

    def answer():
        assert process.poll() is None
        try:
            return ask(moult, "GET", "/secret")
        except OSError:
            return (0, (), b"")
    try:
        wait_for("an answer", lambda: answer()[0] == 200)
        assert answer()[2] == b"0"
    finally:
        process.send_signal(signal.SIGTERM)
        printed = process.communicate()[0]
    assert process.returncode == 0 and not list(runtime.iterdir())
    config = tmp_path / "kept.conf"
    config.write_text(printed)
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0 and "ready = GET /health 200\n" in printed, (result, printed)
