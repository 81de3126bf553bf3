# SPDX-License-Identifier: Apache-2.0
"""What streamed.py does, as applications: of WSGI and of ASGI."""
import asyncio
import hashlib
import json
import threading

GO = threading.Event()
SEEN = {"begun": 0, "bytes": 0, "cut": 0}


class Sum:
    def __init__(self):
        SEEN["begun"] += 1
        self.digest, self.size = hashlib.sha256(), 0

    def add(self, piece):
        self.digest.update(piece)
        self.size += len(piece)
        SEEN["bytes"] += len(piece)

    def __str__(self):
        return f"{self.size} {self.digest.hexdigest()}"


def answer_get(path):
    if path == "/go":
        GO.set()
    return json.dumps(SEEN)


def wsgi(environ, start_response):
    status, text = "200 OK", ""
    if environ["REQUEST_METHOD"] == "GET":
        text = answer_get(environ["PATH_INFO"])
    elif environ["PATH_INFO"] == "/early":
        SEEN["begun"] += 1
        status, text = "413 Too much", "too much"
    else:
        got = Sum()
        if environ["PATH_INFO"] == "/wait":
            GO.wait()
        try:
            left = int(environ["CONTENT_LENGTH"])
            while left > 0:
                piece = environ["wsgi.input"].read1(min(left, 65536))
                assert piece, "the body is shorter than it was said to be"
                left -= len(piece)
                got.add(piece)
        except ConnectionError:
            SEEN["cut"] += 1
            raise
        text = str(got)
    start_response(status, [("Content-Length", str(len(text)))])
    return [text.encode()]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    status = 200
    if scope["method"] == "GET":
        text = answer_get(scope["path"])
    elif scope["path"] == "/early":
        SEEN["begun"] += 1
        status, text = 413, "too much"
    else:
        got = Sum()
        if scope["path"] == "/wait":
            await asyncio.get_running_loop().run_in_executor(None, GO.wait)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                SEEN["cut"] += 1
                return
            got.add(message["body"])
            if not message["more_body"]:
                break
        text = str(got)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
