# SPDX-License-Identifier: Apache-2.0
"""usage: visit.py FIRST echo | FIRST THEN

A client inside the container: waits until moultd is ready and the application answers FIRST, then
asks the other model once, or asks until the answer is THEN. No request may fail."""

import http.client
import json
import sys
import time

LIMIT_S = 120


def ask(path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=LIMIT_S)
    connection.request("POST" if body else "GET", path, body)
    response = connection.getresponse()
    return response.status, response.read()


def is_ready():
    try:
        return ask("/v2/health/ready")[0] == 200
    except OSError:
        return False


first, then = sys.argv[1:]
until = time.monotonic() + LIMIT_S
while not is_ready():
    assert time.monotonic() < until, "never ready"
assert ask("/app/") == (200, first.encode()), ask("/app/")
if then == "echo":
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, 2.5]}]}
    status, answer = ask("/v2/models/echo/infer", json.dumps(body))
    assert status == 200 and json.loads(answer)["outputs"][0]["data"] == [1.5, 2.5], answer
    sys.exit()
print("asks", flush=True)
n = 0
while True:
    status, answer = ask("/app/")
    n += 1
    assert status == 200 and answer in (first.encode(), then.encode()), (status, answer)
    if answer == then.encode():
        break
    assert time.monotonic() < until, f"never {then}"
print(f"{n} answers and a rotation, 0 lost")
