# SPDX-License-Identifier: Apache-2.0
"""examples/haproxy over three moultd: what happens to one of them is no error to anybody. Beside each
other, and each in a network namespace of its own, where that is allowed."""
import os
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from harness import ROOT, Load, Moult, echo_section, free_port, wait_for
from test_proxies import program

EXAMPLE = ROOT / "examples" / "haproxy"
SERVERS = ("moult1", "moult2", "moult3")


class Namespaces:
    """One for each server, with nothing in it but loopback: HAProxy reaches into it."""

    def __init__(self):
        self.names = []
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
            pytest.skip("network namespaces need root, ip and nsenter")
        for server in SERVERS:
            name = f"moult-test-{os.getpid()}-{server}"
            added = self.ip("netns", "add", name)
            if added.returncode != 0:
                self.end()
                pytest.skip("no network namespace here: " + added.stderr.strip())
            self.names.append(name)
            assert self.ip("-n", name, "link", "set", "lo", "up").returncode == 0

    @staticmethod
    def ip(*arguments):
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=120,
                              check=False)

    def end(self):
        for name in self.names:
            self.ip("netns", "delete", name)


class Fleet:
    def __init__(self, folder, namespaces=()):
        self.members = []
        self.namespaces = dict(zip(SERVERS, namespaces))
        for name in SERVERS:
            home = folder / name
            (home / "secrets").mkdir(parents=True)
            (home / "secrets" / "word").write_text("old")
            where = self.namespaces.get(name)
            self.members.append(Moult(
                home, [echo_section(secrets=home / "secrets")],
                under=["nsenter", f"--net=/run/netns/{where}"] if where else ()))
        self.port, self.stats = free_port(), folder / "haproxy.sock"
        text = (EXAMPLE / "haproxy.cfg").read_text()
        for name, member in zip(SERVERS, self.members):
            line = next(line for line in text.splitlines() if f"server {name} " in line)
            where = self.namespaces.get(name)
            text = text.replace(line, f"\tserver {name} 127.0.0.1:{member.port}" +
                                (f" namespace {where}" if where else ""))
        assert "bind 127.0.0.1:8000" in text and "maxconn 4096" in text
        text = (text.replace("bind 127.0.0.1:8000", f"bind 127.0.0.1:{self.port}")
                .replace("maxconn 4096", f"maxconn 256\n\tstats socket {self.stats}"))
        (folder / "haproxy.cfg").write_text(text)
        self.log = open(folder / "haproxy.log", "w+", encoding="utf-8")
        self.process = subprocess.Popen([program("haproxy"), "-f", folder / "haproxy.cfg"],
                                        stdout=self.log, stderr=self.log)

    def wait_ready(self, member):
        """By the control socket, which is in no network."""
        member.wait_control()
        wait_for("a model that serves", lambda: any(
            model["state"] == "ready" for model in member.status()["models"]))

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


@pytest.fixture(params=["beside", "namespaces"])
def fleet(tmp_path, request):
    program("haproxy")
    names = ()
    if request.param == "namespaces":
        namespaces = Namespaces()
        request.addfinalizer(namespaces.end)
        names = namespaces.names
    fleet = Fleet(tmp_path, names)
    try:
        for name, member in zip(SERVERS, fleet.members):
            fleet.wait_ready(member)
            fleet.wait_up(name)
        yield fleet
    finally:
        fleet.end()
        for member in fleet.members:
            if request.node.has_failed:
                member.kill()
            elif member.process.poll() is None:
                member.stop()


def test_each_is_where_it_is_to_be(fleet):
    """In a namespace nobody of this one reaches it, but by HAProxy."""
    places = {os.readlink(f"/proc/{member.pid}/ns/net") for member in fleet.members}
    assert len(places) == (3 if fleet.namespaces else 1)
    assert (os.readlink("/proc/self/ns/net") in places) != bool(fleet.namespaces)
    assert fleet.status("/v2/health/ready") == 200


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
        fleet.wait_ready(member.launch())
        fleet.wait_up(name)
        load.wait_more()
    for name, member in zip(SERVERS, fleet.members):
        member.process.terminate()
        assert member.process.wait(60) == 0, member.log_text()[-3000:]
        load.wait_more()
        fleet.wait_up(name, False)
        fleet.wait_ready(member.launch())
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
