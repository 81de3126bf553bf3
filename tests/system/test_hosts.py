# SPDX-License-Identifier: Apache-2.0
"""Browsers: a page that was led here by its name, or that belongs elsewhere, gets nothing done.
The tables of names are in unit/supervisor/gate/test_hosts.c."""
import signal
import subprocess

import pytest

from harness import BUILD, DEADLINE_S, echo_body, echo_section, wait_for

BODY = echo_body([1, 2, 3, 4])
INFER = "/v2/models/echo/infer"


def ask(moult, host, method="GET", path="/v2", origin=None, token=None):
    """The status, and what is said."""
    connection = moult.connect(DEADLINE_S)
    try:
        headers = {"Host": host}
        if origin:
            headers["Origin"] = origin
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, BODY if method == "POST" else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_loopback_is_guarded(start):
    moult = start(echo_section())
    for host in ("localhost", f"127.0.0.1:{moult.port}", "[::1]", "moult", "10.0.0.1"):
        assert ask(moult, host)[0] == 200, host
    for path in ("/v2", "/metrics", "/v2/health/ready", "/v2/models/echo"):
        status, says = ask(moult, "evil.example", path=path)
        assert status == 421 and "'evil.example'" in says and "allowed_hosts" in says
    assert ask(moult, "evil.example", "POST", INFER)[0] == 421
    assert moult.status("echo")["requests"]["accepted"] == 0


def test_an_absolute_target_counts(start):
    """RFC 9112 3.2.2: its host stands for that of the header."""
    moult = start(echo_section())
    assert ask(moult, "localhost", path="http://evil.example/v2")[0] == 421
    assert ask(moult, "evil.example", path="http://localhost/v2")[0] == 200


def test_others_come_by_any_name(start):
    """Elsewhere nobody knows how clients call it: a name is asked for where one is listed."""
    moult = start(echo_section(), listen="0.0.0.0")
    assert ask(moult, "moult.svc.cluster.local")[0] == 200


def test_with_a_token_a_name_proves_nothing(start, tmp_path):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "one").write_text("0" * 32)
    moult = start(echo_section(), supervisor=f"tokens = {tmp_path}/tokens\n")
    assert ask(moult, "moult.example", token="0" * 32)[0] == 200
    assert ask(moult, "moult.example", "POST", INFER, "http://other.example", "0" * 32)[0] == 200
    assert ask(moult, "moult.example", "POST", INFER, "http://other.example")[0] == 401


def test_listed_ones_change_without_a_restart(start):
    moult = start(echo_section(), supervisor="allowed_hosts = moult.example, *.ui.example\n",
                  listen="0.0.0.0")
    for host in ("moult.example", "Moult.Example:80", "a.ui.example", "localhost", "10.0.0.1"):
        assert ask(moult, host)[0] == 200, host
    for host in ("evil.example", "moult", "ui.example"):
        assert ask(moult, host)[0] == 421, host
    moult.config.write_text(moult.config.read_text().replace("moult.example,", "evil.example,"))
    moult.process.send_signal(signal.SIGHUP)
    wait_for("the other list", lambda: ask(moult, "evil.example")[0] == 200)
    assert ask(moult, "moult.example")[0] == 421


def test_pages_of_others_change_nothing(start):
    moult = start(echo_section())
    for origin in ("http://evil.example", "null", "https://127.0.0.1.evil.example"):
        status, says = ask(moult, "localhost", "POST", INFER, origin)
        assert status == 403 and "may not ask this" in says and "allowed_hosts" in says
        assert ask(moult, "localhost", "POST", "/v2/repository/index", origin)[0] == 403
        assert ask(moult, "localhost", "GET", "/v2", origin)[0] == 200
    assert moult.status("echo")["requests"]["accepted"] == 0
    for origin in (None, "http://localhost:3000", f"http://127.0.0.1:{moult.port}"):
        assert ask(moult, "localhost", "POST", INFER, origin)[0] == 200


def test_pages_that_are_listed(start):
    moult = start(echo_section(), supervisor="allowed_hosts = ui.example\n")
    assert ask(moult, "127.0.0.1", "POST", INFER, "https://ui.example")[0] == 200
    assert ask(moult, "127.0.0.1", "POST", INFER, "https://evil.example")[0] == 403


def test_an_application_has_rules_of_its_own(start, tmp_path):
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Access-Control-Allow-Origin', '*')])\n"
        "    return [b'seen']\n")
    moult = start("[model app]\nengine = python\npython = /usr/bin/python3\nwsgi = app:app\n"
                  f"route = /a/\nworking_directory = {tmp_path}\n")
    assert ask(moult, "localhost", "POST", "/a/x", "http://other.example") == (200, "seen")
    assert ask(moult, "app.example", "POST", "/a/x", "http://other.example") == (200, "seen")
    assert ask(moult, "app.example")[0] == 421
    moult.config.write_text(moult.config.read_text() + "allowed_hosts = app.example\n")
    moult.process.send_signal(signal.SIGHUP)
    wait_for("the list", lambda: ask(moult, "evil.example", path="/a/x")[0] == 421)
    assert ask(moult, "app.example", "POST", "/a/x", "http://other.example") == (200, "seen")


@pytest.mark.parametrize("value, says", [
    ("", "has no value"), (",", "there is no name in it"),
    ("http://a.example", "is no name of a host"), ("a.example:80", "without scheme, port"),
    ("a..b", "is no name of a host"), (".a", "is no name of a host"),
    ("*", "is no name of a host"), ("a.*", "is no name of a host"), ("a b", "is no name"),
    ("x" * 300, "is no name of a host")])
def test_what_check_says(tmp_path, value, says):
    config = tmp_path / "moult.conf"
    config.write_text("[supervisor]\nuser = root\n"
                      f"control = c.sock\nstate_dir = s\nallowed_hosts = {value}\n"
                      + echo_section())
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 1 and "allowed_hosts: " in result.stderr, result.stderr
    assert says in result.stderr
