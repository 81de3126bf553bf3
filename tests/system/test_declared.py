# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs that no section names: the model tells them, or its warm-up."""
import json
import os
import subprocess
import sys
import threading

import pytest

from harness import BUILD, ECHO_FLOATS, ROOT, Load, echo_body, echo_section, wait_for
from hostile import Hostile
from test_protocol import PYTHON

APP = """
import os
import time

class Tells:
    inputs = ["x FP32 [-1,4]"]
    outputs = ["x FP32 [-1,4]"]
    def predict(self, inputs):
        return inputs

class Silent:
    def predict(self, inputs):
        return {"sum": [float(sum(row)) for row in inputs["x"]], "name": ["a" for _ in inputs["x"]]}

class Half:
    outputs = ["x FP32 [-1,4]"]
    def predict(self, inputs):
        return inputs

class Odd:
    inputs = ["x FP32"]
    def predict(self, inputs):
        return inputs

class Other:  # comes up when there is a file gate
    inputs = ["y INT32 [-1,2]"]
    outputs = ["y INT32 [-1,2]"]
    def load(self):
        while not os.path.exists("gate"):
            time.sleep(0.01)
    def predict(self, inputs):
        return inputs
"""

TRITON_APP = """
import json
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.name = pb_utils.get_output_config_by_name(config, "OUT")["name"]

    def execute(self, requests):
        return [pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(
            self.name, pb_utils.get_input_tensor_by_name(request, "IN").as_numpy())])
            for request in requests]
"""

X = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
has_python = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")


def section(name, **keys):
    return f"[model {name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


def metadata(moult, model):
    status, body = moult.get(f"/v2/models/{model}")
    assert status == 200, body
    found = json.loads(body)
    return found["inputs"], found["outputs"]


def answer(moult, model, body):
    status, _, text = moult.infer(model, body)
    assert status == 200, text
    return {out["name"]: out["data"] for out in json.loads(text)["outputs"]}


def request(*tensors):
    return json.dumps({"inputs": [{"name": name, "datatype": datatype, "shape": shape,
                                   "data": data} for name, datatype, shape, data in tensors]})


def any_dims(name, datatype, rank):
    return {"name": name, "datatype": datatype, "shape": [-1] * rank}


def failed(moult, model):
    return moult.wait_receipt(model, lambda r: r["outcome"] == "failed")["reason"]


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    (home / "1").mkdir(parents=True)
    (home / "app.py").write_text(APP)
    (home / "1" / "model.py").write_text(TRITON_APP)
    (home / "warm.json").write_text(request(("x", "FP32", [1, 4], [1, 2, 3, 4])))
    return home


def python(home, name, model, **keys):
    return section(name, engine="python", model=model, working_directory=home, **keys)


def test_a_half_tells_the_other(start):
    """Engine identity, with batches under load."""
    moult = start(section("echo", engine="identity", input="x FP32 [-1,4]", max_batch=16),
                  section("back", engine="identity", output="x FP32 [-1,4]"))
    moult.note_fds()
    for model in ("echo", "back"):
        assert metadata(moult, model) == ([X], [X])
    load = Load(moult.port)
    load.wait_more(500)
    load.stop_and_check()


@pytest.fixture(scope="module")
def torch_models(tmp_path_factory):
    if not (BUILD / "moult-engine-torch.so").exists():
        pytest.skip("the torch engine is not built here")
    folder = tmp_path_factory.mktemp("models")
    writer = subprocess.run([sys.executable, "-B", ROOT / "tests/loader/torch_models.py",
                             folder], capture_output=True, text=True, check=False)
    if writer.returncode == 77:
        pytest.skip("Python's torch is not installed")
    assert writer.returncode == 0, writer.stderr
    return folder


def torch(folder, name, **keys):
    return section(name, engine="torch", path=folder / f"{name}.pt", **keys)


def test_torchscript_by_a_request(start, torch_models, home):
    """The file has the inputs' names; the request of the warm-up, in whatever order, the rest."""
    (home / "ab.json").write_text(request(("b", "FP32", [1, 2], [1, 2]),
                                          ("a", "FP32", [1, 2], [3, 5])))
    keys = {"warmup_request": home / "ab.json"}
    moult = start(torch(torch_models, "two", max_batch=4, **keys),
                  torch(torch_models, "named", **keys), torch(torch_models, "fields", **keys))
    inputs = [{"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in "ab"]
    names = {"two": ("OUTPUT__0", "OUTPUT__1"), "named": ("minus", "plus", "other"),
             "fields": ("total", "rest")}
    for model, outputs in names.items():
        found = metadata(moult, model)
        assert found[0] == inputs, found
        assert sorted(found[1], key=str) == sorted(
            (any_dims(name, "FP32", 2) for name in outputs), key=str)
    body = request(("a", "FP32", [2, 2], [1, 2, 3, 4]), ("b", "FP32", [2, 2], [1, 1, 1, 1]))
    assert answer(moult, "two", body) == {"OUTPUT__0": [2, 3, 4, 5], "OUTPUT__1": [0, 1, 2, 3]}
    assert answer(moult, "named", body)["plus"] == [2, 3, 4, 5]
    assert answer(moult, "fields", body)["rest"] == [0, 1, 2, 3]
    status, _, text = moult.infer("two", request(("a", "FP32", [1, 3], [1, 2, 3])))
    assert status == 400 and b"[-1,2]" in text, text


@pytest.mark.parametrize("name, keys, said", [
    ("two", {}, "the model takes 'a', 'b', and does not say of which datatype"),
    ("two", {"warmup_request": "x.json"}, "has 1 inputs, and the model takes 'a', 'b'"),
    ("two", {"warmup_request": "ac.json"}, "has no input 'b'; the model takes 'a', 'b'"),
    ("two", {"warmup_request": "text.json"}, "'a' is BYTES, which engine torch does not know"),
    ("two", {"warmup_request": "none.json"}, "cannot open warmup_request"),
    ("two", {"warmup_request": "torn.json"}, "is no JSON: line 1"),
    ("two", {"warmup_request": "bare.json"}, "has no inputs, and is to tell the model's"),
    ("two", {"warmup_request": "deep.json"}, "a shape of at most 8 dims"),
    ("text", {"warmup_request": "x.json"}, "is no tensor but"),
    ("half", {"warmup_request": "x.json", "output": "y FP32 [-1,2]"}, "is FP16 [1,2]"),
    ("number", {"warmup_request": "x.json"}, "only tensors can be passed"),
])
def test_torchscript_refused(start, torch_models, home, name, keys, said):
    """Each with what to do; what is declared is checked as ever."""
    for file, text in {
            "x.json": request(("x", "FP32", [1, 2], [1, 2])),
            "ac.json": request(("a", "FP32", [1, 2], [1, 2]), ("c", "FP32", [1, 2], [1, 2])),
            "text.json": request(("a", "BYTES", [1, 1], ["x"]), ("b", "FP32", [1, 1], [1])),
            "torn.json": '{"inputs": [', "bare.json": '{"inputs": []}',
            "deep.json": request(("x", "FP32", [1] * 9, [1]))}.items():
        (home / file).write_text(text)
    keys = {key: home / value if key == "warmup_request" else value
            for key, value in keys.items()}
    moult = start(torch(torch_models, name, **keys), ready=False)
    reason = failed(moult, name)
    assert said in reason, reason
    status, body = moult.get(f"/v2/models/{name}")
    assert status == 503 and b"tells its inputs and outputs itself" in body, body
    status, headers, body = moult.infer(name, echo_body([0.0]))
    assert status == 503 and b"does not serve" in body, body


@has_python
def test_classes_of_python(start, home):
    """By attributes, by half of them, and by an answer without numpy."""
    warm = {"warmup_request": home / "warm.json"}
    moult = start(python(home, "tells", "app:Tells", max_batch=8),
                  python(home, "half", "app:Half", **warm),
                  python(home, "silent", "app:Silent", **warm))
    assert metadata(moult, "tells") == metadata(moult, "half") == ([X], [X])
    assert metadata(moult, "silent") == ([X], [any_dims("sum", "FP64", 1),
                                               any_dims("name", "BYTES", 1)])
    body = request(("x", "FP32", [2, 4], [1, 2, 3, 4, 0, 0, 0, 1]))
    assert answer(moult, "tells", body)["x"] == [1, 2, 3, 4, 0, 0, 0, 1]
    assert answer(moult, "silent", body) == {"sum": [10, 1], "name": ["a", "a"]}


@has_python
def test_tritons_class_completes_its_configuration(start, home):
    if not PYTHON.exists():
        pytest.skip("no interpreter with numpy: see tests/clients.sh")
    keys = {"python": PYTHON}
    moult = start(python(home, "triton", "1/model.py", max_batch=4, **keys),
                  python(home, "silent", "app:Silent", warmup_request=home / "warm.json", **keys))
    assert metadata(moult, "triton") == ([{**X, "name": "IN"}], [{**X, "name": "OUT"}])
    assert metadata(moult, "silent")[1] == [any_dims("sum", "FP64", 1),
                                            any_dims("name", "BYTES", 1)]
    body = request(("IN", "FP32", [1, 4], [1, 2, 3, 4]))
    assert answer(moult, "triton", body) == {"OUT": [1, 2, 3, 4]}
    (moult.models / "0.conf").write_text(python(home, "triton", "1/model.py", max_batch=16,
                                                **keys))
    assert "16 is more than the 8 rows" in failed(moult, "triton")
    assert answer(moult, "triton", body) == {"OUT": [1, 2, 3, 4]}


@has_python
@pytest.mark.parametrize("model, said", [
    ("app:Silent", "the model does not say what it takes: set warmup_request"),
    ("app:Odd", "its attribute inputs has 'x FP32', and must have"),
])
def test_classes_refused(start, home, model, said):
    moult = start(python(home, "echo", model), ready=False)
    assert said in failed(moult, "echo")


@has_python
def test_a_reload_that_declares_something_else(start, home):
    """Clients see what serves. A request that waited for the next generation is held against what
    that one declares, and is answered with 400 where it does not fit."""
    def run(model):
        return python(home, "echo", model, strategy="stop-first", warmup_runs=1)
    moult = start(run("app:Tells"))
    assert metadata(moult, "echo") == ([X], [X])
    (moult.models / "0.conf").write_text(run("app:Other"))
    wait_for("the pause", lambda: not moult.status("echo")["generation"])
    assert metadata(moult, "echo") == ([X], [X])
    answers = {}

    def ask(name, body):
        answers[name] = moult.infer("echo", body)
    old = threading.Thread(target=ask, args=("old", echo_body([0.0] * ECHO_FLOATS)))
    new = threading.Thread(target=ask, args=("new", request(("y", "INT32", [1, 2], [3, 4]))))
    old.start()
    new.start()
    wait_for("both wait", lambda: moult.status("echo")["requests"]["held"] == 2)
    (home / "gate").touch()
    old.join()
    new.join()
    assert answers["old"][0] == 400, answers
    assert b"has no input 'x'; it has 'y'" in answers["old"][2], answers
    assert answers["new"][0] == 200, answers
    y = {"name": "y", "datatype": "INT32", "shape": [-1, 2]}
    assert metadata(moult, "echo") == ([y], [y])
    os.unlink(home / "gate")


def test_a_loader_that_does_not_tell(start, tmp_path):
    """READY without the tensors that the section leaves out costs the loader its life."""
    hostile = Hostile(tmp_path)
    moult = start(section("echo", engine="identity", input="x FP32 [-1,4]"),
                  supervisor=hostile.supervisor, ready=False)
    assert "READY does not tell the model's tensors" in failed(moult, "echo")
    status, body = moult.get("/v2/models/echo/config")
    assert status == 503, body


def test_an_engine_that_does_not_tell(start):
    moult = start(section("echo", engine="fault", input="x FP32 [-1,4]", sandbox="off"),
                  supervisor=f"engine_dir = {BUILD}\n", ready=False)
    assert "output: engine fault does not say what the model answers" in failed(moult, "echo")


def test_declared_is_shown_as_ever(start):
    moult = start(echo_section())
    assert metadata(moult, "echo") == ([X], [X])
