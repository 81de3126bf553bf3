# SPDX-License-Identifier: Apache-2.0
"""ASGI applications that say what they were asked, for test_python.c."""
import asyncio
import json
import sys

made_at_import = asyncio.Event()
seen = []
PLAIN = [(b"content-type", b"text/plain")]


def start(status=200, fields=()):
    return {"type": "http.response.start", "status": status, "headers": [*PLAIN, *fields]}


def body(data, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


async def in_parts(receive, send):
    await send(start())
    await send(body(b"one,", True))
    await send(body(b"two,", True))
    await send(body(b"three"))


async def broken(receive, send):
    await send(start())
    await send(body(b"one,", True))
    raise RuntimeError("amid the answer")


async def raises(receive, send):
    raise KeyError("before the answer")


async def leaves(receive, send):
    sys.exit(3)


async def task_leaves(receive, send):
    asyncio.get_running_loop().create_task(leaves(receive, send))
    await asyncio.sleep(0.01)
    await in_parts(receive, send)


async def never(receive, send):
    await receive()


async def only_starts(receive, send):
    await send(start())


async def is_not_complete(receive, send):
    await send(start())
    await send(body(b"one,", True))


async def body_first(receive, send):
    await send(body(b"x"))


async def starts_twice(receive, send):
    await send(start())
    await send(start())


async def unknown(receive, send):
    await send({"type": "websocket.accept"})


async def text(receive, send):
    await send(start())
    await send(body("text"))


async def text_header(receive, send):
    await send(start(fields=[("x-a", "b")]))


async def line_break(receive, send):
    await send(start(fields=[(b"x-a", b"b\r\nx-c: d")]))


async def bad_name(receive, send):
    await send(start(fields=[(b"x a", b"b")]))


async def no_status(receive, send):
    await send({"type": "http.response.start", "headers": []})


async def bad_status(receive, send):
    await send(start(status=99))


async def short(receive, send):
    await send(start(fields=[(b"content-length", b"9")]))
    await send(body(b"1234", True))
    await send(body(b"5"))


async def long(receive, send):
    await send(start(fields=[(b"content-length", b"3")]))
    await send(body(b"12", True))
    await send(body(b"3456"))


async def exact(receive, send):
    """Its client may leave before the last message."""
    await send(start(fields=[(b"content-length", b"4")]))
    await send(body(b"1234", True))
    assert (await receive())["type"] == "http.request"
    end = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    assert not end.done()
    await send(body(b""))
    seen.append(f"exact: {(await end)['type']}")


async def own_error(receive, send):
    """As a framework's that has caught an exception."""
    await send(start(500))
    await send(body(b"my own words"))


async def sends_after_the_end(receive, send):
    """The client has its answer; the error is the application's."""
    await send(start())
    await send(body(b"whole"))
    try:
        await send(body(b"more"))
    except RuntimeError as error:
        seen.append(f"after the end: {error}")
    seen.append((await receive())["type"])


async def what_was_seen(receive, send):
    await send(start())
    await send(body(json.dumps(seen).encode()))


async def reads_on(receive, send):
    """Waits for the client to leave."""
    assert (await receive())["type"] == "http.request"
    await send(start())
    await send(body(b"now leave", True))
    seen.append((await receive())["type"])
    seen.append((await receive())["type"])
    await send(body(b"spared", True))
    try:
        await send(body(b"nobody", True))
    except OSError as error:
        seen.append(f"{error}")


async def streams_on(receive, send):
    """Listens for nothing."""
    await send(start())
    try:
        while True:
            await send(body(b"x" * 1000, True))
            await asyncio.sleep(0)
    except OSError:
        seen.append("streamed until the client left")
        raise


async def large(receive, send):
    await send(start())
    await send(body(b"abcdefgh" * 500000))


async def set_at_import(receive, send):
    """Belongs to the loop that serves, in any version of Python."""
    asyncio.get_running_loop().call_soon(made_at_import.set)
    await made_at_import.wait()
    await send(start())
    await send(body(b"was set"))


ROUTES = {
    "/parts": in_parts, "/broken": broken, "/raise": raises, "/exit": leaves,
    "/task": task_leaves, "/never": never, "/starts": only_starts, "/incomplete": is_not_complete,
    "/order": body_first, "/twice": starts_twice, "/unknown": unknown, "/text": text,
    "/header": text_header, "/break": line_break, "/name": bad_name, "/nostatus": no_status,
    "/status": bad_status, "/short": short, "/long": long, "/exact": exact, "/own": own_error,
    "/after": sends_after_the_end,
    "/seen": what_was_seen, "/leave": reads_on, "/stream": streams_on, "/large": large,
    "/import": set_at_import,
}


async def application(scope, receive, send):
    assert scope["type"] == "http", "this application has no lifespan"
    route = ROUTES.get(scope["path"])
    if route:
        return await route(receive, send)
    event = await receive()
    told = {name: repr(value) for name, value in scope.items()}
    told["body"] = repr(event)
    await send(start(fields=[(b"x-twice", b"a"), (b"x-twice", b"b")]))
    await send(body("".join(f"{name}={told[name]}\n" for name in sorted(told)).encode()))


def factory():
    return application


class Old:
    """Of ASGI 2."""

    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await application(self.scope, receive, send)


def with_lifespan(events):
    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            await send(start())
            await send(body(repr(scope["state"]).encode()))
            return
        assert (await receive())["type"] == "lifespan.startup"
        for event in events:
            if isinstance(event, BaseException):
                raise event
            if event is None:
                return
            scope["state"]["n"] = 5
            await send(event)
        assert (await receive())["type"] == "lifespan.shutdown"
        print("the application has shut down", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
    return app


lives = with_lifespan([{"type": "lifespan.startup.complete"}])
has_no_start = with_lifespan([{"type": "lifespan.startup.failed",
                               "message": "Traceback:\n  ...\nKeyError: 'no table'"}])
has_no_network = with_lifespan([{"type": "lifespan.startup.failed",
                                 "message": "ConnectionRefusedError: no database"}])
has_no_reason = with_lifespan([{"type": "lifespan.startup.failed"}])
exits_at_start = with_lifespan([SystemExit(4)])
raises_at_start = with_lifespan([ValueError("not today")])
ends_at_start = with_lifespan([None])
