# SPDX-License-Identifier: Apache-2.0
"""examples/haproxy over three moultd: what happens to one of them is no error to anybody."""
import subprocess
import urllib.error
import urllib.request

import pytest

from harness import ROOT, Load, Moult, echo_section, free_port, wait_for
from test_proxies import program

EXAMPLE = ROOT / "examples" / "haproxy"
SERVERS = ("moult1", "moult2", "moult3")


class Fleet:
    def __init__(self, folder):
        self.members = []
        for name in SERVERS:
            home = folder / name
            (home / "secrets").mkdir(parents=True)
            (home / "secrets" / "word").write_text("old")
            self.members.append(Moult(home, [echo_section(secrets=home / "secrets")]))
        self.port, self.stats = free_port(), folder / "haproxy.sock"
        text = (EXAMPLE / "haproxy.cfg").read_text()
        for name, member in zip(SERVERS, self.members):
            line = next(line for line in text.splitlines() if f"server {name} " in line)
            text = text.replace(line, f"\tserver {name} 127.0.0.1:{member.port}")
        assert "bind 127.0.0.1:8000" in text and "maxconn 4096" in text
        text = (text.replace("bind 127.0.0.1:8000", f"bind 127.0.0.1:{self.port}")
                .replace("maxconn 4096", f"maxconn 256\n\tstats socket {self.stats}"))
        (folder / "haproxy.cfg").write_text(text)
        self.log = open(folder / "haproxy.log", "w+", encoding="utf-8")
        self.process = subprocess.Popen([program("haproxy"), "-f", folder / "haproxy.cfg"],
                                        stdout=self.log, stderr=self.log)

    def is_up(self, name):
        """As HAProxy has it; it writes a table with commas."""
        page = subprocess.run(
            ["python3", "-c", "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
             "s.connect(sys.argv[1])\ns.sendall(b'show stat\\n')\n"
             "print(s.makefile().read())", self.stats],
            capture_output=True, text=True, timeout=60, check=False).stdout
        rows = [line.split(",") for line in page.splitlines() if line]
        return any(row[1] == name and row[rows[0].index("status")] == "UP" for row in rows)

    def wait_up(self, name, is_up=True):
        wait_for(f"{name} up: {is_up}", lambda: self.is_up(name) == is_up)

    def status(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def end(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


@pytest.fixture
def fleet(tmp_path, request):
    program("haproxy")
    fleet = Fleet(tmp_path)
    try:
        for name, member in zip(SERVERS, fleet.members):
            member.wait_ready()
            fleet.wait_up(name)
        yield fleet
    finally:
        fleet.end()
        for member in fleet.members:
            if request.node.has_failed:
                member.kill()
            elif member.process.poll() is None:
                member.stop()


def test_one_after_the_other(fleet):
    """Secrets are rotated, each moultd is killed with all that it has, each is stopped and started
    anew: under load, and nobody gets an error."""
    load = Load(fleet.port, clients=8)
    load.wait_more()
    for member in fleet.members:
        member.write_secret(member.home / "secrets", "word", "new")
        wait_for("the new secret", lambda m=member: m.status("echo")["generation"] > 1)
        load.wait_more()
    for name, member in zip(SERVERS, fleet.members):
        member.kill()
        load.wait_more()
        fleet.wait_up(name, False)
        member.launch().wait_ready()
        fleet.wait_up(name)
        load.wait_more()
    for name, member in zip(SERVERS, fleet.members):
        member.process.terminate()
        assert member.process.wait(60) == 0, member.log_text()[-3000:]
        load.wait_more()
        fleet.wait_up(name, False)
        member.launch().wait_ready()
        fleet.wait_up(name)
        load.wait_more()
    load.stop_and_check()


def test_what_passes(fleet):
    """What is for operators does not; a request that must not be repeated is sent once."""
    assert fleet.status("/v2/health/ready") == 200
    assert fleet.status("/metrics") == 404
    assert fleet.status("/v2/repository/index", "POST") == 404
    accepted = [member.status("echo")["requests"]["accepted"] for member in fleet.members]
    assert fleet.status("/v2/models/echo/infer", "POST") == 400
    assert sum(member.status("echo")["requests"]["accepted"] for member in fleet.members) <= \
        sum(accepted) + 1
