# SPDX-License-Identifier: Apache-2.0
"""Trivial requests leave nothing behind, in the loader that hosts and in moultd.

MOULT_TRIVIAL_REQUESTS=100000 is the long run, which ./check --long makes. A leak grows in each third
of the requests; an allocator that takes a block does so in one. How small a leak is seen follows
from their number: with 100 000 one of 8 bytes a request."""
import os
import socket
import threading

import pytest

from harness import BUILD, patience
from test_python_model import private_kib

REQUESTS = int(os.environ.get("MOULT_TRIVIAL_REQUESTS", "9000"))
WARM_UP = max(3000, REQUESTS // 10)
CLIENTS = 4
# Of a third: what is seen anyhow with few requests, and what is next to nothing with many.
NOISE_KIB = 192
MOST_KIB = 1024

APP = """
def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]

async def asgi(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})

class Named:
    def predict(self, x: int):
        return "hello"

class Tensors:
    def predict(self, inputs):
        return {"y": inputs["x"]}
"""

GET = (b"GET /say/?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", b"hello")
NAMED = b'{"x": 7}'
TENSORS = b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [7]}]}'
KINDS = {
    "wsgi": ("wsgi = app:wsgi\nroute = /\nthreads = 2\n", *GET),
    "asgi": ("asgi = app:asgi\nroute = /\n", *GET),
    "class": ("model = app:Named\nroute = /say/\nthreads = 2\n",
              b"POST /say/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n%s" % (len(NAMED), NAMED), b"hello"),
    "tensors": ("model = app:Tensors\ninput = x INT64 [-1,1]\noutput = y INT64 [-1,1]\n"
                "max_batch = 8\n",
                b"POST /v2/models/app/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                % (len(TENSORS), TENSORS), b'"data":[7]'),
}

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")


def ask_often(port, request, said, count):
    """Each is answered with status 200 and what it should say."""
    wrong = []

    def run(n):
        with socket.create_connection(("127.0.0.1", port), patience()) as client:
            with client.makefile("rb") as file:
                for _ in range(n):
                    client.sendall(request)
                    line, length = file.readline(), 0
                    if not line.startswith(b"HTTP/1.1 200"):
                        wrong.append(line)
                        return
                    while (field := file.readline()) != b"\r\n":
                        if field.lower().startswith(b"content-length:"):
                            length = int(field.split(b":")[1])
                    body = file.read(length)
                    if said not in body.replace(b" ", b""):
                        wrong.append(body)
    threads = [threading.Thread(target=run, args=(count // CLIENTS,)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("kind", KINDS)
def test_trivial_requests_leave_nothing(start, tmp_path, kind):
    keys, request, said = KINDS[kind]
    (tmp_path / "app.py").write_text(APP)
    moult = start(f"[model app]\nengine = python\nworking_directory = {tmp_path}\n{keys}")
    pids = {"moultd": moult.pid, "loader": moult.status("app")["pid"]}
    ask_often(moult.port, request, said, WARM_UP)
    marks = {name: [private_kib(pid)] for name, pid in pids.items()}
    for _ in range(3):
        ask_often(moult.port, request, said, REQUESTS // 3)
        for name, pid in pids.items():
            marks[name].append(private_kib(pid))
    print(f"{kind}: {REQUESTS} requests behind {WARM_UP}, KiB of private memory: {marks}")
    assert moult.status("app")["pid"] == pids["loader"]
    for name, found in marks.items():
        thirds = [after - before for before, after in zip(found, found[1:])]
        assert min(thirds) < NOISE_KIB and found[-1] - found[0] < MOST_KIB, (name, found)
