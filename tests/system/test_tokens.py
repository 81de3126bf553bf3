# SPDX-License-Identifier: Apache-2.0
"""Tokens of clients: who may do what, as RFC 6750 says it; rotated without a reload; and never to
be found in anything that moultd writes."""
import http.client
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import threading

import pytest

from harness import BUILD, DEADLINE_S, Moult, echo_body, echo_section, wait_for

BODY = echo_body([1, 2, 3, 4])
INFER = "/v2/models/echo/infer"


def hosted_section(home, **keys):
    lines = {"engine": "python", "python": "/usr/bin/python3", "wsgi": "app:app",
             "route": "/a/", "working_directory": home, **keys}
    return "[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


class Tokens:
    def __init__(self, home):
        self.path = pathlib.Path(home) / "tokens"
        self.path.mkdir()
        self.all = []

    def put(self, name, *values):
        values = values or (secrets.token_hex(16),)
        self.all += values
        fresh = self.path / f".{name}.new"
        fresh.write_text("".join(f"{value}\n" for value in values))
        os.rename(fresh, self.path / name)
        return values[0]


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path)


def ask(moult, method, path, token=None, body=None, headers=None):
    """Status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    try:
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def status_of(moult, *arguments, **keys):
    return ask(moult, *arguments, **keys)[0]


def challenge(moult, *arguments, **keys):
    status, headers, body = ask(moult, *arguments, **keys)
    assert "error" in json.loads(body)
    return status, headers["WWW-Authenticate"]


def begin(start, tokens, *sections, extra="", **keys):
    moult = start(*(sections or [echo_section()]), **keys,
                  supervisor=f"tokens = {tokens.path}\nlog_level = debug\naccess_log = stderr\n"
                  + extra)
    return moult


def test_who_may_do_what(start, tokens):
    """Verbs in lists: nobody, a stranger, and each of those that are known."""
    known = {name: tokens.put(name) for name in ("alice", "bob", "prom")}
    moult = begin(start, tokens,
                  echo_section(infer_tokens="alice", metadata_tokens="alice, bob"),
                  echo_section("open", infer_tokens="anybody", metadata_tokens="prom"),
                  extra="metrics_tokens = prom\n")
    askers = {"nobody": None, "stranger": "0" * 32, **known}
    paths = {
        "/v2/health/live": "nobody stranger alice bob prom",
        "/v2/health/ready": "nobody stranger alice bob prom",
        "/healthz": "nobody stranger alice bob prom",
        "/v2": "alice bob prom",
        "/metrics": "prom", "/v2/models/stats": "prom", "/v2/models/echo/stats": "prom",
        "/v2/models/echo": "alice bob", "/v2/models/echo/ready": "alice bob",
        "/v2/models/echo/config": "alice bob",
        "/v2/models/open": "prom",
        f"POST {INFER}": "alice",
        "POST /v2/models/open/infer": "nobody stranger alice bob prom",
    }
    for path, allowed in paths.items():
        method, _, path = path.rpartition(" ")
        for name, token in askers.items():
            status = status_of(moult, method or "GET", path, token, BODY if method else None)
            wanted = (200 if name in allowed.split() else 403 if name in known else 401)
            assert status == wanted, (method, path, name, status)
    for name in known:
        listed = {model["name"] for model in json.loads(
            ask(moult, "POST", "/v2/repository/index", known[name])[2])}
        assert listed == ({"open"} if name == "prom" else {"echo"}), name
    # What there is, is not told to those who may not ask.
    for path in ("/nowhere", "/v2/models/none", "/v2/repository/models/x/load"):
        assert status_of(moult, "GET", path) == 401
        assert status_of(moult, "GET", path, known["bob"]) == (403 if "load" in path else 404)
    assert status_of(moult, "POST", "/v2/models/none/infer", body=BODY) == 401
    assert moult.status("echo")["requests"]["accepted"] == 1


def test_as_rfc_6750_says(start, tokens):
    good = tokens.put("alice")
    other = tokens.put("bob")
    moult = begin(start, tokens, echo_section(infer_tokens="alice"))
    # 3: a request without credentials gets no error code.
    assert challenge(moult, "POST", INFER, body=BODY) == (401, 'Bearer realm="moult"')
    assert challenge(moult, "POST", INFER, "x" * 40, BODY) == \
        (401, 'Bearer realm="moult", error="invalid_token"')
    assert challenge(moult, "POST", INFER, other, BODY) == \
        (403, 'Bearer realm="moult", error="insufficient_scope", scope="infer"')
    for value in ("", "Basic YTpi", "Bearer", "Bearer ", "Bearer a b", f"Bearer {good}!",
                  f"Bearer{good}", good, "Bearer =", f"Bearer {good}, Bearer {good}"):
        assert challenge(moult, "POST", INFER, body=BODY, headers={"Authorization": value}) == \
            (400, 'Bearer realm="moult", error="invalid_request"'), value
    # RFC 9110 11.1: the scheme's case does not count.
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer  "):
        assert status_of(moult, "POST", INFER, body=BODY,
                         headers={"Authorization": f"{scheme} {good}"}) == 200
    for wrong in (good[:-1], good + "0", good.upper(), good.swapcase() + "="):
        assert status_of(moult, "POST", INFER, wrong, BODY) == 401, wrong


def test_two_headers(start, tokens):
    good = tokens.put("alice")
    moult = begin(start, tokens)
    with socket.create_connection(("127.0.0.1", moult.port), 60) as client:
        client.sendall(f"GET /v2 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {good}\r\n"
                       f"Authorization: Bearer {good}\r\nConnection: close\r\n\r\n".encode())
        assert client.makefile("rb").readline() == b"HTTP/1.1 400 Bad Request\r\n"


def test_a_large_body_is_not_waited_for(start, tokens):
    tokens.put("alice")
    moult = begin(start, tokens)
    with socket.create_connection(("127.0.0.1", moult.port), 60) as client:
        client.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
                       .encode())
        head = client.makefile("rb").read().partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b'WWW-Authenticate: Bearer realm="moult"' in head


def test_each_request_by_itself(start, tokens):
    """Nobody rides on the token of another request of the connection."""
    good = tokens.put("alice")
    moult = begin(start, tokens)
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    for token, wanted in ((good, 200), (None, 401), (good, 200), ("0" * 40, 401), (None, 401)):
        connection.request("GET", "/v2", headers={"Authorization": f"Bearer {token}"} if token
                           else {})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == wanted
        assert ("WWW-Authenticate" in answer.headers) == (wanted == 401)
    connection.close()


def test_rotated_under_load(start, tokens):
    """Old and new stand together in the file for a while: no request is refused."""
    current = [tokens.put("alice")]
    moult = begin(start, tokens)
    failed, n = [], [0]
    is_over = threading.Event()

    def run():
        while not is_over.is_set():
            token = current[0]
            status = status_of(moult, "POST", INFER, token, BODY)
            n[0] += 1
            if status != 200:
                failed.append(status)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        old, new = current[0], secrets.token_urlsafe(32)
        tokens.put("alice", old, new)
        wait_for("the new one", lambda: status_of(moult, "GET", "/v2", new) == 200)
        current[0] = new
        seen = n[0]
        # Whoever took the old one a moment ago is through.
        wait_for("those with the old one", lambda: n[0] >= seen + 2 * len(threads) or failed)
        tokens.put("alice", new)
        wait_for("the end of the old one", lambda: status_of(moult, "GET", "/v2", old) == 401)
    is_over.set()
    for thread in threads:
        thread.join()
    print(f"{n[0]} requests, {len(failed)} failed")
    assert not failed
    assert moult.status("echo")["generation"] == 1  # without a reload


def test_kubernetes_volume(start, tokens, tmp_path):
    volume = tmp_path / "volume"
    tokens.path = volume
    first, second = secrets.token_hex(20), secrets.token_hex(20)
    tokens.all += [first, second]
    Moult.swap_secrets(None, volume, {"alice": first})
    moult = begin(start, tokens)
    assert status_of(moult, "GET", "/v2", first) == 200
    moult.swap_secrets(volume, {"alice": second})
    wait_for("the new one", lambda: status_of(moult, "GET", "/v2", second) == 200)
    assert status_of(moult, "GET", "/v2", first) == 401


BAD = {
    "too short": ("short\n", "has a token of 5 characters"),
    "not for a header": ("a token with blanks in it\n", "has a token that no header can have"),
    "only a line end": ("\n\n", "has no token"),
}


@pytest.mark.parametrize("how", BAD)
def test_of_no_use_keeps_the_last_good_ones(start, tokens, how):
    text, says = BAD[how]
    good = tokens.put("alice")
    moult = begin(start, tokens)
    (tokens.path / "alice").write_text(text)
    error = wait_for("the refusal", lambda: moult.status()["supervisor"]["tokens"]["error"])
    assert says in error and "alice" in error and text.strip() not in (error or "?") or not \
        text.strip()
    assert status_of(moult, "GET", "/v2", good) == 200
    assert b"moult_tokens_stale 1" in ask(moult, "GET", "/metrics", good)[2]
    assert "event=tokens_refused" in moult.log_text()
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"], text=True,
                          capture_output=True, timeout=120, check=True).stdout
    assert "tokens refused, the last good ones are in use: " in text
    new = tokens.put("alice")
    wait_for("the new one", lambda: status_of(moult, "GET", "/v2", new) == 200)
    assert status_of(moult, "GET", "/v2", good) == 401
    assert moult.status()["supervisor"]["tokens"]["error"] is None


def test_a_token_that_is_taken_away(start, tokens):
    good, gone = tokens.put("alice"), tokens.put("bob")
    moult = begin(start, tokens)
    assert status_of(moult, "GET", "/v2", gone) == 200
    (tokens.path / "bob").unlink()
    wait_for("its end", lambda: status_of(moult, "GET", "/v2", gone) == 401)
    assert status_of(moult, "GET", "/v2", good) == 200


def test_lists_change_without_a_reload(start, tokens):
    alice, bob = tokens.put("alice"), tokens.put("bob")
    moult = begin(start, tokens, echo_section(infer_tokens="alice"))
    assert status_of(moult, "POST", INFER, bob, BODY) == 403
    (moult.models / "0.conf").write_text(echo_section(infer_tokens="bob"))
    wait_for("the other list", lambda: status_of(moult, "POST", INFER, bob, BODY) == 200)
    assert status_of(moult, "POST", INFER, alice, BODY) == 403
    assert moult.status("echo")["generation"] == 1


def test_no_token_is_written_anywhere(start, tokens, tmp_path):
    good = tokens.put("alice")
    wrong = "w" * 40
    moult = begin(start, tokens, echo_section(infer_tokens="alice"))
    for token in (good, wrong):
        ask(moult, "POST", INFER, token, BODY)
        ask(moult, "GET", "/metrics", token)
        ask(moult, "GET", "/nowhere", token, headers={"X-Other": "1"})
    assert wait_for("the line", lambda: [line for line in moult.log_lines()
                                         if "event=access" in line and "token=alice" in line])
    moult.process.send_signal(signal.SIGUSR1)
    wait_for("the dump", lambda: "event=dump" in moult.log_text())
    said = moult.log_text() + moult.ctl("dump").stdout + moult.ctl("show-config").stdout + \
        moult.ctl("status").stdout
    for path in (moult.home / "state").rglob("*"):
        if path.is_file():
            said += path.read_bytes().decode(errors="replace")
    for token in (good, wrong):
        assert token not in said


def test_an_application_gets_no_token(start, tokens, tmp_path):
    """The one that moultd took is its own; where nobody needs one, it is the application's."""
    good = tokens.put("alice")
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [environ.get('HTTP_AUTHORIZATION', 'none').encode()]\n")
    moult = begin(start, tokens, hosted_section(tmp_path))
    assert status_of(moult, "GET", "/a/x") == 401
    assert ask(moult, "GET", "/a/x", good)[2] == b"none"
    (moult.models / "0.conf").write_text(
        hosted_section(tmp_path, infer_tokens="anybody"))
    wait_for("the other list", lambda: status_of(moult, "GET", "/a/x") == 200)
    assert ask(moult, "GET", "/a/x", "its-own")[2] == b"Bearer its-own"


def test_in_the_clear(start, tokens):
    tokens.put("alice")
    moult = begin(start, tokens, listen="0.0.0.0")
    assert "event=tokens_in_the_clear" in moult.log_text()
    assert "event=endpoint_open" not in moult.log_text()


def check_config(home, lines, model=""):
    config = home / "checked.conf"
    config.write_text("[supervisor]\nuser = root\n"
                      f"listen = 127.0.0.1:0\ncontrol = c.sock\nstate_dir = s\n"
                      f"{lines}" + echo_section() + model)
    return subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                          timeout=120)


def test_what_check_says(tokens, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    named = tmp_path / "named"
    named.mkdir()
    (named / "anybody").write_text("0" * 32)
    short = tmp_path / "short"
    short.mkdir()
    (short / "x").write_text("0" * 15)
    tokens.put("alice")
    here = f"tokens = {tokens.path}\n"
    cases = [
        ("tokens =\n", "", "has no value"),
        (f"tokens = {tmp_path}/none\n", "", "tokens: "),
        (f"tokens = {empty}\n", "", "tokens: "),
        (f"tokens = {named}\n", "", "the name 'anybody' means something else"),
        (f"tokens = {short}\n", "", "x: has a token of 15 characters: 16 to 4096 are allowed"),
        ("", "infer_tokens = alice\n", "infer_tokens: there are no tokens: name their directory"),
        ("", "metadata_tokens = alice\n", "metadata_tokens: there are no tokens"),
        ("metrics_tokens = alice\n", "", "metrics_tokens: there are no tokens"),
        (here, "infer_tokens = carol\n", "[model echo]: infer_tokens names 'carol', and there is"),
        (here + "metrics_tokens = carol\n", "", "metrics_tokens names 'carol'"),
        (here, "infer_tokens = a/b\n", "'a/b' is no name"),
    ]
    for lines, model, says in cases:
        result = check_config(tmp_path, lines, model)
        assert result.returncode == 1 and says in result.stderr, (lines, model, result.stderr)
    good = check_config(tmp_path, here + "metrics_tokens = anybody\n", "infer_tokens = alice\n")
    assert good.returncode == 0, good.stderr
