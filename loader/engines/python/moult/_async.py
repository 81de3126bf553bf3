# SPDX-License-Identifier: Apache-2.0
"""Coroutines of a class, all in one loop that a thread of its own runs: what one of them makes, such as
a session, serves the others."""
import asyncio
import inspect
import threading
import traceback

lock = threading.Lock()
loop = None


def run():
    while True:
        try:
            loop.run_forever()
            return
        except BaseException:  # sys.exit() in a coroutine, which its caller learns of, too
            traceback.print_exc()


def start():
    global loop
    with lock:
        if loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=run, name="moult-async", daemon=True).start()
    return loop


def settle(value):
    """What a coroutine comes to; anything else as it is, and an asynchronous generator as a plain
    one."""
    if inspect.iscoroutine(value):
        return asyncio.run_coroutine_threadsafe(value, start()).result()
    return drain(value) if inspect.isasyncgen(value) else value


async def get_next(parts):
    return await parts.__anext__()


def drain(parts):
    while True:
        try:
            part = settle(get_next(parts))
        except StopAsyncIteration:
            return
        yield part
