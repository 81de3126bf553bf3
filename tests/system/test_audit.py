# SPDX-License-Identifier: Apache-2.0
"""Who asked for what: the lines that moultd leaves behind."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

from harness import BUILD, children, echo_body, echo_section, wait_for, whole_lines
from hostile import call

PEER = 4321  # of nobody else


def control_lines(moult):
    return re.findall(r"level=(\w+) event=control command=(\S+) uid=(\d+) gid=\d+ pid=(\d+)"
                      r" args=\"(.*)\"", moult.log_text())


def test_commands_name_who_asked(start):
    moult = start(echo_section())
    moult.status("echo")
    assert not control_lines(moult), "what only looks is not worth a line"
    asker = subprocess.Popen(
        [BUILD / "moultctl", "-s", moult.socket, "reload", "echo", "--wait"],
        stdout=subprocess.DEVNULL)
    assert asker.wait(60) == 0
    (level, command, uid, pid, args), = control_lines(moult)
    assert (level, command, int(uid), int(pid)) == ("notice", "reload", os.getuid(), asker.pid)
    assert json.loads(args.replace('\\"', '"')) == {"command": "reload", "model": "echo",
                                                    "wait": True}
    if os.getuid() == 0:
        # Somebody else, who was let in by the socket's mode.
        os.chmod(moult.home, 0o755)
        os.chmod(moult.socket, 0o666)
        ask = ("import os, socket, sys\n"
               f"os.setgid({PEER}); os.setuid({PEER})\n"
               "peer = socket.socket(socket.AF_UNIX)\n"
               "peer.connect(sys.argv[1])\n"
               "peer.sendall(b'{\"command\":\"scale\",\"model\":\"echo\",\"replicas\":1}\\n')\n"
               "peer.makefile().read()\n")
        done = subprocess.run([sys.executable, "-c", ask, moult.socket.name], cwd=moult.home,
                              check=False, timeout=60, capture_output=True, text=True)
        if "Permission" not in done.stderr:  # the folders above may be closed to others
            assert done.returncode == 0, done.stderr
            assert control_lines(moult)[-1][1:3] == ("scale", str(PEER))
    moult.ctl("log", "debug")
    moult.status("echo")
    assert control_lines(moult)[-1][:2] == ("debug", "status")


def test_a_member_that_is_not_known_is_refused(start):
    moult = start(echo_section())
    before = moult.status("echo")["generation"]
    with pytest.raises(AssertionError, match="'generation' is not expected: it takes model"):
        call(moult, "reload", model="echo", generation=-5)
    assert moult.status("echo")["generation"] == before
    assert not control_lines(moult)


# The access log

LINE = re.compile(r"^20\S+Z client=127\.0\.0\.1 port=\d+ method=(\S+) target=(\S+) status=(\S+)"
                  r" received_bytes=(\d+) took_ms=\d+\.\d+ model=(\S+) generation=(\d+)$")
INFER = "/v2/models/echo/infer"


def access_lines(path):
    """Fails where a line is not one."""
    lines = whole_lines(path)
    assert all(map(LINE.match, lines)), [line for line in lines if not LINE.match(line)]
    return [LINE.match(line).groups() for line in lines]


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""  # it has ended since


def writer(moult):
    return next((pid for pid in children(moult.pid) if name_of(pid) == "moult-log"), None)


def dropped(moult):
    metrics = moult.get("/metrics")[1].decode()
    return int(re.search(r"^moult_access_log_dropped_total (\d+)$", metrics, re.M).group(1))


def begin(start, tmp_path):
    path = tmp_path / "access.log"
    moult = start(echo_section(), supervisor=f"access_log = {path}\n", ready=False)
    moult.wait_ready()
    wait_for("the first line", path.exists)
    return moult, path


def raw(moult, data):
    with socket.create_connection(("127.0.0.1", moult.port)) as client:
        client.sendall(data)
        return client.recv(4096)


def test_each_request_is_a_line(start, tmp_path):
    moult, path = begin(start, tmp_path)
    assert path.stat().st_mode & 0o007 == 0
    body = echo_body([1, 2, 3, 4])
    generation = str(moult.status("echo")["generation"])
    assert moult.infer("echo", body)[0] == 200
    moult.get("/v2/none?secret=no")
    moult.get(INFER)
    assert b" 400 " in raw(moult, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n")
    # It leaves in the middle of its body.
    with socket.create_connection(("127.0.0.1", moult.port)) as client:
        client.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"
                       .encode())
        wait_for("the body", lambda: moult.status()["supervisor"]["http"]["connections"])
    wanted = [("POST", f'"{INFER}"', "200", str(len(body)), "echo", generation),
              ("GET", '"/v2/none?secret=no"', "404", "0", "-", "0"),
              ("GET", f'"{INFER}"', "405", "0", "echo", "0"),
              ("-", "-", "400", "0", "-", "0"),
              ("POST", f'"{INFER}"', "-", "2", "echo", "0")]
    wait_for("the last line", lambda: any("status=- " in line for line in whole_lines(path)))
    got = [line for line in access_lines(path) if "/health/" not in line[1]]
    assert got == wanted


def test_each_request_is_an_object(start, tmp_path):
    path = tmp_path / "access.log"
    moult = start(echo_section(), supervisor=f"access_log = {path}\naccess_log_format = json\n")
    body = echo_body([1, 2, 3, 4])
    assert moult.infer("echo", body)[0] == 200
    moult.get("/v2/none?a=%22b")
    long = "/v2/" + "n" * 5000
    moult.get(long)
    assert b" 400 " in raw(moult, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n")

    def lines():
        found = [json.loads(line) for line in whole_lines(path)] if path.exists() else []
        return [line for line in found if "/health/" not in (line["target"] or "")]

    wait_for("the last line", lambda: any(line["status"] == 400 for line in lines()))
    for line in lines():
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", line.pop("time"))
        assert line.pop("client") == "127.0.0.1" and line.pop("port") > 0
        assert line["took_ms"] >= 0
    got = [tuple(line[key] for key in ("method", "target", "status", "received_bytes", "model",
                                       "generation", "token")) for line in lines()]
    assert got == [("POST", INFER, 200, len(body), "echo", 1, None),
                   ("GET", "/v2/none?a=%22b", 404, 0, None, 0, None),
                   ("GET", long, 404, 0, None, 0, None), (None, None, 400, 0, None, 0, None)]


@pytest.mark.parametrize("lines, says", [
    ("access_log_format = json\n", "json is for a file: name one with access_log"),
    ("access_log = stderr\naccess_log_format = json\n", "json is for a file"),
    ("access_log = /tmp/a\naccess_log_format = xml\n", "allowed are plain or json")])
def test_formats_that_are_none(tmp_path, lines, says):
    config = tmp_path / "moult.conf"
    config.write_text("[supervisor]\nuser = root\n"
                      f"control = c.sock\nstate_dir = s\n{lines}" + echo_section())
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 1 and "access_log_format: " in result.stderr, result.stderr
    assert says in result.stderr, result.stderr


def test_the_file_may_be_renamed(start, tmp_path):
    moult, path = begin(start, tmp_path)
    path.rename(tmp_path / "access.log.1")
    moult.get("/v2?renamed")
    wait_for("a new file", lambda: path.exists() and whole_lines(path))
    assert access_lines(path)[-1] == ("GET", '"/v2?renamed"', "200", "0", "-", "0")
    assert "renamed" not in (tmp_path / "access.log.1").read_text()


def test_a_disk_that_hangs_stops_no_request(start, tmp_path):
    """The writer is stopped: lines are lost and counted, none of the others is."""
    moult, path = begin(start, tmp_path)
    pid = writer(moult)
    before = len(access_lines(path))
    os.kill(pid, signal.SIGSTOP)
    client = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=60)
    sent = 0
    try:
        while sent < 3000:
            client.request("GET", "/v2?" + "x" * 900)
            assert client.getresponse().read()
            sent += 1
    finally:
        client.close()
        os.kill(pid, signal.SIGCONT)
    lost = dropped(moult)
    assert 0 < lost < sent and "event=access_log_lost" in moult.log_text()
    wait_for("all others", lambda: len([line for line in access_lines(path)
                                        if "/v2?x" in line[1]]) == sent - lost)
    assert dropped(moult) == lost and len(access_lines(path)) >= before + sent - lost


def test_a_writer_that_dies_is_replaced(start, tmp_path):
    moult, path = begin(start, tmp_path)
    first = writer(moult)
    os.kill(first, signal.SIGKILL)
    wait_for("another writer", lambda: writer(moult) not in (None, first))
    moult.get("/v2?after")
    wait_for("its line", lambda: any("/v2?after" in line for line in whole_lines(path)))
    assert access_lines(path)


def test_lines_may_go_to_stderr(start):
    moult = start(echo_section(), supervisor="access_log = stderr\n")
    moult.get("/v2")
    assert re.search(r'level=notice event=access client=127\.0\.0\.1 port=\d+ method=GET'
                     r' target="/v2" status=200 ', moult.log_text())
    assert writer(moult) is None


def test_it_is_off_unless_it_is_asked_for(start):
    moult = start(echo_section())
    moult.get("/v2")
    assert "event=access" not in moult.log_text() and writer(moult) is None
