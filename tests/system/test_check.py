# SPDX-License-Identifier: Apache-2.0
"""moultd -t: whether what a configuration names is there."""
import subprocess

import pytest

from harness import BUILD, DIGITS, echo_section


REQUESTS = {
    "first": "POST /app/x?y HTTP/1.1\r\nContent-Type: text/plain\r\n\r\nbody",
    "itself": "GET /app\n\n",
    "elsewhere": "GET /application/x\n\n",
    "meta": "GET /v2/health/ready\n\n",
    "trace": "TRACE /app/ HTTP/1.1\n\n",
    "low": "get /app/\n\n",
    "words": "GET the page\n\n",
    "field": "GET /app/\nContent-Type: a\nno field\n\n",
    "headless": "GET /app/\nContent-Type: a",
    "large": "POST /app/\n\n" + 2048 * "x",
}


def check(home, section, head=""):
    for key in ("control", "state_dir"):
        head += "" if f"{key} = " in head else f"{key} = {key}\n"
    (home / "moult.conf").write_text(f"[supervisor]\nuser = root\n{head}{section}")
    return subprocess.run([BUILD / "moultd", "-t", "-c", home / "moult.conf"],
                          capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("x")
    (tmp_path / "golden").mkdir()
    (tmp_path / "model.bin").write_text("weights")
    (tmp_path / "warm.json").write_text('{"inputs": []}')
    (tmp_path / "cut.json").write_text('{"inputs": [')
    for name, text in (("cut", "{"), ("half", '{"request": {}}'), ("list", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(text)
        (tmp_path / name / ".b.json").write_text("no golden request")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.json").touch()
    for name, text in REQUESTS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


GOOD = {"path": "model.bin", "secrets": "secrets", "required_secrets": "token",
        "golden": "golden", "warmup_request": "warm.json"}
BAD = [({"path": "nowhere.pt"}, "path: ", "No such file"),
       ({"path": "~/m.pt"}, "path: ", "~ is no directory here"),
       ({"path": "golden"}, "path: ", "is no regular file"),
       ({"engine": "nosuch"}, "engine: ", "there is no engine 'nosuch' in"),
       ({"engine": "torch"}, "path: ", "no zip archive"),
       ({"secrets": "gone"}, "secrets: ", "No such file or directory: create it, with one file"),
       ({"secrets": "empty"}, "secrets: ", "holds no secret"),
       ({"required_secrets": "other"}, "secrets: ", "secrets/other is required"),
       ({"golden": "gone"}, "golden: ", "No such file"),
       ({"golden": "model.bin"}, "golden: ", "is no directory"),
       ({"warmup_request": "gone"}, "warmup_request: ", "No such file"),
       ({"warmup_request": "model.bin"}, "warmup_request: ", "model.bin is no JSON: line 1: "),
       ({"warmup_request": "cut.json"}, "warmup_request: ", "cut.json is no JSON: line 1: "),
       ({"warmup_request": "empty.json"}, "warmup_request: ", "empty.json is no JSON: line 1: "),
       ({"warmup_request": "list/a.json"}, "warmup_request: ", "has no member 'inputs'"),
       ({"golden": "cut"}, "golden: ", "cut/a.json is no JSON: line 1: "),
       ({"golden": "half"}, "golden: ", "half/a.json has no member 'response'"),
       ({"golden": "list"}, "golden: ", "list/a.json has no member 'request'"),
       ({"option.foo": 1}, "option.foo: ", "engine identity has no option 'foo'; it has secret,"),
       ({"option.delay_ms": 1}, "option.delay_ms: ", "did you mean delay_us?"),
       ({"option.secret_env": "token"}, "option.secret_env: ", "did you mean secrets_env?"),
       ({"engine": "fault", "option.faults": 1}, "option.faults: ", "did you mean fault?"),
       ({"max_batch": 1, "input": "x FP32 [0,16]"}, "input: ", "'x' has a dim of 0")]


def test_good(home):
    keys = {"option.delay_us": 1, "option.secret": "token", "option.secrets_env": "token"}
    result = check(home, echo_section(**GOOD, **keys) +
                   echo_section("faulty", engine="fault", **{"option.ms": 1}))
    assert result.returncode == 0 and "good, 2 models" in result.stdout, result.stderr


@pytest.mark.parametrize("name, says", [
    ("first", None), ("itself", None),
    ("elsewhere", "asks for /application/x, and route = /app/ does not cover that"),
    ("meta", "asks for /v2/health/ready, and route = /app/ does not cover that"),
    ("trace", "asks with TRACE, which moultd never passes on"),
    ("low", "low, line 1: a request begins with"),
    ("words", "words, line 1: a request begins with"),
    ("field", "field, line 3: a request begins with"),
    ("headless", "headless, line 2: a request begins with"),
    ("empty.json", "empty.json must have 1 to 1024 bytes (max_body)"),
    ("large", "large must have 1 to 1024 bytes (max_body)"),
    ("gone", "gone: No such file"),
])
def test_the_first_request_of_what_hosts(home, name, says):
    section = f"[model app]\nengine = fault\nroute = /app/\nwarmup_request = {name}\n" \
        "max_body = 1024\n"
    result = check(home, section)
    if says is None:
        assert result.returncode == 0, result.stderr
    else:
        assert result.returncode == 1 and "warmup_request: " in result.stderr, result.stderr
        assert says in result.stderr, result.stderr


@pytest.mark.parametrize("keys, key, says", BAD)
def test_missing(home, keys, key, says):
    result = check(home, echo_section(**{**GOOD, **keys}))
    assert result.returncode == 1 and not result.stdout
    line = result.stderr.splitlines()[0]
    assert "moult.conf:5: [model echo]: " + key in line and says in line, result.stderr
    assert "1 of what it names is missing" in result.stderr


@pytest.mark.parametrize("head, says", [("loader = nowhere\n", "loader: "),
                                        ("engine_dir = nowhere\n", "engine_dir: ")])
def test_missing_programs(home, head, says):
    result = check(home, echo_section(**GOOD), head)
    assert result.returncode == 1 and "[supervisor]: " + says in result.stderr


def test_torch_without_a_model_file(home):
    result = check(home, echo_section(engine="torch"))
    assert result.returncode == 1 and "path: engine torch needs a model file" in result.stderr


PLACES = [("control = nowhere/s.sock", "nowhere: No such file or directory: create it"),
          ("control = empty", "control: is there, and no socket"),
          ("state_dir = no/where", "no: No such file or directory: create it"),
          ("state_dir = model.bin", "state_dir: is there, and no directory"),
          ("state_dir = model.bin/state", "model.bin: Not a directory"),
          ("access_log = /nowhere/log", "/nowhere: No such file or directory: create it"),
          ("access_log = /tmp", "access_log: is a directory")]


@pytest.mark.parametrize("line, says", PLACES)
def test_places_that_a_start_would_miss(home, line, says):
    """Warnings: units make some of them."""
    result = check(home, echo_section(**GOOD), f"{line}\n")
    assert result.returncode == 0, result.stderr
    (warning,) = result.stderr.splitlines()
    assert "moult.conf: warning: [supervisor]: " in warning and says in warning


def test_a_listener_of_somebody_else(home):
    result = check(home, echo_section(**GOOD), "listen = systemd\n")
    assert result.returncode == 0 and not result.stderr
    assert "good, 1 models; a socket unit has to hand the listener over" in result.stdout


def test_all_are_named(home):
    result = check(home, echo_section(path="a", golden="b", secrets="c") +
                   echo_section("other", path="d"))
    assert result.returncode == 1 and "4 of what it names" in result.stderr, result.stderr


@pytest.mark.parametrize("engine", sorted(
    path.name[len("moult-engine-"):-len(".so")] for path in BUILD.glob("moult-engine-*.so")))
def test_each_engine_declares_its_options(home, engine):
    """Its loader refuses the same one, with the same words."""
    keys = {"path": DIGITS / "digits.pt", "option.no_such_one": 1}
    section = echo_section(engine=engine, **keys)
    if engine == "python":  # it hosts alone
        section = "[model echo]\nengine = python\nroute = /\nwsgi = app:app\n" + "".join(
            f"{key} = {value}\n" for key, value in keys.items())
    if engine == "server":
        section = "[model echo]\nengine = server\nroute = /\ncommand = /bin/cat {port}\n" \
                  "option.no_such_one = 1\n"
    says = f"engine {engine} has no option 'no_such_one'"
    result = check(home, section)
    assert result.returncode == 1 and f"option.no_such_one: {says}" in result.stderr
    result = subprocess.run([BUILD / "moultd", "-t", "--load", "-c", home / "moult.conf"],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 1 and f"model echo: failed: {says}" in result.stdout
