# SPDX-License-Identifier: Apache-2.0
"""The cases of http_cases.py through nginx and HAProxy, which use one connection to moultd for
all clients: whoever comes behind one gets his own answer."""
import http.client
import json
import os
import shutil
import socket
import subprocess

import pytest

from harness import echo_body, echo_section, free_port, wait_for
from http_cases import CASES, INFER, name_of

NGINX = """
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log {home}/nginx.log;
events {{ worker_connections 256; }}
http {{
	access_log off;
	client_body_temp_path {home}/body;
	proxy_temp_path {home}/proxy;
	fastcgi_temp_path {home}/fastcgi;
	uwsgi_temp_path {home}/uwsgi;
	scgi_temp_path {home}/scgi;
	ignore_invalid_headers off;
	underscores_in_headers on;
	large_client_header_buffers 8 32k;
	upstream moultd {{ server 127.0.0.1:{moultd}; keepalive 1; }}
	server {{
		listen 127.0.0.1:{port};
		client_max_body_size 0;
		location / {{
			proxy_pass http://moultd;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_request_buffering off;
			proxy_buffering off;
		}}
	}}
}}
"""
HAPROXY = """
global
	maxconn 256
defaults
	mode http
	timeout connect 60s
	timeout client 60s
	timeout server 60s
	option accept-invalid-http-request
	http-reuse always
frontend f
	bind 127.0.0.1:{port}
	default_backend b
backend b
	server m 127.0.0.1:{moultd}
"""
PROXIES = {"nginx": (NGINX, ["-e", "stderr", "-c"]), "haproxy": (HAPROXY, ["-f"])}


def program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not path:
        pytest.skip(f"{name} is not installed (Debian: nginx-light, haproxy)")
    return path


@pytest.fixture(params=PROXIES)
def proxy(request, start, tmp_path):
    """A port that leads to moultd's, and moultd."""
    path = program(request.param)
    text, options = PROXIES[request.param]
    moult = start(echo_section(max_body="8K"))
    port = free_port()
    config = tmp_path / "proxy.conf"
    config.write_text(text.format(home=tmp_path, port=port, moultd=moult.port))
    with open(tmp_path / "proxy.log", "wb") as log:
        process = subprocess.Popen([path, *options, config], stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log)

    def answers():
        assert process.poll() is None, (tmp_path / "proxy.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    try:
        wait_for(request.param, answers)
        yield port, moult
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Others:
    """Clients that come behind: each asks for what nobody else asks for."""

    def __init__(self, port):
        self.port = port
        self.asked = 0

    def check(self, times):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for _ in range(times):
            self.asked += 1
            mine = [float(self.asked), 0.5, 0.25, -1.0]
            connection.request("POST", INFER, echo_body(mine))
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, (response.status, body)
            assert json.loads(body)["outputs"][0]["data"] == mine, body
        connection.close()


def attack(port, data, behind):
    """Sends @data; @behind() while that connection is open. What it was answered."""
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        answer = b""
        try:
            client.sendall(data)
            # A proxy that waits for more is not waited for.
            client.settimeout(0.5)
            answer = client.recv(65536)
        except OSError:
            pass
        behind()
        return answer


def test_each_gets_its_own_answer(proxy):
    port, moult = proxy
    others = Others(port)
    others.check(2)
    failed, passed_on = [], 0
    for case in CASES:
        before = moult.status()["supervisor"]["http"]
        try:
            attack(port, case.request.encode("latin-1"), lambda: others.check(2))
        except (AssertionError, OSError, http.client.HTTPException) as error:
            failed.append(f"{name_of(case)}: {error!r}")
        after = moult.status()["supervisor"]["http"]
        n = sum(after[f"status_{c}xx_total"] - before[f"status_{c}xx_total"] for c in (2, 4, 5))
        passed_on += n > 2
        if n > 3:
            failed.append(f"{name_of(case)}: one request became {n - 2}")
    print(f"{passed_on} of {len(CASES)} cases came through to moultd")
    assert not failed, "\n".join(failed)
    assert passed_on > len(CASES) / 4
