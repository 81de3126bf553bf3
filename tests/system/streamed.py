#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server on the port of its first argument that reads bodies as they come. What it is asked for
says how: /sum takes all and answers with what it got, /wait takes nothing before somebody asks for
/go, /early answers without taking anything. GET /seen says what the others have read so far."""
import hashlib
import http.server
import json
import sys
import threading

GO = threading.Event()
SEEN = {"begun": 0, "bytes": 0, "cut": 0}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def pieces(self):
        if self.headers["Transfer-Encoding"] != "chunked":
            left = int(self.headers["Content-Length"])
            while left > 0:
                piece = self.rfile.read1(min(left, 65536))
                if not piece:
                    raise EOFError
                left -= len(piece)
                yield piece
            return
        while size := int(self.rfile.readline() or "x", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        SEEN["begun"] += 1
        if self.path == "/early":
            self.close_connection = True
            self.answer(413, b"too much")
            return
        if self.path == "/wait":
            GO.wait()
        digest, size = hashlib.sha256(), 0
        try:
            for piece in self.pieces():
                digest.update(piece)
                size += len(piece)
                SEEN["bytes"] += len(piece)
        except (EOFError, OSError, ValueError):
            SEEN["cut"] += 1
            self.close_connection = True
            return
        self.answer(200, f"{size} {digest.hexdigest()}".encode())

    def do_GET(self):
        if self.path == "/go":
            GO.set()
        self.answer(200, json.dumps(SEEN).encode())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
