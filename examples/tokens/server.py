#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Continues a text word by word, as a server of a language model does: by events, over HTTP. It is
a program of its own that knows nothing of moult. No framework is needed.

usage: server.py PORT
"""
import http.server
import json
import os
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# Where moult, or whoever else starts this, has put the secrets. Read once, as most servers do.
FOLDER = pathlib.Path(os.environ.get("MOULT_SECRETS_DIR", HERE / "secrets"))
KEY = (FOLDER / "key").read_text().strip()
PACE_S = float(os.environ.get("PACE_S", "0.05"))
TEXT = """when the shell is too tight the animal leaves it whole and when the new one is hard the
animal is larger than the old shell was and the old one is left behind for the sea to take"""


def train(text):
    following, words = {}, text.split()
    for word, after in zip(words, words[1:] + words[:1]):
        following.setdefault(word, []).append(after)
    return following


MODEL = train(TEXT)


def continued(prompt, count):
    chance = random.Random(prompt)
    word = (prompt.split() or ["the"])[-1]
    for _ in range(count):
        word = chance.choice(MODEL.get(word) or sorted(MODEL))
        yield word
        time.sleep(PACE_S)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def do_GET(self):
        self.answer(200, {"status": "ok"})

    def do_POST(self):
        wish = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        if self.headers.get("X-Key") != KEY:
            self.answer(401, {"error": "the header X-Key must have the key"})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in continued(wish["prompt"], int(wish.get("count", 8))):
            self.chunk(f"data: {word}\n\n".encode())
        self.chunk(b"")


if __name__ == "__main__":
    http.server.ThreadingHTTPServer.request_queue_size = 128
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
