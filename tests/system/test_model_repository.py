# SPDX-License-Identifier: Apache-2.0
"""moultd --model-repository: models from what lies in a folder, as Triton has it, and no
configuration."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from harness import BUILD, DIGITS, echo_section, free_port, wait_for
from test_onnx import models as onnx_models  # noqa: F401 (a fixture)
from test_protocol import PYTHON as CLIENT

ECHO = """
class Echo:
    inputs = ["x FP32 [-1,4]"]
    outputs = ["x FP32 [-1,4]"]
    def predict(self, inputs):
        return inputs
"""
DIGITS_PBTXT = """
name: "digits"
platform: "pytorch_libtorch"
max_batch_size: 64
input [ { name: "image" data_type: TYPE_FP32 dims: [ 64 ] } ]
output [ { name: "scores" data_type: TYPE_FP32 dims: [ 10 ] } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] }
"""


class Served:
    """moultd over a folder, in a folder of its own."""

    def __init__(self, home, *arguments):
        self.port, self.log = free_port(), home / "moultd.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [BUILD / "moultd", "--listen", f"127.0.0.1:{self.port}", *map(str, arguments)],
                stdout=log, stderr=log, cwd=home, stdin=subprocess.DEVNULL)

    def text(self):
        return self.log.read_text(errors="replace")

    def ask(self, path, body=None, method=None):
        """Status, and the answer's JSON or text."""
        command = ["curl", "-sS", "--max-time", "120", "-w", "\n%{http_code}",
                   f"http://127.0.0.1:{self.port}{path}", *(["-X", method] if method else []),
                   *(["-d", body] if body else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer, _, status = done.stdout.rpartition("\n")
        try:
            return int(status or 0), json.loads(answer)
        except ValueError:
            return int(status or 0), answer

    def index(self):
        status, rows = self.ask("/v2/repository/index", method="POST")
        return {row["name"]: (row["version"], row["state"]) for row in rows} if status == 200 else {}

    def wait_index(self, want):
        wait_for(f"the index {want}", lambda: self.index() == want)

    def load(self, name):
        return self.ask(f"/v2/repository/models/{name}/load", method="POST")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(120) == 0, self.text()


@pytest.fixture
def serve(tmp_path):
    running = []

    def start(*arguments):
        running.append(Served(tmp_path, *arguments))
        return running[-1]
    yield start
    for served in running:
        served.stop()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    (folder / "echo").mkdir(parents=True)
    (folder / "echo" / "model.py").write_text(ECHO)
    return folder


def ask_echo(served, name="echo"):
    status, answer = served.ask(f"/v2/models/{name}/infer", json.dumps({"inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}))
    return status == 200 and answer["outputs"][0]["data"] == [1, 2, 3, 4]


def test_all_kinds(serve, repository, onnx_models):  # noqa: F811 (the fixture)
    """A class, TorchScript with a config.pbtxt, ONNX by a file of the repository itself; what is no
    model is passed over, and what is doubted is said."""
    if not (BUILD / "moult-engine-torch.so").exists():
        pytest.skip("the torch engine is not built here")
    (repository / "digits" / "1").mkdir(parents=True)
    shutil.copy(DIGITS / "digits.pt", repository / "digits" / "1" / "model.pt")
    (repository / "digits" / "config.pbtxt").write_text(DIGITS_PBTXT)
    (repository / "empty").mkdir()
    (repository / "README.md").write_text("no model")
    (repository / ".hidden.pt").write_text("no model")
    served = serve("--model-repository", repository, "--python", CLIENT)
    served.wait_index({"digits": ("1", "READY"), "echo": ("1", "READY")})
    assert ask_echo(served)
    heldout = (DIGITS / "heldout.jsonl").read_text().splitlines()[0]
    status, answer = served.ask("/v2/models/digits/infer", heldout)
    assert status == 200 and len(answer["outputs"][0]["data"]) == 10
    assert "preferred_batch_size: a batch has what waits" in served.text()
    # One that comes is there once it is asked for.
    shutil.copy(onnx_models / "linear.onnx", repository / "linear.onnx")
    status, answer = served.load("linear")
    assert status == 200, answer
    assert served.ask("/v2/models/linear")[1]["inputs"][0]["shape"] == [-1, 4]
    assert ask_echo(served)


def test_versions(serve, repository):
    """The highest version serves; the next one does once it is loaded, and nothing is lost."""
    for version in (1, 2, 10):
        place = repository / "versions" / str(version)
        place.mkdir(parents=True)
        (place / "model.py").write_text(ECHO)
    served = serve("--model-repository", repository)
    served.wait_index({"echo": ("1", "READY"), "versions": ("10", "READY")})
    # A folder whose file is not there yet is no version yet.
    (repository / "versions" / "11").mkdir()
    assert served.load("versions")[0] == 200
    assert served.index()["versions"] == ("10", "READY")
    (repository / "versions" / "11" / "model.py").write_text(ECHO)
    assert served.load("versions")[0] == 200
    assert served.index()["versions"] == ("11", "READY") and ask_echo(served, "versions")
    # A broken one is refused by its reason, and the one before it goes on.
    (repository / "versions" / "12").mkdir()
    (repository / "versions" / "12" / "model.py").write_text("this is no Python")
    status, answer = served.load("versions")
    assert status == 400 and "SyntaxError" in answer["error"], answer
    assert ask_echo(served, "versions") and ask_echo(served)
    (repository / "versions" / "config.pbtxt").write_text(
        "version_policy { specific { versions: [ 2 ] } }")
    assert served.load("versions")[0] == 200
    assert served.index()["versions"] == ("2", "READY")


def test_one_model_behind_a_link(serve, repository, tmp_path):
    """As KServe's storage initializer leaves it: a link to the model's folder."""
    os.symlink(repository / "echo", tmp_path / "mnt")
    served = serve("--model-repository", tmp_path / "mnt", "--model-name", "mine")
    served.wait_index({"mine": ("1", "READY")})
    assert ask_echo(served, "mine")


def test_a_model_is_removed(serve, repository):
    (repository / "other").mkdir()
    (repository / "other" / "model.py").write_text(ECHO)
    served = serve("--model-repository", repository)
    served.wait_index({"echo": ("1", "READY"), "other": ("1", "READY")})
    shutil.rmtree(repository / "other")
    served.process.send_signal(signal.SIGHUP)
    served.wait_index({"echo": ("1", "READY")})
    status, answer = served.load("other")
    assert status == 404 and "there is no model 'other'" in answer["error"], answer
    assert ask_echo(served)


def add(folder, name, version="1"):
    """As somebody copies a model: made elsewhere, and renamed into its place."""
    fresh = folder.parent / ".fresh"
    (fresh / version).mkdir(parents=True)
    (fresh / version / "model.py").write_text(ECHO)
    if (folder / name).exists():
        (fresh / version).rename(folder / name / version)
        fresh.rmdir()
    else:
        fresh.rename(folder / name)


def test_what_comes_and_goes_is_noticed(serve, repository):
    """Folders, versions and texts, without a word to moultd; what was unloaded stays so."""
    served = serve("--model-repository", repository)
    served.wait_index({"echo": ("1", "READY")})
    add(repository, "other")
    served.wait_index({"echo": ("1", "READY"), "other": ("1", "READY")})
    add(repository, "other", "2")
    served.wait_index({"echo": ("1", "READY"), "other": ("2", "READY")})
    assert ask_echo(served, "other")
    # A folder that gets its file later, and one whose text has to be mended.
    (repository / "late" / "1").mkdir(parents=True)
    (repository / "bad").mkdir()
    (repository / "bad" / "config.pbtxt").write_text("colour: 1")
    (repository / "bad" / "model.py").write_text(ECHO)
    wait_for("a word about it", lambda: "colour: is no field" in served.text())
    assert ask_echo(served, "other")
    (repository / "bad" / "config.pbtxt").write_text("max_batch_size: 4")
    (repository / "late" / "1" / "model.py").write_text(ECHO)
    served.wait_index({name: ("2" if name == "other" else "1", "READY")
                       for name in ("bad", "echo", "late", "other")})
    assert served.ask("/v2/repository/models/late/unload", method="POST")[0] == 200
    shutil.rmtree(repository / "other")
    served.wait_index({"bad": ("1", "READY"), "echo": ("1", "READY"),
                       "late": ("1", "UNAVAILABLE")})


def watched(moult):
    """Inodes that moultd watches."""
    text = ""
    for path in pathlib.Path(f"/proc/{moult.pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            text += path.read_text()
    return {int(inode, 16) for inode in re.findall(r"inotify wd:\w+ ino:(\w+)", text)}


def test_explicit_mode(start, repository):
    """model_repository_watch = no: nobody looks until somebody asks."""
    empty = repository / "empty"
    empty.mkdir()
    moult = start(supervisor=f"model_repository = {repository}\n")
    wait_for("a watch", lambda: empty.stat().st_ino in watched(moult))
    moult.config.write_text(f"{moult.head}model_repository = {repository}\n"
                            "model_repository_watch = no\n")
    wait_for("no watch", lambda: empty.stat().st_ino not in watched(moult))
    (empty / "model.py").write_text(ECHO)
    assert moult.post("/v2/repository/models/empty/load", "")[0] == 200


@pytest.mark.parametrize("path, text, said", [
    ("echo/config.pbtxt", "colour: 1", "config.pbtxt:1: colour: is no field"),
    ("echo/config.pbtxt", 'name: "other"', "'other' must be that of the folder, 'echo'"),
    ("echo/config.pbtxt", "ensemble_scheduling { }", "ensembles are not served"),
    ("echo/config.pbtxt", "name: \"echo", "ends within a text"),
    ("1/model.py", ECHO, "is a model, and no folder of models: say its name"),
])
def test_refusals(repository, tmp_path, path, text, said):
    """At the start, with the place; a moultd that runs keeps what it has."""
    (repository / path).parent.mkdir(exist_ok=True)
    (repository / path).write_text(text)
    done = subprocess.run([BUILD / "moultd", "--model-repository", repository], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and said in done.stderr, done


def test_a_bad_text_changes_nothing(serve, repository):
    served = serve("--model-repository", repository)
    served.wait_index({"echo": ("1", "READY")})
    (repository / "echo" / "config.pbtxt").write_text("colour: 1")
    status, answer = served.load("echo")
    assert status == 400 and "colour: is no field" in answer["error"], answer
    assert ask_echo(served)


def test_a_value_that_no_section_takes(repository, tmp_path):
    """The sentence is that of the key, and names the file that people look at."""
    (repository / "echo" / "config.pbtxt").write_text("max_batch_size: 1000000")
    done = subprocess.run([BUILD / "moultd", "--model-repository", repository], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and "echo/config.pbtxt: max_batch: " in done.stderr, done
    assert "kept" not in done.stderr, done


def test_an_emptied_folder_takes_nothing(serve, repository, tmp_path):
    """As if a volume were not mounted: what serves goes on."""
    served = serve("--model-repository", repository)
    served.wait_index({"echo": ("1", "READY")})
    repository.rename(tmp_path / "elsewhere")
    repository.mkdir()
    served.process.send_signal(signal.SIGHUP)
    wait_for("a word about it", lambda: "has not one model any more" in served.text())
    assert served.index() == {"echo": ("1", "READY")} and ask_echo(served)


def test_emptied_beside_a_folder_that_is_not(start, repository, tmp_path):
    """A models_dir with a model in it says nothing of the repository."""
    moult = start(echo_section("other"), supervisor=f"model_repository = {repository}\n")
    wait_for("both", lambda: {m["name"]: m["state"] for m in moult.status()["models"]}
             == {"other": "ready", "echo": "ready"})
    repository.rename(tmp_path / "elsewhere")
    repository.mkdir()
    os.kill(moult.pid, signal.SIGHUP)
    wait_for("a word about it", lambda: f"model_repository: {repository}: has not one model"
             in moult.log_text())
    assert moult.status("echo")["state"] == "ready"


def test_no_such_folder(tmp_path):
    done = subprocess.run([BUILD / "moultd", "--model-repository", "nowhere"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and "nowhere" in done.stderr and \
        "name a folder of models" in done.stderr, done


def test_tritonclient(serve, repository):
    """load_model and unload_model, unchanged."""
    if not CLIENT.exists():
        pytest.skip("tritonclient is not installed: see tests/clients.sh")
    served = serve("--model-repository", repository)
    served.wait_index({"echo": ("1", "READY")})
    program = """
import sys
import tritonclient.http as http
client = http.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")
client.unload_model("echo")
assert client.get_model_repository_index()[0]["state"] == "UNAVAILABLE"
client.load_model("echo")
assert client.is_model_ready("echo")
"""
    subprocess.run([CLIENT, "-c", program, str(served.port)], check=True, timeout=300)
