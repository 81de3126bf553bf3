# SPDX-License-Identifier: Apache-2.0
"""One application by every entry point there is, for test_entry_points.py. Each answer says which
request it is for, and which secret, source and process have made it."""
import asyncio
import json
import os
import pathlib
import time

from release import CODE

try:
    import moult
    SECRET = int(moult.secrets["token"])
except ImportError:  # behind a server of its own
    SECRET = int(pathlib.Path(os.environ["MOULT_SECRETS_DIR"], "token").read_text())

PACE_S = 0.002


def said(x):
    return {"x": x, "secret": SECRET, "code": CODE, "pid": os.getpid()}


def note(x):
    """What a request must not do twice."""
    file = os.open("effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{x}\n".encode())
    os.close(file)


def pauses(gate):
    """Between the parts of a stream: for a moment, and until the gate is open."""
    yield PACE_S
    while gate and not os.path.exists(gate):
        yield PACE_S


def hold(gate):
    for pause in pauses(gate):
        time.sleep(pause)


def lines(x, n, gate=""):
    for i in range(n):
        yield json.dumps({**said(x), "i": i}) + "\n"
        hold(gate)


def begin(x, gate):
    """What is done for a POST."""
    note(x)
    if gate:
        hold(gate)


def wsgi(environ, start_response):
    is_post = environ["REQUEST_METHOD"] == "POST"
    if is_post:
        wish = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        begin(wish["x"], wish.get("gate"))
    else:
        wish = {"x": int(environ["QUERY_STRING"] or 0)}
    if environ["PATH_INFO"].startswith("/stream"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (line.encode() for line in lines(wish["x"], wish["n"], wish.get("until")))
    answer = json.dumps(said(wish["x"])).encode()
    start_response("200 OK", [("Content-Type", "application/json"),
                              ("Content-Length", str(len(answer)))])
    return [answer]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    wish = json.loads(body) if scope["method"] == "POST" else {
        "x": int(scope["query_string"] or 0)}
    if scope["method"] == "POST":
        note(wish["x"])
        for pause in pauses(wish.get("gate")):
            await asyncio.sleep(pause)
    if scope["path"].startswith("/stream"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for i in range(wish["n"]):
            line = json.dumps({**said(wish["x"]), "i": i}) + "\n"
            await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
            for pause in pauses(wish.get("until")):
                await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": b""})
        return
    answer = json.dumps(said(wish["x"])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-length", str(len(answer)).encode())]})
    await send({"type": "http.response.body", "body": answer})


class Plain:
    def predict(self, x: int, gate: str = ""):
        begin(x, gate)
        return said(x)

    def generate(self, x: int, n: int, until: str = ""):
        note(x)
        yield from lines(x, n, until)


class Tensors:
    def predict(self, inputs):
        """With numpy or without."""
        return {"y": [[int(row[0]), SECRET, CODE, os.getpid()] for row in inputs["x"]]}


class Torch:
    """A handler of TorchServe's."""

    def initialize(self, context):
        self.initialized = True

    def handle(self, data, context):
        wish = data[0]["body"]
        begin(wish["x"], wish.get("gate"))
        return [said(wish["x"])]


class Lit:
    """A LitAPI of LitServe's."""

    def setup(self, device):
        self.device = device

    def decode_request(self, request):
        return request

    def predict(self, wish):
        begin(wish["x"], wish.get("gate"))
        return wish["x"]

    def encode_response(self, x):
        return said(x)


class LitStream(Lit):
    def predict(self, wish):
        note(wish["x"])
        yield from lines(wish["x"], wish["n"], wish.get("until", ""))

    def encode_response(self, outputs):
        yield from outputs


class TritonPythonModel:
    def execute(self, requests):
        import numpy as np
        import triton_python_backend_utils as pb_utils
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            y = np.array([[row[0], SECRET, CODE, os.getpid()] for row in x], np.int64)
            responses.append(pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("y", y)]))
        return responses
