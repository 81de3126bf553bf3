# SPDX-License-Identifier: Apache-2.0
"""The examples of what is hosted, by the very commands of their READMEs: a server first, then what
its clients do."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

from harness import BUILD, DEADLINE_S, ROOT, free_port, wait_for

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")


def has(*modules):
    return not subprocess.run(["/usr/bin/python3", "-c", f"import {', '.join(modules)}"],
                              check=False, stderr=subprocess.DEVNULL).returncode


class Example:
    """A copy of the examples, whose server listens on another port."""

    def __init__(self, tmp_path, name):
        self.root = tmp_path / "moult"
        self.port = free_port()
        self.name = name
        # Quick mode looks for python3 in PATH; its folder goes to XDG_RUNTIME_DIR.
        self.runtime = tmp_path / "run"
        self.runtime.mkdir()
        self.environment = {**os.environ, "PATH": "/usr/bin:/bin",
                            "XDG_RUNTIME_DIR": str(self.runtime)}
        self.environment.pop("VIRTUAL_ENV", None)
        shutil.copytree(EXAMPLES, self.root / "examples")
        (self.root / "build").mkdir()
        (self.root / "build" / "release").symlink_to(BUILD)
        for path in (self.root / "examples" / name).rglob("*"):
            if path.suffix in (".md", ".sh", ".conf"):
                path.write_text(self.here(path.read_text()))
        self.folder = self.root / "examples" / name
        text = (self.folder / "README.md").read_text()
        self.commands = [line[4:] for line in re.findall(r"^    .*$", text, re.M)]
        self.server = None
        self.log = tmp_path / "log"

    def here(self, text):
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")

    def serve(self, command):
        """Starts what the README starts, in the foreground of a shell of its own."""
        if "--wsgi" in command or "--asgi" in command or "--command" in command:
            command += f" --listen 127.0.0.1:{self.port}"
        command = command.replace("&& ", "&& exec ")
        if "&&" not in command:
            command = "exec " + command
        self.server = subprocess.Popen(command, shell=True, cwd=self.root, env=self.environment,
                                       stdout=subprocess.DEVNULL, stderr=self.log.open("wb"))

    def run(self, command, cwd=None):
        return subprocess.run(command, shell=True, cwd=cwd or self.folder, env=self.environment,
                              capture_output=True, text=True, check=True, timeout=DEADLINE_S * 10)

    def get(self, path, **fields):
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=fields)
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                return response.read().decode()
        except urllib.error.HTTPError as error:
            return f"{error.code}"
        except OSError:
            assert self.server.poll() is None, self.log.read_text()[-3000:]
            return None

    def stop(self):
        if self.server:
            self.server.send_signal(signal.SIGTERM)
            assert self.server.wait(DEADLINE_S) == 0, self.log.read_text()[-3000:]
            assert not list(self.runtime.iterdir())


@pytest.fixture
def example(tmp_path):
    made = []

    def make(name):
        made.append(Example(tmp_path, name))
        return made[0]
    yield make
    for one in made:
        one.stop()


def test_flask(example):
    if not has("flask", "torch"):
        pytest.skip("/usr/bin/python3 has no flask, or no torch")
    it = example("flask")
    server, client, rotation = it.commands
    it.serve(server)
    wait_for("an answer", lambda: it.get("/health"))
    truth = json.loads((it.root / "examples" / "digits" / "expected.json").read_text())["labels"][0]
    assert json.loads(it.run(client).stdout)["digit"] == truth
    it.run(rotation)
    wait_for("the other key", lambda: "digit" in it.run(client).stdout)
    assert it.run(f"{client} 'a key for the example'").stdout.startswith('{"error"')


def test_fastapi(example):
    if not has("fastapi"):
        pytest.skip("/usr/bin/python3 has no fastapi")
    it = example("fastapi")
    server, client, change = it.commands
    it.serve(server)
    wait_for("an answer", lambda: it.get("/health"))
    said = "data: good\n\ndata: {}\n\ndata: Ada\n\n"
    assert it.run(client).stdout == said.format("morning")
    it.run(change)
    wait_for("the other greeting", lambda: it.run(client).stdout == said.format("evening"))


def test_onnx(example):
    venv = BUILD.parent / "venv"
    if not list(venv.glob("lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so*")):
        pytest.skip("ONNX Runtime is not installed here: tests/clients.sh")
    it = example("onnx")
    (it.folder / "venv").symlink_to(venv)
    server, client, change = it.commands
    it.serve(server)
    wait_for("the model", lambda: (it.get("/v2/models/digits") or "").startswith("{"))
    readme = (it.folder / "README.md").read_text()
    first, second = re.search(r"it reads (\d+) of 150, with 20, (\d+)", readme).groups()
    assert it.run(client).stdout == f"{first} of 150\n"
    it.run(change)
    wait_for("the other model", lambda: it.run(client).stdout == f"{second} of 150\n")


def test_tokens(example):
    it = example("tokens")
    server, client, rotation = it.commands
    it.serve(server)
    wait_for("an answer", lambda: it.get("/health") not in (None, "503"))
    said = it.run(client).stdout
    assert re.fullmatch(r"(data: \w+\n\n){8}", said), said
    # A stream that has begun is said to its end by the old server.
    stream = subprocess.Popen(f"{client} 'the shell' 40", shell=True, cwd=it.folder, text=True,
                              env=it.environment, stdout=subprocess.PIPE)
    first = stream.stdout.readline()
    it.run(rotation)
    wait_for("the other key", lambda: it.run(client).stdout == said)
    rest = stream.communicate()[0]
    assert stream.returncode == 0 and (first + rest).count("data: ") == 40, first + rest
    assert '"error"' not in rest


def test_grows(example):
    """A thousand requests, all answered, in bounded memory."""
    it = example("grows")
    server, clients, receipts = it.commands
    it.serve(server)
    wait_for("an answer", lambda: it.get("/"))
    lines = it.run(clients).stdout.splitlines()
    assert len(lines) == 1000
    kept = [int(re.fullmatch(r"(\d+) requests are kept, in (\d+) MiB", line)[1]) for line in lines]
    # A look a second: what comes between two of them is beyond the limit.
    assert max(kept) < 1000 and kept.count(min(kept)) > 1, kept
    text = it.run(receipts, it.root).stdout
    assert re.search(r"^  limit     loader \d+ has grown by [\d.]+ MiB, from [\d.]+ MiB "
                     r"\(max_growth = 100.0 MiB\)$", text, re.M), text
    assert re.findall(r"cause +recycle", text), text


def test_words(example):
    it = example("words")
    server, client, change = it.commands
    it.serve(server)
    wait_for("readiness", lambda: it.get("/v2/health/ready") not in (None, "503"))

    def scores():
        return json.loads(it.run(client).stdout)["outputs"][0]["data"]
    assert scores() == [1.0, -2.0]
    it.run(change)
    wait_for("the other weights", lambda: scores() == [2.0, -2.0])


def test_every_example_is_tried():
    """Those of other files: test_digits.py, test_out_of_tree.py, test_monitoring.py, test_fleet.py and
    test_kubernetes.py."""
    tried = {name[5:] for name in globals() if name.startswith("test_")}
    tried |= {"digits", "engine", "monitoring", "haproxy", "kubernetes"}
    assert {path.name for path in pathlib.Path(EXAMPLES).iterdir()} <= tried
