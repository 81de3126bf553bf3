# SPDX-License-Identifier: Apache-2.0
"""Classes of Python, in the interpreter that they have, behind moultd."""
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest

from harness import BUILD, ECHO_FLOATS, Flood, Load, echo_body, patience, wait_for
from test_protocol import KSERVE, PYTHON, TRITON

APP = """
import os
import threading
import moult

class Model:
    def predict(self, inputs):
        return {name: value for name, value in inputs.items()}

class Secret:
    def load(self):
        self.token = moult.secrets["token"]
    def predict(self, inputs):
        return {"token": [self.token]}

class Reads(Model):  # by threads that nobody ends
    def load(self):
        self.weights = moult.weights()
        for _ in range(2):
            threading.Thread(target=self.read, daemon=True).start()
    def read(self):
        while True:
            self.weights[::4096].tolist()

class Hard(Model):
    def predict(self, inputs):
        x = min(float(row[0]) for row in inputs["x"])
        if x == -1:
            raise ValueError("x is -1")
        if x == -2:
            os._exit(3)
        if x == -3:
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        return inputs
"""

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    (home / "app.py").write_text(APP)
    return home


def section(home, name="echo", **keys):
    lines = {"engine": "python", "model": "app:Model", "working_directory": home,
             "input": f"x FP32 [-1,{ECHO_FLOATS}]", "output": f"x FP32 [-1,{ECHO_FLOATS}]",
             "max_batch": 16, **keys}
    return f"[model {name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()
                                         if value is not None)


def has(python, module):
    return pathlib.Path(python).exists() and subprocess.run(
        [python, "-c", f"import {module}"], capture_output=True, timeout=patience(),
        check=False).returncode == 0


@pytest.mark.parametrize("name, program", [("tritonclient", TRITON), ("kserve", KSERVE)])
def test_clients(start, home, name, program):
    """The clients of the protocol, unchanged, with a class that gets arrays of numpy."""
    if not has(PYTHON, name):
        pytest.skip(f"{name} is not installed in {PYTHON.parent.parent.name}; see "
                    "tests/clients.sh")
    text = {"input": "s BYTES [-1,4]", "output": "s BYTES [-1,4]"}
    moult = start(section(home, python=PYTHON), section(home, "text", python=PYTHON, **text))
    result = subprocess.run([PYTHON, "-c", program, str(moult.port)], capture_output=True,
                            text=True, timeout=1500, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def test_reloads_and_kills_lose_nothing(start, home):
    """Each new secret is in a new object of the class."""
    secrets = {"secrets": home / "secrets"}
    (home / "secrets" / "token").write_text("0")
    moult = start(section(home, **secrets),
                  section(home, "secret", model="app:Secret", output="token BYTES [1]",
                          max_batch=1, **secrets))
    moult.note_fds()
    load = Load(moult.port)

    def told():
        status, _, body = moult.infer("secret", echo_body([0.0] * ECHO_FLOATS))
        assert status == 200, body
        return json.loads(body)["outputs"][0]["data"]
    for i in range(1, 4):
        begun = moult.status("echo")["generation"]
        moult.write_secret(home / "secrets", "token", str(i))
        wait_for("the new secret", lambda: told() == [str(i)])
        wait_for("the other reload", lambda: moult.status("echo")["generation"] > begun)
        load.wait_more()
        for name in ("echo", "secret"):
            os.kill(moult.status(name)["pid"], signal.SIGKILL)
        load.wait_more()
        wait_for("another loader", lambda: moult.status("secret")["pid"])
    load.stop_and_check()
    assert len(load.generations) > 3, load.generations


def test_a_failure_is_that_requests_alone(start, home):
    """In whatever batch it is, and also if it ends the process."""
    moult = start(section(home, model="app:Hard", error_detail="full"))
    load = Load(moult.port, clients=2)

    def ask(x):
        status, _, body = moult.infer("echo", echo_body([float(x)] + [0.5] * (ECHO_FLOATS - 1)))
        return status, json.loads(body)
    status, body = ask(-1)
    assert status == 500 and "predict raised ValueError: x is -1" in body["error"], body
    wait_for("the traceback", lambda: "in predict" in moult.log_text())
    assert ask(-3)[0] == 200
    wait_for("the thread's end", lambda: "ZeroDivisionError" in moult.log_text())
    status, body = ask(-2)
    assert status == 500 and "error" in body, body
    assert ask(0.25)[0] == 200
    load.stop_and_check()


def test_weights_are_there_until_the_end(start, home):
    """For the threads that a class has left running, too."""
    (home / "weights").write_bytes(bytes(16 << 20))
    moult = start(section(home, model="app:Reads", path=home / "weights"))
    for _ in range(4):
        ended = moult.log_text().count("event=loader_exit")
        assert moult.reload("echo").returncode == 0
        wait_for("the old one's end",
                 lambda: moult.log_text().count("event=loader_exit") > ended)
        assert moult.infer("echo", echo_body([1.0] * ECHO_FLOATS))[0] == 200
    assert "Segmentation fault" not in moult.log_text()


@pytest.mark.parametrize("keys, source, said", [
    ({"model": "nothere:Model"}, None, "no module 'nothere'"),
    ({"model": "app:Missing"}, None, "has no 'Missing'"),
    ({"model": "other.py"}, "class A:\n    pass\n", "exactly one class"),
    ({"model": "other:Model"}, "class Model:\n    pass\n", "'Model' has neither predict"),
    ({"model": "other:Model"},
     "class Model:\n    def __init__(self, a):\n        pass\n    def predict(self, inputs):\n"
     "        pass\n", "takes arguments"),
    ({"model": "other:Model"}, "import nosuchmodule\n", "nosuchmodule"),
    ({"model": "other:Model"},
     "class Model:\n    def load(self):\n        raise OSError('no weights')\n"
     "    def predict(self, inputs):\n        pass\n", "load() raised OSError: no weights"),
    ({"model": "other:Model"},
     "class Model:\n    def load(self):\n        raise SystemExit(3)\n"
     "    def predict(self, inputs):\n        pass\n", "sys.exit(3)"),
    ({"model": "other:Model"},
     "class Model:\n    def predict(self, inputs):\n        pass\n", "predict returned None"),
    ({"option.bytes_as": "text"}, None, "'text' must be str or bytes"),
])
def test_what_is_wrong_is_named(start, home, keys, source, said):
    """The old generation serves on."""
    moult = start(section(home))
    if source:
        (home / "other.py").write_text(source)
    (moult.models / "0.conf").write_text(section(home, **keys))
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert said in receipt["reason"], receipt
    assert moult.infer("echo", echo_body([1.0] * ECHO_FLOATS))[0] == 200


def private_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous:\s+(\d+) kB", text, re.MULTILINE)[1])


@pytest.mark.parametrize("python", [None, PYTHON])
def test_requests_leave_nothing(start, home, python):
    """Twenty thousand of them, behind the first thousands, take no more memory."""
    if python and not has(python, "numpy"):
        pytest.skip("no interpreter with numpy: see tests/clients.sh")
    moult = start(section(home, python=python))
    flood = Flood(moult.port)

    def wait_answers(count):
        wait_for(f"{count} answers",
                 lambda: moult.status("echo")["requests"]["answered"] >= count)
        return private_kib(moult.status("echo")["pid"])
    before = wait_answers(5_000)
    after = wait_answers(25_000)
    flood.stop_and_check()
    assert after - before < 1024, (before, after)


TRITON_APP = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        output = pb_utils.get_output_config_by_name(config, config["output"][0]["name"])
        self.name = output["name"]
        self.dtype = pb_utils.triton_string_to_numpy(output["data_type"])

    def execute(self, requests):
        return [pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(
            self.name, pb_utils.get_input_tensor_by_name(request, self.name).as_numpy().astype(
                self.dtype))]) for request in requests]
"""


def test_tritons_class(start, home):
    """As it lies in a repository of Triton's, with its own client."""
    if not has(PYTHON, "tritonclient"):
        pytest.skip("tritonclient is not installed: see tests/clients.sh")
    (home / "1").mkdir()
    (home / "1" / "model.py").write_text(TRITON_APP)
    keys = {"python": PYTHON, "model": "1/model.py"}
    text = {"input": "s BYTES [-1,4]", "output": "s BYTES [-1,4]"}
    moult = start(section(home, **keys), section(home, "text", **keys, **text))
    result = subprocess.run([PYTHON, "-c", TRITON, str(moult.port)], capture_output=True,
                            text=True, timeout=1500, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
