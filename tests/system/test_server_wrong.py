# SPDX-License-Identifier: Apache-2.0
"""Servers that are wrong in some way: each is told of, and what served goes on."""
import http.client
import os
import pathlib
import re
import signal
import subprocess
import threading

import pytest

from harness import BUILD, DEADLINE_S, children, is_alive, stretch, wait_for
from test_routes import ask
from test_server import PROGRAM, PYTHON, section, server_pid, write_secret

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-server.so").exists(),
                                reason="the server engine is not built here")


# what the checks find

@pytest.mark.parametrize("text, said", [
    (section(command=None), "command: engine server hosts the program that it names"),
    (section(route=None), "route: engine server serves paths"),
    (section(path="/bin/sh"), "path: the program of engine server reads its files itself"),
    (section(command="gunicorn app:app"), "neither {port} nor {socket} is in it"),
    (section(command="a {port} {socket}"), "both {port} and {socket} are in it"),
    (section(command="a '{port}"), "a quotation that begins with ' does not end"),
    (section(command="a {port} > log"), "> is for a shell"),
    (section(command="nosuchprogram {port}"), "there is no program 'nosuchprogram' in PATH"),
    (section(command="bin/none {port}", working_directory="/"), "there is no program '//bin/none'"),
    (section(command=f"{PROGRAM.parent}/harness.py {{port}}"), "is not executable: chmod +x it"),
    (section(command="/tmp {port}"), "is no program, but a directory"),
    (section(response_arena="512K"), "response_arena: answers of a server are passed on"),
    (section(ready="health"), "'health' is no path"),
    (section(ready="GET /health ok"), "'ok' is no status"),
    (section(wsgi="a:b"), "wsgi: is for engine python alone"),
    (section(python="/bin/sh"), "python: is for engine python, engine onnx and engine aoti"),
    (section(engine="identity"), "command: is for engine server alone"),
    (section(engine="identity", command=None, ready="/x"), "ready: is for engine server alone"),
    (section(input="x FP32 [-1]"), "either routes or tensors"),
    (section(**{"option.colour": 1}), "engine server has no option 'colour'"),
])
def test_checks(tmp_path, text, said):
    config = tmp_path / "moult.conf"
    config.write_text("[supervisor]\nuser = root\n" + text)
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 1 and said in result.stderr, result


# servers that do not become ready

def script(tmp_path, name, text, mode=0o755):
    path = tmp_path / name
    path.write_text(text)
    path.chmod(mode)
    return path


WAYS = {
    "exits": "exited with status 3; it said last: is not there",
    "succeeds": "exited with status 0; it said nothing",
    "aborts": "was killed by signal 6 (Aborted)",
    "never": "did not listen on port",
    "unwell": "at last with status 503 (the database is away), and ready wants 200",
    "mute": "the server listens, and did not answer GET /health as HTTP wants it",
    "mail": "the server listens, and did not answer GET /health as HTTP wants it within",
    "forks": "went into the background",
    "daemonises": "went into the background",
}


def expect_refusal(moult, said, **keys):
    """The new section is refused with these words, and what served goes on."""
    before = server_pid(moult)
    (moult.models / "0.conf").write_text(section(**keys))
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert said in receipt["reason"], receipt
    assert ask(moult, "GET", "/x")[2] == b"hello" and server_pid(moult) == before
    # Nothing of it is left for moultd to end.
    assert "event=orphan" not in moult.log_text(), moult.log_text()
    assert moult.status("app")["generation"] == 1, moult.status("app")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_server_is_told(start, way):
    moult = start(section(retry_delay="0"))
    # The loader says why a moment before moultd's patience ends: it may be late itself.
    expect_refusal(moult, WAYS[way], way=way, ready="GET /health 200", retry_delay="0",
                   commit_timeout=stretch(8000))


def test_nothing_stays_of_what_is_no_server(start):
    moult = start(section(retry_delay="0"))
    expect_refusal(moult, WAYS["exits"], way="exits", retry_delay="0")
    folder = re.search(r'line="secrets in (/[^"]*)/secrets"', moult.log_text()).group(1)
    assert "/moult-server-" in folder and not os.path.exists(folder)


@pytest.mark.parametrize("mode, text, said", [
    (0o755, "#!/nonexistent/python\n", "what its first line names"),
    (0o755, "\0\1\2", "it is no program of this machine"),
    (0o644, "#!/bin/sh\n", "is not executable: chmod +x it"),
])
def test_what_is_no_program_is_told(start, tmp_path, mode, text, said):
    moult = start(section(retry_delay="0"))
    path = script(tmp_path, "tool", text, mode)
    expect_refusal(moult, said, command=f"{path} {{port}}")


def test_a_port_that_is_taken_is_told(start, tmp_path):
    """Another process answers there, and answers well."""
    moult = start(section(retry_delay="0"))
    file = tmp_path / "port"
    others = []

    def take():
        wait_for("the port", file.exists)
        others.append(subprocess.Popen([PYTHON, PROGRAM, file.read_text()],
                                       stdout=subprocess.DEVNULL))
    thread = threading.Thread(target=take)
    thread.start()
    try:
        # Inside its walls a loader cannot see whose it is.
        expect_refusal(moult, "is answered by another process (pid", way=f"taken:{file}",
                       retry_delay="0", sandbox="off")
        thread.join()
        assert f"(pid {others[0].pid})" in moult.log_text()
    finally:
        thread.join()
        for other in others:
            other.kill()
            other.wait()


def test_a_failure_that_passes_is_tried_again(start, tmp_path):
    """A database that was away for a moment costs no more than that."""
    flag = tmp_path / "there"
    path = script(tmp_path, "tool", f"#!/bin/sh\n[ -e {flag} ] || exit 7\n"
                                    f"exec {PYTHON} {PROGRAM} $1\n")
    moult = start(section(command=f"{path} {{port}}", retry_delay="100ms"), ready=False)
    moult.wait_receipt("app", lambda r: "exited with status 7" in r["reason"])
    flag.touch()
    wait_for("an answer", lambda: ask(moult, "GET", "/x")[2] == b"hello")


# servers that fail while they serve

@pytest.mark.parametrize("path, said", [
    ("/garbage", "the server's answer is no HTTP"),
    ("/break", "the value of the header field 'X-Odd' has a line break"),
    ("/nofield", "the server's answer is no HTTP: Header without colon"),
    ("/odd-line", "is no status line of HTTP/1"),
    ("/second-line", "'HTTP/2'"),
    ("/switch", "it goes over to another protocol"),
    ("/huge", "header fields have more than 32768 bytes"),
    ("/many", "header fields"),
    ("/odd-status", "status must be from 200 to 599"),
    ("/close", "the server did not answer"),
])
def test_answers_that_are_wrong(start, path, said):
    """502 with the reason, in the log as well, and the server serves on."""
    moult = start(section(error_detail="full"))
    loader = moult.status("app")["pid"]
    status, fields, body = ask(moult, "GET", path)
    assert status == 502 and said in body.decode() and \
        ("content-type", "application/json") in fields, (status, fields, body)
    wait_for("the line", lambda: "event=server_answer_failed" in moult.log_text())
    assert ask(moult, "GET", "/x")[2] == b"hello" and moult.status("app")["pid"] == loader


def test_a_head_that_is_cut_is_none(start):
    """Nobody waits for the rest of it, whatever was asked."""
    moult = start(section())
    for method in "GET", "HEAD", "POST":
        assert ask(moult, method, "/cut-head")[0] == 502, method


@pytest.mark.parametrize("path", ["/cut", "/cut-chunks"])
def test_answers_that_are_cut(start, tmp_path, path):
    """The client sees it: half of an answer never looks whole."""
    moult = start(section())
    gate = tmp_path / "gate"
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    connection.request("GET", f"{path}?gate={gate}")
    response = connection.getresponse()
    assert response.status == 200 and response.read(4) == b"half"
    gate.touch()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()
    wait_for("the line", lambda: "the server's answer was cut" in moult.log_text())
    assert ask(moult, "GET", "/x")[2] == b"hello"


def test_replay_names_what_may_be_repeated(start, tmp_path):
    moult = start(section(replay="PATCH, POST"))
    for method in ("PATCH", "POST", "GET"):
        seen = tmp_path / method
        assert ask(moult, method, f"/once?seen={seen}", body=b"x")[2] == b"at last"


def test_what_may_be_repeated_is(start, tmp_path):
    """A connection that was lost without an answer costs no GET, and no POST is asked twice."""
    moult = start(section())
    assert ask(moult, "GET", f"/once?seen={tmp_path / 'once'}")[2] == b"at last"
    seen = tmp_path / "seen"
    for i in range(3):
        status, _, body = ask(moult, "POST", f"/count?seen={seen}", body=b"x")
        assert status == 502 and len(seen.read_text().splitlines()) == i + 1, body
    seen.unlink()
    assert ask(moult, "GET", f"/count?seen={seen}")[0] == 502
    assert len(seen.read_text().splitlines()) == 3


@pytest.mark.parametrize("ask_for, said", [
    ("/exit?status=9", "the server exited with status 9; it said last: the last straw"),
    ("/exit?status=0", "the server exited with status 0"),
    ("/abort", "the server was killed by signal 6 (Aborted)"),
    ("/deaf", "the server does not listen any more"),
])
def test_a_server_that_ends_is_replaced(start, ask_for, said):
    moult = start(section(error_detail="full"))
    loader = moult.status("app")["pid"]
    status, _, body = ask(moult, "POST", ask_for, body=b"x")
    assert status == 502, (status, body)
    if ask_for == "/deaf":
        # The next one finds nobody there.
        assert ask(moult, "GET", "/x")[2] == b"hello"
    wait_for("another loader", lambda: (moult.status("app")["pid"] or loader) != loader)
    assert ask(moult, "GET", "/x")[2] == b"hello"
    wait_for("the line", lambda: said in moult.log_text())


def test_a_request_that_ends_servers_is_poison(start):
    """It is asked twice, and then answered for; others pass."""
    moult = start(section())
    status, _, body = ask(moult, "GET", "/abort")
    assert status == 500, (status, body)
    assert ask(moult, "GET", "/x")[2] == b"hello"


def test_a_server_that_stands_still_is_replaced(start, tmp_path):
    """Its port lives, and no answer comes."""
    moult = start(section(stall_timeout="1s", replay="POST"))
    server = server_pid(moult)
    os.kill(server, signal.SIGSTOP)
    assert ask(moult, "POST", "/length", body=b"abc")[2] == b"3"
    assert not is_alive(server)
    assert "holds requests and makes no progress" in moult.log_text()


def test_a_stream_of_a_server_that_is_killed_is_cut(start, tmp_path):
    moult = start(section())
    gate = tmp_path / "gate"
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    connection.request("GET", f"/stream?n=3&gate={gate}")
    response = connection.getresponse()
    gate.touch()
    assert response.readline() == b"data: 0\n"
    os.kill(server_pid(moult), signal.SIGKILL)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()
    assert ask(moult, "GET", "/x")[2] == b"hello"


# no more ready

def watched(way, **keys):
    return section(way=way, ready="GET /health 200", ready_interval="50ms", ready_failures=3,
                   retry_delay="0", **keys)


def test_one_that_is_not_ready_any_more_is_replaced(start, tmp_path):
    """What it has is answered first, and what comes meanwhile by the next one."""
    well, gate = tmp_path / "well", tmp_path / "gate"
    well.touch()
    moult = start(watched(f"slow:{well}"))
    before, answers = server_pid(moult), []
    client = threading.Thread(
        target=lambda: answers.append(ask(moult, "POST", f"/hang?gate={gate}")))
    client.start()
    wait_for("a request", lambda: moult.status("app")["requests"]["leased"])
    well.unlink()
    wait_for("the third failure", lambda: "event=server_unready failures=3 of=3" in moult.log_text())
    well.touch()
    gate.touch()
    client.join()
    assert answers[0][0] == 200 and answers[0][2] == b"at last", answers
    receipt = moult.wait_receipt("app", lambda r: r["death"])
    assert server_pid(moult) != before
    said = "GET /health 3 times in a row not as ready wants, at last with status 503 (loading) in place"
    assert said in receipt["death"], receipt


def test_one_that_is_silent_is_replaced(start):
    """While it has nothing to do."""
    moult = start(watched(""))
    before = server_pid(moult)
    os.kill(before, signal.SIGSTOP)
    receipt = moult.wait_receipt("app", lambda r: r["death"])
    assert "did not answer GET /health as ready wants 3 times in a row" in receipt["death"], receipt
    assert server_pid(moult) != before


def given_up(server):
    """The connections that nobody waits for any more, and that the server has not taken."""
    words = pathlib.Path(f"/proc/{server}/cmdline").read_text().split("\0")
    port = next(f":{int(word):04X}" for word in words if word.isdigit())
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    close_wait = "08"
    return sum(row[1].endswith(port) and row[3] == close_wait for row in rows)


def test_one_that_works_may_be_silent(start, tmp_path):
    """Its requests are answered in the end."""
    gate = tmp_path / "gate"
    moult = start(watched("", stall_timeout="600s"))
    before, answers = server_pid(moult), []
    client = threading.Thread(
        target=lambda: answers.append(ask(moult, "POST", f"/hang?gate={gate}")))
    client.start()
    wait_for("a request", lambda: moult.status("app")["requests"]["leased"])
    os.kill(before, signal.SIGSTOP)
    # So many questions would have had it replaced.
    questions = 4
    wait_for("questions", lambda: given_up(before) >= questions)
    gate.touch()
    os.kill(before, signal.SIGCONT)
    client.join()
    assert answers[0][2] == b"at last" and server_pid(moult) == before
    assert "event=server_unready" not in moult.log_text()


# secrets

@pytest.fixture
def noted(tmp_path):
    """noted(way) is the command of a server that says first where its secrets lie; noted.folder()
    is that place, once there is a secret."""
    file = tmp_path / "place"

    def command(way=""):
        path = script(tmp_path, "tool", f'#!/bin/sh\necho "$MOULT_SECRETS_DIR" >{file}.new\n'
                                        f"mv {file}.new {file}\n"
                                        f"exec {PYTHON} {PROGRAM} $1 {way}\n")
        write_secret(tmp_path / "secrets", "hush")
        return {"command": f"{path} {{port}}", "secrets": tmp_path / "secrets"}

    def folder():
        path = pathlib.Path(wait_for("the server", lambda: file.exists() and file.read_text())
                            .strip())
        assert path.name == "secrets" and path.parent.name.startswith("moult-server-")
        return path.parent
    command.folder = folder
    return command


def warm(tmp_path, path):
    (tmp_path / "first.http").write_text(f"GET {path}\n\n")
    return {"warmup_request": tmp_path / "first.http"}


def test_no_secret_stays_of_a_warm_up_that_fails(start, tmp_path, noted):
    moult = start(section(retry_delay="0", **noted("faulty"), **warm(tmp_path, "/x")), ready=False)
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert "was answered with status 500" in receipt["reason"], receipt
    wait_for("the end of the folder", lambda: not noted.folder().exists())
    # The server was asked to end, and moultd had nothing to kill.
    assert "event=orphan" not in moult.log_text(), moult.log_text()


def test_no_secret_stays_of_a_warm_up_that_is_late(start, tmp_path, noted):
    moult = start(section(retry_delay="0"))
    (moult.models / "0.conf").write_text(
        section(retry_delay="0", warmup_timeout="500ms", **noted(),
                **warm(tmp_path, f"/hang?gate={tmp_path / 'gate'}")))
    moult.wait_receipt("app", lambda r: "still warming" in r["reason"])
    wait_for("the end of the folder", lambda: not noted.folder().exists())


def test_no_secret_stays_of_a_loader_that_is_killed(start, noted):
    """Not even where no other loader comes that would take it away."""
    moult = start(section(stop_timeout="500ms", **noted()))
    folder = noted.folder()
    assert (folder / "secrets" / "token").exists()
    # A loader that stands still reads neither QUIT nor SIGTERM.
    os.kill(moult.status("app")["pid"], signal.SIGSTOP)
    moult.process.send_signal(signal.SIGTERM)
    assert moult.process.wait(DEADLINE_S) == 0
    assert "to=killing" in moult.log_text() and not folder.exists()


def clearing(moult):
    """A copy of moultd that clears away."""
    program = os.readlink(f"/proc/{moult.process.pid}/exe")
    for child in children(moult.process.pid):
        try:
            if os.readlink(f"/proc/{child}/exe") == program:
                return child
        except OSError:
            pass  # it has ended
    return None


def test_requests_go_on_while_a_folder_is_removed(start, tmp_path):
    """However long that takes: here it is stopped halfway."""
    left = tmp_path / "tmp" / "moult-server-abc123"
    moult = start(section(), environment={"TMPDIR": str(tmp_path / "tmp")})
    left.mkdir(parents=True, mode=0o700)
    for i in range(100):
        (left / str(i)).mkdir()
        for j in range(500):
            (left / str(i) / str(j)).touch()
    (left / ".moult-server-folder").touch()
    os.kill(moult.status("app")["pid"], signal.SIGKILL)
    process = wait_for("who clears away", lambda: clearing(moult))
    os.kill(process, signal.SIGSTOP)
    wait_for("another server", lambda: moult.status("app")["pid"])
    assert ask(moult, "GET", "/x")[2] == b"hello"
    assert moult.ctl("reload", "app", "--wait").returncode == 0
    os.kill(process, signal.SIGCONT)
    wait_for("the end of the folder", lambda: not left.exists())


@pytest.mark.parametrize("where", ["starting", "warming"])
def test_no_secret_stays_of_a_stop(start, tmp_path, noted, where):
    hang = warm(tmp_path, f"/hang?gate={tmp_path / 'gate'}") if where == "warming" else {}
    moult = start(section(stop_timeout="500ms", **noted("never" if where == "starting" else ""),
                          **hang), ready=False)
    state = "committing" if where == "starting" else "warming"
    wait_for("the state", lambda: (moult.status("app")["candidate"] or {}).get("state") == state)
    folder = noted.folder()
    assert (folder / "secrets" / "token").exists()
    moult.process.send_signal(signal.SIGTERM)
    assert moult.process.wait(DEADLINE_S) == 0
    assert not folder.exists()


def stop_in(moult, state, is_prepared):
    """moultd is asked to end while the first loader is in this state, and its server prepared."""
    loader = wait_for("the state", lambda: next(
        (c["pid"] for c in [moult.status("app")["candidate"]] if c and c["state"] == state), None))
    server = wait_for("the server", lambda: children(loader))[0]
    wait_for("what it prepares", lambda: is_prepared(server))
    moult.process.send_signal(signal.SIGTERM)
    assert moult.process.wait(DEADLINE_S) == 0
    assert not is_alive(server) and not is_alive(loader)


@pytest.mark.parametrize("where", ["starting", "warming"])
def test_a_stop_before_it_serves(start, tmp_path, where):
    """The server is asked to end, and ends by itself: nobody waits for the stop_timeout."""
    said = tmp_path / "said"
    path = script(tmp_path, "tool",
                  f"#!/bin/sh\ntrap 'echo asked >{said}; kill $!; wait; exit 0' TERM\n"
                  f"{PYTHON} {PROGRAM} $1 {'never' if where == 'starting' else ''} &\nwait\n")
    hang = warm(tmp_path, f"/hang?gate={tmp_path / 'gate'}") if where == "warming" else {}
    moult = start(section(command=f"{path} {{port}}", stop_timeout="20s", **hang), ready=False)
    stop_in(moult, "committing" if where == "starting" else "warming", children)
    assert said.read_text() == "asked\n"
    log = moult.log_text()
    assert "to=terminating" not in log and "event=orphan" not in log, log
    assert re.search('event=loader_exit .*state=stopping status="exit code 0"', log), log


def test_a_stop_of_one_that_starts_and_will_not_end(start, tmp_path):
    """Nothing stays of a server that was not ready yet, and does not end when it is asked."""
    path = script(tmp_path, "tool", f"#!/bin/sh\ntrap '' TERM\nexec {PYTHON} {PROGRAM} $1 never\n")
    moult = start(section(command=f"{path} {{port}}", stop_timeout="500ms"), ready=False)
    stop_in(moult, "committing", lambda _: 'line="loading"' in moult.log_text())
