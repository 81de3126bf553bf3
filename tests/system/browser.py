# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over its debugging pipe: a message of JSON, and a zero byte."""
import base64
import json
import os
import select
import shutil
import subprocess
import time

from harness import patience, wait_for

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}


class Browser:
    def __init__(self, folder):
        to_read, self.out = os.pipe()
        self.inp, to_write = os.pipe()
        # The pipe's ends have to be 3 and 4 there, whatever they are here.
        command = ('exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"', "browser", str(to_read), str(to_write),
                   PROGRAM, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
                   "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
                   "--disable-background-networking", f"--user-data-dir={folder}", "about:blank")
        with open(folder.with_suffix(".log"), "wb") as log:
            self.process = subprocess.Popen(["bash", "-c", *command], pass_fds=(to_read, to_write),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        self.number, self.rest, self.events, self.session = 0, b"", [], None
        target = wait_for("a tab", lambda: next(
            (t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"), None))
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"],
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def read(self):
        end = time.monotonic() + patience()
        while b"\0" not in self.rest:
            assert select.select([self.inp], [], [], max(end - time.monotonic(), 0))[0], "silence"
            piece = os.read(self.inp, 1 << 20)
            assert piece, "the browser is gone"
            self.rest += piece
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **arguments):
        self.number += 1
        message = {"id": self.number, "method": method, "params": arguments}
        if self.session:
            message["sessionId"] = self.session
        text = json.dumps(message).encode() + b"\0"
        assert os.write(self.out, text) == len(text)
        while (answer := self.read()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def hear(self):
        """Takes what has been said meanwhile."""
        while b"\0" in self.rest or select.select([self.inp], [], [], 0)[0]:
            self.events.append(self.read())

    def script(self, text):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=text, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, address):
        self.call("Page.navigate", url=address)
        wait_for("the page", lambda: self.script("document.readyState") == "complete" and
                 self.script("location.href").startswith(address))

    def look(self, width, height=900, scheme="light", motion="no-preference"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion}])

    def press(self, key):
        code, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                      **({"text": text} if text and kind == "keyDown" else {}))

    def type(self, text):
        self.call("Input.insertText", text=text)

    def picture(self, path):
        path.write_bytes(base64.b64decode(self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]))

    def complaints(self, but=()):
        """What the page's log has: of scripts, and of its policy."""
        self.script("0")
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(event["params"]))
            if event.get("method") == "Log.entryAdded":
                entry = event["params"]["entry"]
                if entry["level"] in ("error", "warning"):
                    found.append(entry["text"])
        return [text for text in found if not any(word in text for word in but)]

    def asked(self):
        """Addresses that it has asked for."""
        return [event["params"]["request"]["url"] for event in self.events
                if event.get("method") == "Network.requestWillBeSent"]

    def close(self):
        os.close(self.out)
        os.close(self.inp)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
