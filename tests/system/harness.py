# SPDX-License-Identifier: Apache-2.0
"""Starts moultd on configurations of its own and drives it with real clients.

Every test ends with Moult.stop(), which checks what must hold after any test: the
conservation law, no loader left, no zombie, no leaked descriptor, no sanitizer report.

Several run at once, beside whatever else the machine does. A deadline of a wait is there to
end a test that would never end: it is no verdict, and is longer where others compute as well.
"""
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("MOULT_BUILD", ROOT / "build" / "release"))
DIGITS = ROOT / "examples" / "digits"
ECHO_FLOATS = 4
DEADLINE_S = int(os.environ.get("MOULT_TEST_DEADLINE_S", "60"))


def slowness():
    """How many want to run on each core, now or in the last minute; 1 at least."""
    fields = pathlib.Path("/proc/loadavg").read_text().split()
    wanting = max(float(fields[0]), int(fields[3].split("/")[0]))
    return min(max(1.0, wanting / len(os.sched_getaffinity(0))), 20.0)


def patience():
    """Seconds for what takes one at most."""
    return DEADLINE_S * slowness()


def stretched(figure):
    """So much on a machine at rest; no more than four times that on a busy one, because what
    is healthy is late by some turns of the others there, and what is not is waited for."""
    return int(figure * min(slowness(), 4))


def stretch(ms):
    """A timeout of the product for a configuration: that long on a machine at rest."""
    return f"{stretched(ms)}ms"


class Gate:
    """What engine fault is slow at lasts until this is open; it begins to be shut."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder) / "gate"
        self.keys = {"option.until": self.path, "option.ms": 600_000}

    def open(self):
        self.path.touch()

    def shut(self):
        self.path.unlink()


def wait_for(what, condition, seconds=DEADLINE_S):
    """Polls @condition until it is true; its value. Fails naming @what."""
    begun = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begun
        assert waited < seconds or waited < seconds * slowness(), \
            f"{what} did not happen in {waited:.0f} s"
        time.sleep(0.01)


def whole_lines(path):
    """Those of a file that somebody still writes, or has not made yet: the last one may be there
    in part."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return text[:text.rfind("\n") + 1].splitlines()


def quiet_ports():
    """Those that the kernel gives to no client."""
    path = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
    first, last = map(int, path.read_text().split())
    ports = range(10000, 60000)
    return [port for port in ports if not first <= port <= last] or ports


PORTS = quiet_ports()
port_claims = []


def free_port():
    """A port that nobody else gets while this process lives: no client, and no other test,
    because a name that ends with its process claims it."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0moult-test-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        port_claims.append(claim)
        return port


def walls_of(keys):
    """Engines of the tests do what models must not, and fake drivers look into processes."""
    odd = keys.get("engine") in ("fault", "fakegpu") or \
        str(keys.get("device", "cpu")).startswith("cuda")
    return {"sandbox": "off"} if odd else {}


def echo_section(name="echo", **keys):
    lines = {"engine": "identity", "input": f"x FP32 [-1,{ECHO_FLOATS}]",
             "output": f"x FP32 [-1,{ECHO_FLOATS}]", "max_batch": 16, **walls_of(keys), **keys}
    return f"[model {name}]\n" + "".join(
        f"{key} = {value}\n" for key, value in lines.items())


def digits_section(path=DIGITS / "digits.pt", **keys):
    if not (BUILD / "moult-engine-torch.so").exists():
        pytest.skip("the torch engine is not built here")
    lines = {"engine": "torch", "path": path, "input": "image FP32 [-1,64]",
             "output": "scores FP32 [-1,10]", "max_batch": 64, **walls_of(keys), **keys}
    return "[model digits]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid):
    try:
        return [int(c) for c in
                pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def echo_body(values):
    return json.dumps({"inputs": [{"name": "x", "shape": [1, len(values)],
                                   "datatype": "FP32", "data": values}]})


class Moult:
    def __init__(self, home, sections, supervisor="", environment=None, listen="127.0.0.1",
                 context=None, under=(), user="root"):
        self.home = pathlib.Path(home)
        self.under = under  # the program that runs moultd, and its arguments
        self.port = free_port()
        self.context = context  # of TLS, where it serves that
        self.socket = self.home / "moultd.sock"
        self.log = self.home / "moultd.log"
        self.config = self.home / "moult.conf"
        self.models = self.home / "models.d"
        self.models.mkdir()
        self.head = (f"[supervisor]\nlisten = {listen}:{self.port}\nuser = {user}\n"
                     "control = moultd.sock\nstate_dir = state\nmodels_dir = models.d\n"
                     "settle = 20ms\npoll = 1s\n")
        self.config.write_text(self.head + supervisor)
        for i, section in enumerate(sections):
            (self.models / f"{i}.conf").write_text(section)
        self.launch(environment)

    def launch(self, environment=None):
        """A run, or another one on what lies there now, with a log of its own."""
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.under, BUILD / "moultd", "-c", self.config], stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})})
        self.pid = self.process.pid
        self.baseline_fds = None
        return self

    # what it says

    def log_text(self):
        return self.log.read_text(errors="replace")

    def log_lines(self):
        return whole_lines(self.log)

    def connect(self, timeout):
        if self.context:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                               context=self.context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path, timeout=DEADLINE_S):
        connection = self.connect(timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def post(self, path, body, headers=None, timeout=DEADLINE_S):
        connection = self.connect(timeout)
        try:
            connection.request("POST", path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def infer(self, model, body, headers=None):
        return self.post(f"/v2/models/{model}/infer", body, headers)

    def ctl(self, *arguments):
        return subprocess.run([BUILD / "moultctl", "-s", self.socket, "--json", *arguments],
                              capture_output=True, text=True, timeout=2 * patience())

    def status(self, model=None):
        result = self.ctl("status", *([model] if model else []))
        assert result.returncode == 0, result.stderr
        status = json.loads(result.stdout.splitlines()[-1])
        return status["models"][0] if model else status

    def receipts(self, model=None, n=500, is_known=True):
        """@is_known: False where moultd may not have read of the model yet."""
        result = self.ctl("receipts", *([model] if model else []), "-n", str(n))
        assert result.returncode == 0 or not is_known and \
            "there is no model" in result.stderr, result.stderr
        return [json.loads(line)["receipt"] for line in result.stdout.splitlines()
                if '"receipt"' in line]

    def wait_ready(self):
        def is_ready():
            assert self.process.poll() is None, self.log_text()[-3000:]
            try:
                return self.get("/v2/health/ready")[0] == 200
            except OSError:
                return False
        wait_for("readiness", is_ready)
        return self

    def wait_control(self):
        def answers():
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(self.socket)) == 0 and \
                    "event=listening" in self.log_text()
        wait_for("the control socket and the endpoint", answers)
        return self

    def wait_receipt(self, model, matches):
        """The first receipt of @model for which @matches is true."""
        return wait_for("the receipt", lambda: next(
            (r for r in self.receipts(model, is_known=False) if matches(r)), None))

    def reload(self, *arguments):
        return self.ctl("reload", *arguments, "--wait")

    def explain(self, model):
        return json.loads(self.ctl("reload", model, "--explain").stdout.splitlines()[0])[
            "decision"]

    # how it ends

    def oom_score_adj(self):
        return int(pathlib.Path(f"/proc/{self.pid}/oom_score_adj").read_text())

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def fd_names(self):
        names = []
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                names.append(os.readlink(f"/proc/{self.pid}/fd/{fd}"))
            except OSError:
                pass  # closed meanwhile
        return sorted(names)

    def kept_fds(self):
        """The inputs that a rollback would return to: secrets and model file."""
        return 2 * sum(m["can_roll_back"] for m in self.status()["models"])

    def wait_fds(self, most, kept=lambda: 0):
        try:
            wait_for(f"back to {most} descriptors", lambda: self.fds() <= most + kept())
        except AssertionError as error:
            raise AssertionError(f"{error}: there are {self.fd_names()}, there were "
                                 f"{self.baseline_names}; {self.status()}") from error

    def wait_quiet(self):
        """No connection, no reload under way."""
        def is_quiet():
            status = self.status()
            return (status["supervisor"]["http"]["connections"] == 0 and
                    not any(m["candidate"] or m["retiring"] for m in status["models"]))
        wait_for("quiet", is_quiet)

    def note_fds(self):
        self.wait_quiet()
        self.baseline_fds = self.fds()
        self.baseline_names = self.fd_names()

    def check_conservation(self):
        for model in self.status()["models"]:
            r = model["requests"]
            assert r["accepted"] == r["answered"] + r["failed"] + r["held"] + r["leased"], r
            if not self.has_open_clients():
                assert r["held"] == 0, r

    def has_open_clients(self):
        return self.status()["supervisor"]["http"]["connections"] > 0

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self):
        try:
            assert self.process.poll() is None, self.log_text()[-3000:]
            self.wait_quiet()
            self.check_conservation()
            if self.baseline_fds is not None:
                self.wait_fds(self.baseline_fds, self.kept_fds)
            # A writer of what served well may be about to be reaped.
            wait_for("no zombie", lambda: all(map(is_alive, children(self.pid))))
            loaders = children(self.pid)
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(patience()) == 0, self.log_text()[-3000:]
            # Loaders are gone by then; a writer of what served may take a moment more.
            wait_for("the end of all children",
                     lambda: not any(is_alive(pid) for pid in loaders))
            for report in ("AddressSanitizer", "runtime error", "LeakSanitizer",
                           "event=reload_unexpected",
                           "http_panic", "Assertion `", "reload_unexpected"):
                assert report not in self.log_text(), self.log_text()[-5000:]
        finally:
            self.kill()

    # what it watches

    def write_secret(self, directory, name, value):
        directory = pathlib.Path(directory)
        directory.mkdir(exist_ok=True)
        fresh = directory / f".{name}.new"
        fresh.write_text(value)
        os.rename(fresh, directory / name)

    def swap_secrets(self, directory, values):
        """As the kubelet does it: a new folder, a new ..data, one rename."""
        directory = pathlib.Path(directory)
        directory.mkdir(exist_ok=True)
        stamp = f"..{time.monotonic_ns()}"
        (directory / stamp).mkdir()
        for name, value in values.items():
            (directory / stamp / name).write_text(value)
            if not (directory / name).is_symlink():
                (directory / name).symlink_to(f"..data/{name}")
        os.symlink(stamp, directory / "..data_tmp")
        old = os.readlink(directory / "..data") if (directory / "..data").is_symlink() else None
        os.rename(directory / "..data_tmp", directory / "..data")
        if old:
            for entry in (directory / old).iterdir():
                entry.unlink()
            (directory / old).rmdir()


loads = []


def end_loads():
    for load in loads:
        load.is_over.set()
    loads.clear()


class Load:
    """Keep-alive clients on raw sockets that check every answer."""

    def __init__(self, port, clients=4, model="echo", pause_s=0.0):
        self.port, self.model, self.pause_s = port, model, pause_s
        self.sent = self.answered = self.wrong = 0
        self.lost = []
        self.generations = set()
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True)
                        for i in range(clients)]
        loads.append(self)
        for thread in self.threads:
            thread.start()

    def make(self, i):
        values = [float(i % 1000), float(i), 0.5, -1.0]
        header = json.dumps({"inputs": [{
            "name": "x", "shape": [1, 4], "datatype": "FP32",
            "parameters": {"binary_data_size": 16}}],
            "parameters": {"binary_data_output": True}}).encode()
        data = struct.pack("<4f", *values)
        return (f"POST /v2/models/{self.model}/infer HTTP/1.1\r\nHost: x\r\n"
                f"Inference-Header-Content-Length: {len(header)}\r\n"
                f"Content-Length: {len(header) + len(data)}\r\n\r\n").encode() \
            + header + data, data

    @staticmethod
    def read_answer(stream):
        status = int(stream.readline().split()[1])
        headers = {}
        while True:
            line = stream.readline().strip().decode()
            if not line:
                break
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, stream.read(int(headers["content-length"]))

    def is_right(self, data, headers, body):
        length = int(headers["inference-header-content-length"])
        generation = json.loads(body[:length])["parameters"]["generation"]
        self.generations.add(generation)
        return body[length:] == data and int(headers["moult-generation"]) == generation

    def run(self, index):
        i = index * 100_000_000
        sock = stream = None
        counts = [0, 0, 0]
        while not self.is_over.is_set():
            i += 1
            request, data = self.make(i)
            counts[0] += 1
            try:
                if sock is None:
                    sock = socket.create_connection(("127.0.0.1", self.port), 60)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    stream = sock.makefile("rb")
                sock.sendall(request)
                status, headers, body = self.read_answer(stream)
                if status != 200:
                    raise RuntimeError(f"{status} {body[:300]!r}")
                counts[1] += 1
                counts[2] += not self.is_right(data, headers, body)
            except (OSError, RuntimeError, IndexError, KeyError, ValueError) as error:
                with self.lock:
                    self.lost.append(repr(error))
                if sock is not None:
                    sock.close()
                sock = None
            if counts[0] % 64 == 0:
                self.add(counts)
                counts = [0, 0, 0]
            if self.pause_s:
                time.sleep(self.pause_s)
        self.add(counts)
        if sock is not None:
            sock.close()

    def add(self, counts):
        with self.lock:
            self.sent += counts[0]
            self.answered += counts[1]
            self.wrong += counts[2]

    def wait_more(self, count=200):
        target = self.answered + count
        wait_for("more answers", lambda: self.answered >= target or self.lost)

    def stop(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        print(f"sent {self.sent}, answered {self.answered}, lost {len(self.lost)}, "
              f"wrong {self.wrong}, generations {len(self.generations)}")
        return self

    def stop_and_check(self):
        self.stop()
        assert not self.lost, self.lost[:5]
        assert self.wrong == 0
        assert self.answered == self.sent


class Flood:
    """The C client: saturates, checks every answer."""

    def __init__(self, port, model="echo", clients=32, floats=ECHO_FLOATS):
        self.process = subprocess.Popen(
            [BUILD / "flood", str(port), model, str(clients), str(floats)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self):
        result = json.loads(self.process.communicate(timeout=patience())[0])
        print(result)
        return result

    def stop_and_check(self):
        result = self.stop()
        assert result["lost"] == 0 and result["wrong"] == 0, result
        assert result["sent"] == result["answered"]
        return result
