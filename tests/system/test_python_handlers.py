# SPDX-License-Identifier: Apache-2.0
"""Classes of other servers that take requests of HTTP, below a route of moultd's."""
import http.client
import json
import os
import signal
import subprocess
import threading
import types

import pytest

from harness import BUILD, free_port, wait_for
from test_python_model import private_kib
from test_routes import ask

# Those of Starlette and of TorchServe, where these have them.
EXCEPTIONS = {"starlette/exceptions.py": """
class HTTPException(Exception):
    def __init__(self, status_code, detail):
        super().__init__(detail)
        self.status_code, self.detail = status_code, detail
""", "ts/utils/util.py": """
class PredictionException(Exception):
    def __init__(self, message, error_code):
        super().__init__(message)
        self.message, self.error_code = message, error_code
"""}

APP = """
import moult
from starlette.exceptions import HTTPException

class APIStatusError(Exception):  # of a client of another service
    status_code, error_code = 401, 401

class NoInput(HTTPException):
    pass

class Named:
    def load(self):
        self.token = moult.secrets["token"]

    def predict(self, prompt: str, count: int = 2) -> str:
        if prompt == "bad":
            raise moult.BadRequest("no bad prompts")
        if prompt == "fail":
            raise KeyError("it was asked to fail")
        if prompt == "upstream":
            raise APIStatusError(f"the key {self.token} is wrong")
        if prompt == "nan":
            return {"scores": [1.5, float("nan")]}
        if prompt == "exit":
            raise SystemExit(3)
        if prompt == "secret":
            return self.token
        if prompt == "set":
            return {1, 2}
        return {"said": prompt * count}

class Streams:
    def predict(self, count):
        if count == 99:
            raise moult.BadRequest("too many")
        for i in range(count):
            yield f"{i},"

class Generates(Streams):
    async def generate(self, count):
        for i in range(count):
            yield f"{i};"

class Async:
    async def setup(self):
        self.word = "async"

    async def predict(self, name):
        return f"{self.word} {name}"

class Pair:  # as a model of pydantic's
    @classmethod
    def model_validate(cls, value):
        if set(value) != {"a", "b"}:
            raise Wrong()
        pair = cls()
        pair.a, pair.b = value["a"], value["b"]
        return pair

    def model_dump(self):
        return {"a": self.b, "b": self.a}

class Wrong(ValueError):
    def json(self):
        return '[{"loc": ["a"], "input": NaN}]'

class Typed:
    def predict(self, pair: Pair, pairs: "list[Pair]" = ()):
        return pair

class Plain:
    def predict(self, count: int = 1, scale: float = 1.0, is_new: bool = True, names: list = None,
                options: dict = {}, any=None, listed: "list[int]" = (), **more: int):
        return [count, scale, is_new, names]

class LitTyped:
    def setup(self, device):
        pass

    def decode_request(self, request: Pair):
        return request

    def predict(self, x):
        return x

    def encode_response(self, output):
        return {"swapped": output}

class Lit:
    def setup(self, device):
        self.model = lambda x: x ** 2
        self.device = device

    def decode_request(self, request):
        if "input" not in request:
            raise NoInput(422, "no input")
        if request["input"] == "upstream":
            raise APIStatusError("no such key")
        return request["input"]

    def predict(self, x, context):
        context["device"] = self.device
        return self.model(x)

    def encode_response(self, output, context):
        return {"output": output, **context}

class LitForm(Lit):
    def predict(self, x, context):
        return repr(x)

class LitStream(Lit):
    def predict(self, x):
        for i in range(x):
            yield i

    def encode_response(self, outputs):
        for one in outputs:
            yield {"output": one}

from ts.utils.util import PredictionException

class Torch:
    def initialize(self, context):
        self.manifest = context.manifest
        properties = context.system_properties
        assert properties["gpu_id"] is None, properties
        context.metrics.add_time("initialize", 1, None, "ms")
        with open(properties["model_dir"] + "/weights") as weights:
            self.weight = int(weights.read())
        self.initialized = True

    def handle(self, data, context):
        context.metrics.add_counter("handled", 1)
        row = data[0]
        body = row.get("body") or row.get("data")
        if body == b"none":
            return None
        if body == b"taken":
            raise PredictionException("no room", 507)
        if context.get_request_header(0, "x-kind") == "teapot":
            context.set_response_status(418, "I'm a teapot", 0)
            context.set_response_content_type(0, "text/tea")
        return [{"kind": type(body).__name__, "text": str(bytes(body, "utf-8") if isinstance(
            body, str) else body), "weight": self.weight,
            "model": self.manifest["model"]["modelName"]}]
"""

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "token").write_text("0")
    (home / "weights").write_text("7")
    (home / "app.py").write_text(APP)
    for name, text in EXCEPTIONS.items():
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(text)
    return home


def section(home, **keys):
    lines = {"engine": "python", "working_directory": home, "route": "/predict/",
             "secrets": home / "secrets", **keys}
    return "[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def post(moult, body, fields=(("Content-Type", "application/json"),), method="POST"):
    return ask(moult, method, "/predict", list(fields), body)


@pytest.mark.parametrize("name, rows", [
    ("Named", [
        (b'{"prompt": "ab"}', 200, b'{"said": "abab"}'),
        (b'{"prompt": "ab", "count": 1}', 200, b'{"said": "ab"}'),
        (b'{"prompt": "secret"}', 200, b"0"),
        (b'{"prompt": "bad"}', 400, b'{"error": "no bad prompts"}'),
        (b'{"count": 1}', 400, b"missing a required argument: 'prompt'"),
        (b'{"prompt": 1}', 400, b"'prompt' must be str, not int"),
        (b'{"prompt": "a", "more": 1}', 400, b"got an unexpected keyword argument 'more'"),
        (b'["a"]', 400, b"must be an object"),
        (b'{"prompt', 400, b"the body is no JSON"),
        (b'{"prompt": "fail"}', 500, b"failed with KeyError"),
        (b'{"prompt": "upstream"}', 500, b"failed with APIStatusError"),
        (b'{"prompt": "nan"}', 500, b'{"error": "the answer has NaN or Infinity in it'),
        (b'{"prompt": "exit"}', 500, b"sys.exit()"),
        (b'{"prompt": "set"}', 500, b"failed with TypeError"),
        (b'{"prompt": ""}', 200, b'{"said": ""}'),
    ]),
    ("Streams", [
        (b'{"count": 3}', 200, b"0,1,2,"),
        (b'{"count": 0}', 200, b""),
        (b'{"count": 99}', 400, b'{"error": "too many"}'),
        (b'{"count": "x"}', 500, b"TypeError"),
    ]),
    ("Async", [(b'{"name": "a"}', 200, b"async a")]),
    ("Lit", [
        (b'{"input": 3}', 200, b'{"output": 9, "device": "cpu"}'),
        (b'{}', 422, b'{"detail": "no input"}'),
        (b'{"input": "x"}', 500, b"failed with TypeError"),
        (b'{"input": "upstream"}', 500, b"failed with APIStatusError"),
    ]),
    ("Typed", [
        (b'{"pair": {"a": 1, "b": 2}}', 200, b'{"a": 2, "b": 1}'),
        (b'{"pair": {"a": 1}}', 422, b'{"detail": [{"loc": ["a"], "input": "NaN"}]}'),
    ]),
    ("Plain", [
        (b'{"count": 2, "scale": 2, "is_new": false, "names": null}', 200, b"[2, 2, false, null]"),
        (b'{"scale": 1.5, "any": "x", "listed": "x", "other": "x"}', 200, b"[1, 1.5, true, null]"),
        (b'{"count": "2"}', 400, b"the argument 'count' must be int, not str"),
        (b'{"count": true}', 400, b"'count' must be int, not bool"),
        (b'{"count": null}', 400, b"'count' must be int, not null"),
        (b'{"scale": "2"}', 400, b"'scale' must be float, not str"),
        (b'{"is_new": 1}', 400, b"'is_new' must be bool, not int"),
        (b'{"names": {}}', 400, b"'names' must be list, not dict"),
        (b'{"options": []}', 400, b"'options' must be dict, not list"),
    ]),
    ("LitTyped", [
        (b'{"a": 1, "b": 2}', 200, b'{"swapped": {"a": 2, "b": 1}}'),
        (b'{"a": 1}', 422, b'{"detail": [{"loc": ["a"], "input": "NaN"}]}'),
    ]),
    ("LitStream", [(b'{"input": 2}', 200, b'{"output": 0}{"output": 1}')]),
])
def test_json(start, home, name, rows):
    moult = start(section(home, model=f"app:{name}"))
    for body, status, said in rows:
        got, _, answer = post(moult, body)
        assert got == status and said in answer, (body, got, answer)
    status, fields, _ = post(moult, b"", method="PUT")
    assert status == 405 and ("Allow", "POST") in fields, fields


def test_an_error_that_has_a_status_is_an_error(start, home):
    """That of a client of another service is not the answer: its text is for the log."""
    moult = start(section(home, model="app:Named"))
    status, _, body = post(moult, b'{"prompt": "upstream"}')
    assert status == 500 and b"the key" not in body, body
    wait_for("the traceback", lambda: "in predict" in moult.log_text())


@pytest.mark.parametrize("name, kind, body, status, said", [
    ("Named", None, b'{"prompt": "ab"}', 200, b"abab"),
    ("Named", "Application/JSON; charset=utf-8", b'{"prompt": "ab"}', 200, b"abab"),
    ("Named", "application/vnd.app+json", b'{"prompt": "ab"}', 200, b"abab"),
    # As curl -d sends it.
    ("Named", "application/x-www-form-urlencoded", b'{"prompt": "ab"}', 200, b"abab"),
    ("Named", "application/x-www-form-urlencoded", b"prompt=ab", 415, b"send application/json"),
    ("Named", "application/x-www-form-urlencoded", b'["ab"]', 415, b"send application/json"),
    ("Named", "text/json+xml", b'{"prompt": "ab"}', 415, b"send application/json"),
    ("Lit", "Application/JSON", b'{"input": 3}', 200, b'"output": 9'),
    ("LitForm", "Application/X-WWW-Form-Urlencoded", b"input=3", 200, b"b'3'"),
    ("LitForm", "Multipart/Form-Data; boundary=X",
     b"--X\r\nContent-Disposition: form-data; name=\"input\"\r\n\r\n3\r\n--X--\r\n", 200, b"b'3'"),
])
def test_types_of_bodies(start, home, name, kind, body, status, said):
    moult = start(section(home, model=f"app:{name}"))
    got, _, answer = post(moult, body, [("Content-Type", kind)] if kind else [])
    assert got == status and said in answer, (got, answer)


def test_generate(start, home):
    """Streams, in another path."""
    moult = start(section(home, model="app:Generates"))
    fields = [("Content-Type", "application/json")]
    assert post(moult, b'{"count": 2}')[2] == b"0,1,"
    assert ask(moult, "POST", "/predict/generate", fields, b'{"count": 2}')[2] == b"0;1;"
    assert ask(moult, "POST", "/predict/load", fields, b'{"count": 2}')[2] == b"0,1,"
    status, _, body = ask(moult, "POST", "/predict/generate", fields, b'{}')
    assert status == 400 and b"generate(count)" in body, body


def test_torchserve(start, home):
    """A handler gets what TorchServe makes of a body, and what an archive says."""
    (home / "MAR-INF").mkdir()
    (home / "MAR-INF" / "MANIFEST.json").write_text('{"model": {"modelName": "archived"}}')
    (home / "handler.py").write_text(APP[APP.index("from ts.utils"):])
    moult = start(section(home, model="handler.py"))
    form = (b"--X\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a\"\r\n"
            b"Content-Type: application/octet-stream\r\n\r\n\x00\xff\r\n--X--\r\n")
    rows = [
        ("image/png", b"\x89PNG", 200, {"kind": "bytearray", "text": "bytearray(b'\\x89PNG')"}),
        ("application/json", b'{"a": 1}', 200, {"kind": "dict", "text": "{'a': 1}"}),
        ("Application/LD+JSON", b'{"a": 1}', 200, {"kind": "dict", "text": "{'a': 1}"}),
        ("text/plain", b"words", 200, {"kind": "str", "text": "b'words'"}),
        ("multipart/form-data; boundary=X", form, 200, {"kind": "bytes",
                                                        "text": "b'\\x00\\xff'"}),
        ("application/x-www-form-urlencoded", b"data=a+b&c=", 200, {"kind": "bytes",
                                                                   "text": "b'a b'"}),
        ("application/octet-stream", b"taken", 507, {"error": "no room"}),
    ]
    for kind, body, status, said in rows:
        got, fields, answer = post(moult, body, [("Content-Type", kind)])
        assert got == status and json.loads(answer).items() >= said.items(), (kind, got, answer)
        assert status != 200 or json.loads(answer)["weight"] == 7
        assert status != 200 or json.loads(answer)["model"] == "archived"
    got, fields, _ = post(moult, b"x", [("X-Kind", "teapot")])
    assert got == 418 and ("Content-Type", "text/tea") in fields, fields
    assert post(moult, b"none")[0] == 400  # no JSON
    status, _, answer = post(moult, b"none", [("Content-Type", "application/octet-stream")])
    assert status == 500 and b"TypeError" in answer, answer
    assert "handle returned 'NoneType' instead of a list of 1, one answer" in moult.log_text()


@pytest.mark.parametrize("keys, source, said", [
    ({"model": "other:Model"}, "class Model:\n    def run(self):\n        pass\n",
     "has neither predict(), execute() nor handle()"),
    ({"model": "other:Model"}, "class Model:\n    def execute(self, requests):\n        pass\n",
     "takes tensors and no paths: leave route out"),
    ({"model": "app:Lit", "option.bytes_as": "bytes"}, None, "is for a class whose predict() takes"),
    ({"model": "other:Model"}, "class Model:\n    def setup(self, a, b):\n        pass\n"
     "    def predict(self):\n        pass\n", "setup(a, b) takes arguments"),
    ({"model": "other:Model"}, "class Model:\n    def initialize(self, context):\n"
     "        raise RuntimeError('no model')\n    def handle(self, data, context):\n"
     "        pass\n", "initialize() raised RuntimeError: no model"),
    ({"model": "app:Torch", "max_batch": "1\ninput = x FP32 [1]\noutput = x FP32 [1]",
      "route": None}, None, "takes requests of HTTP and no tensors: add a route"),
])
def test_what_is_wrong_is_named(start, home, keys, source, said):
    """The old generation serves on."""
    moult = start(section(home, model="app:Named"))
    if source:
        (home / "other.py").write_text(source)
    text = section(home, **keys).replace("route = None\n", "")
    (moult.models / "0.conf").write_text(text)
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert said in receipt["reason"], receipt
    assert post(moult, b'{"prompt": "ab"}')[0] == 200


def test_reloads_and_kills_lose_nothing(start, home):
    """With replay = POST, as inference is safe to repeat."""
    moult = start(section(home, model="app:Named", replay="POST"))
    moult.note_fds()
    wrong, over = [], threading.Event()

    def load():
        while not over.is_set():
            status, _, body = post(moult, b'{"prompt": "ab"}')
            if (status, body) != (200, b'{"said": "abab"}'):
                wrong.append((status, body))
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(1, 4):
        moult.write_secret(home / "secrets", "token", str(i))
        wait_for("the new secret",
                 lambda: post(moult, b'{"prompt": "secret"}')[2] == str(i).encode())
        os.kill(moult.status("app")["pid"], signal.SIGKILL)
        wait_for("another loader", lambda: moult.status("app")["pid"])
    over.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong


MANY = """
import os
import time

def hold(value):
    if value == "hold":
        print("held", flush=True)
        while not os.path.exists("gate"):
            time.sleep(0.01)

class Torch:
    def handle(self, data, context):
        hold(data[0]["body"])
        if any(row["body"] == "bad" for row in data):
            raise ValueError("one is bad")
        for i in range(len(data)):
            context.set_response_header(i, "X-Place", str(i))
        return [f"{row['body']} of {len(data)}" for row in data]

class Lit:
    def setup(self, device):
        pass

    def decode_request(self, request, context):
        context["said"] = request
        hold(request)
        return request

    def batch(self, inputs):
        return list(inputs)

    def predict(self, batch):
        if "bad" in batch:
            raise ValueError("one is bad")
        return {one: f"{one} of {len(batch)}" for one in batch}

    def unbatch(self, output):
        return list(output.values())

    def encode_response(self, output, context):
        assert output.startswith(context["said"])
        return output
"""


@pytest.mark.parametrize("name", ["Torch", "Lit"])
def test_those_that_wait_go_together(start, home, name):
    """One of them that fails does so alone."""
    (home / "many.py").write_text(MANY)
    moult = start(section(home, model=f"many:{name}", max_batch=8))

    def ask_while_held(*bodies):
        """The answers to @bodies, which wait while the class is held."""
        answers, threads = {}, []

        def begin(body):
            thread = threading.Thread(target=lambda: answers.update({body: post(moult, body)}))
            thread.start()
            threads.append(thread)
        held = moult.log_text().count('line="held"')
        begin(b'"hold"')
        wait_for("the first one", lambda: moult.log_text().count('line="held"') > held)
        for body in bodies:
            begin(body)
        wait_for("all of them",
                 lambda: moult.status("app")["requests"]["leased"] == len(bodies) + 1)
        (home / "gate").touch()
        for thread in threads:
            thread.join()
        (home / "gate").unlink()
        assert answers.pop(b'"hold"')[2] == b"hold of 1"
        return answers

    def are_together():
        """The last one may be on its way to the loader when the others are taken."""
        got = ask_while_held(b'"a"', b'"b"', b'"c"')
        assert all(answer[2].startswith(body[1:2] + b" of ") for body, answer in got.items()), got
        return all(answer[2].endswith(b"of 3") for answer in got.values())
    wait_for("three at once", are_together)
    got = ask_while_held(b'"bad"', b'"d"', b"{")
    assert got[b'"d"'][0] == 200 and got[b"{"][0] == 400, got
    assert got[b'"bad"'][0] == 500 and b"ValueError" in got[b'"bad"'][2], got


def test_one_at_a_time(start, home):
    moult = start(section(home, model="app:Named", max_batch=4), ready=False)
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert "predict() gets one request at a time: leave max_batch out" in receipt["reason"]


def test_without_a_configuration(home, tmp_path):
    """One command serves a class that takes JSON."""
    port = free_port()
    runtime = tmp_path / "run"
    runtime.mkdir()
    process = subprocess.Popen(
        [BUILD / "moultd", "--model", "app:Named", "--secrets", "secrets", "--listen",
         f"127.0.0.1:{port}"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)})
    moult = types.SimpleNamespace(port=port)

    def answer():
        assert process.poll() is None
        try:
            return post(moult, b'{"prompt": "ab"}')
        except OSError:
            return [0]
    try:
        wait_for("an answer", lambda: answer()[0] == 200)
        assert answer()[2] == b'{"said": "abab"}'
    finally:
        process.send_signal(signal.SIGTERM)
        printed = process.communicate()[0]
    assert process.returncode == 0 and b"model = app:Named\n" in printed, printed


@pytest.mark.parametrize("name, body", [("Named", b'{"prompt": "ab"}'), ("Lit", b'{"input": 3}')])
def test_requests_leave_nothing(start, home, name, body):
    """Ten thousand of them, behind the first thousands, take no more memory."""
    moult = start(section(home, model=f"app:{name}"))
    connection = http.client.HTTPConnection("127.0.0.1", moult.port)

    def ask_often(count):
        for _ in range(count):
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200 and response.read(), response.status
        return private_kib(moult.status("app")["pid"])
    before = ask_often(3_000)
    after = ask_often(10_000)
    connection.close()
    assert after - before < 1024, (before, after)
