# SPDX-License-Identifier: Apache-2.0
"""What the user of a wheel does, in a folder with .venv: an application whose secret is replaced
while it is asked, and a server in strict walls. Needs Python alone."""

import json
import pathlib
import re
import subprocess
import threading
import time
import urllib.request

LISTEN = "127.0.0.1:8080"
LIMIT_S = 120
APP = '''
import moult


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [moult.secrets.raw("word")]
'''


def ask(path="/"):
    with urllib.request.urlopen(f"http://{LISTEN}{path}", timeout=LIMIT_S) as answer:
        return answer.read()


class Served:
    """moultd with @arguments, which serves on enter and has stopped in order on exit."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __enter__(self):
        self.log = open("log", "w+", encoding="utf-8")
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            [".venv/bin/moultd", "--listen", LISTEN, *self.arguments],
            stdout=self.log, stderr=self.log)
        until = time.monotonic() + LIMIT_S
        while True:
            try:
                ask("/v2/health/ready")
                return self
            except OSError:
                assert self.process.poll() is None and time.monotonic() < until, self.text()

    def __exit__(self, *exc):
        self.process.terminate()
        assert self.process.wait(LIMIT_S) == 0 and "event=stopped result=0" in self.text(), self.text()
        self.log.close()

    def text(self):
        return pathlib.Path("log").read_text(encoding="utf-8")

    def status(self):
        socket = re.search(r"moultctl -s (\S+) status", self.text())[1]
        return json.loads(subprocess.run([".venv/bin/moultctl", "-s", socket, "--json", "status"],
                                         check=True, capture_output=True).stdout)


def rotates():
    pathlib.Path("app.py").write_text(APP, encoding="utf-8")
    secrets = pathlib.Path("secrets")
    secrets.mkdir()
    (secrets / "word").write_bytes(b"old")
    with Served("--wsgi", "app:app", "--secrets", "secrets") as moult:
        answers, is_over = [], threading.Event()

        def client():
            while not is_over.is_set():
                answers.append(ask())
        thread = threading.Thread(target=client)
        thread.start()
        (secrets / ".word").write_bytes(b"new")
        (secrets / ".word").rename(secrets / "word")
        until = time.monotonic() + LIMIT_S
        while answers[-1:] != [b"new"] and thread.is_alive():
            assert time.monotonic() < until, moult.text()
        is_over.set()
        thread.join()
        assert set(answers) <= {b"old", b"new"} and answers[-1:] == [b"new"], moult.text()
        model = moult.status()["models"][0]
        assert model["generation"] == 2, model
        print(f"{len(answers)} answers and a rotation, 0 lost")


def has_walls():
    with Served("--command", ".venv/bin/python -m http.server -b 127.0.0.1 {port}",
                "--sandbox", "strict"):
        assert b"app.py" in ask()
        print("a server in strict walls")


rotates()
has_walls()
