# SPDX-License-Identifier: Apache-2.0
"""Reloads by a random mix of strategies and triggers, and now and then a killed loader, under
bodies from nothing to 16 MiB: nothing is lost, and moultd stays as large as it was.

MOULT_MIXED_RELOADS=1000 is the long run; MOULT_SEED repeats one."""
import contextlib
import http.client
import json
import math
import os
import random
import signal
import threading
import time

from harness import echo_section, patience, wait_for

RELOADS = int(os.environ.get("MOULT_MIXED_RELOADS", "40"))
SEED = int(os.environ.get("MOULT_SEED", str(time.time_ns() % 1_000_000)))
BODY_MAX = 16 << 20
MIB = 1 << 20
NOISE = random.Random(1).randbytes(BODY_MAX)


class BlobLoad:
    """Clients that send blobs of random sizes and compare what comes back."""

    def __init__(self, port, clients):
        self.port = port
        self.counts = {"sent": 0, "answered": 0, "wrong": 0, "bytes": 0}
        self.lost = []
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(random.Random(SEED + i),),
                                         daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def size(rng):
        if rng.random() < 0.1:
            return rng.choice([0, 1, 4095, 4096, 4097, 65536, BODY_MAX])
        return int(math.exp(rng.uniform(0, math.log(BODY_MAX))))

    def ask(self, connection, data):
        header = json.dumps({
            "inputs": [{"name": "x", "shape": [len(data)], "datatype": "UINT8",
                        "parameters": {"binary_data_size": len(data)}}],
            "parameters": {"binary_data_output": True}}).encode()
        connection.request("POST", "/v2/models/echo/infer", header + data,
                           {"Inference-Header-Content-Length": str(len(header))})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status} {body[:300]!r}")
        return body[int(response.headers["inference-header-content-length"]):] == data

    def run(self, rng):
        connection = None
        while not self.is_over.is_set():
            size = self.size(rng)
            start = rng.randrange(BODY_MAX - size + 1)
            is_right = None
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port,
                                                                      timeout=patience())
                is_right = self.ask(connection, NOISE[start:start + size])
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                self.lost.append((size, repr(error)))
                connection.close()
                connection = None
            with self.lock:
                self.counts["sent"] += 1
                self.counts["bytes"] += size
                self.counts["answered"] += is_right is not None
                self.counts["wrong"] += is_right is False

    def stop_and_check(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        print(self.counts, "lost", len(self.lost))
        assert not self.lost, self.lost[:5]
        assert self.counts["wrong"] == 0 and self.counts["answered"] == self.counts["sent"]


class Trigger:
    """One way each to make a model reload."""

    def __init__(self, home, rng):
        self.moult, self.home, self.rng = None, home, rng
        self.count = 0
        self.used = {}

    def section(self, strategy):
        return echo_section(
            input="x UINT8 [-1]", output="x UINT8 [-1]", max_batch=1, max_body="17M",
            request_arena="128M", response_arena="64M", path=self.home / "weights.bin",
            secrets=self.home / "secrets", strategy=strategy, watch_window=0,
            version=self.count)

    def configure(self, strategy):
        fresh = self.moult.models / ".fresh"
        fresh.write_text(self.section(strategy))
        os.rename(fresh, self.moult.models / "0.conf")

    def secret(self):
        """A volume of secrets or single files: a directory is one or the other."""
        if SEED % 2:
            self.moult.swap_secrets(self.home / "secrets", {"key": str(self.count)})
        else:
            self.moult.write_secret(self.home / "secrets", "key", str(self.count))

    def weights(self):
        (self.home / "fresh").write_bytes(self.rng.randbytes(MIB))
        os.rename(self.home / "fresh", self.home / "weights.bin")

    def hangup(self):
        self.moult.process.send_signal(signal.SIGHUP)

    def command(self):
        self.moult.ctl("reload", "echo")

    def rollback(self):
        # After one there is nothing before the present inputs.
        if self.moult.ctl("rollback", "echo").returncode != 0:
            self.command()

    def kill(self):
        # Between two loaders there is none, and then the next one comes anyhow.
        pid = self.moult.status("echo")["pid"]
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def fire(self):
        before = self.moult.status("echo")
        strategy = self.rng.choice(["overlap", "staged", "stop-first", "auto"])
        way = self.rng.choice([self.secret, self.weights, self.hangup, self.command, self.rollback,
                               self.kill, None])
        self.count += way is None
        self.used[(strategy, way.__name__ if way else "section")] = True
        self.configure(strategy)
        if way:
            wait_for("the section", lambda: f'"strategy":"{strategy}"' in
                     self.moult.ctl("show-config").stdout.replace(" ", ""))
            self.count += 1
            way()
        wait_for("another generation", lambda: self.is_through(before))

    def is_through(self, before):
        status = self.moult.status("echo")
        return (status["state"] == "ready" and status["generation"] > before["generation"]
                and not status["candidate"] and not status["retiring"])


def size_of(moult):
    status = dict(line.split(":", 1) for line in
                  open(f"/proc/{moult.pid}/status").read().splitlines())
    return {"anon_kib": int(status["RssAnon"].split()[0]), "fds": moult.fds(),
            "threads": int(status["Threads"])}


def test_mixed_reloads(start, tmp_path):
    print(f"MOULT_SEED={SEED}")
    rng = random.Random(SEED)
    (tmp_path / "weights.bin").write_bytes(rng.randbytes(MIB))
    (tmp_path / "secrets").mkdir()
    trigger = Trigger(tmp_path, rng)
    moult = start(trigger.section("auto"), ready=False)
    trigger.moult = moult
    trigger.secret()
    moult.wait_ready()
    load = BlobLoad(moult.port, clients=4)
    early = None
    for i in range(RELOADS):
        trigger.fire()
        if i == RELOADS // 4:
            early = size_of(moult)
    late = size_of(moult)
    load.stop_and_check()
    print(f"{RELOADS} reloads, {len(trigger.used)} pairs of strategy and trigger, "
          f"{late['anon_kib']} KiB")
    print(f"moultd after a quarter of them {early}, after all {late}")
    assert late["threads"] == early["threads"]
    assert late["fds"] <= early["fds"] + 12    # clients' connections come and go
    assert late["anon_kib"] <= early["anon_kib"] + 4096
