# SPDX-License-Identifier: Apache-2.0
"""Signals, and sockets that somebody else opened."""
import os
import signal
import socket
import subprocess
import sys

import pytest

from harness import BUILD, echo_body, echo_section, wait_for

IDLE = [signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGPOLL,
        signal.SIGPWR, 16, signal.SIGRTMIN, signal.SIGRTMIN + 7, signal.SIGRTMAX]


def test_signals_without_a_meaning_change_nothing(start):
    moult = start(echo_section())
    for number in [signal.SIGPIPE, signal.SIGXFSZ, *IDLE]:
        moult.process.send_signal(number)
        assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200, number
    wait_for("a line", lambda: "event=signal_ignored" in moult.log_text())
    assert f"signal={int(signal.SIGUSR2)}" in moult.log_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_that_end_it(start, number):
    moult = start(echo_section())
    moult.process.send_signal(number)
    assert moult.process.wait(60) == 0
    assert f"event=stopping signal={int(number)}" in moult.log_text()
    assert "event=model_stopped" in moult.log_text()


def hand_over(moult, sockets, names=None):
    """Starts moultd as the service manager would: the sockets are 3 and up."""
    environment = {"LISTEN_FDS": str(len(sockets)), **({"LISTEN_FDNAMES": names} if names
                                                       else {})}
    # A file of its own first: descriptors of a child are otherwise closed.
    script = ("import os, sys\n"
              "fds = [int(fd) for fd in sys.argv[1].split(',')]\n"
              "kept = [os.dup(fd) for fd in fds]\n"
              "high = [os.dup2(fd, 100 + i) for i, fd in enumerate(kept)]\n"
              "for i, fd in enumerate(high): os.dup2(fd, 3 + i)\n"
              "os.closerange(3 + len(fds), 200)\n"
              "os.environ['LISTEN_PID'] = str(os.getpid())\n"
              "os.execv(sys.argv[2], sys.argv[2:])\n")
    fds = [s.fileno() for s in sockets]
    return subprocess.Popen(
        [sys.executable, "-c", script, ",".join(map(str, fds)), BUILD / "moultd", "-c",
         moult.config], pass_fds=fds, stderr=open(moult.log, "wb"),
        env={**os.environ, **environment})


def listener(family=socket.AF_INET, kind=socket.SOCK_STREAM, path=None, listens=True):
    sock = socket.socket(family, kind)
    sock.bind(path if path else ("127.0.0.1", 0))
    if listens:
        sock.listen()
    return sock


@pytest.fixture
def stopped(start):
    moult = start(echo_section())
    moult.stop()
    return moult


def refusal(moult, sockets, names=None):
    process = hand_over(moult, sockets, names)
    assert process.wait(60) == 1, moult.log_text()
    for sock in sockets:
        sock.close()
    return moult.log_text()


def test_two_sockets_are_refused(stopped):
    second = listener()
    port = second.getsockname()[1]
    text = refusal(stopped, [listener(), second], "http:admin")
    assert "handed over 2 sockets" in text and "descriptor 4 'admin'" in text, text
    assert f"127.0.0.1:{port}" in text, text


@pytest.mark.parametrize("what, said", [
    ("datagram", "no stream socket"), ("unbound", "does not listen"),
    ("connected", "does not listen"), ("file", "no stream socket"),
    ("packet", "no stream socket")])
def test_what_is_no_listener_is_refused(stopped, tmp_path, what, said):
    if what == "datagram":
        sock = listener(kind=socket.SOCK_DGRAM, listens=False)
    elif what == "packet":
        sock = listener(socket.AF_UNIX, socket.SOCK_SEQPACKET, str(tmp_path / "packet"))
    elif what == "unbound":
        sock = listener(listens=False)
    elif what == "connected":
        sock = socket.socketpair()[0]
    else:
        sock = open(tmp_path / "file", "w")
    text = refusal(stopped, [sock])
    assert "descriptor 3" in text and said in text, text


@pytest.mark.parametrize("family", ["inet", "unix"])
def test_one_listener_is_served(stopped, tmp_path, family):
    sock = listener() if family == "inet" else \
        listener(socket.AF_UNIX, path=str(tmp_path / "http"))
    stopped.process = hand_over(stopped, [sock])
    address = sock.getsockname()
    sock.close()

    def answers():
        with socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET) as client:
            if client.connect_ex(address):
                return b""
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
                           b"Connection: close\r\n\r\n")
            return client.recv(100)
    wait_for("an answer", lambda: answers().startswith(b"HTTP/1.1 200"))
    stopped.process.send_signal(signal.SIGQUIT)
    assert stopped.process.wait(60) == 0
