# SPDX-License-Identifier: Apache-2.0
"""Serves an ASGI application (ASGI 3.0) from one event loop, in a thread of its own.

The lane's bell wakes the loop, which then takes all requests that wait: a task for each. Nothing
in here blocks: an answer for which there is no room waits for the bell.
"""
import asyncio
import os
import re
import threading
import traceback
import urllib.parse

from moult import _lane
from moult._lifespan import VERSIONS, Lifespan
from moult._watch import Watch

LAST, FAULT, NOWAIT = 1, 2, 4
AGAIN, END, GONE = 1, 2, 3
LOG_WARNING, LOG_NOTICE = 4, 5

# Requests that are taken in one turn of the loop.
TAKE_MOST = 64
# A stream's body goes out in pieces of at most so many bytes, and of at most this part of what the
# lane takes at once. The lane has eight of them under way, so this bounds what a slow client holds.
PIECE_BYTES, PIECE_PART = 256 * 1024, 4
# A startup that takes longer is told of: moultd sees a generation that is warming, no more.
START_S = 1.0
# Clients that have left are looked for at most so often.
LOOK_S = 0.02
# An application that streams to a client that has left has so long to learn it by receive().
LEFT_S = 0.1
# How long the end waits for requests that are being answered, and then for their cancellation.
DRAIN_S, CANCEL_S = 2.0, 0.5
# How long the end waits for the loop's thread.
CLOSE_S = 4.5

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def make_loop():
    """uvloop's, where the application's environment has it."""
    try:
        import uvloop
        loop = uvloop.new_event_loop()
    except Exception:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def make_scope(request, state):
    _, method, target, fields, _, client = request
    raw_path, _, query = target.partition("?")
    server = ["localhost", 80]
    for name, value in fields:
        if name == b"host":
            server = to_server(value.decode("latin-1"))
            break
    return {
        "type": "http",
        "asgi": VERSIONS,
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": urllib.parse.unquote(raw_path) if "%" in raw_path else raw_path,
        "raw_path": raw_path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": fields,
        "client": client,
        "server": server,
        "state": state.copy(),
    }


def to_server(host):
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return [name, int(port)]
    return [host or "localhost", 80]


def to_bytes(value, what):
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"{what} must be bytes, not {type(value).__name__}: {value!r:.80}")


def read_start(message):
    """(status, fields, length of the body or None) of http.response.start."""
    status = message.get("status")
    if not isinstance(status, int):
        raise TypeError(f"http.response.start needs a status of type int, not {status!r:.80}")
    if not 200 <= status <= 599:
        raise ValueError(f"an answer's status must be from 200 to 599: {status} is none")
    length = None
    fields = []
    for pair in message.get("headers") or ():
        name, value = pair
        name = to_bytes(name, "the name of a header")
        value = to_bytes(value, f"the value of the header {name!r:.80}")
        if not TOKEN.fullmatch(name):
            raise ValueError(f"{name!r:.80} is no name for a header")
        if NO_VALUE.search(value):
            raise ValueError(f"the value of the header {name!r:.80} has a line break or another "
                             f"control character: {value!r:.80}")
        if name.lower() == b"content-length":
            if not value.isdigit():
                raise ValueError(f"Content-Length must be a number, not {value!r:.80}")
            length = int(value)
        fields.append((name, value))
    if status in (204, 304):
        length = None
    return int(status), fields, length


PLAIN = [(b"content-type", b"text/plain; charset=utf-8")]


class ClientLeft(OSError):
    """Nobody waits for the answer that the application goes on streaming."""


class Exchange:
    """One request and its answer, as the application sees them."""

    # As most requests have them to their end.
    start = None  # what http.response.start said
    length = None
    sent = 0
    has_begun = False  # the first part is out
    is_complete = False  # the last http.response.body came
    is_cut = False  # a message was not sent wholly
    has_ended = False  # the last part is out: the lane has forgotten the request
    has_left = False  # the client
    is_told = False  # the application knows that
    was_spared = False  # it has streamed on nevertheless
    lock = None  # of those who send, once one of them had to wait
    listeners = ()  # receive() that wait for the end

    def __init__(self, server, request):
        self.server = server
        self.number = request[0]
        self.is_head = request[1] == "HEAD"
        self.body = request[4]  # None: was given to the application

    async def receive(self):
        if not self.is_complete and not self.has_left:
            if self.body is not None:
                body, self.body = self.body, None
                return {"type": "http.request", "body": body, "more_body": False}
            listener = self.server.loop.create_future()
            self.listeners = [*self.listeners, listener]
            if not self.has_ended:
                self.server.listen(self)
            await listener
        self.is_told = True
        return {"type": "http.disconnect"}

    def tell_listeners(self):
        if not self.listeners:
            return
        self.server.listening.discard(self)
        listeners, self.listeners = self.listeners, ()
        self.is_told = True
        for listener in listeners:
            if not listener.done():
                listener.set_result(None)

    def leave(self):
        self.has_left = True
        self.tell_listeners()

    async def send(self, message):
        kind = message["type"]
        if kind == "http.response.body":
            await self.send_body(message)
        elif kind == "http.response.start":
            self.send_start(message)
        else:
            raise RuntimeError(f"send() got {kind!r}, and an answer consists of "
                               f"http.response.start and http.response.body")

    def send_start(self, message):
        if self.is_complete:
            raise RuntimeError("send() got http.response.start after the answer was complete")
        if self.start is not None:
            raise RuntimeError("send() got http.response.start a second time")
        # It goes out with the first part of the body.
        self.start = read_start(message)
        self.length = None if self.is_head else self.start[2]

    def check_body(self, message):
        if self.is_complete:
            raise RuntimeError("send() got http.response.body after the answer was complete: the "
                               "one before had no more_body")
        if self.start is None:
            raise RuntimeError("send() got http.response.body before http.response.start")
        if self.is_cut:
            raise RuntimeError("send() was cancelled while it sent: this answer cannot go on")
        return to_bytes(message.get("body", b""), "the body of an answer")

    def check_length(self, more):
        if self.length is None:
            return
        if self.sent > self.length:
            raise ValueError(f"the answer is longer than its Content-Length of {self.length}")
        if not more and self.sent < self.length:
            raise ValueError(f"the application gave {self.sent} bytes, and its Content-Length is "
                             f"{self.length}")

    async def send_body(self, message):
        body = self.check_body(message)
        more = bool(message.get("more_body", False))
        self.sent += len(body)
        self.check_length(more)
        self.is_complete = not more
        # Nobody waits for what follows a body that is as long as it was said to be.
        is_last = not more or self.sent == self.length
        if not self.has_left and not self.has_ended:
            await self.send_part(LAST if is_last else 0, body)
        if not more:
            if not self.has_ended:
                await self.end()
            self.tell_listeners()
        elif self.has_left:
            await self.send_nowhere()

    async def send_nowhere(self):
        """The client has left, and the application streams on. One that was told by receive() gets
        the time to stop by itself; whoever does not listen, or goes on, gets an error."""
        if self.is_told and not self.was_spared:
            self.was_spared = True
            await asyncio.sleep(LEFT_S)
            return
        raise ClientLeft("the client has left, and nobody reads the rest of this answer")

    async def send_part(self, flags, body):
        at_once = self.server.part_bytes if flags and not self.has_begun else \
            self.server.piece_bytes
        if self.lock is None and len(body) <= at_once and self.give(flags, body) != AGAIN:
            return
        if self.lock is None:
            self.lock = asyncio.Lock()
        try:
            async with self.lock:
                await self.send_pieces(flags, body, at_once)
        except BaseException:
            self.is_cut = True
            raise

    async def send_pieces(self, flags, body, size):
        size = min(size, self.server.piece_bytes) if len(body) > size else size
        for at in range(0, len(body) or 1, size):
            is_rest = at + size >= len(body)
            piece = body if at == 0 and is_rest else body[at:at + size]
            while not self.has_left and self.give(flags if is_rest else 0, piece) == AGAIN:
                await self.server.room()

    def give(self, flags, body):
        """Sends a part; AGAIN: there is no room for it."""
        status, fields, _ = (0, (), None) if self.has_begun else self.start
        if status == 500:
            flags |= FAULT  # the framework has caught what the application raised
        outcome = _lane.answer(self.number, flags | NOWAIT, status, fields, body)
        if outcome == AGAIN:
            return AGAIN
        self.has_begun = True
        if flags & LAST:
            self.has_ended = True
            self.server.listening.discard(self)
        if outcome:
            self.leave()
        return 0

    def check_end(self):
        """The application has returned."""
        if self.has_ended or self.has_left:
            return
        if self.start is None:
            raise RuntimeError("the application returned without an answer: it has sent no "
                               "http.response.start")
        if self.is_cut:
            raise RuntimeError("the application gave up while its answer was sent")
        raise RuntimeError("the application returned before its answer was complete: the last "
                           "http.response.body must have no more_body")

    async def end(self, what="nobody waits for this answer"):
        """Ends an answer that has not been sent wholly. A client sees either a 500, or an answer
        that was cut: never one that looks whole."""
        text = b""
        while not self.has_ended:
            if self.has_begun:
                flags, status, fields = LAST | FAULT, 0, ()
            else:
                flags, status, fields = LAST | (0 if self.has_left else FAULT), 500, PLAIN
                text = f"500 Internal Server Error: {what}; the log has more\n".encode()
            if _lane.answer(self.number, flags | NOWAIT, status, fields, text) != AGAIN:
                self.has_ended = True
            else:
                await self.server.room()


def is_of_leaving(error):
    """Whether @error is, or was made of, the one that a client's leaving raised."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ClientLeft):
            return True
        if any(map(is_of_leaving, getattr(error, "exceptions", ()))):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


class Server:
    def __init__(self, what, application, loop):
        self.application = application
        self.loop = loop
        self.lifespan = Lifespan(what, application, loop)
        self.thread = threading.Thread(target=self.run, name="moult-asgi", daemon=True)
        self.tasks = set()
        self.watch = Watch(loop, self.thread, lambda: bool(self.tasks))
        self.waiters = []  # for room
        self.listening = set()  # exchanges whose application waits for the client to leave
        self.look_timer = None
        self.looked = 0.0
        self.is_ending = False
        self.is_cancelling = False

    # Of the engine's threads

    def start(self):
        """Returns once the application has started, or raises Refusal."""
        self.bell = _lane.bell()
        self.part_bytes = _lane.part_bytes()
        self.piece_bytes = min(PIECE_BYTES, self.part_bytes // PIECE_PART)
        _lane.log(LOG_NOTICE, "event_loop", type(self.loop).__module__.partition(".")[0])
        started = threading.Event()
        self.main = self.loop.create_task(self.live(started))
        self.thread.start()
        self.watch.start()
        if not started.wait(START_S):
            _lane.log(LOG_NOTICE, "lifespan_waits", f"the application's startup has not answered "
                      f"for {START_S:.0f} s, and is waited for")
        started.wait()
        self.lifespan.check()

    def close(self):
        self.is_ending = True
        self.watch.end()
        self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self.finish()))
        self.thread.join(CLOSE_S)

    # Of the loop's

    def run(self):
        asyncio.set_event_loop(self.loop)
        while not self.main.done():
            try:
                # Such a task is what anyio takes for the one that its threads live for.
                self.loop.run_until_complete(self.main)
            except BaseException:
                # A task of the application's own has called sys.exit(): asyncio lets that through.
                traceback.print_exc()
        if not self.is_ending:
            _lane.fail("the application has cancelled the task that serves it: it must not cancel "
                       "tasks that it has not made")

    async def live(self, started):
        self.over = self.loop.create_future()
        try:
            if await self.lifespan.startup():
                self.loop.add_reader(self.bell, self.hear)
                self.take()
        finally:
            started.set()
        await self.over

    async def finish(self):
        self.loop.remove_reader(self.bell)
        self.look()
        await self.drain(DRAIN_S)
        if self.tasks:
            _lane.log(LOG_WARNING, "requests_cancelled", f"{len(self.tasks)} requests had not ended "
                      f"{DRAIN_S:.0f} s after the end of their generation, and are cancelled")
            self.is_cancelling = True
            for task in self.tasks:
                task.cancel()
            await self.drain(CANCEL_S)
        await self.lifespan.shutdown()
        self.over.set_result(None)

    async def drain(self, seconds):
        self.wake()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=seconds)

    def hear(self):
        """The bell has rung: for requests, for room, for clients that have left."""
        try:
            os.read(self.bell, 8)
        except BlockingIOError:
            pass
        self.take()
        self.wake()
        if self.listening and self.look_timer is None:
            late = self.looked + LOOK_S - self.loop.time()
            if late <= 0:
                self.look()
            else:
                self.look_timer = self.loop.call_later(late, self.look)

    def take(self):
        for _ in range(TAKE_MOST):
            try:
                request = _lane.take(False, True)
            except MemoryError:
                traceback.print_exc()
                continue
            if not request:
                return
            self.tasks.add(self.loop.create_task(self.serve(request)))
            self.watch.look()
        self.loop.call_soon(self.take)

    def wake(self):
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def room(self):
        """A future that is done when there may be room for an answer."""
        waiter = self.loop.create_future()
        self.waiters.append(waiter)
        return waiter

    def listen(self, exchange):
        self.listening.add(exchange)
        if _lane.is_gone(exchange.number):
            exchange.leave()

    def look(self):
        """Tells applications whose clients have left."""
        if self.look_timer is not None:
            self.look_timer.cancel()
            self.look_timer = None
        self.looked = self.loop.time()
        for exchange in list(self.listening):
            if _lane.is_gone(exchange.number):
                exchange.leave()

    async def serve(self, request):
        exchange = Exchange(self, request)
        what = ""
        try:
            scope = make_scope(request, self.lifespan.state)
            await self.application(scope, exchange.receive, exchange.send)
            exchange.check_end()
        except BaseException as error:
            if not is_of_leaving(error) and not self.is_cancelling:
                traceback.print_exc()
            what = "the application called sys.exit()" if isinstance(error, SystemExit) \
                else f"the application failed with {type(error).__name__}"
        finally:
            exchange.tell_listeners()
            try:
                if not exchange.has_ended:
                    await exchange.end(what)
            finally:
                self.tasks.discard(asyncio.current_task())
