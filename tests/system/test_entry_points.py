# SPDX-License-Identifier: Apache-2.0
"""Every entry point of what is hosted, reloaded and killed under load: what may be asked again is
never lost, what may not be is never asked twice without a word, a streamed answer is whole or seen
to be cut, and each answer is that of its request and of one generation.

MOULT_ENTRY_RELOADS=50 MOULT_ENTRY_KILLS=20 is the long run, which ./check --long makes."""
import collections
import http.client
import itertools
import json
import operator
import os
import pathlib
import signal
import socket
import subprocess
import threading

import pytest

from harness import BUILD, children, loads, patience, wait_for

RELOADS = int(os.environ.get("MOULT_ENTRY_RELOADS", "5"))
KILLS = int(os.environ.get("MOULT_ENTRY_KILLS", "3"))
PYTHON = "/usr/bin/python3"
HERE = pathlib.Path(__file__).resolve().parent
PARTS = 20
# A stream that is held may be so for as long as a busy machine takes for a reload, and nothing goes
# back because answers have become slower there.
PATIENT = {"request_timeout": "600s", "drain_timeout": "600s", "stall_timeout": "700s",
           "watch_window": 0}
# A change of source that moultd sees by itself is waited with for longer and longer.
WATCHED_CHANGES = 4

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists() or
                                not (BUILD / "moult-engine-server.so").exists(),
                                reason="an engine that hosts is not built here")


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def has(*modules):
    return not subprocess.run([PYTHON, "-c", f"import {', '.join(modules)}"], check=False,
                              stderr=subprocess.DEVNULL).returncode


class Kind:
    """An entry point: its section, and what it can be asked."""

    def __init__(self, keys, needs=(), post="/say/", stream=None, stream_keys=None, has_get=True):
        self.keys, self.needs, self.post, self.stream = keys, needs, post, stream
        # Another class for the streams, where it takes one.
        self.stream_keys, self.has_get = stream_keys, has_get
        self.is_tensors = post is None
        self.is_server = "command" in keys


TENSORS = {"input": "x INT64 [-1,1]", "output": "y INT64 [-1,4]", "max_batch": 8}
ROUTE = {"route": "/say/", "threads": 8}
KINDS = {
    "wsgi": Kind({"wsgi": "app:wsgi", "route": "/", "threads": 8}, stream="/stream/"),
    "asgi": Kind({"asgi": "app:asgi", "route": "/"}, stream="/stream/"),
    "class": Kind({"model": "app:Plain", **ROUTE}, stream="/say/generate", has_get=False),
    "tensors": Kind({"model": "app:Tensors", **TENSORS}, post=None),
    "triton": Kind({"model": "app:TritonPythonModel", **TENSORS}, ("numpy",), post=None),
    "torchserve": Kind({"model": "app:Torch", **ROUTE}, has_get=False),
    "litserve": Kind({"model": "app:Lit", **ROUTE}, stream="/stream/", has_get=False,
                     stream_keys={"model": "app:LitStream", "route": "/stream/", "threads": 8}),
    "clarifai": Kind({"model": "1/model.py", **ROUTE}, stream="/say/generate", has_get=False),
    "gunicorn": Kind({"command": "gunicorn -w 1 --threads 8 -b 127.0.0.1:{port} app:wsgi",
                      "route": "/"}, ("gunicorn",), stream="/stream/"),
    "uvicorn": Kind({"command": f"{PYTHON} -m uvicorn --log-level error --port {{port}} app:asgi",
                     "route": "/"}, ("uvicorn",), stream="/stream/"),
}
CLARIFAI = """
import app

class Speaker:
    def load_model(self):
        self.speaker = app.Plain()

    def predict(self, x: int, gate: str = ""):
        return self.speaker.predict(x, gate)

    def generate(self, x: int, n: int, until: str = ""):
        return self.speaker.generate(x, n, until)
"""


class Cut(Exception):
    """The connection ended in the midst of an answer."""


class Stream:
    """A client that reads an answer in chunks, and takes no end for one but the last chunk."""

    def __init__(self, port, path, wish):
        body = json.dumps(wish).encode()
        self.socket = socket.create_connection(("127.0.0.1", port), patience())
        self.socket.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                            f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.file = self.socket.makefile("rb")
        self.buffer, self.is_over, self.is_read = b"", False, False
        line = self.file.readline().split()
        if len(line) < 2:
            raise Cut("no answer")
        self.status, self.fields = int(line[1]), {}
        while field := self.file.readline().strip():
            name, _, value = field.decode().partition(":")
            self.fields[name.lower()] = value.strip()

    def piece(self):
        """The next one; empty at the end. An answer that was whole before its head could be sent
        has a length, and is one piece."""
        if "content-length" in self.fields:
            size = 0 if self.is_read else int(self.fields["content-length"])
            self.is_read = True
            data = self.file.read(size)
            if len(data) < size:
                raise Cut("in a body with a length")
            return data
        assert self.fields.get("transfer-encoding") == "chunked", self.fields
        size = self.file.readline()
        if not size.endswith(b"\r\n"):
            raise Cut("before a chunk")
        data = self.file.read(int(size, 16) + 2)
        if len(data) < int(size, 16) + 2 or not data.endswith(b"\r\n"):
            raise Cut("in a chunk")
        return data[:-2]

    def lines(self):
        while True:
            try:
                piece = self.piece()
            except OSError as error:
                raise Cut(repr(error)) from error
            if not piece:
                break
            *whole, self.buffer = (self.buffer + piece).split(b"\n")
            yield from (json.loads(line) for line in whole)
        assert self.buffer == b""
        self.is_over = True

    def close(self):
        self.file.close()
        self.socket.close()


class Truth:
    """What is right: each answer is its request's, and all of a generation are of one process with
    one secret and one source; no client meets an older generation than before."""

    def __init__(self):
        self.made_by, self.of_pid, self.lock = {}, {}, threading.Lock()
        self.wrong = []
        self.counts = collections.Counter()

    def check(self, model, x, answer, generation, before):
        """@before: of the client's last answer. This one's."""
        generation = int(generation)
        key = answer["secret"], answer["code"], answer["pid"]
        with self.lock:
            known = self.made_by.setdefault((model, generation), key)
            owner = self.of_pid.setdefault(answer["pid"], (model, generation))
            is_right = answer["x"] == x and known == key and owner == (model, generation) and \
                all(map(operator.le, before, (generation, *key[:2])))
            if not is_right:
                self.wrong.append((model, x, answer, generation, known, owner, before))
        return generation, *key[:2]

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def fail(self, *what):
        with self.lock:
            self.wrong.append(what)


class Clients:
    """Ask all the time: by GET, by POST, for tensors and for streams, as the kind has them."""

    def __init__(self, moult, kind):
        self.moult, self.kind, self.truth = moult, kind, Truth()
        self.numbers = itertools.count(1)
        self.is_over = threading.Event()
        self.may_refuse = False  # a POST may be answered with status 502
        ways = [self.tensors] * 3 if kind.is_tensors else \
            [self.get] * 2 * kind.has_get + [self.post] * 2
        self.threads = [threading.Thread(target=self.run, args=(way,), daemon=True)
                        for way in ways]
        if kind.stream:
            self.threads.append(threading.Thread(target=self.run_streams, daemon=True))
        loads.append(self)
        for thread in self.threads:
            thread.start()

    @staticmethod
    def get(connection, x):
        connection.request("GET", f"/say/?{x}")

    def post(self, connection, x, **more):
        connection.request("POST", self.kind.post, json.dumps({"x": x, **more}),
                           {"Content-Type": "application/json"})

    @staticmethod
    def tensors(connection, x):
        connection.request("POST", "/v2/models/app/infer", json.dumps({"inputs": [
            {"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [x]}]}))

    def read(self, connection, x, before):
        """The answer to what was asked; None for one that was refused."""
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            return response, body, None
        answer = json.loads(body)
        if self.kind.is_tensors:
            answer = dict(zip(("x", "secret", "code", "pid"), answer["outputs"][0]["data"]))
        return response, answer, self.truth.check("app", x, answer,
                                                  response.headers["Moult-Generation"], before)

    def one(self, way, x=None, **more):
        """One request on a connection of its own: status, answer."""
        x = x or next(self.numbers)
        connection = http.client.HTTPConnection("127.0.0.1", self.moult.port, timeout=patience())
        try:
            way(connection, x, **more)
            response, answer, _ = self.read(connection, x, (0, 0, 0))
            return response.status, answer
        finally:
            connection.close()

    def told(self):
        """Which secret and source are served."""
        way = self.tensors if self.kind.is_tensors else self.get if self.kind.has_get else self.post
        status, answer = self.one(way)
        if status != 200:
            assert self.may_refuse and status == 502, (status, answer)
            return None
        return answer["secret"], answer["code"]

    def run(self, way):
        connection = http.client.HTTPConnection("127.0.0.1", self.moult.port, timeout=patience())
        last = (0, 0, 0)
        while not self.is_over.is_set():
            x = next(self.numbers)
            try:
                way(connection, x)
                response, answer, now = self.read(connection, x, last)
            except (OSError, http.client.HTTPException) as error:
                self.truth.fail("lost", way.__name__, x, repr(error))
                connection.close()
                continue
            if now:
                last = now
                self.truth.count(way.__name__)
            elif way == self.post and self.may_refuse and response.status == 502 and \
                    b"replay" in answer:
                self.truth.count("refused")
            else:
                self.truth.fail("lost", way.__name__, x, response.status, answer)
        connection.close()

    def model_of_streams(self):
        return "stream" if self.kind.stream_keys else "app"

    def begin_stream(self, x, **more):
        return Stream(self.moult.port, self.kind.stream, {"x": x, "n": PARTS, **more})

    def read_stream(self, stream, x, n=PARTS, begun=0, before=(0, 0, 0)):
        """Checks @n lines, of which @begun are read already. What the last one said."""
        now = before
        for i, line in enumerate(itertools.islice(stream.lines(), n), begun):
            if line["i"] != i:
                self.truth.fail("the line", line, "is not number", i)
            now = self.truth.check(self.model_of_streams(), x, line,
                                   stream.fields["moult-generation"], before)
        return now

    def run_streams(self):
        last = (0, 0, 0)
        while not self.is_over.is_set():
            x, stream = next(self.numbers), None
            try:
                stream = self.begin_stream(x)
                if stream.status == 200:
                    last = self.read_stream(stream, x, PARTS + 1, before=last)
                    self.truth.count("streams")
                elif not (self.may_refuse and stream.status == 502):
                    self.truth.fail("lost", "stream", x, stream.status, stream.file.read(200))
                if stream.status == 200 and not stream.is_over:
                    self.truth.fail("stream", x, "has no end")
            except Cut:
                self.truth.count("streams cut")
            except (OSError, AssertionError, ValueError) as error:
                self.truth.fail("lost", "stream", x, repr(error))
            if stream:
                stream.close()

    def n(self):
        return sum(self.truth.counts.values())

    def wait_more(self, count=20):
        target = self.n() + count
        wait_for("more answers", lambda: self.n() >= target or self.truth.wrong)

    def stop_and_check(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        print(dict(self.truth.counts), "generations", len(self.truth.made_by))
        assert not self.truth.wrong, self.truth.wrong[:5]


class Hosted:
    """moultd with one kind, and what can be done to it."""

    def __init__(self, start, home, kind):
        self.home, self.kind = home, kind
        self.secret = self.code = 0
        home.mkdir()
        (home / "secrets").mkdir()
        (home / "1").mkdir()
        (home / "app.py").write_text((HERE / "entry_app.py").read_text())
        (home / "1" / "model.py").write_text(CLARIFAI)
        self.put("secrets/token", "0")
        self.put("release.py", "CODE = 0\n")
        self.moult = start(*self.sections("POST"))
        self.moult.note_fds()
        self.clients = Clients(self.moult, kind)
        self.streams = itertools.count(1)

    def sections(self, replay):
        found = [("app", self.kind.keys)]
        if self.kind.stream_keys:
            found.append(("stream", self.kind.stream_keys))
        return [f"[model {name}]\n" + "".join(f"{key} = {value}\n" for key, value in {
            "engine": "server" if self.kind.is_server else "python",
            "working_directory": self.home, "secrets": self.home / "secrets",
            # The application notes there what it did.
            "sandbox_write": self.home,
            "watch_code": "yes", **({"replay": replay} if replay and "route" in keys else {}),
            **PATIENT, **keys}.items()) for name, keys in found]

    def put(self, name, text):
        """Whole, or not at all."""
        (self.home / "new").write_text(text)
        os.rename(self.home / "new", self.home / name)

    def names(self):
        return ["app", "stream"] if self.kind.stream_keys else ["app"]

    # changes

    def rotate(self):
        self.secret += 1
        self.put("secrets/token", str(self.secret))

    def release(self):
        self.code += 1
        self.put("release.py", f"CODE = {self.code}\n")
        if self.code > WATCHED_CHANGES:
            self.command()

    def hangup(self):
        self.moult.process.send_signal(signal.SIGHUP)

    def command(self):
        result = self.moult.ctl("reload", "app")
        assert result.returncode == 0, result

    def mixed(self):
        self.rotate()
        self.hangup()
        self.release()
        self.rotate()
        self.command()

    def change(self, i):
        """The @i-th, with a stream in its midst, which the old generation ends."""
        way = [self.rotate, self.release, self.hangup, self.command, self.mixed][i % 5]
        generation = self.moult.status("app")["generation"]
        held = self.hold_stream()
        way()
        wait_for("the new generation", lambda: self.moult.status("app")["generation"] > generation)
        # A further reload waits until the old generation has given its last answer.
        if held:
            x, stream, gate, _ = held
            gate.touch()
            self.clients.read_stream(stream, x, PARTS, 1)
            assert stream.is_over, "the stream ended before its end"
            stream.close()
        wait_for("the newest", lambda: self.clients.told() == (self.secret, self.code))
        self.clients.wait_more()

    # deaths

    def hold_stream(self):
        """One whose first line was read, and that waits: number, stream, gate, and the process that
        makes it."""
        if not self.kind.stream:
            return None
        x, gate = next(self.clients.numbers), self.home / f"gate{next(self.streams)}"

        def begin():
            try:
                stream = self.clients.begin_stream(x, until=str(gate))
            except Cut:
                return None
            if stream.status == 200:
                return stream
            stream.close()
            return None
        stream = wait_for("a stream", begin)
        generation = self.clients.read_stream(stream, x, 1)[0]
        return x, stream, gate, self.clients.truth.made_by[
            self.clients.model_of_streams(), generation][2]

    def strike(self, name, pid=None):
        """Kills the loader of the model, or the one that @pid belongs to; of a server every second
        time the server. The pid of the loader that has to end for it; None: it was about to."""
        family = [pid or wait_for("a loader", lambda: self.moult.status(name)["pid"])]
        try:
            while parent(family[-1]) != self.moult.pid:
                family.append(parent(family[-1]))
            loader = family[-1]
            if self.kind.is_server and next(self.streams) % 2:
                family.append(family[-2] if len(family) > 1 else children(family[-1])[0])
            os.kill(family[-1], signal.SIGKILL)
        except (OSError, IndexError):
            return None
        return loader

    def kill(self):
        held = self.hold_stream()
        struck = {}
        streams = self.clients.model_of_streams()
        for name in self.names():
            pid = held[3] if held and name == streams else None
            struck[name] = wait_for("a kill", lambda name=name, pid=pid: self.strike(name, pid))
        if held:
            x, stream, gate, _ = held
            with pytest.raises(Cut):
                self.clients.read_stream(stream, x, PARTS, 1)
            stream.close()
            gate.touch()
        for name in self.names():
            # The one that had the stream may have been retired by then: another one serves already.
            wait_for("another loader", lambda name=name: self.moult.status(name)["pid"] not in
                     (0, struck[name]))
        self.clients.wait_more()

    def effects(self):
        return collections.Counter(map(int, (self.home / "effects").read_text().split()))


def spread(changes, kills):
    """The kills between the changes."""
    events = [(i / changes, "change", i) for i in range(changes)] + \
        [((i + 0.5) / kills, "kill", i) for i in range(kills)]
    return [(what, i) for _, what, i in sorted(events)]


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_lost(start, tmp_path, name):
    kind = KINDS[name]
    if kind.needs and not has(*kind.needs):
        pytest.skip(f"{PYTHON} has no {', '.join(kind.needs)}")
    hosted = Hosted(start, tmp_path / "home", kind)
    clients = hosted.clients
    clients.wait_more()
    for what, i in spread(RELOADS, KILLS):
        if what == "change":
            hosted.change(i)
        else:
            hosted.kill()
    if kind.post:
        check_what_is_not_repeated(hosted)
    clients.stop_and_check()
    counts = clients.truth.counts
    assert not kind.stream or counts["streams"] > 0, counts
    assert len(clients.truth.made_by) > RELOADS + KILLS, clients.truth.made_by


def check_what_is_not_repeated(hosted):
    """Without replay = POST: a reload loses none; a POST that a dying loader had is answered with
    status 502 and the reason, and none is done twice."""
    moult, clients = hosted.moult, hosted.clients
    clients.may_refuse = True
    for i, section in enumerate(hosted.sections(None)):
        (moult.models / f"{i}.conf").write_text(section)
    for name in hosted.names():
        wait_for("the change", lambda name=name: "replay = POST" not in
                 moult.ctl("show-config", name).stdout)
    # Requests of before, and loaders that were killed before, are done with by then.
    clients.wait_more(50)
    first = next(clients.numbers)
    refused = clients.truth.counts["refused"]
    for i in range(max(1, RELOADS // 5)):
        hosted.change(i)
    assert clients.truth.counts["refused"] == refused, "a reload has cost requests"
    for _ in range(max(1, KILLS // 4)):
        found, x = [], next(clients.numbers)
        gate = hosted.home / f"gate{next(hosted.streams)}"
        thread = threading.Thread(target=lambda: found.extend(
            clients.one(clients.post, x, gate=str(gate))))
        thread.start()
        wait_for("the held request", lambda: hosted.effects()[x])
        hosted.kill()
        thread.join()
        assert found[0] == 502 and b"replay" in found[1] and hosted.effects()[x] == 1, found
        gate.touch()
    twice = {x: n for x, n in hosted.effects().items() if x > first and n > 1}
    assert not twice, twice
