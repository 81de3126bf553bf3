# SPDX-License-Identifier: Apache-2.0
"""gRPC, asked by tritonclient unchanged, from the virtual environment that ./check makes.
Skipped, and said so, where the package index could not be reached."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess

import pytest

from certificates import Authority, Pair, serial
from harness import BUILD, echo_section, free_port, patience, wait_for

PYTHON = BUILD.parent / "venv" / "bin" / "python"
CLIENT = pathlib.Path(__file__).with_name("grpc_client.py")

TYPES = ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT64", "FP64"]
TEXT = echo_section("text", input="s BYTES [-1,4]", output="s BYTES [-1,4]")


class Grpc:
    def __init__(self):
        self.port = free_port()
        self.key = f"grpc_listen = 127.0.0.1:{self.port}\n"

    def arguments(self, *arguments):
        return [PYTHON, "-B", CLIENT, str(self.port), *map(str, arguments)]

    def run(self, *arguments):
        """What the client prints, which ends well."""
        result = subprocess.run(self.arguments(*arguments), capture_output=True, text=True,
                                timeout=4 * patience())
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def says(self, *arguments):
        return json.loads(self.run(*arguments))

    @contextlib.contextmanager
    def begin(self, *arguments):
        with subprocess.Popen(self.arguments(*arguments), text=True, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def grpc():
    has = PYTHON.exists() and subprocess.run(
        [PYTHON, "-c", "import tritonclient.grpc"], capture_output=True).returncode == 0
    if not has:
        pytest.skip("tritonclient[grpc] is not installed: see tests/clients.sh")
    return Grpc()


def load_of(process):
    """What became of the calls of "load", which are ended now."""
    out, _ = process.communicate(timeout=4 * patience())
    return json.loads(out.splitlines()[-1])


def counts(moult):
    return moult.status("echo")["requests"]


def wait_gone(moult):
    wait_for("no connection", lambda: moult.status()["supervisor"]["grpc"]["connections"] == 0)


def test_tritonclient(start, grpc):
    moult = start(echo_section(), TEXT, supervisor=grpc.key + "access_log = stderr\n")
    moult.note_fds()
    grpc.run("check")
    wait_gone(moult)
    status = moult.status()["supervisor"]["grpc"]
    assert set(status["answers_total"]) == {"OK"} and status["calls"] == 0, status
    assert counts(moult)["answered"] == 67
    assert moult.status("echo")["request_arena_used_bytes"] == 0
    lines = [line for line in moult.log_lines() if "event=access " in line]
    assert any('method=POST target="/inference.GRPCInferenceService/ModelInfer" status=200'
               in line and "model=echo generation=1" in line for line in lines), lines
    metrics = moult.get("/metrics")[1].decode()
    assert '\nmoult_grpc_responses_total{code="OK"} ' in metrics
    assert "\nmoult_grpc_connections 0\n" in metrics


def test_typed_contents(start, grpc):
    moult = start(echo_section(), TEXT, *(
        echo_section(name.lower(), input=f"x {name} [-1,4]", output=f"x {name} [-1,4]")
        for name in TYPES), supervisor=grpc.key)
    grpc.run("typed")
    wait_gone(moult)


def test_errors(start, grpc):
    moult = start(echo_section(), supervisor=grpc.key)
    moult.note_fds()
    grpc.run("errors")
    wait_gone(moult)
    assert moult.status("echo")["request_arena_used_bytes"] == 0


def test_repository(start, grpc):
    moult = start(echo_section(), supervisor=grpc.key)
    grpc.run("repository")
    wait_gone(moult)
    assert moult.status("echo")["generation"] == 3


def test_limits(start, grpc):
    moult = start(echo_section(max_body="64K"), supervisor=grpc.key)
    grpc.run("limits")
    wait_gone(moult)
    assert moult.status("echo")["request_arena_used_bytes"] == 0


def test_limits_of_an_address(start, grpc):
    moult = start(echo_section(), supervisor=grpc.key + "requests_per_address = 1\n")
    answers = [grpc.says("slow", 60) for _ in range(1)]
    assert answers == [["OK", ""]]
    assert any(code == "RESOURCE_EXHAUSTED" and "requests_per_address" in why
               for code, why in (answer for answer in grpc.says("token")[:2]))
    wait_gone(moult)


def test_deadline(start, grpc):
    """grpc-timeout is the request's own."""
    moult = start(echo_section(warmup_runs=0, **{"option.delay_us": 30_000_000}),
                  supervisor=grpc.key)
    assert grpc.says("slow", 0.5)[0] == "DEADLINE_EXCEEDED"
    wait_for("a request without time", lambda: counts(moult)["failed"] == 1)
    wait_gone(moult)


def test_deadline_of_the_model(start, grpc):
    moult = start(echo_section(warmup_runs=0, request_timeout="300ms",
                               **{"option.delay_us": 3_000_000}), supervisor=grpc.key)
    code, why = grpc.says("slow", 600)
    assert code == "DEADLINE_EXCEEDED" and "request_timeout" in why
    wait_gone(moult)


def test_cancel(start, grpc):
    """A call that its client ends frees its request, as a closed connection does."""
    moult = start(echo_section(warmup_runs=0, leases=1, **{"option.delay_us": 3_000_000}),
                  supervisor=grpc.key)
    with grpc.begin("cancel") as first, grpc.begin("cancel") as second:
        wait_for("two requests", lambda: counts(moult)["accepted"] == 2)
        for client in (first, second):
            client.stdin.write("\n")
            client.stdin.flush()
            assert client.stdout.readline() == "cancelled\n"
        wait_for("no request", lambda: counts(moult)["held"] == counts(moult)["leased"] == 0)
        # One was at the loader, the other one waited and never came there.
        assert counts(moult)["failed"] >= 1
    wait_gone(moult)
    wait_for("a free arena", lambda: moult.status("echo")["request_arena_used_bytes"] == 0)


def test_tokens(start, grpc, tmp_path):
    (tmp_path / "tokens").mkdir()
    for name in ("reads", "asks"):
        (tmp_path / "tokens" / name).write_text(f"{name}-the-token-of-this-client\n")
    moult = start(echo_section(infer_tokens="asks", metadata_tokens="all"),
                  supervisor=grpc.key + "tokens = tokens\n")
    for token, infer, metadata in (("asks", "OK", "OK"), ("reads", "PERMISSION_DENIED", "OK"),
                                   ("nobody", "UNAUTHENTICATED", "UNAUTHENTICATED")):
        got = [code for code, _ in grpc.says("token", f"{token}-the-token-of-this-client")]
        assert got == [infer, metadata, "OK"], token
    assert [code for code, _ in grpc.says("token")] == ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK"]
    wait_gone(moult)


def test_reload_under_load(start, grpc):
    """64 calls at once on one connection, and none of them is lost."""
    moult = start(echo_section(), supervisor=grpc.key)
    moult.note_fds()
    with grpc.begin("load", 64) as client:
        assert client.stdout.readline() == "all have been answered\n"
        for _ in range(3):
            assert moult.reload("echo").returncode == 0
        got = load_of(client)
    assert set(got["codes"]) == {"OK"} and got["codes"]["OK"] >= 64, got
    wait_gone(moult)
    assert counts(moult)["answered"] == got["codes"]["OK"]


def test_loader_killed_under_load(start, grpc):
    moult = start(echo_section(), supervisor=grpc.key)
    with grpc.begin("load", 16) as client:
        assert client.stdout.readline() == "all have been answered\n"
        for _ in range(2):
            pid = wait_for("a loader", lambda: moult.status("echo")["pid"])
            os.kill(pid, signal.SIGKILL)
            wait_for("another loader",
                     lambda: moult.status("echo")["pid"] not in (pid, None, 0))
        got = load_of(client)
    assert set(got["codes"]) == {"OK"}, got
    wait_gone(moult)


def test_stop_under_load(start, grpc):
    """Clients are told to go, and what they have asked is answered."""
    moult = start(echo_section(), supervisor=grpc.key)
    with grpc.begin("load", 16) as client:
        assert client.stdout.readline() == "all have been answered\n"
        moult.process.send_signal(signal.SIGTERM)
        assert moult.process.wait(timeout=2 * patience()) == 0
        got = load_of(client)
    text = moult.log_text()
    assert "event=shutdown_deadline" not in text
    stopped = next(line for line in text.splitlines() if "event=model_stopped" in line)
    fields = dict(field.split("=") for field in stopped.split() if "=" in field)
    assert fields["failed"] == "0" and fields["accepted"] == fields["answered"], stopped
    assert int(fields["answered"]) == got["codes"]["OK"], (stopped, got)
    assert set(got["codes"]) == {"OK"}, got


def test_tls(start, grpc, tmp_path):
    """With the endpoint's certificate, and the one that takes its place."""
    authority = Authority(tmp_path)
    pair = Pair(tmp_path, *authority.issue())
    moult = start(echo_section(), TEXT, supervisor=grpc.key + pair.keys(),
                  context=authority.context())
    moult.note_fds()
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    grpc.run("--ca", authority.certificate, "check")
    assert serial(grpc.port, context) == 1
    with grpc.begin("--ca", authority.certificate, "load", 8) as client:
        assert client.stdout.readline() == "all have been answered\n"
        pair.install(*authority.issue())
        wait_for("the new certificate", lambda: serial(grpc.port, context) == 2)
        got = load_of(client)
    assert set(got["codes"]) == {"OK"}, got
    grpc.run("--ca", authority.certificate, "check")
    # Who does not name the protocol, or names another one, is told so.
    context.set_alpn_protocols(["http/1.1"])
    with pytest.raises(ssl.SSLError), socket.create_connection(
            ("127.0.0.1", grpc.port), 60) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as client:
            client.recv(1)
    wait_gone(moult)
