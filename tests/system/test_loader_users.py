# SPDX-License-Identifier: Apache-2.0
"""A user for each model: what one model's loader can do to another's, with loader_users and
without, and what goes on to work."""
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

import pytest

import harness
from harness import BUILD, children, echo_body, echo_section, is_alive, patience, wait_for

FIRST, LAST = 700000, 799999
USERS = f"loader_users = {FIRST}-{LAST}\n"
NOBODY = pwd.getpwnam("nobody")
PYTHON = "/usr/bin/python3"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give users away"),
    pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                       reason="the python engine is not built here"),
]

APP = '''
import json
import os
import signal
import subprocess
import urllib.parse

def opens(path):
    with open(path, "rb"):
        return True

TRIES = {
    "kill": lambda pid: os.kill(pid, 0) is None,
    "environ": lambda pid: opens(f"/proc/{pid}/environ"),
    "memory": lambda pid: opens(f"/proc/{pid}/mem"),
    "descriptors": lambda pid: os.listdir(f"/proc/{pid}/fd") is not None,
}

def attack(pid):
    found = []
    for name, function in TRIES.items():
        try:
            function(int(pid))
            found.append(name)
        except OSError:
            pass
    return found

def daemon(_):
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid

def app(environ, start_response):
    start_response("200 OK", [])
    wish = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
    do = {"attack": attack, "daemon": daemon}[wish["do"]]
    return [json.dumps(do(wish.get("pid"))).encode()]
'''


@pytest.fixture
def place():
    """Where any user may go, with programs of its own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        for program in ("moultd", "moult-loader", "moult-engine-identity.so",
                        "moult-engine-python.so"):
            shutil.copy(BUILD / program, name)
            os.chmod(pathlib.Path(name, program), 0o755)
        shutil.copytree(BUILD / "python", pathlib.Path(name, "python"))
        pathlib.Path(name, "app").mkdir()
        pathlib.Path(name, "app", "app.py").write_text(APP)
        yield pathlib.Path(name)


def section(place, name, **keys):
    lines = {"engine": "python", "python": PYTHON, "wsgi": "app:app", "route": f"/{name}/",
             "working_directory": place / "app", **keys}
    return f"[model {name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


@pytest.fixture
def serve(place):
    running = []

    def begin(*sections, supervisor=USERS, **how):
        moult = harness.Moult(
            place, sections, supervisor=f"loader = {place}/moult-loader\nengine_dir = {place}\n"
            + supervisor, **how)
        running.append(moult)
        return moult.wait_ready()
    yield begin
    for moult in running:
        if moult.process.poll() is None:
            moult.stop()


def asked(moult, model, do, pid=0):
    status, body = moult.get(f"/{model}/?do={do}&pid={pid}")
    assert status == 200, body
    return json.loads(body)


def status_of(pid):
    return dict(line.split(":\t", 1) for line in
                pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def user_of(pid):
    (user,) = set(status_of(pid)["Uid"].split())
    return int(user)


def pid_of(moult, model):
    return moult.status(model)["pid"]


def folders_of(user):
    """What loaders of the user have left, or not yet removed."""
    return [path for base in ("/dev/shm", "/tmp") for path in
            pathlib.Path(base).glob("moult-server-*") if path.stat().st_uid == user]


def check_rights(moult, user):
    """moultd has the right to change users in reserve, and its loaders have none at all."""
    for model in ("a", "b"):
        status = status_of(pid_of(moult, model))
        assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
        if user == "root":
            assert status["Groups"].split() == [] and set(status["Gid"].split()) != {"0"}
    status = status_of(moult.pid)
    if user != "root":
        assert int(status["CapEff"], 16) == 1 << 5, status  # CAP_KILL
        assert int(status["CapPrm"], 16) == 1 << 5 | 1 << 7, status  # and CAP_SETUID
        assert int(status["CapAmb"], 16) == 0, status


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_a_model_does_not_reach_another(serve, place, user):
    moult = serve(section(place, "a"), section(place, "b"), user=user)
    users = {model: user_of(pid_of(moult, model)) for model in ("a", "b")}
    assert FIRST <= users["a"] <= LAST and FIRST <= users["b"] <= LAST
    assert users["a"] != users["b"]
    assert asked(moult, "a", "attack", pid_of(moult, "b")) == []
    assert asked(moult, "a", "attack", moult.pid) == []
    assert "own_user" in moult.status("a")["walls"]["layers"]
    assert "own_user" not in moult.status("a")["walls"]["missing"]
    assert 'moult_walls{model="a",layer="own_user"} 1' in moult.get("/metrics")[1].decode()
    check_rights(moult, user)
    assert moult.reload("a").returncode == 0
    assert user_of(pid_of(moult, "a")) == users["a"]
    killed = pid_of(moult, "b")
    os.kill(killed, signal.SIGKILL)
    wait_for("another loader", lambda: pid_of(moult, "b") not in (0, None, killed))
    assert user_of(pid_of(moult, "b")) == users["b"]


def test_without_it_does(serve, place):
    moult = serve(section(place, "a"), section(place, "b"), supervisor="", user="nobody")
    assert asked(moult, "a", "attack", pid_of(moult, "b")) == \
        ["kill", "environ", "memory", "descriptors"]
    walls = moult.status("a")["walls"]
    assert "own_user" not in walls["layers"] + walls["missing"]


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_what_only_moultd_may_read(serve, place, user):
    """Model file and secrets come as descriptors, and memory is shared between users."""
    (place / "secrets").mkdir(mode=0o700)
    (place / "secrets" / "token").write_text("x")
    (place / "model.bin").write_bytes(b"weights" * 1000)
    for path in (place / "secrets", place / "secrets" / "token", place / "model.bin"):
        path.chmod(path.stat().st_mode & 0o700)
        if user != "root":
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    moult = serve(echo_section(path=place / "model.bin", secrets=place / "secrets",
                               required_secrets="token", replicas=2),
                  echo_section("other", path=place / "model.bin"), user=user)
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    assert user_of(pid_of(moult, "echo")) != user_of(pid_of(moult, "other"))
    layers = moult.status("echo")["walls"]["layers"]
    assert layers.startswith("own_user") and "not_dumpable" in layers
    moult.write_secret(place / "secrets", "token", "y")
    moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and r["outcome"] == "ok")
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_spares(serve, place, user):
    """They are a model's from the start."""
    moult = serve(section(place, "a", spare="yes"), section(place, "b", spare="yes"), user=user)
    wait_for("a spare for each", lambda: moult.log_text().count("event=spare_ready") == 2)
    users = {model: user_of(pid_of(moult, model)) for model in ("a", "b")}
    assert sorted(map(user_of, children(moult.pid))) == sorted(2 * list(users.values()))
    for model, before in users.items():
        assert moult.reload(model).returncode == 0
        assert user_of(pid_of(moult, model)) == before
    assert moult.log_text().count("event=spare_taken") == 2


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_nothing_stays(serve, place, user):
    """Neither folders of a killed loader, nor its processes."""
    moult = serve(section(place, "a", sandbox="strict"), user=user)
    loader = pid_of(moult, "a")
    a = user_of(loader)
    (before,) = folders_of(a)
    daemon = asked(moult, "a", "daemon")
    os.kill(loader, signal.SIGKILL)
    wait_for("the daemon's end", lambda: not is_alive(daemon))
    wait_for("another loader", lambda: pid_of(moult, "a") not in (0, None, loader))
    wait_for("the removal", lambda: not before.exists())
    moult.stop()
    assert folders_of(a) == []
    moult.launch().wait_ready()


def test_nor_of_a_moultd_that_is_killed(serve, place):
    moult = serve(section(place, "a", sandbox="strict"), user="nobody")
    loader = pid_of(moult, "a")
    daemon = asked(moult, "a", "daemon")
    (before,) = folders_of(user_of(loader))
    moult.kill()
    wait_for("the loader's end", lambda: not is_alive(loader))
    moult.launch().wait_ready()
    wait_for("the daemon's end", lambda: not is_alive(daemon))
    assert not before.exists()
    assert "event=leftover " in moult.log_text()


def launch_as(place, *how):
    """As somebody else than root, with or without rights."""
    with open(place / "log", "wb") as log:
        return subprocess.Popen(["setpriv", "--reuid=nobody", f"--regid={NOBODY.pw_gid}",
                                 "--clear-groups", *how, place / "moultd", "-c",
                                 place / "moult.conf"], stderr=log)


@pytest.mark.parametrize("how", [
    [], ["--inh-caps=+setuid,+kill", "--ambient-caps=+setuid,+kill"]])
def test_somebody_else_than_root(serve, place, how):
    moult = serve(section(place, "a"), user="nobody")
    moult.stop()
    moult.socket.unlink(missing_ok=True)
    os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)
    moult.process = launch_as(place, *how)
    moult.pid, moult.log = moult.process.pid, place / "log"
    moult.wait_ready()
    walls = moult.status("a")["walls"]
    if how:
        assert "own_user" in walls["layers"] and user_of(pid_of(moult, "a")) >= FIRST
        assert int(status_of(moult.pid)["CapEff"], 16) == 1 << 5
    else:
        assert user_of(pid_of(moult, "a")) == NOBODY.pw_uid
        assert "own_user: moultd lacks the right to change users" in walls["missing"]
        assert moult.log_text().count("event=no_loader_users") == 1


@pytest.mark.parametrize("value, says", [
    ("70000", "no range"), ("0-70000", "no range"), ("9-8", "no range"), ("1-63", "no range"),
    ("1-64 ", None), ("1-4294967295", "no range"), ("+1-900", "no range"), ("nobody", "no range"),
    ("1000-1063", "the same user"),
])
def test_ranges(tmp_path, value, says):
    config = tmp_path / "moult.conf"
    config.write_text(f"[supervisor]\nuser = root\ncontrol = c.sock\nstate_dir = s\n"
                      f"engine_dir = {BUILD}\nloader_users = {value}\n" +
                      "".join(echo_section(f"m{i}") for i in range(40 if says else 1)))
    result = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True,
                            text=True, timeout=patience())
    assert (result.returncode == 0) == (says is None), result.stderr
    assert not says or says in result.stderr, result.stderr
