# SPDX-License-Identifier: Apache-2.0
"""Requests of a model's routes: as clients sent them, and answered as the engine answers."""
import http.client
import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from harness import BUILD, DEADLINE_S, wait_for

ENGINES = f"engine_dir = {BUILD}\n"


def section(name="app", route="/app/", **keys):
    lines = {"engine": "fault", "route": route, "threads": 2, "sandbox": "off", **keys}
    return f"[model {name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def ask(moult, method, path, fields=(), body=None):
    """Status, fields as a list, body."""
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in fields:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_as_sent(start, method):
    moult = start(section(), supervisor=ENGINES)
    status, _, body = ask(moult, method, "/app/a%2Fb//c?d=%20&e",
                          [("X-One", "1"), ("Cookie", "a=1"), ("Cookie", "b=2"),
                           ("Connection", "close, X-Two"), ("X-Two", "2")], b"\0body")
    lines = body.split(b"\n")
    assert status == 200 and lines[0] == method.encode() + b" /app/a%2Fb//c?d=%20&e", body
    assert {b"x-one: 1", b"cookie: a=1", b"cookie: b=2", b"content-length: 5",
            f"host: 127.0.0.1:{moult.port}".encode()} <= set(lines), body
    # What is the connection's own is not the application's.
    assert not any(line.startswith((b"connection", b"x-two")) for line in lines), body
    assert body.endswith(b"\n\n\0body"), body


def test_the_longest_prefix_wins(start):
    moult = start(section("all", "/"), section("app", "/app/, /other/"),
                  section("deep", "/app/deep/"), supervisor=ENGINES)
    for path, model in (("/", "all"), ("/ap", "all"), ("/appx", "all"), ("/app", "app"),
                        ("/app/", "app"), ("/app?x", "app"), ("/app/deepx", "app"),
                        ("/other/x", "app"), ("/app/deep", "deep"), ("/app/deep/x", "deep"),
                        ("/v2x", "all")):
        before = moult.status(model)["requests"]["answered"]
        assert ask(moult, "GET", path)[0] == 200, path
        assert moult.status(model)["requests"]["answered"] == before + 1, path
    # What is moult's own stays so.
    for path in ("/v2", "/v2/health/ready", "/healthz", "/metrics", "/v2/models/app"):
        assert b"GET" not in ask(moult, "GET", path)[2][:3], path
    assert ask(moult, "GET", "/v2/none")[0] == 404
    status, _, body = ask(moult, "POST", "/v2/models/app/infer", body=b"{}")
    assert status == 400 and b"has routes (/app/, /other/)" in body, body


def test_paths_of_moult_that_a_route_may_cover(start):
    moult = start(section("all", "/"), section("app", "/healthz/"), supervisor=ENGINES)
    assert ask(moult, "GET", "/healthz")[2].startswith(b"GET /healthz\n")
    assert ask(moult, "PROPFIND", "/x")[2].startswith(b"PROPFIND /x\n")
    assert ask(moult, "PROPFIND", "/v2")[0] == 501


def test_what_serves_keeps_its_routes(start):
    """A new section that is of no use takes no path away, and gets none."""
    moult = start(section(), supervisor=ENGINES)
    file = moult.models / "0.conf"
    text = file.read_text()
    file.write_text(text.replace("/app/", "/new/") + "option.nonsense = 1\n")
    moult.wait_receipt("app", lambda r: "nonsense" in r["reason"])
    assert ask(moult, "GET", "/app/")[0] == 200
    assert ask(moult, "GET", "/new/")[0] == 404
    file.write_text(text.replace("/app/", "/new/"))
    wait_for("the new route", lambda: ask(moult, "GET", "/new/")[0] == 200)
    assert ask(moult, "GET", "/app/")[0] == 404


def test_the_answer_is_the_applications(start):
    moult = start(section(), supervisor=ENGINES)
    status, fields, body = ask(moult, "GET", "/app/", [
        ("X-Status", "418"), ("X-Body", "3"), ("X-Field", "Set-Cookie: a=1"),
        ("X-Field", "Set-Cookie: b=2"), ("X-Field", "X-Case: yes"),
        ("X-Field", "Connection: keep-alive"), ("X-Field", "Transfer-Encoding: chunked"),
        ("X-Field", "Retry-After: 7")])
    assert status == 418 and body == b"bbb"
    assert [v for n, v in fields if n == "Set-Cookie"] == ["a=1", "b=2"], fields
    names = [name for name, _ in fields]
    assert "X-Case" in names and ("Retry-After", "7") in fields, fields
    assert "Transfer-Encoding" not in names and ("Content-Length", "3") in fields, fields
    # A failure of the application's own wording passes unchanged.
    status, _, body = ask(moult, "GET", "/app/", [("X-Status", "500"), ("X-Body", "4"),
                                                  ("X-Action", "fault")])
    assert (status, body) == (500, b"bbbb")


def test_head_has_no_body(start):
    moult = start(section(), supervisor=ENGINES)
    for fields, length in (((("X-Body", "10"),), "10"),
                           ((("X-Body", "10"), ("X-Field", "Content-Length: 77")), "77")):
        with socket.create_connection(("127.0.0.1", moult.port), DEADLINE_S) as client:
            client.sendall(b"HEAD /app/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
                           b"".join(f"{n}: {v}\r\n".encode() for n, v in fields) + b"\r\n")
            answer = b""
            while data := client.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n"), answer
        assert f"Content-Length: {length}\r\n".encode() in answer, answer


def test_parts_go_out_as_they_come(start, tmp_path):
    """The first part is there before the engine is let go on to the second."""
    moult = start(section(), supervisor=ENGINES)
    moult.note_fds()
    gate = tmp_path / "between"
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    connection.request("GET", "/app/", headers={"X-Body": "5", "X-Parts": "3",
                                                "X-Between": str(gate)})
    response = connection.getresponse()
    for _ in range(2):
        assert response.read(5) == b"bbbbb"
        gate.write_text("")
    assert response.read() == b"bbbbb"
    connection.close()


def test_what_is_cut_is_seen_to_be(start):
    moult = start(section(), supervisor=ENGINES)
    for fields in ({"X-Action": "broken", "X-Body": "5"},
                   {"X-Parts": "2", "X-Body": "5", "X-Field": "Content-Length: 11"}):
        with pytest.raises(http.client.IncompleteRead):
            ask(moult, "GET", "/app/", fields.items())
    # More than was said is not sent: the next answer would begin with it.
    assert ask(moult, "GET", "/app/", [("X-Parts", "2"), ("X-Body", "5"),
                                       ("X-Field", "Content-Length: 7")])[2] == b"b" * 7


@pytest.mark.parametrize("method, status", [("HEAD", "200"), ("GET", "304"), ("GET", "204")])
@pytest.mark.parametrize("parts", ["1", "2"])
def test_no_body_comes_before_the_next_answer(start, method, status, parts):
    moult = start(section(), supervisor=ENGINES)
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    connection.request(method, "/app/", headers={"X-Status": status, "X-Parts": parts,
                                                 "X-Body": "5"})
    response = connection.getresponse()
    assert response.status == int(status) and response.read() == b""
    assert response.getheader("Transfer-Encoding") is None
    connection.request("GET", "/app/", headers={"X-Body": "3"})
    assert connection.getresponse().read() == b"bbb"
    connection.close()


def test_one_part_that_is_not_as_long_as_said(start):
    moult = start(section(), supervisor=ENGINES)
    with pytest.raises(http.client.IncompleteRead):
        ask(moult, "GET", "/app/", [("X-Body", "5"), ("X-Field", "Content-Length: 11")])
    assert ask(moult, "GET", "/app/", [("X-Body", "5"),
                                       ("X-Field", "Content-Length: 3")])[2] == b"bbb"


def test_long_fields(start):
    """None is left out without a word; by default there is room for the longest cookie that
    browsers keep, in the request and in its answer."""
    moult = start(section(), supervisor=ENGINES)
    cookie = "Set-Cookie: " + "a" * 4096
    answer = ask(moult, "GET", "/app/", [("X-Body", "5"), ("X-Field", cookie)])
    assert answer[0] == 200 and ("Set-Cookie", "a" * 4096) in answer[1], answer
    status, _, body = ask(moult, "GET", "/app/", [("X-Body", "5"),
                                                  ("X-Field", "X-Long: " + "a" * 5000)])
    assert status == 502 and b"connection_memory" in body, body
    moult.stop()
    shutil.rmtree(moult.models)
    moult = start(section(), supervisor=ENGINES + "connection_memory = 16K\n")
    fields = ask(moult, "GET", "/app/", [("X-Body", "5"), ("X-Field", "X-Long: " + "a" * 6000)])[1]
    assert ("X-Long", "a" * 6000) in fields
    status, _, body = ask(moult, "GET", "/app/", [("X-Body", "5"),
                                                  ("X-Field", "X-Long: " + "a" * 9000)])
    assert status == 502 and b"connection_memory" in body, body


def test_the_body_is_the_applications(start):
    """What would be a deadline and a priority in inference means nothing here."""
    moult = start(section(), supervisor=ENGINES)
    body = b'{"parameters": {"timeout": 1, "priority": 9}}'
    status, _, answer = ask(moult, "POST", "/app/", body=body)
    assert status == 200 and answer.endswith(body), answer


def test_a_client_that_leaves_is_noticed(start):
    moult = start(section(threads=1), supervisor=ENGINES)
    with socket.create_connection(("127.0.0.1", moult.port), DEADLINE_S) as client:
        client.sendall(b"GET /app/ HTTP/1.1\r\nHost: x\r\nX-Until: /nonexistent\r\n\r\n")
        wait_for("its lease", lambda: moult.status("app")["requests"]["leased"])
    # The only thread is free again.
    assert ask(moult, "GET", "/app/")[0] == 200


def test_after_a_crash(start, tmp_path):
    """What is safe to repeat is asked again; what is not is answered, and never silently twice."""
    moult = start(section(threads=3), section("free", "/free/", replay="POST"), supervisor=ENGINES)
    gate = tmp_path / "go"
    answers = {}

    def begun(method, path):
        return tmp_path / f"{method}-{path.strip('/')}"

    def one(method, path):
        answers[method, path] = ask(
            moult, method, path, [("X-Until", str(gate)), ("X-Begun", str(begun(method, path)))],
            b"x" if method == "POST" else None)
    wanted = [("GET", "/app/"), ("PUT", "/app/"), ("POST", "/app/"), ("POST", "/free/")]
    threads = [threading.Thread(target=one, args=w) for w in wanted]
    for thread in threads:
        thread.start()
    wait_for("the beginning of all", lambda: all(begun(*w).exists() for w in wanted))
    for model in ("app", "free"):
        os.kill(moult.status(model)["pid"], signal.SIGKILL)
    wait_for("its answer", lambda: ("POST", "/app/") in answers or
             moult.status("app")["requests"]["failed"])
    gate.write_text("")
    for thread in threads:
        thread.join()
    for key in wanted:
        if key != ("POST", "/app/"):
            assert answers[key][0] == 200, answers
            assert begun(*key).read_text() == "11", key
    status, _, body = answers["POST", "/app/"]
    assert status == 502 and b"replay" in body, answers
    assert begun("POST", "/app/").read_text() == "1"
    assert moult.status("app")["requests"]["failures"]["crash"] == 1


@pytest.mark.parametrize("how", ["kill", "fail"])
def test_what_was_not_begun_is_no_loss(start, tmp_path, how):
    """A loader that ends takes with it what its application has begun, and nothing of what waited
    there for its turn."""
    moult = start(section(threads=1), supervisor=ENGINES)
    gate, begun = tmp_path / "go", tmp_path / "begun"
    answers = {}

    def one(name, *fields):
        answers[name] = ask(moult, "POST", "/app/", [*fields, ("X-Until", str(gate))], b"x")
    first = threading.Thread(target=one, args=("first", ("X-Begun", str(begun)),
                                               ("X-Action", "fail" if how == "fail" else "none")))
    first.start()
    wait_for("the beginning of the first", begun.exists)
    others = [threading.Thread(target=one, args=(i,)) for i in range(3)]
    for other in others:
        other.start()
    wait_for("four leases", lambda: moult.status("app")["requests"]["leased"] == 4)
    if how == "kill":
        os.kill(moult.status("app")["pid"], signal.SIGKILL)
        first.join()
    gate.write_text("")
    for thread in (first, *others):
        thread.join()
    status, _, body = answers.pop("first")
    assert status == 502 and b"replay" in body, body
    assert len(answers) == 3 and all(answer[0] == 200 for answer in answers.values()), answers
    assert moult.status("app")["requests"]["failures"]["crash"] == 1


def test_who_ends_loaders_is_found(start):
    """The request that ends every loader that has it is answered, and no other for it: not one
    with the same body, which all of them have."""
    moult = start(section(), supervisor=ENGINES)
    status, _, body = ask(moult, "GET", "/app/", [("X-Action", "crash")])
    assert status == 500 and b"the request was in flight at two crashes" in body, body
    assert b"body" not in body, body
    for _ in range(3):
        assert ask(moult, "GET", "/app/")[0] == 200
    assert moult.status("app")["poison"] == {"remembered": 0, "refused": 0}


def test_under_load(start, tmp_path):
    """Reloads and kills, and each GET is answered by the secret of its time."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("0")
    moult = start(section(secrets=secrets), supervisor=ENGINES)
    moult.note_fds()
    wrong, n, over = [], [0], threading.Event()

    def load():
        while not over.is_set():
            status, _, body = ask(moult, "GET", "/app/", [("X-Secret", "token")])
            n[0] += 1
            if status != 200 or not body.isdigit():
                wrong.append((status, body))
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(1, 6):
        (secrets / "new").write_text(str(i))
        os.rename(secrets / "new", secrets / "token")
        wait_for("the new secret", lambda: ask(
            moult, "GET", "/app/", [("X-Secret", "token")])[2] == str(i).encode())
        os.kill(moult.status("app")["pid"], signal.SIGKILL)
        wait_for("another loader", lambda: moult.status("app")["pid"])
    over.set()
    for thread in threads:
        thread.join()
    assert not wrong and n[0] > 0, wrong


@pytest.mark.parametrize("text, said", [
    (section(route="app"), "'app' is no prefix of paths"),
    (section(route="/a/../b/"), "is no prefix of paths"),
    (section(route="/a%20b/"), "is no prefix of paths"),
    (section(route="/v2/x/"), "'/v2/x/' is moult's own"),
    (section(route="/metrics/"), "is moult's own"),
    (section() + section("other", "/x/, /app/"), "route: /app/ is [model app]'s already"),
    (section(input="x FP32 [-1]"), "either routes or tensors"),
    (section(replay="post"), "'post' is no method"),
    (section(working_directory="/none"), "working_directory: /none: "),
    (section(engine="python", wsgi="a:b", python="/none/python"), "python: /none/python: "),
    (section(wsgi="a:b"), "wsgi: is for engine python alone"),
    (section(asgi="a:b"), "asgi: is for engine python alone"),
    (section(python="/bin/sh"), "python: is for engine python, engine onnx and engine aoti"),
    (section(engine="python"), "engine python serves one thing, and [model app] names none"),
    (section(engine="python", wsgi="a:b", asgi="a:b"), "serves one thing, and [model app] names sev"),
    (section(engine="python", wsgi="app:app", model="app:Model"), "[model app] names several"),
    (section(engine="python", wsgi="no.py:app", working_directory="/tmp"), "wsgi: /tmp/no.py: "),
    (section(engine="python", model="/no.py"), "model: /no.py: "),
    (section(model="a:B"), "model: is for engine python alone"),
    (section(engine="python", model="app"), "'app' names no class of a module"),
    ("[model app]\nengine = python\nwsgi = app:app\n", "route: an application serves paths"),
    (section(asgi="app"), "names no object of a module: for instance app:app"),
    (section(wsgi="app"), "names no object of a module: for instance app:app"),
])
def test_wrong_routes_are_named(tmp_path, text, said):
    config = tmp_path / "moult.conf"
    config.write_text("[supervisor]\nuser = root\n" + ENGINES + text)
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 1 and said in result.stderr, result


def test_an_engine_that_hosts_nothing(start):
    moult = start(section(engine="identity"), supervisor=ENGINES, ready=False)
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert "computes, and hosts no routes" in receipt["reason"], receipt


HANDSHAKE = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
             ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]


def test_a_websocket_is_refused_clearly(start):
    """The application never sees it, and the connection ends; what else is offered is ignored."""
    moult = start(section(), supervisor=ENGINES)
    status, fields, body = ask(moult, "GET", "/app/ws", HANDSHAKE)
    assert status == 501 and b"moult serves no WebSocket" in body, (status, body)
    assert ("Connection", "close") in fields, fields
    assert moult.status("app")["requests"]["accepted"] == 0
    # As curl --http2 offers it.
    offer = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "A")]
    assert ask(moult, "GET", "/app/x", offer)[0] == 200
    # The protocol's own paths are as ever.
    assert ask(moult, "GET", "/v2", HANDSHAKE)[0] == 200
