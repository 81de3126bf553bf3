# SPDX-License-Identifier: Apache-2.0
"""Names what blocks an event loop: a call in an application's coroutine that should be awaited, or
made in a thread. All requests wait for it, and the application's author sees only slowness."""
import os
import sys
import sysconfig
import threading
import traceback

from moult import _lane

LOG_WARNING = 4
# A loop that has not turned for so long is blocked. It is asked as often while it serves, and not
# at all while it is idle.
BLOCKED_S = 1.0


def is_foreign(filename):
    """Whether it is none of the application's own code."""
    paths = sysconfig.get_paths()
    return filename.startswith((paths["stdlib"], paths["purelib"], paths["platlib"],
                                os.path.dirname(__file__), "<")) or "-packages" in filename


def find_call(frame):
    """Where in the application @frame has come from, or what it is itself."""
    stack = traceback.extract_stack(frame)
    own = [one for one in stack if not is_foreign(one.filename)]
    one = (own or stack)[-1]
    return f"{one.filename}:{one.lineno} ({one.name})"


class Watch:
    def __init__(self, loop, thread, is_serving):
        self.loop = loop
        self.thread = thread
        self.is_serving = is_serving  # tells whether there are requests
        self.is_on = False
        self.on = threading.Event()
        self.is_over = threading.Event()

    def start(self):
        threading.Thread(target=self.run, name="moult-watch", daemon=True).start()

    def look(self):
        """There is a request."""
        if not self.is_on:
            self.is_on = True
            self.on.set()

    def end(self):
        self.is_over.set()
        self.on.set()

    def run(self):
        while not self.is_over.is_set():
            self.on.wait()
            turned = threading.Event()
            self.loop.call_soon_threadsafe(turned.set)
            if not turned.wait(BLOCKED_S):
                self.tell()
                turned.wait()
            self.is_over.wait(BLOCKED_S)
            self.on.clear()
            self.is_on = False
            if self.is_serving():
                self.look()

    def tell(self):
        frame = sys._current_frames().get(self.thread.ident)
        if frame is None or self.is_over.is_set():
            return
        _lane.log(LOG_WARNING, "event_loop_blocked",
                  f"the application has blocked its event loop for {BLOCKED_S:.0f} s in "
                  f"{find_call(frame)}, and no request is answered meanwhile: await there, or make "
                  f"that call in a thread")
