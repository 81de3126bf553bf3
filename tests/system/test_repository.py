# SPDX-License-Identifier: Apache-2.0
"""Models that clients load and unload: POST /v2/repository/models/M/load and unload, as Triton's
extension model_repository has them."""
import json
import socket
import subprocess
import threading

import pytest

from harness import Gate, Load, echo_body, echo_section, is_alive, patience, wait_for
from test_admin import Admin
from test_protocol import PYTHON
from test_tokens import Tokens, ask

BODY = echo_body([1, 2, 3, 4])
PATH = "/v2/repository/models/{}/{}"

CLIENT = """
import sys
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

client = http.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}", network_timeout=600)

def index(**keys):
    return {row["name"]: (row.get("state"), row.get("reason"))
            for row in client.get_model_repository_index(**keys)}

def infer(name):
    x = http.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.zeros((1, 4), dtype=np.float32))
    return int(client.infer(name, [x]).get_response()["parameters"]["generation"])

def refused(call, *arguments, **keys):
    try:
        call(*arguments, **keys)
    except InferenceServerException as error:
        return error.status(), error.message()
    raise SystemExit(f"{call} is not refused")

assert index() == {"echo": ("READY", ""), "other": ("READY", "")}, index()
before = infer("echo")
client.load_model("echo")
assert infer("echo") > before
client.unload_model("echo")
client.unload_model("echo")
assert index() == {"echo": ("UNAVAILABLE", "unloaded"), "other": ("READY", "")}, index()
assert not client.is_model_ready("echo") and client.is_server_ready()
assert "not loaded" in refused(infer, "echo")[1]
assert infer("other") > 0
client.unload_model("other", unload_dependents=True)
client.load_model("echo")
assert client.is_model_ready("echo") and infer("echo") > before + 1
assert index()["other"][0] == "UNAVAILABLE"
assert refused(client.load_model, "nosuch")[0] == "404"
assert refused(client.unload_model, "nosuch")[0] == "404"
assert "'config' is not taken" in refused(client.load_model, "echo", config="{}")[1]
print("loaded and unloaded")
"""


def load(moult, name="echo", body=""):
    status, _, text = moult.post(PATH.format(name, "load"), body, timeout=patience())
    return status, json.loads(text)["error"] if text else ""


def unload(moult, name="echo", body=""):
    status, _, text = moult.post(PATH.format(name, "unload"), body, timeout=patience())
    return status, json.loads(text)["error"] if text else ""


def index(moult, body="{}"):
    rows = json.loads(moult.post("/v2/repository/index", body)[2])
    return {row["name"]: (row["state"], row["reason"]) for row in rows}


class InBackground(threading.Thread):
    """One call whose answer is waited for elsewhere."""

    def __init__(self, call, *arguments):
        super().__init__(daemon=True)
        self.call, self.arguments, self.answer = call, arguments, None
        self.start()

    def run(self):
        self.answer = self.call(*self.arguments)

    def wait(self):
        self.join(2 * patience())
        assert self.answer is not None
        return self.answer


def test_tritonclient(start):
    if not PYTHON.exists():
        pytest.skip("there is no virtual environment; see tests/clients.sh")
    moult = start(echo_section(), echo_section("other"))
    result = subprocess.run([PYTHON, "-c", CLIENT, str(moult.port)], capture_output=True,
                            text=True, timeout=1500)
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_load_of_what_serves_loses_nothing(start):
    moult = start(echo_section())
    clients = Load(moult.port)
    clients.wait_more()
    for _ in range(3):
        assert load(moult) == (200, "")
        clients.wait_more()
    clients.stop_and_check()
    assert len(clients.generations) == 4
    assert [r["cause"] for r in moult.receipts("echo")] == ["start"] + 3 * ["manual"]


def test_what_is_leased_is_answered_before_the_model_goes(start, tmp_path):
    gate = Gate(tmp_path)
    moult = start(echo_section(engine="fault", **{
        "option.magic": 1, "option.magic_fault": "slow"}, **gate.keys))
    pid = moult.status("echo")["pid"]
    asked = InBackground(moult.infer, "echo", BODY)
    wait_for("a lease", lambda: moult.status("echo")["requests"]["leased"] == 1)
    going = InBackground(unload, moult)
    wait_for("its going", lambda: index(moult)["echo"] == ("UNLOADING", "unloaded"))
    assert is_alive(pid) and going.answer is None
    gate.open()
    assert asked.wait()[0] == 200
    assert going.wait() == (200, "")
    # The answer comes when the process is gone, and its memory with it.
    assert not is_alive(pid)
    assert index(moult)["echo"] == ("UNAVAILABLE", "unloaded")
    assert load(moult) == (200, "") and moult.infer("echo", BODY)[0] == 200


def test_a_load_that_fails_says_why(start, tmp_path):
    moult = start(echo_section(), echo_section("bad", engine="fault"))
    good = (moult.models / "1.conf").read_text()
    broken = good + "option.fault = refuse\n"
    (moult.models / "1.conf").write_text(broken)
    status, why = load(moult, "bad")
    assert status == 400 and "failed to load 'bad'" in why and "serves on" in why, why
    assert moult.infer("bad", BODY)[0] == 200
    assert unload(moult, "bad") == (200, "")
    status, why = load(moult, "bad")
    assert status == 400 and "serves on" not in why, why
    # Its own file is of no use: the sentence is that of the configuration, and nothing changes.
    (moult.models / "1.conf").write_text(good + "max_batch = none\n")
    status, why = load(moult)
    assert status == 400 and "max_batch" in why and "nothing changed" in why, why
    assert moult.infer("echo", BODY)[0] == 200
    (moult.models / "1.conf").write_text(good)
    assert load(moult, "bad") == (200, "") and moult.infer("bad", BODY)[0] == 200


def test_a_load_brings_a_model_that_is_new(start):
    moult = start(echo_section())
    (moult.models / "new.conf").write_text(echo_section("new"))
    assert load(moult, "new") == (200, "")
    assert moult.infer("new", BODY)[0] == 200


def test_what_is_unloaded_stays_so_while_others_change(start):
    moult = start(echo_section(), echo_section("other"))
    assert unload(moult) == (200, "")
    (moult.models / "1.conf").write_text(echo_section("other", max_batch=8))
    moult.wait_receipt("other", lambda r: r["cause"] == "config")
    assert moult.reload().returncode == 0
    assert index(moult) == {"other": ("READY", ""), "echo": ("UNAVAILABLE", "unloaded")}
    assert index(moult, '{"ready": true}') == {"other": ("READY", "")}
    refused = moult.reload("echo")
    assert refused.returncode != 0 and "unloaded" in refused.stderr, refused.stderr
    assert moult.status()["supervisor"]["unloaded"] == ["echo"]
    # A model that left the configuration comes back as any other.
    (moult.models / "0.conf").rename(moult.home / "echo.conf")
    assert moult.reload().returncode == 0
    (moult.home / "echo.conf").rename(moult.models / "0.conf")
    assert moult.reload().returncode == 0
    assert moult.infer("echo", BODY)[0] == 200


def test_a_restart_loads_everything(start):
    moult = start(echo_section())
    assert unload(moult) == (200, "")
    assert moult.get("/v2/health/ready")[0] == 200
    moult.stop()
    moult.launch().wait_ready()
    assert moult.infer("echo", BODY)[0] == 200


def test_clients_that_leave_and_the_end(start, tmp_path):
    """A load goes on without whoever asked for it; those that wait at the end are told."""
    gate = Gate(tmp_path)
    moult = start(echo_section(), echo_section("slow", engine="fault", **{
        "option.fault": "slow-on-stage"}, **gate.keys), ready=False)
    wait_for("the other", lambda: index(moult).get("echo") == ("READY", ""))
    asked = "event=repository_load model=slow"
    with socket.create_connection(("127.0.0.1", moult.port)) as client:
        client.sendall(b"POST /v2/repository/models/slow/load HTTP/1.1\r\nHost: localhost\r\n"
                       b"Content-Length: 0\r\n\r\n")
        wait_for("the call", lambda: asked in moult.log_text())
    waiting = InBackground(load, moult, "slow")
    wait_for("the other call", lambda: moult.log_text().count(asked) == 2)
    going = InBackground(unload, moult, "slow")
    assert waiting.wait()[0] == 503
    assert going.wait() == (200, "")
    waiting = InBackground(load, moult, "slow")
    wait_for("the last call", lambda: moult.log_text().count(asked) == 3)
    moult.process.terminate()
    status, why = waiting.wait()
    assert (status, why) == (503, "moultd is stopping")
    gate.open()
    assert moult.process.wait(patience()) == 0


@pytest.mark.parametrize("verb, body, status, says", [
    ("load", "{", 400, "no JSON object"), ("load", "[]", 400, "no JSON object"),
    ("load", '{"parameters": 1}', 400, "parameters must be"),
    ("load", '{"parameters": {"config": "{}"}}', 400, "'config' is not taken"),
    ("load", '{"parameters": {"file:1/model.pt": "AA"}}', 400, "file:1/model.pt"),
    ("load", '{"parameters": {"unload_dependents": true}}', 400, "is not known"),
    ("unload", '{"parameters": {"unload_dependents": 1}}', 400, "true or false"),
    ("unload", '{"parameters": {"x": 1}}', 400, "'x' is not known"),
    ("load", " " * 70000 + "{}", 413, "larger"), ("load", "{}", 200, ""),
    ("unload", '{"parameters": {"unload_dependents": false}}', 200, "")])
def test_bodies(start, verb, body, status, says):
    moult = start(echo_section())
    got, why = (load if verb == "load" else unload)(moult, body=body)
    assert got == status and says in why, (got, why)
    assert moult.post("/v2/repository/index", '{"ready": 1}')[0] == 400


def test_who_may(start, tmp_path):
    """Without tokens: this machine, through no proxy."""
    moult = start(echo_section())
    path = PATH.format("echo", "load")
    for field in ("Forwarded", "X-Forwarded-For", "Via"):
        status, _, text = moult.post(path, "", {field: "for=192.0.2.1"})
        assert status == 403 and "repository_tokens" in text.decode(), text
    assert moult.post(path, "", {"Origin": "http://evil.example"})[0] == 403
    assert moult.post(path, "", {"Host": "evil.example"})[0] == 421
    assert load(moult) == (200, "")
    assert len(moult.receipts("echo")) == 2


@pytest.mark.parametrize("word, status", [("", 403), ("repository_tokens = nobody\n", 403),
                                          ("repository_tokens = anybody\n", 200)])
def test_an_endpoint_that_others_reach(start, word, status):
    moult = start(echo_section(), listen="0.0.0.0", supervisor=word)
    assert load(moult)[0] == status
    assert len(moult.receipts("echo")) == (2 if status == 200 else 1)


def test_tokens(start, tmp_path):
    tokens = Tokens(tmp_path)
    known = {name: tokens.put(name) for name in ("alice", "operator")}
    head = f"tokens = {tokens.path}\n"
    moult = start(echo_section(), supervisor=head + "repository_tokens = operator\n")
    path = PATH.format("echo", "load")
    status, headers, _ = ask(moult, "POST", path, known["alice"])
    assert (status, 'scope="repository"' in headers["WWW-Authenticate"]) == (403, True)
    assert ask(moult, "POST", path)[0] == 401
    assert ask(moult, "POST", path, known["operator"])[0] == 200
    moult.config.write_text(moult.head + head)
    assert moult.reload().returncode == 0
    assert ask(moult, "POST", path, known["operator"])[0] == 403


def test_a_listener_for_administration(start):
    admin = Admin()
    moult = start(echo_section(), supervisor=admin.key)
    path = PATH.format("echo", "unload")
    status, _, text = moult.post(path, "")
    assert status == 404 and b"admin_listen" in text
    assert admin.ask(path, "POST", "")[0] == 200
    assert moult.infer("echo", BODY)[0] == 404
