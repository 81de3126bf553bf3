# SPDX-License-Identifier: Apache-2.0
"""A listener for administration: what is served where, connections of its own, until the end."""
import http.client
import json
import signal
import socket
import subprocess

import pytest

from certificates import Authority, Pair
from harness import (BUILD, DEADLINE_S, Load, echo_body, echo_section, free_port, patience,
                     wait_for)

BODY = echo_body([1, 2, 3, 4])
INFER = "/v2/models/echo/infer"


class Admin:
    def __init__(self):
        self.port = free_port()
        self.key = f"admin_listen = 127.0.0.1:{self.port}\n"

    def ask(self, path, method="GET", body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def admin():
    return Admin()


def test_what_is_served_where(start, admin):
    moult = start(echo_section(), supervisor=admin.key)
    both = ["/healthz", "/v2/health/live", "/v2/health/ready", "/v2", "/v2/models/echo",
            "/v2/models/echo/ready", "/v2/models/echo/config"]
    for path in both + ["/metrics", "/v2/models/stats", "/v2/models/echo/stats"]:
        assert admin.ask(path)[0] == 200, path
        assert moult.get(path)[0] == (200 if path in both else 404), path
    assert json.loads(admin.ask("/v2/repository/index", "POST")[1])[0]["name"] == "echo"
    assert moult.post("/v2/repository/index", "")[0] == 404
    assert "admin_listen" in moult.get("/metrics")[1].decode()
    status, says = admin.ask(INFER, "POST", BODY)
    assert status == 404 and "(listen)" in says
    assert moult.infer("echo", BODY)[0] == 200
    assert moult.status("echo")["requests"]["accepted"] == 1


def test_metrics_are_those_of_the_endpoint(start, admin):
    moult = start(echo_section(), supervisor=admin.key)
    clients = [socket.create_connection(("127.0.0.1", moult.port), 60) for _ in range(5)]
    wait_for("five connections",
             lambda: "\nmoult_http_connections 5\n" in admin.ask("/metrics")[1])
    for client in clients:
        client.close()
    assert moult.status()["supervisor"]["admin"]["accepted_total"] > 0


def test_connections_of_its_own(start, admin):
    """However full the endpoint is."""
    moult = start(echo_section(), supervisor=admin.key + "max_connections = 4\n"
                  "max_connections_per_address = 30\n")
    moult.note_fds()
    head = (f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").encode()
    clients = []
    for _ in range(30):
        client = socket.create_connection(("127.0.0.1", moult.port), 60)
        client.sendall(head)
        clients.append(client)
    wait_for("a full endpoint", lambda: "event=http_full" in moult.log_text())
    for _ in range(40):
        assert admin.ask("/v2/health/ready")[0] == 200
    assert admin.ask("/metrics")[0] == 200
    for client in clients:
        client.close()


def test_until_the_end(start, admin):
    """While the endpoint drains, it says that moultd is not ready, and answers."""
    moult = start(echo_section(), supervisor=admin.key + "drain_delay = 1h\n")
    moult.process.send_signal(signal.SIGTERM)
    wait_for("what a load balancer looks for", lambda: admin.ask("/v2/health/ready")[0] == 503)
    assert moult.infer("echo", BODY)[0] == 200
    assert admin.ask("/metrics")[0] == 200 and admin.ask("/healthz")[0] == 200
    moult.process.send_signal(signal.SIGTERM)
    assert moult.process.wait(patience()) == 0
    assert "event=admin_listening" in moult.log_text()


def test_with_tls_and_tokens(start, admin, tmp_path):
    """Plain HTTP, so that probes can ask where clients show certificates; tokens count."""
    authority = Authority(tmp_path)
    pair = Pair(tmp_path, *authority.issue())
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "prom").write_text("0" * 32)
    moult = start(echo_section(), context=authority.context(), supervisor=pair.keys(
        tokens=tmp_path / "tokens", metrics_tokens="prom") + admin.key)
    assert admin.ask("/v2/health/ready")[0] == 200
    assert admin.ask("/metrics")[0] == 401
    token = {"Authorization": "Bearer " + "0" * 32}
    status, page = admin.ask("/metrics", headers=token)
    assert status == 200 and "moult_tls_not_after_seconds" in page
    assert moult.get("/v2/health/ready")[0] == 200


def test_a_load_does_not_notice(start, admin):
    moult = start(echo_section(), supervisor=admin.key)
    load = Load(moult.port)
    for _ in range(20):
        load.wait_more(20)
        assert admin.ask("/metrics")[0] == 200
    load.stop_and_check()


def test_open_to_others(start, admin):
    moult = start(echo_section(), supervisor=admin.key.replace("127.0.0.1", "0.0.0.0"))
    lines = [line for line in moult.log_lines() if "event=endpoint_open" in line]
    assert len(lines) == 1 and "may read metrics" in lines[0]
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"], text=True,
                          capture_output=True, timeout=120, check=True).stdout
    assert len([line for line in text.splitlines() if line.startswith("open to ")]) == 1


@pytest.mark.parametrize("value, says", [
    ("", "has no value"), ("systemd", "a socket unit hands over one listener"),
    ("localhost:1", "is no address"), ("127.0.0.1", "is no address"),
    ("127.0.0.1:70000", "is no address"), ("127.0.0.1:8080", "is where listen is")])
def test_what_check_says(tmp_path, value, says):
    config = tmp_path / "moult.conf"
    config.write_text("[supervisor]\nuser = root\n"
                      f"control = c.sock\nstate_dir = s\nadmin_listen = {value}\n"
                      + echo_section())
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 1 and says in result.stderr, result.stderr
    assert "admin_listen: " in result.stderr


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "moult.conf"
        config.write_text("[supervisor]\nuser = root\n"
                          "listen = 127.0.0.1:0\ncontrol = c.sock\nstate_dir = s\n"
                          f"admin_listen = 127.0.0.1:{taken.getsockname()[1]}\n" + echo_section())
        result = subprocess.run([BUILD / "moultd", "-c", config], capture_output=True, text=True,
                                timeout=120)
    assert result.returncode == 1 and "admin_listen" in result.stderr
    assert "Address already in use" in result.stderr
