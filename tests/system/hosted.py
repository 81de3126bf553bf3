#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program that speaks HTTP, for the tests of engine server: as it should, or as it is told.

usage: hosted.py PORT-OR-SOCKET [WAY]
"""
import http.server
import json
import os
import pathlib
import signal
import socket
import socketserver
import struct
import sys
import time
import urllib.parse

MOMENT_S = 0.002


def await_file(path):
    """Until the test makes it; it is taken away then, and stands for one step."""
    path = pathlib.Path(path)
    while not path.exists():
        time.sleep(MOMENT_S)
    path.unlink()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    has_begun = False

    def log_message(self, *_):
        pass

    def address_string(self):
        return "moult"

    def answer(self, body, status=200, fields=()):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def serve(self):
        path, _, query = self.path.partition("?")
        wish = dict(urllib.parse.parse_qsl(query))
        body = self.body()
        if WAY == "faulty" and path == "/x":
            self.answer(b"it failed", 500)
            return
        function = getattr(self, "do" + path.replace("/", "_").replace("-", "_"), None)
        if function:
            function(wish, body)
        else:
            self.answer(b"hello")

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = serve

    def do_health(self, wish, body):
        if WAY.startswith("slow:") and not os.path.exists(WAY[5:]):
            self.answer(b"loading", 503)
            return
        self.answer(b"the database is away" if WAY == "unwell" else b"ok",
                    503 if WAY == "unwell" else 200)

    def do_echo(self, wish, body):
        self.answer(json.dumps({"method": self.command, "target": self.path,
                                "fields": self.headers.items(),
                                "body": body.decode("latin-1")}).encode())

    def do_length(self, wish, body):
        self.answer(str(len(body)).encode())

    def do_pid(self, wish, body):
        self.answer(str(os.getpid()).encode())

    def do_status(self, wish, body):
        status = int(wish["status"])
        if status in (204, 304):
            self.send_response(status)
            self.end_headers()
        else:
            self.answer(b"as asked", status, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
                                              ("Connection", "X-Hop"), ("X-Hop", "1"),
                                              ("Keep-Alive", "timeout=5")])

    def do_secret(self, wish, body):
        folder = pathlib.Path(os.environ["MOULT_SECRETS_DIR"])
        self.answer((folder / "token").read_bytes())

    def do_environment(self, wish, body):
        self.answer(json.dumps(dict(os.environ)).encode())

    def do_descriptors(self, wish, body):
        self.answer(json.dumps([os.readlink(f"/proc/self/fd/{fd}")
                                for fd in os.listdir("/proc/self/fd")
                                if os.path.exists(f"/proc/self/fd/{fd}")]).encode())

    def do_bytes(self, wish, body):
        count = int(wish["n"])
        self.send_response(200)
        self.send_header("Content-Length", str(count))
        self.end_headers()
        piece = bytes(range(256)) * 256
        while count > 0:
            self.wfile.write(piece[:count])
            count -= len(piece)

    def do_stream(self, wish, body):
        """Tokens, as a language model's server sends them; each waits for its gate."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for i in range(int(wish["n"])):
                if "gate" in wish:
                    await_file(wish["gate"])
                self.chunk(b"data: %d\n\n" % i)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pathlib.Path(wish["gone"]).touch()

    def do_interim(self, wish, body):
        self.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n"
                         b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        self.answer(b"after all")

    def do_old(self, wish, body):
        """HTTP/1.0: the end of the connection is the end of the body."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nold body")
        self.close_connection = True

    # ways to be wrong

    def raw(self, data):
        self.wfile.write(data)
        self.close_connection = True

    def do_cut(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf")
        await_file(wish["gate"])

    def do_cut_head(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\nX-Half: a\r\n")

    def do_cut_chunks(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await_file(wish["gate"])

    def do_garbage(self, wish, body):
        self.raw(b"220 mail.example ESMTP\r\n")

    def do_break(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\nX-Odd: a\rb\r\nContent-Length: 0\r\n\r\n")

    def do_fold(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\nX-Fold: a\r\n  b\r\nContent-Length: 0\r\n\r\n")

    def do_nofield(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n")

    def do_odd_line(self, wish, body):
        self.raw(b"HTTP/x.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n")

    def do_second_line(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\nHTTP/2: x\r\nContent-Length: 0\r\n\r\n")

    def do_switch(self, wish, body):
        self.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
        self.rfile.read()

    def do_huge(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\nX-Huge: " + b"h" * 40000 + b"\r\nContent-Length: 0\r\n\r\n")

    def do_many(self, wish, body):
        self.raw(b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 100 + b"Content-Length: 0\r\n\r\n")

    def do_odd_status(self, wish, body):
        self.raw(b"HTTP/1.1 777 Odd\r\nContent-Length: 0\r\n\r\n")

    def do_close(self, wish, body):
        """No word of an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def do_shut(self, wish, body):
        """An answer that promises to keep the connection, which is closed."""
        self.answer(b"shut")
        self.close_connection = True

    def do_once(self, wish, body):
        """Closed without an answer for the first time, answered the second."""
        path = pathlib.Path(wish["seen"])
        if path.exists():
            self.answer(b"at last")
        else:
            path.touch()
            self.do_close(wish, body)

    def do_count(self, wish, body):
        """How often this was asked is in the file."""
        with open(wish["seen"], "a") as file:
            file.write("1\n")
        self.do_close(wish, body)

    def do_hang(self, wish, body):
        await_file(wish["gate"])
        self.answer(b"at last")

    def do_exit(self, wish, body):
        print("the last straw", flush=True)
        os._exit(int(wish["status"]))

    def do_abort(self, wish, body):
        os.abort()

    def do_deaf(self, wish, body):
        """Listens no more, and lives on."""
        SERVER.socket.close()
        self.do_close(wish, body)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass

    def server_bind(self):
        if self.address_family == socket.AF_UNIX:
            self.socket.bind(self.server_address)
            self.server_name, self.server_port = "unix", 0
        else:
            super().server_bind()

    def get_request(self):
        connection, address = self.socket.accept()
        return connection, address or ("unix", 0)


class Mute(socketserver.BaseRequestHandler):
    def handle(self):
        while WAY == "mute":
            time.sleep(60)
        self.request.sendall(b"220 mail.example ESMTP\r\n")


def fork_away():
    if os.fork() > 0:
        os._exit(0)


def daemonise():
    fork_away()
    os.setsid()
    fork_away()


def start_child():
    """A helper of the server, in a session of its own."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)


def prepare():
    """What the server does before it listens."""
    if WAY == "exits":
        print("secrets in", os.environ["MOULT_SECRETS_DIR"], flush=True)
        print("the model file\nis not there", file=sys.stderr, flush=True)
        sys.exit(3)
    elif WAY == "succeeds":
        sys.exit(0)
    elif WAY == "aborts":
        os.abort()
    elif WAY == "never":
        print("loading", flush=True)
        while True:
            time.sleep(60)
    elif WAY == "forks":
        fork_away()
    elif WAY == "daemonises":
        daemonise()
    elif WAY == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif WAY == "parent":
        start_child()
    elif WAY == "large":
        # A worker with the model, which the server waits for.
        ready, tell = os.pipe()
        if os.fork() == 0:
            ballast = b"x" * (100 << 20)
            os.write(tell, b"x")
            while ballast:
                time.sleep(60)
        os.read(ready, 1)
    elif WAY.startswith("taken:"):
        # Somebody else is quicker than the server to take the port.
        file = pathlib.Path(WAY.removeprefix("taken:"))
        file.with_suffix(".new").write_text(WHERE)
        file.with_suffix(".new").rename(file)
        while True:
            time.sleep(60)


WHERE = sys.argv[1]
WAY = sys.argv[2] if len(sys.argv) > 2 else ""
prepare()
ADDRESS = ("127.0.0.1", int(WHERE)) if WHERE.isdigit() else WHERE
if isinstance(ADDRESS, str):
    Server.address_family = socket.AF_UNIX
else:
    Handler.disable_nagle_algorithm = True
SERVER = Server(ADDRESS, Mute if WAY in ("mute", "mail") else Handler)
print("listening", flush=True)
SERVER.serve_forever()
