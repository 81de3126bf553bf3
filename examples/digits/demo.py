#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What ./demo shows: a real model, a secret that rotates under traffic, the receipt."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "release"
CLIENTS = 4
START_S = 60
RELOAD_S = 60


def die(text):
    sys.exit(f"demo: {text}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def predict(connection, body):
    """One request; the class with the highest score, and the generation that said so."""
    connection.request("POST", "/v2/models/digits/infer", body)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"HTTP {response.status}: {answer[:200]!r}")
    scores = json.loads(answer)["outputs"][0]["data"]
    return scores.index(max(scores)), int(response.headers["moult-generation"])


class Server:
    """moultd with the bundled model in a folder of its own."""

    def __init__(self, home):
        self.home = pathlib.Path(home)
        self.port = free_port()
        self.socket = self.home / "moultd.sock"
        self.log = self.home / "moultd.log"
        secrets = self.home / "secrets"
        secrets.mkdir(mode=0o700)
        self.secret = secrets / "token"
        self.secret.write_text("first-token")
        (self.home / "moult.conf").write_text(
            f"[supervisor]\nlisten = 127.0.0.1:{self.port}\ncontrol = moultd.sock\n"
            "state_dir = state\nuser = root\n\n"
            "[model digits]\nengine = torch\n"
            f"path = {HERE / 'digits.pt'}\nsecrets = secrets\n"
            "input = image FP32 [-1,64]\noutput = scores FP32 [-1,10]\nmax_batch = 64\n")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [BUILD / "moultd", "-c", self.home / "moult.conf"], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, process_group=0)

    def fail(self, text):
        die(f"{text}; the last lines of the log:\n"
            + "\n".join(self.log.read_text().splitlines()[-15:]))

    def wait_ready(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.fail(f"moultd ended with {self.process.returncode}")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/v2/health/ready")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.fail(f"the model was not ready after {START_S} s")

    def receipts(self):
        result = subprocess.run(
            [BUILD / "moultctl", "-s", self.socket, "--json", "receipts", "digits"],
            capture_output=True, text=True, timeout=40, check=False)
        if result.returncode:
            self.fail(f"moultctl failed: {result.stderr.strip()}")
        return [json.loads(line)["receipt"] for line in result.stdout.splitlines()
                if '"receipt"' in line]

    def wait_receipt(self, cause):
        deadline = time.monotonic() + RELOAD_S
        while time.monotonic() < deadline:
            for receipt in self.receipts():
                if receipt["cause"] == cause:
                    return receipt
            time.sleep(0.05)
        self.fail(f"no receipt of the reload after {RELOAD_S} s")

    def rotate_secret(self, value):
        fresh = self.secret.with_name(".token.new")
        fresh.write_text(value)
        os.rename(fresh, self.secret)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Traffic:
    """Clients that send held-out images until told to stop, and check every answer."""

    def __init__(self, port, bodies, expected):
        self.port, self.bodies, self.expected = port, bodies, expected
        self.sent = self.right = self.wrong = 0
        self.errors = []
        self.by_generation = {}
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True)
                        for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self, index):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        i = index
        while not self.is_over.is_set():
            i = (i + CLIENTS) % len(self.bodies)
            with self.lock:
                self.sent += 1
            try:
                digit, generation = predict(connection, self.bodies[i])
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                with self.lock:
                    self.errors.append(str(error))
                connection.close()
                continue
            with self.lock:
                self.right += digit == self.expected[i]
                self.wrong += digit != self.expected[i]
                self.by_generation[generation] = self.by_generation.get(generation, 0) + 1

    def wait_answered(self, count):
        """Until @count are answered; shorter where one is lost, as nothing is good then."""
        deadline = time.monotonic() + START_S
        while (self.right + self.wrong < count and not self.errors
               and time.monotonic() < deadline):
            time.sleep(0.02)

    def stop(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def show_digits(port, bodies, expected):
    """Five pictures; whether the answers are those that were measured in training."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    columns = []
    is_right = True
    for i in (3, 14, 25, 36, 47):
        pixels = json.loads(bodies[i])["inputs"][0]["data"]
        digit, _ = predict(connection, bodies[i])
        is_right = is_right and digit == expected["predictions"][i]
        picture = ["".join(" .:*#"[min(4, int(p) * 5 // 17)] * 2 for p in pixels[r:r + 8])
                   for r in range(0, 64, 8)]
        columns.append(picture + [f"answer {digit}, truth {expected['labels'][i]}".center(16)])
    for row in zip(*columns):
        print("  " + "  ".join(f"{cell:18}" for cell in row).rstrip())
    print()
    return is_right


def megabytes(value):
    return f"{value / 2**20:.0f} MiB" if value else "-"


def show_receipt(receipt, traffic):
    old, new = receipt["from"], receipt["to"]
    print(f"  reload {receipt['number']}: {receipt['outcome']}, because of {receipt['cause']}, "
          f"strategy {receipt['strategy']}")
    if receipt["reason"]:
        print(f"  reason     {receipt['reason']}")
    print(f"  generation {old['generation']} (pid {old['pid']}) -> "
          f"generation {new['generation']} (pid {new['pid']})")
    phases = receipt["phases_ms"]
    print("  phases     " + ", ".join(f"{name} {phases[name]:.1f} ms" for name in phases))
    for name, key in (("loaders", "loader_rss_bytes"), ("private", "loader_anon_bytes"),
                      ("available", "available_bytes")):
        print(f"  {name:10} " + ", ".join(
            f"{megabytes(receipt['memory'][when][key])} {when}"
            for when in ("before", "peak", "after")))
    gone = not os.path.exists(f"/proc/{old['pid']}")
    if receipt["outcome"] == "ok":
        print(f"  pid {old['pid']} is {'gone' if gone else 'STILL THERE'}")
    else:
        print(f"  pid {old['pid']} {'is gone too' if gone else 'goes on serving'}")
    print(f"  requests   {traffic.sent} sent, {traffic.right + traffic.wrong} answered, "
          f"{len(traffic.errors)} lost, {traffic.wrong} not as expected; by generation "
          + ", ".join(f"{g}: {n}" for g, n in sorted(traffic.by_generation.items())))
    for error in traffic.errors[:3]:
        print(f"  lost: {error}")
    return gone


def show(server):
    bodies = (HERE / "heldout.jsonl").read_text().splitlines()
    expected = json.loads((HERE / "expected.json").read_text())
    server.wait_ready()
    print("Five handwritten digits that the model was not trained on:\n")
    is_right = show_digits(server.port, bodies, expected)
    print(f"{CLIENTS} clients send requests; the secret rotates now ...\n", flush=True)
    traffic = Traffic(server.port, bodies, expected["predictions"])
    traffic.wait_answered(200)
    server.rotate_secret("second-token")
    receipt = server.wait_receipt("secrets")
    traffic.wait_answered(traffic.right + traffic.wrong + 200)
    traffic.stop()
    is_gone = show_receipt(receipt, traffic)
    if not is_right or traffic.wrong:
        server.fail("the model's answers are not those of expected.json; "
                    "examples/digits/train.py makes both")
    if traffic.errors or receipt["outcome"] != "ok" or not is_gone:
        server.fail("the reload was not as it should be, see above")
    if receipt["to"]["generation"] not in traffic.by_generation:
        server.fail("no answer came from the new generation")


def serve(server):
    url = f"http://127.0.0.1:{server.port}"
    print(f"\nServing on {url}; try\n"
          f"  head -n 1 examples/digits/heldout.jsonl | "
          f"curl -d @- {url}/v2/models/digits/infer\n"
          f"  build/release/moultctl -s {server.socket} status\n"
          f"  echo new > {server.secret}\nCtrl-C ends it.", flush=True)
    server.process.wait()
    server.fail(f"moultd ended by itself with {server.process.returncode}")


def run(home, is_once):
    server = Server(home)
    is_shown = False
    try:
        show(server)
        is_shown = True
        if not is_once:
            serve(server)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        server.fail(f"a request failed: {error}")
    except KeyboardInterrupt:
        print()
        # What was interrupted has shown nothing; ending the server is no failure.
        return 0 if is_shown and not is_once else 130
    finally:
        server.stop()
    return 0


def main():
    for program in ("moultd", "moultctl", "moult-loader"):
        if not (BUILD / program).exists():
            die(f"{BUILD / program} is missing; ./demo builds it")
    # Ends through the cleanup below, not around it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    home = tempfile.mkdtemp(prefix="moult-demo-")
    try:
        sys.exit(run(home, "--once" in sys.argv[1:]))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
