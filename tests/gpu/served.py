# SPDX-License-Identifier: Apache-2.0
"""What moultd makes of the card: rows of a model that is served, reloaded and killed."""
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.request

import bigmodel
from card import MIB
from raw import SLACK, shown

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
                               "data": [1, 2, 3, 4]}]}).encode()
PATIENCE_S = 1800


class Failed(Exception):
    pass


class Clients:
    """Ask without a pause and check what comes."""

    def __init__(self, port, count=2):
        self.port, self.is_over = port, threading.Event()
        self.times, self.bad = [], []
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v2/models/big/infer", BODY,
            {"Content-Type": "application/json"})
        while not self.is_over.is_set():
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                    data = json.load(answer)["outputs"][0]["data"]
                if data != [1, 2, 3, 4]:
                    self.bad.append(f"answered {data}")
                self.times.append(time.monotonic())
                time.sleep(0.002)  # a GPU is faster than what starts loaders beside this
            except (OSError, ValueError, KeyError) as error:
                self.bad.append(str(error))

    def longest_gap(self, since):
        times = sorted(t for t in self.times if t > since)
        return 1e3 * max(b - a for a, b in zip([since] + times, times + [time.monotonic()]))

    def stop(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


class Peak:
    """The most that the card has in use meanwhile."""

    def __init__(self, card):
        self.card, self.bytes, self.is_over = card, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.is_over.wait(0.01):
            self.bytes = max(self.bytes, self.card.used())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


class Moult:
    def __init__(self, place, home, model):
        self.place, self.home, self.model = place, pathlib.Path(home), model
        (self.home / "secrets").mkdir()
        (self.home / "models.d").mkdir()
        self.write(self.home / "secrets" / "token", "0")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.write(self.home / "moult.conf",
                   "[supervisor]\nuser = root\n"
                   f"listen = 127.0.0.1:{self.port}\ncontrol = moultd.sock\n"
                   "state_dir = state\nmodels_dir = models.d\nsettle = 20ms\n"
                   "[device cuda:0]\nreserve = 0\n")
        self.configure("auto")
        self.log = self.home / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [place.build / "moultd", "-c", self.home / "moult.conf"], stderr=log,
                env=place.environment)

    def configure(self, strategy):
        self.write(self.home / "models.d" / "big.conf",
                   f"[model big]\nengine = torch\ndevice = cuda:0\npath = {self.model}\n"
                   f"secrets = {self.home}/secrets\nstrategy = {strategy}\n"
                   "input = x FP32 [-1,4]\noutput = y FP32 [-1,4]\nmax_batch = 1\n"
                   "watch_window = 0s\nwatch_model_file = no\nreclaim_timeout = 60s\n"
                   "retry_delay = 0\nrequest_timeout = 1h\nstage_timeout = 1h\n"
                   f"threads = {min(8, os.cpu_count())}\n"
                   "commit_timeout = 1h\nwarmup_timeout = 1h\nstall_timeout = 1h\n")

    def write(self, path, content):
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(content)
        os.rename(fresh, path)

    def wait(self, what, condition, seconds=PATIENCE_S):
        deadline = time.monotonic() + seconds
        while True:
            value = None
            try:
                value = condition()
            except (OSError, ValueError, IndexError, KeyError):
                pass  # it does not listen yet
            if value:
                return value
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"no {what}: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self):
        reasons = re.findall('reason="([^"]+)"', self.log.read_text(errors="replace"))
        return reasons[-1] if reasons else "moultd's log does not say why"

    def ctl(self, *arguments):
        out = subprocess.run(
            [self.place.build / "moultctl", "-s", self.home / "moultd.sock", "--json",
             "-t", str(PATIENCE_S), *arguments], capture_output=True, text=True).stdout
        return [json.loads(line) for line in out.splitlines()]

    def status(self):
        return self.ctl("status", "big")[-1]["models"][0]

    def helper(self):
        """The pid of moult-nvml."""
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in path.read_text().split():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text() == "moult-nvml\n":
                    return int(pid)
            except OSError:
                pass  # just gone
        raise IndexError("moultd has no moult-nvml")

    def receipts(self):
        return [line["receipt"] for line in self.ctl("receipts", "big", "-n", "500")
                if "receipt" in line]

    def wait_serving(self, count=1):
        def is_serving():
            # What failed once is not tried again: retry_delay is 0.
            status = self.status()
            if re.search("event=reload .*outcome=failed", self.log.read_text()):
                raise Failed(self.last_words())
            return status["pid"] and status["replicas"]["serving"] == count
        self.wait(f"{count} serving", is_serving)

    def wait_settled(self):
        def is_settled():
            status = self.status()
            return status["pid"] and not status["candidate"] and not status["retiring"]
        self.wait("end of the reload", is_settled)

    def rotate(self, value):
        n = len(self.receipts())
        self.write(self.home / "secrets" / "token", str(value))
        receipt = self.wait("receipt", lambda: self.receipts()[n:])[0]
        self.wait_settled()
        return receipt

    def replace(self, model, strategy):
        """With another file, whose weights are others."""
        before, self.model = self.model, model
        n = len(self.receipts())
        self.configure(strategy)
        receipt = self.wait("receipt", lambda: self.receipts()[n:])[0]
        if receipt["outcome"] != "ok":
            self.model = before
        self.wait_settled()
        return receipt

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Run:
    """One moultd, one model, and what the card had before them."""

    def __init__(self, place, table, home):
        self.place, self.table, self.card = place, table, place.card
        self.models = [pathlib.Path(home) / f"{name}.pt" for name in ("one", "two")]
        for value, model in enumerate(self.models):
            self.bytes = bigmodel.write(model, place.mib, value + 1)
        self.base = self.card.used()
        begun = time.monotonic()
        self.moult = Moult(place, home, self.models[0])
        self.clients = None
        try:
            self.moult.wait_serving()
            self.took_s = time.monotonic() - begun
            self.used = self.card.used()
            self.clients = Clients(self.moult.port)
            self.moult.wait("answers", lambda: len(self.clients.times) > 100 or
                            self.clients.bad)
            # Its allocator has by now what it takes in segments.
            self.used = self.card.used()
        except Failed:
            self.stop()
            raise

    def stop(self):
        if self.clients:
            self.clients.stop()
        self.moult.stop()

    @property
    def weights(self):
        return self.moult.status()["weights"].get("device_bytes") or 0

    @property
    def loader(self):
        """What a loader has on the card besides the weights."""
        return max(0, self.used - self.base - self.bytes)

    def load(self):
        why = self.moult.status()["weights"]["why_private"]
        self.table.add("first load", f"{self.took_s:.1f} s; {shown(self.weights)} of weights "
                       f"shared, {shown(self.loader)} for a loader besides"
                       + (f"; private: {why}" if why else ""), not why)

    def descriptors(self):
        """moultd must never open the driver: it has no library of it, and of its nodes what
        came with the chunks alone."""
        pid, nodes = self.moult.process.pid, {}
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            try:
                name = os.readlink(fd).split(" ")[0]
            except OSError:
                continue
            if name.startswith(("/dev/nvidia", "/memfd:fakegpu-")):
                nodes[name] = nodes.get(name, 0) + 1
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
        libraries = set(re.findall(r"/(lib(?:cuda|nvidia)[^/\s]*)", maps))
        placed = re.search(r"event=weights_placed .*chunks=(\d+)", self.moult.log.read_text())
        chunks = int(placed[1]) if placed else 0
        held = ", ".join(f"{count} of {name}" for name, count in sorted(nodes.items()))
        self.table.add("moultd and the driver", f"descriptors: {held or 'none'}, for {chunks} "
                       f"chunks; libraries: {', '.join(sorted(libraries)) or 'none'}",
                       not libraries and sum(nodes.values()) == chunks)

    def reload(self, receipt, since, peak):
        """What a receipt and the clients say, and the pause."""
        phases = receipt["phases_ms"]
        parts = [f"pause {phases['pause']:.0f} ms, longest time without an answer "
                 f"{self.clients.longest_gap(since):.0f} ms",
                 f"stage {phases['stage']:.0f}, commit {phases['commit']:.0f}, warm-up "
                 f"{phases['warmup']:.0f}, drain {phases['drain']:.0f}, reclaim "
                 f"{phases['reclaim']:.0f}, all {phases['total']:.0f} ms",
                 f"memory {receipt['gpu']['reclaim']['verdict']}",
                 f"{shown(receipt['gpu']['prefilled_bytes'])} of weights before the pause",
                 f"peak {shown(peak.bytes - self.base)}"]
        return "; ".join(parts)

    def strategies(self):
        for strategy in ("overlap", "staged", "stop-first"):
            what = f"swap, {strategy}"
            other = self.models[self.moult.model == self.models[0]]
            since = time.monotonic()
            with Peak(self.card) as peak:
                receipt = self.moult.replace(other, strategy)
            if receipt["outcome"] != "ok":
                self.table.miss(what, receipt["reason"], is_error=self.place.is_fake)
                continue
            says, ok = self.reload(receipt, since, peak), receipt["strategy"] == strategy
            if not ok:
                says = f"went as {receipt['strategy']}: {says}"
            if strategy == "staged" and self.place.gb_s and not self.place.is_fake:
                bytes_ = self.bytes - receipt["gpu"]["prefilled_bytes"]
                best = receipt["phases_ms"]["reclaim"] + bytes_ / 1e6 / self.place.gb_s
                ratio = receipt["phases_ms"]["pause"] / best
                says += f"; {ratio:.2f} x (reclaim + {shown(bytes_)} / bandwidth = {best:.0f} ms)"
                ok = ok and ratio <= 1.3
            self.table.add(what, says, ok)

    def reloads(self):
        """Secrets rotate; the weights stay."""
        before = self.settled()
        pauses, ways, peaks, worst = [], {}, [], 0
        since = time.monotonic()
        for i in range(self.place.reloads):
            with Peak(self.card) as peak:
                receipt = self.moult.rotate(i + 1)
            way = f"{receipt['strategy']} {receipt['outcome']}"
            ways[way] = ways.get(way, 0) + 1
            pauses.append(receipt["phases_ms"]["pause"])
            peaks.append(peak.bytes - self.base)
            worst = max(worst, abs(self.settled(before) - before))
        self.table.add("swap, handoff", f"{ways}; pause median "
                       f"{statistics.median(pauses):.0f} ms, longest {max(pauses):.0f} ms; "
                       f"longest time without an answer {self.clients.longest_gap(since):.0f} "
                       f"ms; peak {shown(max(peaks))} of at most weights + 2 x "
                       f"{shown(self.loader)}",
                       set(ways) == {"handoff ok"} and max(pauses) == 0 and
                       0 < max(peaks) <= self.bytes + 2 * self.loader + SLACK)
        self.table.add(f"memory in use after each of {self.place.reloads} reloads",
                       f"differs by at most {shown(worst)} from {shown(before)}",
                       worst <= SLACK)

    def settled(self, wanted=None):
        if wanted is not None:
            self.card.wait_used(wanted + SLACK, 30)
        return self.card.used()

    def replicas(self):
        before, count = self.settled(), self.place.replicas
        self.moult.ctl("scale", "big", str(count))
        self.moult.wait_serving(count)
        used = self.card.used()
        self.table.add(f"{count} replicas on one copy", f"{shown(used - self.base)} in use, "
                       f"{shown((used - before) / (count - 1))} for each more",
                       used - before <= (count - 1) * self.loader + SLACK)
        self.moult.ctl("scale", "big", "1")
        self.moult.wait_serving(1)
        ms = self.card.wait_used(before + SLACK)
        self.table.add("back to 1", "memory is " + ("back" if ms is not None else "NOT back"),
                       ms is not None)

    def kill(self):
        before, pid = self.settled(), self.moult.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        since = time.monotonic()
        self.moult.wait("another loader", lambda: self.moult.status()["pid"] not in (0, pid))
        self.moult.wait("an answer", lambda: self.clients.times[-1] > since + 0.1)
        ms = self.card.wait_used(before + SLACK)
        self.table.add("kill -9 of the only loader", "longest time without an answer "
                       f"{self.clients.longest_gap(since):.0f} ms; memory in use "
                       f"{'as before' if ms is not None else 'NOT as before'}", ms is not None)

    def kill_all(self):
        """The loader and moult-nvml at once, and nobody else looks at the card: for a moment
        there is nothing but moultd's descriptors."""
        before, pid, asked = self.settled(), self.moult.status()["pid"], self.moult.helper()
        placed = self.moult.log.read_text().count("event=weights_placed")
        self.card.close()
        try:
            for victim in (asked, pid):
                os.kill(victim, signal.SIGKILL)
            since = time.monotonic()
            self.moult.wait("another loader",
                            lambda: self.moult.status()["pid"] not in (0, pid))
            self.moult.wait("an answer", lambda: self.clients.times[-1] > since + 0.1)
            self.moult.wait("another moult-nvml", lambda: self.moult.helper() != asked)
        finally:
            self.card.open()
        again = self.moult.log.read_text().count("event=weights_placed") - placed
        why = self.moult.status()["weights"]["why_private"]
        ms = self.card.wait_used(before + SLACK)
        self.table.add("kill -9 of the loader and of moult-nvml at once", "weights "
                       f"{'copied again' if again else 'taken over'}"
                       f"{f', private: {why}' if why else ''}; memory in use "
                       f"{'as before' if ms is not None else 'NOT as before'}",
                       ms is not None and not again and not why)

    def end(self):
        self.clients.stop()
        counts = self.moult.status()["requests"]
        lost = counts["accepted"] - sum(counts[key] for key in ("answered", "failed", "held",
                                                                "leased"))
        bad = self.clients.bad
        self.table.add("requests over all of it", f"{len(self.clients.times)} answered, "
                       f"{len(bad)} not or wrongly, {lost} lost" +
                       (f": {bad[0]}" if bad else ""), not bad and lost == 0)
        self.moult.stop()
        ms = self.card.wait_used(self.base + SLACK)
        self.table.add("memory back after moultd ends", "yes" if ms is not None else
                       f"NO: {shown(self.card.used() - self.base)} more than before it",
                       ms is not None)


# Reloads as configured first; what follows them changes the strategy.
STEPS = ("load", "descriptors", "reloads", "replicas", "kill", "kill_all", "strategies")


def rows(place, table, home):
    if not (place.build / "moult-engine-torch.so").exists():
        table.miss("everything with moultd", "the torch engine is not built: which libtorch?")
        return
    try:
        run = Run(place, table, home)
    except (Failed, OSError) as error:
        table.miss("everything with moultd", str(error), is_error=True)
        return
    try:
        for step in STEPS:
            try:
                getattr(run, step)()
            except (Failed, KeyError, TypeError, OSError) as error:
                table.miss(step, f"{type(error).__name__}: {error}", is_error=True)
        run.end()
    finally:
        run.stop()
