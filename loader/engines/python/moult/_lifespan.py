# SPDX-License-Identifier: Apache-2.0
"""The lifespan of an ASGI application: its start before the first request, and its end."""
import asyncio
import builtins
import sys
import traceback

from moult import _lane
from moult._load import FAILED, MODEL, PASSING, Refusal

LOG_WARNING = 4
VERSIONS = {"version": "3.0", "spec_version": "2.3"}


def last_line(text):
    lines = str(text).strip().splitlines()
    return lines[-1].strip() if lines else "it gave no reason"


def to_outcome(line):
    """Frameworks give a traceback as the reason: its last line begins with the error's name."""
    error = getattr(builtins, line.partition(":")[0], None)
    is_passing = isinstance(error, type) and issubclass(error, PASSING)
    return FAILED if is_passing else MODEL


class Lifespan:
    def __init__(self, what, application, loop):
        self.what = what
        self.application = application
        self.loop = loop
        self.state = {}
        self.refusal = None
        self.task = None
        self.events = None
        self.answer = None  # a future of the answer to startup or shutdown
        self.has_received = False
        self.has_started = False  # startup.complete came

    def check(self):
        if self.refusal is not None:
            raise self.refusal

    async def receive(self):
        self.has_received = True
        return await self.events.get()

    async def send(self, message):
        kind = message["type"]
        phase = "shutdown" if self.has_started else "startup"
        if kind not in (f"lifespan.{phase}.complete", f"lifespan.{phase}.failed"):
            raise RuntimeError(f"send() got {kind!r}, and lifespan.{phase}.complete or .failed is "
                               f"what answers lifespan.{phase}")
        if self.answer.done():
            raise RuntimeError(f"send() got {kind!r} a second time")
        self.answer.set_result(message)

    async def run(self):
        scope = {"type": "lifespan", "asgi": VERSIONS, "state": self.state}
        try:
            await self.application(scope, self.receive, self.send)
        except BaseException as error:
            return error
        return None

    async def ask(self, phase):
        """The application's answer to the event @phase; None: it has ended without one."""
        self.answer = self.loop.create_future()
        self.events.put_nowait({"type": f"lifespan.{phase}"})
        await asyncio.wait({self.task, self.answer}, return_when=asyncio.FIRST_COMPLETED)
        return self.answer.result() if self.answer.done() else None

    async def startup(self):
        """Whether the application may be served: an application without a lifespan may."""
        self.events = asyncio.Queue()
        self.task = self.loop.create_task(self.run())
        message = await self.ask("startup")
        if message is None:
            self.judge(self.task.result())
        elif message["type"] == "lifespan.startup.failed":
            reason = message.get("message", "")
            line = last_line(reason)
            print(reason, file=sys.stderr)
            self.refusal = Refusal(to_outcome(line), f"{self.what}: the application's startup "
                                   f"failed: {line}; mend it, the log has all that it said")
        else:
            self.has_started = True
        return self.refusal is None

    def judge(self, error):
        """The application has ended its lifespan without an answer: ASGI has it served on."""
        if isinstance(error, SystemExit):
            self.refusal = Refusal(MODEL, f"{self.what}: the application's startup called "
                                   f"sys.exit({error.code!r}): an application that moult serves "
                                   f"must not end the process; mend it")
        elif error is not None and self.has_received:
            traceback.print_exception(type(error), error, error.__traceback__)
            _lane.log(LOG_WARNING, "lifespan_left", f"the application raised "
                      f"{type(error).__name__} at lifespan.startup, and is served without a "
                      f"lifespan: to be refused it must send lifespan.startup.failed")

    async def shutdown(self):
        if not self.has_started or self.task.done():
            return
        message = await self.ask("shutdown")
        error = self.task.result() if self.task.done() else None
        if error is not None:
            traceback.print_exception(type(error), error, error.__traceback__)
        if message is not None and message["type"] == "lifespan.shutdown.failed":
            _lane.log(LOG_WARNING, "lifespan_left", "the application's shutdown failed: "
                      + last_line(message.get("message", "")))
